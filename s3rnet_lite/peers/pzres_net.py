"""PZRes-Net (Z. Zhu, J. Hou, J. Chen, H. Zeng, J. Zhou, IEEE TIP, 2021); drawn in
notebooks/09_peers_table1.ipynb.

"Progressive zero-centric residual": detail that sums to nothing over the image, found for every
fourth band first, then for every second, then for all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..files.checks import check_pair
from .parts import upsample

STRIDES = (4, 2, 1)  # a stage sees every fourth, every second, every band

PRESETS: dict[str, dict] = {
    # The authors' rule at 172 bands. Table I's 40.15M would need growth=(145, 290, 574), which no
    # text names.
    "paper": dict(growth=None, layers=8, separable=False, spare_channel=True, recentre=False),
    "lite": dict(growth=(32, 48, 64), layers=3, separable=True, spare_channel=False, recentre=True),
}


def zero_mean(x: torch.Tensor) -> torch.Tensor:
    """Each channel of each image minus its mean over the pixels: the paper's normalisation, which
    never divides.
    """
    return x - x.sum((2, 3), keepdim=True) / (
        x.shape[2] * x.shape[3]
    )  # as x.mean, whose gradient is slower


class DenseLayer(nn.Module):
    """ZM, 1x1 convolution, ReLU, ZM, 3x3 convolution, ReLU: first across the bands, then across the
    pixels.

    The first ZM is done behind its convolution, on fewer channels: W (x - mean x) + b = W x -
    mean(W x) + b.

    Shape: (B, in_channels, H, W) -> (B, out_channels, H, W).
    """

    def __init__(
        self, in_channels: int, out_channels: int, separable: bool, final_relu: bool = True
    ):
        super().__init__()
        self.spectral = nn.Conv2d(in_channels, out_channels, 1)
        self.spatial = nn.Conv2d(
            out_channels, out_channels, 3, padding=1, groups=out_channels if separable else 1
        )
        self.final_relu = final_relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(zero_mean(F.conv2d(x, self.spectral.weight)) + self.spectral.bias[:, None, None])
        x = self.spatial(zero_mean(x))
        return F.relu(x) if self.final_relu else x


class Stage(nn.Module):
    """Detail for some of the bands, from those bands of the upsampled LR-HSI and from sharp guides.

        guides -> M' = ReLU(3x3) ----------------------------+---------.
        bands  ----------------------> Cat(bands, M') -> dense layers -> tanh -> + -> detail

    Every dense layer sees the Cat and all layers before it. What tanh corrects is M', not the
    bands.

    Shape: bands (B, c, H, W), guides (B, g, H, W) -> (B, c, H, W).
    """

    def __init__(
        self,
        bands: int,
        guides: int,
        growth: int,
        layers: int,
        separable: bool,
        spare_channel: bool,
    ):
        super().__init__()
        self.bands = bands
        if separable:
            self.lift = nn.Sequential(
                nn.Conv2d(guides, bands, 1), nn.Conv2d(bands, bands, 3, padding=1, groups=bands)
            )
        else:
            self.lift = nn.Conv2d(guides, bands, 3, padding=1)
        self.layers = nn.ModuleList(
            DenseLayer(2 * bands + i * growth, growth, separable) for i in range(layers - 1)
        )
        self.last = DenseLayer(
            2 * bands + (layers - 1) * growth, bands + spare_channel, separable, final_relu=False
        )

    def forward(self, bands: torch.Tensor, guides: torch.Tensor) -> torch.Tensor:
        lifted = F.relu(self.lift(guides))
        seen = [bands, lifted]
        for layer in self.layers:
            seen.append(layer(torch.cat(seen, dim=1)))
        return torch.tanh(self.last(torch.cat(seen, dim=1))[:, : self.bands]) + lifted


class PZResNet(nn.Module):
    """Three stages that find the detail of ever more bands, each guided by the one before; then one
    layer that refines.

        X_m - mean -> stage 1 (every 4th band) -> stage 2 (every 2nd) -> stage 3 (all) -> detail
                      ^ X_h upsampled             ^ X_h upsampled,       ^ X_h upsampled,
                                                    detail 1, X_m - mean   detail 2, X_m - mean
        coarse = X_h upsampled + detail
        output = coarse + D(coarse),   D >= 0 (a dense layer ends in ReLU)

    All at high resolution, with LR-HSI upsampled bilinearly. The last band always belongs to each
    stage.

    Known of the public code: tanh and ReLU are not centred again, so the detail has a mean,
    whatever the title says; ZM takes its mean over the whole input, so crops and full images are
    normalised differently. Published training adds an L1 loss on `coarse`; here only the output is
    compared. Nothing is clamped.

    Shape: x_h (B, C, h, w), x_m (B, M, h*scale, w*scale) -> (B, C, h*scale, w*scale).

    Args:
        growth: channels that each dense layer adds, by stage; None for twice the stage's bands (the
            authors' rule).
        layers: dense layers of a stage.
        separable: make every 3x3 convolution work on each channel by itself (a 1x1 one comes
            first). The paper calls its own convolutions separable, yet the code's 3x3 ones mix the
            channels.
        spare_channel: stage 3 computes one band more and drops it, a left-over of the published
            code that counts in its size (5,859 of our "paper" preset's parameters). The 3x3 filter
            of that band never gets a gradient.
        recentre: take the mean off the last stage's detail, as the paper's text has it and its code
            does not.
        global_skip: False leaves the upsampled LR-HSI out of the output, and only there.

    Raises:
        ValueError: `growth` not of three numbers; from `forward`, inputs whose bands or sizes do
            not fit together.

    Source: IEEE Transactions on Image Processing 30, pp. 1423-1438. Stages of 43, 86 and 172 bands
        are our extension of the
    published 8, 16 and 31.
    """

    def __init__(
        self,
        hsi_bands: int,
        msi_bands: int,
        scale: int = 4,
        growth: tuple[int, int, int] | None = None,
        layers: int = 8,
        separable: bool = False,
        spare_channel: bool = True,
        recentre: bool = False,
        global_skip: bool = True,
    ):
        super().__init__()
        self.hsi_bands, self.msi_bands, self.scale = hsi_bands, msi_bands, scale
        self.recentre, self.global_skip = recentre, global_skip
        widths = [len(range(0, hsi_bands, stride)) for stride in STRIDES]
        growth = tuple(2 * width for width in widths) if growth is None else growth
        if len(growth) != len(STRIDES):
            raise ValueError(
                f"growth: expected one number for each of the {len(STRIDES)} stages, got {growth}"
            )
        self.stages = nn.ModuleList(
            Stage(width, msi_bands + before, g, layers, separable, spare_channel and stride == 1)
            for width, before, g, stride in zip(widths, [0, *widths], growth, STRIDES, strict=False)
        )
        self.refine = DenseLayer(hsi_bands, hsi_bands, separable)

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        check_pair(x_h, x_m, self.scale, self.hsi_bands, self.msi_bands)
        x_h_up, x_m = upsample(x_h, self.scale, "bilinear"), zero_mean(x_m)
        guides = x_m
        for stage, stride in zip(self.stages, STRIDES, strict=True):
            detail = stage(every_nth_band(x_h_up, stride), guides)
            guides = torch.cat([detail, x_m], dim=1)
        if self.recentre:
            detail = zero_mean(detail)
        residual = detail + self.refine(x_h_up + detail)
        return x_h_up + residual if self.global_skip else residual


def every_nth_band(x: torch.Tensor, n: int) -> torch.Tensor:
    """Bands 0, n, 2n, ... of (B, C, H, W), the last of them replaced by band C - 1."""
    return x if n == 1 else torch.cat([x[:, ::n][:, :-1], x[:, -1:]], dim=1)
