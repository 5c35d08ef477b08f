"""The whole network, and its presets; built in notebooks/06_training.ipynb."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from ..files.checks import check_pair
from .dfab import LEAKY_SLOPE
from .mbfn import MBFN
from .ssawb import SSAWB

HEAD_CHANNELS = 16  # of one head of the attention


@dataclass(frozen=True)
class S3RNetConfig:
    """The design of an S3RNet. The defaults are the plain reading of the paper that has Table I's
    size.

    width, growth, residual_groups, blocks, kernel_size, q_groups, upsampling, entry_kernel_size,
        damped: see `MBFN`.
    heads, normalise_attention, gate_bias: see `SSAWB`; a head has 16 channels.
    head_width: channels between the last two convolutions, `hsi_bands` if None.
    head_kernel_size: of the last convolution, 3 or 1.
    """

    width: int = 86
    growth: int = 43
    residual_groups: tuple[int, int, int, int] = (4, 4, 6, 6)
    blocks: int = 3
    kernel_size: int = 3
    q_groups: int = 1
    upsampling: str = "nearest"
    heads: int = 4
    normalise_attention: bool = False
    gate_bias: float | None = None
    head_width: int | None = None
    head_kernel_size: int = 3
    entry_kernel_size: int = 3
    damped: bool = True


# Trains in a minute or two on a laptop. Gates that start open, and learn slowly
# (`training.CONFIGS`), keep all four branches alive. No branch begins with a 3x3 convolution over
# all 170 bands, and residuals are full: damped ones suit networks many times deeper. Chapter 06
# measures each change; width and depth were chosen in short runs (not stored) on the validation
# region.
LITE = S3RNetConfig(
    width=24,
    growth=12,
    residual_groups=(1, 1, 1, 1),
    blocks=1,
    upsampling="bilinear",
    heads=2,
    normalise_attention=True,
    gate_bias=2.0,
    head_width=48,
    head_kernel_size=1,
    entry_kernel_size=1,
    damped=False,
)
# What "lite" changes of the paper's form, undone, at a size for a laptop.
PAPER_FORM = dict(
    width=32,
    growth=16,
    upsampling="nearest",
    normalise_attention=False,
    gate_bias=None,
    head_width=32,
    entry_kernel_size=3,
    damped=True,
)
PRESETS = {
    "paper": S3RNetConfig(),
    "lite": LITE,
    # for runs of seconds in the chapters
    "tiny": replace(
        LITE, width=16, growth=8, heads=1, head_width=16, entry_kernel_size=3, damped=True
    ),
}


class S3RNet(nn.Module):
    """HR-HSI from LR-HSI and HR-MSI: MBFN, SSAWB and a head of two convolutions.

    Shape: x_h (B, C, h, w), x_m (B, M, h*scale, w*scale) -> (B, C, h*scale, w*scale). Inputs and
    output are in whatever range `FusionModel` gives them; the network neither scales nor clips.

    >>> network = S3RNet.from_preset("tiny", hsi_bands=9, msi_bands=3)
    >>> network(torch.rand(1, 9, 4, 5), torch.rand(1, 3, 16, 20)).shape
    torch.Size([1, 9, 16, 20])

    Args:
        hsi_bands, msi_bands: C and M.
        config: the design; the paper's by default.
        scale: ratio of pixel sizes r.

    Raises:
        ValueError: from `forward`, inputs whose bands or sizes do not fit together.
    """

    def __init__(
        self,
        hsi_bands: int,
        msi_bands: int,
        config: S3RNetConfig = PRESETS["paper"],
        scale: int = 4,
    ):
        super().__init__()
        self.hsi_bands, self.msi_bands, self.config, self.scale = (
            hsi_bands,
            msi_bands,
            config,
            scale,
        )
        self.mbfn = MBFN(
            hsi_bands,
            msi_bands,
            scale,
            config.width,
            config.growth,
            config.residual_groups,
            config.blocks,
            config.kernel_size,
            config.q_groups,
            config.upsampling,
            config.entry_kernel_size,
            config.damped,
        )
        self.ssawb = SSAWB(
            config.width, config.heads, HEAD_CHANNELS, config.normalise_attention, config.gate_bias
        )
        hidden, size = config.head_width or hsi_bands, config.head_kernel_size
        self.head = nn.Sequential(
            nn.Conv2d(config.width, hidden, 3, padding=1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(hidden, hsi_bands, size, padding=size // 2, bias=False),
        )

    @classmethod
    def from_preset(
        cls, preset: str, hsi_bands: int, msi_bands: int, scale: int = 4, **changes
    ) -> S3RNet:
        """Build "paper", "lite" or "tiny", with any field of `S3RNetConfig` changed by name.

        Raises:
            ValueError: an unknown preset. TypeError: an unknown field.
        """
        if preset not in PRESETS:
            raise ValueError(f"preset: expected one of {tuple(PRESETS)}, got {preset!r}")
        return cls(hsi_bands, msi_bands, replace(PRESETS[preset], **changes), scale)

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        check_pair(x_h, x_m, self.scale, self.hsi_bands, self.msi_bands)
        return self.head(self.ssawb(*self.mbfn(x_h, x_m)))
