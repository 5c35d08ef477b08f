"""Invented land for simulated scenes: parcels, mixtures, relief and texture."""

from __future__ import annotations

import numpy as np
import scipy.fft

PARCEL_PIXELS = 20  # mean width of a field


def abundances_of(
    generator: np.random.Generator, size: int, family_of: np.ndarray, odds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of each material (E, H, W) that sum to 1 in each pixel, and labels (H, W).

    Each parcel has a main material, drawn with its family's odds and with what the land favours
    there; fields of 1/f noise mix the others in.

    Args:
        family_of: (E,) the family of each material.
        odds: (E,) of a parcel of each.
    """
    count = len(family_of)
    parcel, to_border = parcels(generator, size)
    favour = one_over_f(generator, count, size, 3)
    somewhere = np.zeros(parcel.max() + 1, int)
    somewhere[parcel] = np.arange(size * size)  # one pixel of each parcel
    liking = np.log(odds)[:, None] + 2 * favour.reshape(count, -1)[:, somewhere]
    main = (liking + generator.gumbel(size=(count, len(somewhere)))).argmax(0)
    logits = 0.8 * generator.standard_normal((count, len(somewhere)))
    logits[main, np.arange(len(somewhere))] += 4
    everywhere = logits.astype(np.float32)[:, parcel].reshape(count, size, size)
    everywhere = everywhere + one_over_f(generator, count, size, 2.5)
    # ways and hedges between the parcels
    everywhere[generator.integers(count), (to_border < 0.6).reshape(size, size)] += 4
    np.exp(everywhere - everywhere.max(0), out=everywhere)
    return everywhere / everywhere.sum(0), (1 + family_of[main])[parcel].reshape(size, size)


def parcels(generator: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Number of the parcel and distance to its border in pixels, of each pixel (size * size,).

    Strips of all widths, cut into fields of all lengths, turned by some angle, and bent where the
    land is not flat.
    """
    turn = generator.uniform(0, np.pi)
    rows, columns = np.indices((size, size)) - size / 2
    wild = np.maximum(one_over_f(generator, 1, size, 3)[0], 0)
    bend = 8 * wild * one_over_f(generator, 2, size, 3.5)
    across = (rows * np.cos(turn) - columns * np.sin(turn) + bend[0]).ravel()
    along = (rows * np.sin(turn) + columns * np.cos(turn) + bend[1]).ravel()
    span = (
        2 * size + 100
    )  # farther than any pixel gets from the middle, whatever turns and bends it
    widths = generator.gamma(2, PARCEL_PIXELS / 2, 3 * span // PARCEL_PIXELS)
    strips = np.insert(widths.cumsum(), 0, 0) - span
    strip = np.searchsorted(strips, across)
    lengths = generator.gamma(2, PARCEL_PIXELS * 0.75, (len(strips) + 1, 3 * span // PARCEL_PIXELS))
    ends = np.minimum(np.insert(lengths.cumsum(1), 0, 0, axis=1) - span, span)
    lane = 3 * span  # all strips on one axis, a lane each
    ends = (ends + lane * np.arange(len(ends))[:, None]).ravel()
    position = along + lane * strip
    parcel = np.searchsorted(ends, position)
    to_ends = np.minimum(ends[parcel] - position, position - ends[parcel - 1])
    to_sides = np.minimum(strips.take(strip, mode="clip") - across, across - strips[strip - 1])
    to_border = np.minimum(to_ends, to_sides)
    return np.unique(parcel, return_inverse=True)[1], to_border


def brightness_of(generator: np.random.Generator, size: int) -> np.ndarray:
    """What multiplies all bands of a pixel (H, W): sun on a gentle relief, and fine texture."""
    relief, texture = one_over_f(generator, 1, size, 5)[0], one_over_f(generator, 1, size, 2)[0]
    slope = sum(np.gradient(relief))
    return np.exp(0.1 * slope / slope.std() + 0.06 * texture).astype(np.float32)


def one_over_f(
    generator: np.random.Generator, count: int, size: int, exponent: float
) -> np.ndarray:
    """Random fields (count, size, size) float32 of mean 0 and spread 1 whose power falls as 1 /
    frequency^exponent.
    """
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    frequency[0, 0] = np.inf
    white = generator.standard_normal((count, size, size), np.float32)
    fields = scipy.fft.irfft2(
        scipy.fft.rfft2(white) * (frequency ** (-exponent / 2)).astype(np.float32), s=(size, size)
    )
    return fields / fields.std((1, 2), keepdims=True)
