"""DHIF-Net, T. Huang, W. Dong, J. Wu, L. Li, X. Li and G. Shi, IEEE TCI 2022; drawn in
notebooks/09_peers_table1.ipynb.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from ..files.checks import check_pair
from .parts import fuse_padded, upsample

PRESETS: dict[str, dict] = {
    "paper": {},
    "lite": dict(
        stages=2,
        taps=3,
        filter_groups=5,
        encoder=(24, 48, 96),
        decoder=(48, 48),
        blur_by_band=True,
        blur_margin=1,
        operator_slope=1.0,
        unet_upsampling="bilinear",
    ),
}


class DHIFNet(nn.Module):
    """A few steps of gradient descent, of which every part is learnt: two data terms and a filter
    of its own for each value.

        Z_0     = bicubic(LR-HSI)
        data    = R'(R(Z) - MSI) + B'(B(Z) - LR-HSI)              does Z explain both images?
        U       = a different 3D filter at each pixel and band, applied to Z
        Z_{t+1} = Z_t - 2 eta_t (data + lambda_t (Z_t - U))       the last Z comes out, not clipped

    R (3x3 convolution to the MSI's bands) stands for the spectral response, B (strided convolution)
    for blur and decimation, R' and B' for their transposes, and each has weights of its own. The
    filter is one along rows, one along columns and one along bands, each of `taps` values with
    squares that sum to 1, which a U-Net reads off cat[Z, MSI]. All stages share all of this but
    eta, lambda and one convolution that looks back at the U-Net inputs of earlier stages.

    Shape: x_h (B, C, h, w), x_m (B, M, h*scale, w*scale) -> (B, C, h*scale, w*scale), any h and w:
    sides are padded to multiples of 4 HR pixels inside.

    Args:
        stages: steps of descent.
        taps: length of the three filters, odd.
        filter_groups: the bands are split into so many neighbouring groups and those of a group
            share their filters; None gives each band its own.
        encoder, decoder: channels of the U-Net's levels, from fine to coarse and back from coarse
            to fine; one fewer for the decoder.
        blur_by_band: B and B' treat each band alone, as optics do.
        blur_margin: how far their kernels reach beyond an LR pixel, in HR pixels; None: one LR
            pixel.
        operator_slope: of the LeakyReLU after R, R', B and B'. 0.01 as published suits data in [0,
            1]; with 1 they are linear, as the real ones are, and standardised data keep their
            negative half.
        unet_upsampling: "bicubic" or "bilinear".
        global_skip: False returns Z_T - Z_0, what the descent adds to the upsampled LR-HSI.

    Raises:
        ValueError: an even number of taps, a decoder that does not fit; from `forward`, inputs that
            do not fit together.

    Source: the authors' public code, which knows scales 8 and 16 and three MSI bands. Its own
        widths give 70 M parameters at
    scale 4; the defaults here (a smaller U-Net of three levels, B with 12 x 12 pixels) are chosen
    to meet the 57.04 M of
    Table I: inferred, not documented.
    """

    def __init__(
        self,
        hsi_bands: int,
        msi_bands: int,
        scale: int = 4,
        stages: int = 4,
        taps: int = 7,
        filter_groups: int | None = None,
        encoder: tuple[int, ...] = (32, 64, 128),
        decoder: tuple[int, ...] = (64, 128),
        blur_by_band: bool = False,
        blur_margin: int | None = None,
        operator_slope: float = 0.01,
        unet_upsampling: str = "bicubic",
        global_skip: bool = True,
    ):
        super().__init__()
        if taps % 2 == 0:
            raise ValueError(f"taps: expected an odd number, got {taps}")
        if len(encoder) != len(decoder) + 1:
            raise ValueError(
                f"decoder: expected {len(encoder) - 1} widths, one fewer than the encoder's, got "
                f"{decoder}"
            )
        self.hsi_bands, self.msi_bands, self.scale = hsi_bands, msi_bands, scale
        self.global_skip = global_skip
        self.multiple = math.lcm(scale, 2 ** len(decoder))

        margin = scale if blur_margin is None else blur_margin
        blur = dict(
            kernel_size=scale + 2 * margin,
            stride=scale,
            padding=margin,
            groups=hsi_bands if blur_by_band else 1,
        )
        self.spectral = _operator(nn.Conv2d(hsi_bands, msi_bands, 3, padding=1), operator_slope)
        self.spectral_transposed = _operator(
            nn.Conv2d(msi_bands, hsi_bands, 3, padding=1), operator_slope
        )
        self.spatial = _operator(nn.Conv2d(hsi_bands, hsi_bands, **blur), operator_slope)
        self.spatial_transposed = _operator(
            nn.ConvTranspose2d(hsi_bands, hsi_bands, **blur), operator_slope
        )

        width = encoder[0]
        self.look = nn.Conv2d(hsi_bands + msi_bands, width, 3, padding=1)
        self.look_back = nn.ModuleList(
            [nn.Conv2d(width * (t + 1), width, 3, padding=1) for t in range(stages)]
        )
        self.unet = UNet(encoder, decoder, unet_upsampling)
        groups = min(filter_groups or hsi_bands, hsi_bands)
        self.filters = nn.ModuleList(
            [FilterHead(decoder[-1], groups, taps) for _ in range(3)]
        )  # along rows, columns, bands
        self.eta = nn.Parameter(0.1 + 0.01 * torch.randn(stages))
        self.lambda_ = nn.Parameter(1 + 0.01 * torch.randn(stages))

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        check_pair(x_h, x_m, self.scale, self.hsi_bands, self.msi_bands)
        return fuse_padded(self._descend, x_h, x_m, self.scale, self.multiple)

    def _descend(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        z = start = upsample(x_h, self.scale, "bicubic")
        looks = []
        for look_back, eta, lambda_ in zip(self.look_back, self.eta, self.lambda_, strict=True):
            data = self.spectral_transposed(self.spectral(z) - x_m) + self.spatial_transposed(
                self.spatial(z) - x_h
            )
            looks.append(self.look(torch.cat([z, x_m], dim=1)))
            features = self.unet(look_back(torch.cat(looks, dim=1)))
            u = apply_filters(z, *(head(features) for head in self.filters))
            z = z - 2 * eta * (data + lambda_ * (z - u))
        return z if self.global_skip else z - start


class UNet(nn.Module):
    """Two 3x3 convolutions with ReLU a level, mean pooling on the way down, skips concatenated on
    the way up.

    Shape: (B, encoder[0], H, W) -> (B, decoder[-1], H, W), sides divisible by 2 ** len(decoder).
    """

    def __init__(self, encoder: tuple[int, ...], decoder: tuple[int, ...], upsampling: str):
        super().__init__()
        self.upsampling = upsampling
        self.encoder = nn.ModuleList(
            [_two_convolutions(i, o) for i, o in pairwise((encoder[0], *encoder))]
        )
        inputs = [
            below + skip
            for below, skip in zip((encoder[-1], *decoder), encoder[-2::-1], strict=False)
        ]
        self.decoder = nn.ModuleList(
            [_two_convolutions(i, o) for i, o in zip(inputs, decoder, strict=True)]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        levels = [self.encoder[0](x)]
        for block in self.encoder[1:]:
            levels.append(block(F.avg_pool2d(levels[-1], 2)))
        x = levels[-1]
        for block, skip in zip(self.decoder, levels[-2::-1], strict=True):
            x = block(torch.cat([skip, upsample(x, 2, self.upsampling)], dim=1))
        return x


class FilterHead(nn.Sequential):
    """Features to the taps of one filter per pixel and group of bands; the squares of a filter's
    taps sum to 1.

    The taps are signed and their sum is free: an even filter of seven amplifies by sqrt(7), only a
    single tap keeps values as they are. That is the published design.

    Shape: (B, in_channels, H, W) -> (B, taps, groups, H, W).
    """

    def __init__(self, in_channels: int, groups: int, taps: int):
        self.taps = taps
        width = taps * groups
        super().__init__(
            nn.Conv2d(in_channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(super().forward(x).unflatten(1, (self.taps, -1)), dim=1)


def apply_filters(
    z: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, bands: torch.Tensor
) -> torch.Tensor:
    """Filter each value of `z` with its own taps: along its row, its column, then its spectrum.

    Rows and columns go on beyond the image with their last value, spectra with 0. If the groups do
    not divide the bands, the last group is filled up with zeros, which is what lies beyond the last
    band anyway.

    Shape: z (B, C, H, W), three times taps (B, taps, groups, H, W) -> (B, C, H, W).
    """
    batch, count, height, width = z.shape
    taps, groups = rows.shape[1:3]
    reach = taps // 2
    z = F.pad(z, (0, 0, 0, 0, 0, -count % groups))
    for weights, padding, mode, axis in (
        (rows, (reach, reach, 0, 0), "replicate", 3),
        (columns, (0, 0, reach, reach), "replicate", 2),
        (bands, (0, 0, 0, 0, reach, reach), "constant", 1),
    ):
        length = z.shape[axis]
        padded = F.pad(z, padding, mode)
        shifted = (
            padded.narrow(axis, tap, length).unflatten(1, (groups, -1)) for tap in range(taps)
        )
        z = sum(
            weight[:, :, None] * values
            for weight, values in zip(weights.unbind(1), shifted, strict=True)
        ).flatten(1, 2)
    return z[:, :count]


def _operator(convolution: nn.Module, slope: float) -> nn.Sequential:
    return convolution if slope == 1 else nn.Sequential(convolution, nn.LeakyReLU(slope))


def _two_convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.ReLU(),
    )
