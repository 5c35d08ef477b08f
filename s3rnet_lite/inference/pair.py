"""A pair of one's own: what relates its two images, and the reduced problem that stands in for a
reference; used in notebooks/10_gpu_training.ipynb.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .. import metrics
from ..files import outliers
from ..sensing.degradation import Degradation, add_noise, gaussian_psf
from . import calibration
from .calibration import Alignment, Response

LARGEST_SHIFT = 0.5  # HR pixels, along an axis; half a pixel costs more than any choice of method
LEAST_CORRELATION = 0.4  # squared; the tests have other places below 0.3, one place above 0.7
HELD_OUT_SHARE = 0.25
LEAST_SIDE = 3  # LR pixels; of fewer, no alignment can be found

Window = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True)
class Reduced:
    """The pair degraded once more (Wald's protocol): its reference is the LR-HSI.

    x_h (C, h/r, w/r), x_m (M, h, w), y (C, h, w), all in [0, 1].
    snr_db: of the noise added to x_h, so that it is as noisy as the LR-HSI itself; None if noise
        cannot be told from signal.
    """

    x_h: torch.Tensor
    x_m: torch.Tensor
    y: torch.Tensor
    snr_db: float | None


@dataclass(frozen=True)
class Pair:
    """Two images of one place, in [0, 1], so that `degrade.spectral(y)` is the MSI.

    x_h (C, h, w), x_m (M, h*r, w*r).
    response: takes an MSI as measured to the HSI's unit.
    offset, unit: the HSI as measured is unit * x_h + offset.
    train, held_out: windows of the LR-HSI: to learn from, and that no weight depends on; None if
        the pair is too small for both, and `too_small` says why.
    """

    x_h: torch.Tensor
    x_m: torch.Tensor
    degrade: Degradation
    response: Response
    alignment: Alignment
    offset: float
    unit: float
    train: Window | None
    held_out: Window | None
    too_small: str = ""

    def reduced(self, seed: int) -> Reduced:
        """Both images degraded once more, on the pixels that the scale divides."""
        scale = self.degrade.scale
        rows, columns = (length // scale * scale for length in self.x_h.shape[1:])
        y = self.x_h[:, :rows, :columns]
        x_h, x_m = self.degrade.spatial(y), self.degrade.spatial(self.x_m)[:, :rows, :columns]
        snr_db = lost_noise(y, x_h, self.degrade)
        if snr_db is not None:
            x_h = add_noise(x_h, snr_db, torch.Generator().manual_seed(seed))
        return Reduced(x_h, x_m, y, snr_db)


def calibrate(
    x_h: torch.Tensor,
    x_m: torch.Tensor,
    scale: int | None = None,
    srf: torch.Tensor | None = None,
    psf_sigma: float | None = None,
) -> Pair:
    """Find what relates two images as measured: scale, PSF, SRF, gains. Arguments as
    `adaptation.adapt`.

    Raises:
        TypeError, ValueError: see `adaptation.adapt`.
    """
    scale = calibration.find_scale(x_h, x_m, scale)
    for name, x in (("x_h", x_h), ("x_m", x_m)):
        extremes = x.amin(0).numpy(), x.amax(0).numpy()
        outliers.check(name, *extremes, lambda row, column, x=x: x[:, row, column].numpy())
    if min(x_h.shape[1:]) < LEAST_SIDE:
        size = " x ".join(map(str, x_h.shape[1:]))
        raise ValueError(f"x_h: expected at least {LEAST_SIDE} pixels a side, got {size}")
    train, held_out, too_small = None, None, ""
    try:
        train, held_out = split(x_h.shape[1], x_h.shape[2], scale)
    except ValueError as error:
        too_small = str(error)
    alignment = calibration.align(x_h, x_m, scale, psf_sigma)
    check_alignment(alignment)
    low = Degradation(scale, alignment.psf_sigma, torch.ones(1, 1)).spatial(x_m)
    if srf is None:
        response = calibration.estimate_response(x_h, low)
    else:
        response = calibration.fit_gains(srf, x_h, low)
    degrade = Degradation(scale, alignment.psf_sigma, response.srf)
    offset, unit = float(x_h.min()), float(x_h.max() - x_h.min())
    x_m = (response.to_hsi_unit(x_m) - offset) / unit
    x_h = (x_h - offset) / unit
    windows = train, held_out, too_small
    return Pair(x_h, x_m, degrade, response, alignment, offset, unit, *windows)


def split(height: int, width: int, scale: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where an LR-HSI is learnt from and where it is held out: two times (rows, columns), along its
    longer side.

    All edges lie on the grid of the reduced problem. Between the two lies one of its pixels, and
    the training part is degraded by itself, so that no held-out pixel enters the training, neither
    as input nor as target.

    Raises:
        ValueError: fewer than 5 times 3 pixels in the reduced problem, or fewer than 8 on a side of
            the LR-HSI (QNR's windows).
    """
    shorter, longer = sorted((height // scale, width // scale))
    if shorter < 3 or longer < 5 or min(height, width) < 8:
        raise ValueError(
            f"x_h: {height} x {width} pixels are too few to be degraded {scale} times once more "
            "and divided into training and held-out "
            f"pixels; at least {max(3 * scale, 8)} x {5 * scale} are needed"
        )
    held_out = round(HELD_OUT_SHARE * longer)
    cut = (longer - held_out) * scale
    along, across = (slice(0, cut - scale), slice(cut, longer * scale)), slice(0, shorter * scale)
    return tuple((across, part) if width >= height else (part, across) for part in along)


def lost_noise(x_h: torch.Tensor, reduced_h: torch.Tensor, degrade: Degradation) -> float | None:
    """The SNR in dB at which noise has to be added to a degraded LR-HSI for it to be as noisy as
    the LR-HSI itself.

    White noise, as strong in every band as `metrics.estimate_noise` finds in the mean over bands,
    minus what the blur leaves of it.
    None where noise cannot be told from signal: too few pixels for so many bands, or bands that
    depend on each other exactly.
    """
    try:
        variance = metrics.estimate_noise(x_h).square().mean()
    except ValueError:
        return None
    psf = gaussian_psf(degrade.psf_sigma, degrade.scale)
    kept = psf @ psf
    return float(10 * torch.log10(reduced_h.double().square().mean() / (variance * (1 - kept**2))))


def check_alignment(alignment: calibration.Alignment) -> None:
    """Refuse a pair of which a fused image would be wrong.

    Raises:
        ValueError: the two are not correlated at any shift, or shifted by more than
            `LARGEST_SHIFT`.
    """
    if alignment.correlation < LEAST_CORRELATION:
        raise ValueError(
            "x_h, x_m: expected images of the same place, but they hardly correlate at any shift "
            "(squared correlation "
            f"{alignment.correlation:.2f}, at least {LEAST_CORRELATION} expected); is one of them "
            "flipped, turned or of another footprint?"
        )
    if max(abs(alignment.rows), abs(alignment.columns)) > LARGEST_SHIFT:
        raise ValueError(
            f"x_m: expected to be aligned with x_h to {LARGEST_SHIFT} HR pixels, but its content "
            f"lies {alignment.rows:+.2f} rows (down) "
            f"and {alignment.columns:+.2f} columns (right) of HR pixels away from where x_h has "
            "it; register the pair first"
        )
