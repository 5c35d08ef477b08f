"""How an image is cut into tiles, and how far a tile has to see; used in
notebooks/10_gpu_training.ipynb.
"""

from __future__ import annotations

import itertools
import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..network.s3rnet import S3RNet
from ..training.fusion import FusionModel

LARGEST_OVERLAP = 64  # unless asked for
# times what the model was trained on; [0, 1] data stay below this, digital numbers do not
PLAUSIBLE = 10


@dataclass(frozen=True)
class Span:
    """One axis of a tile, in HR pixels: those it answers for, those it sees, and those it writes,
    with their weights.
    """

    own: slice
    seen: slice
    written: slice
    weight: torch.Tensor


def spans(length: int, tile: int, overlap: int, scale: int) -> list[Span]:
    """Cut an axis into tiles: `own` parts cover it once, `weight`s add up to 1 everywhere, all
    starts and ends lie on LR pixels.

    Args:
        length: HR pixels, a multiple of `scale`.
        tile: most pixels that a tile answers for; as many tiles as that takes share the axis
            evenly.
        overlap: pixels that a tile sees beyond its own, at both ends, as far as the image goes. An
            eighth of it is blended.
        scale: HR pixels in an LR pixel; must divide `tile` and `overlap`.

    Raises:
        ValueError: a tile or an overlap that is no multiple of the scale.
    """
    for name, value, least in (("tile", tile, scale), ("overlap", overlap, 0)):
        if value < least or value % scale:
            raise ValueError(
                f"{name}: expected a multiple of the scale {scale}, at least {least}, got {value}"
            )
    count, fade = math.ceil(length / tile), overlap // 8
    cuts = [scale * (i * (length // scale) // count) for i in range(count + 1)]

    def rise(
        cut: int, pixels: torch.Tensor
    ) -> torch.Tensor:  # from 0 to 1 around a cut; a pixel's centre is at its number + 1/2
        if cut in (0, length):  # no neighbour to share with
            return torch.full((len(pixels),), float(cut == 0))
        return ((pixels + 0.5 - cut) / max(2 * fade, 1) + 0.5).clamp(0, 1)

    result = []
    for start, stop in itertools.pairwise(cuts):
        seen, written = (
            slice(max(start - beyond, 0), min(stop + beyond, length)) for beyond in (overlap, fade)
        )
        pixels = torch.arange(written.start, written.stop)
        result.append(
            Span(slice(start, stop), seen, written, rise(start, pixels) - rise(stop, pixels))
        )
    return result


def reach(model: FusionModel) -> int | None:
    """HR pixels from which a result can hear of its input, attention and denoiser aside; None if
    not an S3RNet, hence not known.

    Convolutions add their radii (times the scale at low resolution), interpolation adds an LR
    pixel, and each pass of the injection what the PSF has beyond its block, and the bicubic kernel.
    """
    network, scale = model.network, model.degrade.scale
    if not isinstance(network, S3RNet):
        return None
    branches, beyond_block = network.mbfn, (model.degrade.card()["psf"]["taps"] - scale) // 2
    of_v = scale * (_radius(branches.v) + 1) + 2  # the bicubic kernel, at high resolution
    pixels = max(attention_reach(network), of_v, _radius(branches.z) + scale) + _radius(
        network.head
    )
    for _ in range(2 if model.skip in ("injection", "details") else 0):
        pixels = scale * math.ceil((pixels + beyond_block) / scale) + math.ceil(1.5 * scale)
    return pixels


def default_overlap(model: FusionModel) -> int:
    """Enough for the reach and the blended eighth, at most `LARGEST_OVERLAP` (rounded down to LR
    pixels).
    """
    scale, needed = model.degrade.scale, reach(model)
    sizes = range(0, LARGEST_OVERLAP + 1, scale)
    return next(
        (size for size in sizes if needed is not None and size - size // 8 >= needed), sizes[-1]
    )


def attention_reach(network: S3RNet) -> int:
    return max(network.scale * (_radius(network.mbfn.q) + 1), _radius(network.mbfn.k))


def _radius(layers: nn.Module) -> int:
    """Of a sequence of convolutions: their radii add up."""
    return sum(
        layer.kernel_size[0] // 2 for layer in layers.modules() if isinstance(layer, nn.Conv2d)
    )


def window_of(x, rows: slice, columns: slice) -> torch.Tensor:
    """A window (..., h, w) float32 on the CPU of a tensor, an array or a file."""
    window = x[:, rows, columns]
    return (
        window.float().cpu()
        if isinstance(window, torch.Tensor)
        else torch.from_numpy(np.array(window, dtype=np.float32))
    )


def scan(name: str, x, trained_on: float, windows: list[tuple[slice, slice]]) -> int:
    """A checksum of the image, read once to say what is wrong with it before anything is
    computed.
    """
    checksum, any_data = 0, False
    for rows, columns in windows:
        window = window_of(x, rows, columns).contiguous().numpy()
        checksum = zlib.crc32(window, checksum)
        any_data |= not np.isnan(window).any(axis=0).all()
        largest = np.fmax.reduce(np.abs(window), axis=None)  # passes over NaN
        if largest > PLAUSIBLE * trained_on:
            place = np.unravel_index(np.nanargmax(np.abs(window)), window.shape)
            band, row, column = (place[0], rows.start + place[1], columns.start + place[2])
            raise ValueError(
                f"{name}: expected floating-point values as the model was trained on, in [0, 1] or "
                f"to about {trained_on:.2g}, got {largest:g} in band {band}, row {row}, column "
                f"{column} (from 0); scale first (--scale, --offset), or correct that pixel"
            )
    if not any_data:
        raise ValueError(f"{name}: expected pixels with data in all bands, got NaN in every pixel")
    return checksum
