"""The whole network, and its presets; built in notebooks/06_training.ipynb."""

from __future__ import annotations

import torch
from torch import nn

from ..files.checks import check_pair
from . import fast
from .dfab import LEAKY_SLOPE
from .mbfn import MBFN
from .ssawb import SSAWB

PRESETS: dict[str, dict] = {
    # The plain reading of the paper that has Table I's size.
    "paper": {},
    # Trains in minutes on a laptop. Gates that start open, and learn slowly (`training.CONFIGS`),
    # keep all four branches alive; chapter 06 measures this and each of the other changes.
    "lite": dict(
        width=32,
        growth=16,
        residual_groups=(1, 1, 1, 1),
        blocks=1,
        head_width=32,
        head_kernel_size=1,
        heads=2,
        normalise_attention=True,
        gate_bias=2.0,
        upsampling="bilinear",
    ),
    "tiny": dict(
        width=16,
        growth=8,
        residual_groups=(1, 1, 1, 1),
        blocks=1,
        head_width=16,
        head_kernel_size=1,
        heads=1,
        normalise_attention=True,
        gate_bias=2.0,
        upsampling="bilinear",
    ),
}


class S3RNet(nn.Module):
    """HR-HSI from LR-HSI and HR-MSI: MBFN, SSAWB and a two-convolution head. The defaults are the
    paper's network.

    Shape: x_h (B, C, h, w), x_m (B, M, h*scale, w*scale) -> (B, C, h*scale, w*scale). Inputs and
    output are in whatever range `FusionModel` gives them; the network itself neither scales nor
    clips.

    Args:
        hsi_bands, msi_bands: C and M.
        scale: ratio of pixel sizes r.
        width, growth, residual_groups, blocks, kernel_size, q_groups, upsampling,
        entry_kernel_size,
            damped: see `MBFN`.
        heads, normalise_attention, gate_bias: see `SSAWB`; a head has 16 channels.
        head_width: channels between the head's two convolutions, `hsi_bands` if None.
        head_kernel_size: of the head's last convolution, 3 or 1.

    Raises:
        ValueError: from `forward`, inputs whose bands or sizes do not fit together.
    """

    HEAD_CHANNELS = 16

    def __init__(
        self,
        hsi_bands: int,
        msi_bands: int,
        scale: int = 4,
        width: int = 86,
        growth: int = 43,
        residual_groups: tuple[int, int, int, int] = (4, 4, 6, 6),
        blocks: int = 3,
        kernel_size: int = 3,
        q_groups: int = 1,
        upsampling: str = "nearest",
        heads: int = 4,
        normalise_attention: bool = False,
        gate_bias: float | None = None,
        head_width: int | None = None,
        head_kernel_size: int = 3,
        entry_kernel_size: int = 3,
        damped: bool = True,
    ):
        super().__init__()
        self.hsi_bands, self.msi_bands, self.scale = hsi_bands, msi_bands, scale
        self.mbfn = MBFN(
            hsi_bands,
            msi_bands,
            scale,
            width,
            growth,
            residual_groups,
            blocks,
            kernel_size,
            q_groups,
            upsampling,
            entry_kernel_size,
            damped,
        )
        self.ssawb = SSAWB(width, heads, self.HEAD_CHANNELS, normalise_attention, gate_bias)
        head_width = head_width or hsi_bands
        self.head = nn.Sequential(
            nn.Conv2d(width, head_width, 3, padding=1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(
                head_width, hsi_bands, head_kernel_size, padding=head_kernel_size // 2, bias=False
            ),
        )

    @classmethod
    def from_preset(cls, preset: str, hsi_bands: int, msi_bands: int, **changes) -> S3RNet:
        """Build "paper", "lite" or "tiny", with any argument of the constructor changed by name."""
        if preset not in PRESETS:
            raise ValueError(f"preset: expected one of {tuple(PRESETS)}, got {preset!r}")
        return cls(hsi_bands, msi_bands, **{**PRESETS[preset], **changes})

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        check_pair(x_h, x_m, self.scale, self.hsi_bands, self.msi_bands)
        fused = self.ssawb(*self.mbfn(x_h, x_m))
        return (
            fast.reconstruct(self.head, fused) if fast.applies(self, x_h, x_m) else self.head(fused)
        )
