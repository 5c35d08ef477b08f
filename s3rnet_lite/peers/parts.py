"""What two or more of the peers really share."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

Fuse = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def upsample(x: torch.Tensor, scale: int, mode: str) -> torch.Tensor:
    """`mode` "bilinear" or "bicubic", (B, C, h, w) -> (B, C, h*scale, w*scale); pixels are squares,
    not points.
    """
    return F.interpolate(x, scale_factor=scale, mode=mode, align_corners=False)


class ChannelAttention(nn.Module):
    """One weight per channel: sigmoid of a shared two-layer perceptron of the spatial mean, plus
    that of the spatial maximum.

    Shape: (B, channels, H, W) -> (B, channels, 1, 1), in (0, 1). Source: S. Woo et al., "CBAM",
    ECCV 2018; in MSSJFL and Dual-UNet.
    """

    def __init__(self, channels: int, hidden: int, bias: bool):
        super().__init__()
        self.perceptron = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=bias),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1, bias=bias),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(
            self.perceptron(x.mean((2, 3), keepdim=True))
            + self.perceptron(x.amax((2, 3), keepdim=True))
        )


class SubpixelUpsampling(nn.Sequential):
    """A 3x3 convolution to scale**2 values per band, laid out as scale x scale pixels; in U2Net and
    FusionMamba.

    Shape: (B, bands, h, w) -> (B, bands, h*scale, w*scale).
    """

    def __init__(self, bands: int, scale: int):
        super().__init__(
            nn.Conv2d(bands, bands * scale**2, 3, padding=1, bias=False), nn.PixelShuffle(scale)
        )


def fuse_padded(
    fuse: Fuse, x_h: torch.Tensor, x_m: torch.Tensor, scale: int, multiple: int
) -> torch.Tensor:
    """`fuse(x_h, x_m)` for networks that need HR sides divisible by `multiple`: repeat the last row
    and column, cut off after.

    `multiple` has to be a multiple of `scale`, so that the LR-HSI grows by whole pixels.
    """
    height, width = x_m.shape[-2:]
    right, bottom = -width % multiple, -height % multiple
    if right or bottom:
        x_m = F.pad(x_m, (0, right, 0, bottom), mode="replicate")
        x_h = F.pad(x_h, (0, right // scale, 0, bottom // scale), mode="replicate")
    return fuse(x_h, x_m)[..., :height, :width]


def fuse_in_tiles(
    fuse: Fuse, x_h: torch.Tensor, x_m: torch.Tensor, scale: int, tile: int, overlap: int
) -> torch.Tensor:
    """`fuse` on tiles of `tile` x `tile` HR pixels, blended over `overlap` pixels with weights that
    fall to the tile's edges.

    For attention over all pixels: its cost grows with the square of their number, and its softmax
    depends on that number, so images are cut to the size of the training crops. Images (or sides)
    that fit into one tile are not cut. `tile` and `overlap` are multiples of `scale`.
    """
    height, width = x_m.shape[-2:]
    tile_height, tile_width = min(tile, height), min(tile, width)
    if (tile_height, tile_width) == (height, width):
        return fuse(x_h, x_m)
    weight = _tent(tile_height, overlap, x_m)[:, None] * _tent(tile_width, overlap, x_m)
    total, weights = None, x_m.new_zeros(height, width)
    for top in _tile_starts(height, tile_height, overlap, scale):
        for left in _tile_starts(width, tile_width, overlap, scale):
            window = (..., slice(top, top + tile_height), slice(left, left + tile_width))
            window_h = (
                ...,
                *(slice(side.start // scale, side.stop // scale) for side in window[1:]),
            )
            fused = fuse(x_h[window_h], x_m[window])
            if total is None:
                total = fused.new_zeros(*fused.shape[:-2], height, width)
            total[window] += fused * weight
            weights[window] += weight
    return total / weights


def _tile_starts(length: int, tile: int, overlap: int, scale: int) -> list[int]:
    """Where tiles begin: even steps of at most tile - overlap, rounded to the LR grid, the last one
    at the far edge.
    """
    if length == tile:
        return [0]
    steps = -(-(length - tile) // (tile - overlap))
    return [round(i * (length - tile) / steps / scale) * scale for i in range(steps + 1)]


def _tent(length: int, overlap: int, like: torch.Tensor) -> torch.Tensor:
    """1 inside, falling linearly to 1 / (overlap + 1) at both ends."""
    distance = torch.arange(1, length + 1, dtype=like.dtype, device=like.device)
    return torch.minimum(distance, distance.flip(0)).clamp_max(overlap + 1) / (overlap + 1)


class FeaturePyramid(nn.Module):
    """Features of an image at full, half and quarter size; in HyperTransformer (first kernel 7) and
    HyperRefiner (3).

        x          -> conv k x k, BN, ReLU, conv 3x3, BN -> full
        ReLU(full) -> maximum of 2x2 -> conv 3x3, BN, ReLU, conv 3x3, BN -> half, and so on

    Shape: (B, channels, H, W) -> one (B, widths[i], H / 2**i, W / 2**i) per width, before the ReLU;
    H and W divisible by 4.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], kernel_size: int):
        super().__init__()
        self.levels = nn.ModuleList()
        for width, kernel in zip(widths, (kernel_size, 3, 3), strict=True):
            first = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
            second = nn.Conv2d(width, width, 3, padding=1)
            self.levels.append(
                nn.Sequential(
                    first, nn.BatchNorm2d(width), nn.ReLU(), second, nn.BatchNorm2d(width)
                )
            )
            channels = width

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        outputs = [self.levels[0](x)]
        for level in self.levels[1:]:
            outputs.append(level(F.max_pool2d(F.relu(outputs[-1]), 2)))
        return outputs
