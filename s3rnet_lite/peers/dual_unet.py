"""Dual-UNet, J. Xiao, J. Li, Q. Yuan and L. Zhang, IEEE TGRS 2021; drawn in
notebooks/09_peers_table1.ipynb.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

from ..files.checks import check_pair
from .parts import ChannelAttention, fuse_padded, upsample

SLOPE = 0.2
PRESETS: dict[str, dict] = {
    "paper": {},
    "lite": dict(
        stem=16,
        hsi_widths=(16, 32, 48, 48),
        hsi_decoder=(32, 16, 16),
        msi_widths=(8, 16, 24, 24),
        msi_decoder=(16, 8, 16),
        align_corners=False,
    ),
}


class DualUNet(nn.Module):
    """Two U-Nets side by side: the MSI's hands every feature it makes to the LR-HSI's; each ends in
    an image of its own.

        MSI  ->       y1 -> y2 -> y3 -> y4 -> y5 -> y6 -> y7 -> D    detail; no skips
                      |     |     |     |     |     |
        up, MSI -> stem -> x1 -> x2 -> x3 -> x4 -> u1 -> u2 -> u3 -> R    residual
                                                         skips: x3 -> u1, x2 -> u2, x1 -> u3

        output = up + R + D,    up = bicubic(LR-HSI)

    Each letter is two 3x3 convolutions with LeakyReLU (0.2); each arrow halves or doubles the size.
    A vertical line means: concatenated, then resized together. No normalisation layers; the output
    is not clipped.

    Shape: x_h (B, C, h, w), x_m (B, M, h*scale, w*scale) -> (B, C, h*scale, w*scale), any h and w:
    sides are padded to multiples of 8 HR pixels inside.

    Args:
        stem: channels of the attentive stem.
        hsi_widths, msi_widths: channels of x1, x2, ... and y1, y2, ...
        hsi_decoder, msi_decoder: channels of u1, u2, ... and y5, y6, ...; one fewer than above.
        align_corners: how the decoders double sizes. True, as published, puts the outer pixels of
            both grids on each other,
            though halving did not: features move by up to a quarter of a coarse pixel, how much
                depends on where in the
            image they are. False undoes the halving's shift exactly, and the network is the same
            everywhere.
        global_skip: False leaves `up` out of the output (not of the stem).

    Raises:
        ValueError: widths that do not make two U-Nets of one depth; from `forward`, inputs that do
            not fit together.

    Source: an unlabelled class in S3RNet's FLOPs notebook, taken to be Dual-UNet since MSI features
        enter at every stage
    (inferred). That class has 7.33 M parameters; the paper preset's widths, in U-Nets without its
    narrow decoder middles, were chosen to meet the 2.97 M of Table I. There the class is given the
    enlarged LR-HSI: bicubic is our guess. It also allots the stem a fourth weight and never uses
    it; here it weighs the stem's skip, which changes nothing at its initial 1. Its second output,
    up + R, is not returned.
    """

    def __init__(
        self,
        hsi_bands: int,
        msi_bands: int,
        scale: int = 4,
        stem: int = 64,
        hsi_widths: tuple[int, ...] = (64, 96, 128, 128),
        hsi_decoder: tuple[int, ...] = (96, 64, 64),
        msi_widths: tuple[int, ...] = (64, 64, 64, 64),
        msi_decoder: tuple[int, ...] = (64, 64, 64),
        align_corners: bool = True,
        global_skip: bool = True,
    ):
        super().__init__()
        if not len(hsi_widths) == len(msi_widths) == len(hsi_decoder) + 1 == len(msi_decoder) + 1:
            depths = [len(widths) for widths in (hsi_widths, msi_widths, hsi_decoder, msi_decoder)]
            raise ValueError(
                "expected as many hsi_widths as msi_widths, and one fewer for both decoders, got "
                f"{depths}"
            )
        self.hsi_bands, self.msi_bands, self.scale = hsi_bands, msi_bands, scale
        self.align_corners, self.global_skip = align_corners, global_skip
        self.multiple = math.lcm(
            scale, 2 ** len(hsi_decoder)
        )  # HR sides have to be halved so many times

        self.msi_encoder = _chain((msi_bands, *msi_widths))
        self.msi_decoder = _chain((msi_widths[-1], *msi_decoder))
        self.msi_head = _head(msi_decoder[-1], hsi_bands)

        details = (*msi_widths[-1:], *msi_decoder)  # what the HSI decoder's stages are given
        self.stem = AttentiveStem(hsi_bands + msi_bands, stem)
        self.hsi_encoder = nn.ModuleList([_two_convolutions(stem, hsi_widths[0])])
        for width, detail, out in zip(hsi_widths, msi_widths, hsi_widths[1:], strict=False):
            self.hsi_encoder.append(_two_convolutions(width + detail, out))
        self.hsi_decoder = nn.ModuleList()
        for below, detail, skip, out in zip(
            (hsi_widths[-1], *hsi_decoder), details, hsi_widths[-2::-1], hsi_decoder, strict=False
        ):
            self.hsi_decoder.append(_two_convolutions(skip + below + detail, out))
        self.hsi_head = _head(hsi_decoder[-1], hsi_bands)

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        check_pair(x_h, x_m, self.scale, self.hsi_bands, self.msi_bands)
        return fuse_padded(self._fuse, x_h, x_m, self.scale, self.multiple)

    def _fuse(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        y = [self.msi_encoder[0](x_m)]
        for block in self.msi_encoder[1:]:
            y.append(block(_halve(y[-1])))
        details = [y[-1]]
        for block in self.msi_decoder:
            details.append(block(self._double(details[-1])))

        x_up = upsample(x_h, self.scale, "bicubic")
        x = [self.hsi_encoder[0](self.stem(torch.cat([x_up, x_m], dim=1)))]
        for block, detail in zip(self.hsi_encoder[1:], y, strict=False):
            x.append(block(_halve(torch.cat([x[-1], detail], dim=1))))
        u = x[-1]
        for block, detail, skip in zip(self.hsi_decoder, details, x[-2::-1], strict=False):
            u = block(torch.cat([skip, self._double(torch.cat([u, detail], dim=1))], dim=1))

        learnt = self.hsi_head(u) + self.msi_head(details[-1])
        return x_up + learnt if self.global_skip else learnt

    def _double(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=self.align_corners)


class AttentiveStem(nn.Module):
    """Chains of one, two and three convolutions (so three sizes of neighbourhood), mixed, then
    weighed by three attentions.

    Channel attention says which features matter, spatial attention where; their product weighs t on
    top of t itself. The three are built alike. Learnt scalars, all 1 at first, weigh the chains,
    the attentions and the skip.

    Shape: (B, in_channels, H, W) -> (B, width, H, W).
    """

    def __init__(self, in_channels: int, width: int):
        super().__init__()
        self.enter = nn.Sequential(_convolution(in_channels, width), nn.LeakyReLU(SLOPE))
        self.chains = nn.ModuleList(
            [_linear_end(width, convolutions) for convolutions in (1, 2, 3)]
        )
        self.mix_two, self.mix_three = (
            _convolution(2 * width, width),
            _convolution(3 * width, width),
        )
        self.mix = nn.Sequential(_convolution(3 * width, width), nn.LeakyReLU(SLOPE))
        self.channel_attentions = nn.ModuleList(
            [ChannelAttention(width, 16, bias=False) for _ in range(3)]
        )
        self.spatial_attentions = nn.ModuleList([_spatial_attention(width) for _ in range(3)])
        self.leave = nn.Sequential(
            nn.Conv2d(3 * width, width, 1), nn.LeakyReLU(SLOPE), _convolution(width, width)
        )
        self.chain_weights, self.attention_weights, self.skip_weight = (
            nn.Parameter(torch.ones(n)) for n in (3, 3, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        entered = self.enter(x)
        chained, weighted = entered, []
        for chain, weight in zip(self.chains, self.chain_weights, strict=True):
            chained = chain(chained)
            weighted.append(weight * chained)
        t = self.mix(
            torch.cat(
                [
                    weighted[0],
                    self.mix_two(torch.cat(weighted[:2], 1)),
                    self.mix_three(torch.cat(weighted, 1)),
                ],
                1,
            )
        )
        attended = [
            weight * (in_channels(t) * in_space(t) * t + t)
            for weight, in_channels, in_space in zip(
                self.attention_weights,
                self.channel_attentions,
                self.spatial_attentions,
                strict=True,
            )
        ]
        return self.leave(torch.cat(attended, dim=1)) + self.skip_weight * entered


def _halve(x: torch.Tensor) -> torch.Tensor:
    """The mean of 2 x 2 pixels, which is what bilinear interpolation to half the size gives."""
    return F.avg_pool2d(x, 2)


def _convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def _two_convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(in_channels, out_channels),
        nn.LeakyReLU(SLOPE),
        _convolution(out_channels, out_channels),
        nn.LeakyReLU(SLOPE),
    )


def _chain(widths: tuple[int, ...]) -> nn.ModuleList:
    return nn.ModuleList([_two_convolutions(i, o) for i, o in itertools.pairwise(widths)])


def _head(width: int, bands: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(width, width), nn.LeakyReLU(SLOPE), nn.Conv2d(width, bands, 1)
    )


def _linear_end(width: int, convolutions: int) -> nn.Sequential:
    """Convolutions with LeakyReLU between them, none after the last."""
    layers = [
        layer
        for _ in range(convolutions)
        for layer in (_convolution(width, width), nn.LeakyReLU(SLOPE))
    ]
    return nn.Sequential(*layers[:-1])


def _spatial_attention(width: int) -> nn.Sequential:
    """One weight per pixel: (B, width, H, W) -> (B, 1, H, W), in (0, 1)."""
    return nn.Sequential(
        _convolution(width, width // 2), nn.ReLU(), _convolution(width // 2, 1), nn.Sigmoid()
    )
