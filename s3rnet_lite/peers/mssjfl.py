"""MSSJFL (Z. Min, Y. Wang, S. Jia, IEEE HPCC, 2021); drawn in notebooks/09_peers_table1.ipynb.

"Multiscale spatial-spectral joint feature learning": the image is the sum of three guesses, made
from both inputs at low resolution, from both at high resolution, and from each input by itself;
then it is corrected by what it gets wrong about them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..files.checks import check_pair
from .parts import ChannelAttention, upsample

HEAD_SLOPE = 0.01  # of the LeakyReLU behind the convolutions outside the blocks

PRESETS: dict[str, dict] = {
    "paper": dict(hsi_width=256, msi_width=64, blocks=5, slope=0.2, reduction=16, depthwise=False),
    "lite": dict(hsi_width=32, msi_width=16, blocks=2, slope=0.2, reduction=2, depthwise=True),
}


class SpatialAttention(nn.Module):
    """One weight per pixel: sigmoid of a 7x7 convolution over the mean and the maximum of its
    channels.

    Shape: (B, channels, H, W) -> (B, 1, H, W), in (0, 1).
    """

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(
            self.convolution(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1))
        )


class AttentionBlock(nn.Module):
    """3x3 convolution, LeakyReLU, 3x3 convolution, attention to channels, to pixels or to both,
    plus the input.

    Shape: (B, width, H, W) -> (B, width, H, W).
    """

    def __init__(self, width: int, slope: float, reduction: int, channels: bool, pixels: bool):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(slope),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.attentions = nn.ModuleList()
        if channels:
            self.attentions.append(ChannelAttention(width, max(1, width // reduction), bias=True))
        if pixels:
            self.attentions.append(SpatialAttention())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.convolutions(x)
        for attention in self.attentions:
            features = features * attention(features)
        return features + x


class Branch(nn.Module):
    """1x1 convolution and LeakyReLU to `width`, then blocks, with a skip around all of them.

    Shape: (B, in_channels, H, W) -> (B, width, H, W).
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        blocks: int,
        slope: float,
        reduction: int,
        channels: bool = False,
        pixels: bool = False,
    ):
        super().__init__()
        self.enter = leaky(nn.Conv2d(in_channels, width, 1))
        self.blocks = nn.Sequential(
            *(AttentionBlock(width, slope, reduction, channels, pixels) for _ in range(blocks))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        return self.blocks(x) + x


class BackProjection(nn.Module):
    """Predict both inputs from the fused image, and add what the predictions lack, brought to its
    shape.

    Shape: fused (B, C, H, W), x_h (B, C, h, w), x_m (B, M, H, W) -> (B, C, H, W).
    """

    def __init__(self, hsi_bands: int, msi_bands: int, scale: int, depthwise: bool):
        super().__init__()
        groups = hsi_bands if depthwise else 1
        self.to_hsi = leaky(nn.Conv2d(hsi_bands, hsi_bands, scale, stride=scale, groups=groups))
        self.to_msi = leaky(nn.Conv2d(hsi_bands, msi_bands, 1))
        self.from_hsi = nn.ConvTranspose2d(hsi_bands, hsi_bands, scale, stride=scale, groups=groups)
        self.from_msi = nn.Conv2d(msi_bands, hsi_bands, 1)

    def forward(self, fused: torch.Tensor, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        return (
            fused
            + self.from_hsi(x_h - self.to_hsi(fused))
            + self.from_msi(x_m - self.to_msi(fused))
        )


class MSSJFL(nn.Module):
    """Three guesses, added, then corrected once.

    | branch | sees | works at | attention to | gives |
    |---|---|---|---|---|
    | joint_low | Cat(X_h, X_m downsampled) | low resolution, width `hsi_width` | channels, pixels |
    X_a by subpixels | | joint_high | Cat(X_m, X_h upsampled) | high resolution, width `msi_width` |
    channels, pixels | X_b | | spectral | X_h | low resolution, width `hsi_width` | channels | with
    `spatial`: | | spatial | X_m | high resolution, width `msi_width` | pixels | X_c by a 3x3
    convolution |

    X_a + X_b + X_c then goes through `BackProjection`. No upsampled LR-HSI is added anywhere, so
    all of the image is learnt. X_b and X_c end in a LeakyReLU, hence are nearly non-negative:
    natural on [0, 1], while on centred data what is dark has to come from X_a and the corrections.
    Nothing is clamped.

    Deviations from the public code: `slope` (below), and PyTorch's default start for the weights
    instead of N(0, 0.05), with which the untrained network's output had a standard deviation above
    100.

    Shape: x_h (B, C, h, w), x_m (B, M, h*scale, w*scale) -> (B, C, h*scale, w*scale).

    Args:
        hsi_width, msi_width: channels of the low and of the high resolution branches.
        blocks: of each branch.
        slope: of the LeakyReLU inside the blocks. The public code passes 1, by a slip it seems,
            which makes it do nothing; the paper's figure draws a LeakyReLU, and 0.2 is what we take
            it for. The parameter count does not depend on it.
        reduction: the attention to channels has width / reduction hidden units (at least one; if
            all of them are switched off by its ReLU, it never learns, so the narrow "lite" has more
            of them).
        depthwise: the corrections' scale x scale convolutions keep the HSI bands apart (else they
            are 0.95M parameters).

    Raises:
        ValueError: from `forward`, inputs whose bands or sizes do not fit together.

    Source: HPCC 2021, pp. 1265-1270. With its widths the size is exactly Table I's 16.33M.
    """

    def __init__(
        self,
        hsi_bands: int,
        msi_bands: int,
        scale: int = 4,
        hsi_width: int = 256,
        msi_width: int = 64,
        blocks: int = 5,
        slope: float = 0.2,
        reduction: int = 16,
        depthwise: bool = False,
    ):
        super().__init__()
        self.hsi_bands, self.msi_bands, self.scale = hsi_bands, msi_bands, scale
        both = hsi_bands + msi_bands
        self.joint_low = Branch(
            both, hsi_width, blocks, slope, reduction, channels=True, pixels=True
        )
        self.joint_high = Branch(
            both, msi_width, blocks, slope, reduction, channels=True, pixels=True
        )
        self.spectral = Branch(hsi_bands, hsi_width, blocks, slope, reduction, channels=True)
        self.spatial = Branch(msi_bands, msi_width, blocks, slope, reduction, pixels=True)
        self.guess_a = nn.Sequential(
            subpixels(hsi_width, scale), nn.Conv2d(hsi_width, hsi_bands, 1)
        )
        self.guess_b = leaky(nn.Conv2d(msi_width, hsi_bands, 1))
        self.enlarge = subpixels(hsi_width, scale)
        self.guess_c = leaky(nn.Conv2d(hsi_width + msi_width, hsi_bands, 3, padding=1))
        self.correct = BackProjection(hsi_bands, msi_bands, scale, depthwise)

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        check_pair(x_h, x_m, self.scale, self.hsi_bands, self.msi_bands)
        x_h_up = upsample(x_h, self.scale, "bilinear")
        x_m_down = F.interpolate(x_m, size=x_h.shape[-2:], mode="bicubic", align_corners=False)
        x_a = self.guess_a(self.joint_low(torch.cat([x_h, x_m_down], dim=1)))
        x_b = self.guess_b(self.joint_high(torch.cat([x_m, x_h_up], dim=1)))
        x_c = self.guess_c(torch.cat([self.enlarge(self.spectral(x_h)), self.spatial(x_m)], dim=1))
        return self.correct(x_a + x_b + x_c, x_h, x_m)


def leaky(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.LeakyReLU(HEAD_SLOPE))


def subpixels(width: int, scale: int) -> nn.Sequential:
    """A 1x1 convolution to scale**2 values per channel, laid out as scale x scale pixels."""
    return nn.Sequential(nn.Conv2d(width, width * scale**2, 1), nn.PixelShuffle(scale))
