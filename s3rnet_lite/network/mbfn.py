"""Multi-Branch Fusion Network: residual groups and the Q, K, V, Z branches of Eq. 1; built in
notebooks/04_mbfn_branches.ipynb.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .dfab import DFAB, LEAKY_SLOPE, RESIDUAL_SCALE


class ResidualGroup(nn.Sequential):
    """RG of Fig. 3: DFABs in sequence, scaled by 0.2, plus the group's input. GRG is the same with
    groups > 1. Arguments as for `DFAB`.

    Shape: (B, width, H, W) -> (B, width, H, W).
    """

    def __init__(
        self,
        width: int,
        growth: int,
        blocks: int = 3,
        kernel_size: int = 3,
        groups: int = 1,
        damped: bool = True,
    ):
        super().__init__(*(DFAB(width, growth, kernel_size, groups, damped) for _ in range(blocks)))
        self.residual_scale = RESIDUAL_SCALE if damped else 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.residual_scale * super().forward(x) + x


class Branch(nn.Sequential):
    """One row of Eq. 1: the feature transition G (a convolution, 3x3 in the paper, and LeakyReLU),
    then N residual groups.

    Shape: (B, in_channels, H, W) -> (B, width, H, W).
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        growth: int,
        residual_groups: int,
        blocks: int,
        kernel_size: int,
        groups: int,
        entry_kernel_size: int = 3,
        damped: bool = True,
    ):
        group = (width, growth, blocks, kernel_size, groups, damped)
        super().__init__(
            nn.Conv2d(in_channels, width, entry_kernel_size, padding=entry_kernel_size // 2),
            nn.LeakyReLU(LEAKY_SLOPE),
            *(ResidualGroup(*group) for _ in range(residual_groups)),
        )


class MBFN(nn.Module):
    """The four branches of Eq. 1, brought to high resolution.

    | branch | sees | works at |
    |---|---|---|
    | q | LR-HSI | low resolution, then upsampled |
    | k | HR-MSI | high resolution |
    | v | Cat(HR-MSI bicubically downsampled, LR-HSI) | low resolution, then upsampled |
    | z | Cat(LR-HSI bilinearly upsampled, HR-MSI) | high resolution |

    Shape: x_h (B, C, h, w), x_m (B, M, h*scale, w*scale) -> four features (B, width, h*scale,
    w*scale).

    Args:
        residual_groups: N_Q, N_K, N_V, N_Z.
        blocks: DFABs in a residual group.
        kernel_size, growth: of the DFABs.
        q_groups: groups of the convolutions in Q's DFABs; above 1 they make the paper's GRG.
        upsampling: "nearest" or "bilinear", for the outputs of q and v.
        entry_kernel_size: of each branch's first convolution, 3 or 1.
        damped: of the DFABs.
    """

    def __init__(
        self,
        hsi_bands: int,
        msi_bands: int,
        scale: int,
        width: int,
        growth: int,
        residual_groups: tuple[int, int, int, int],
        blocks: int,
        kernel_size: int,
        q_groups: int,
        upsampling: str,
        entry_kernel_size: int = 3,
        damped: bool = True,
    ):
        super().__init__()
        self.scale, self.upsampling = scale, upsampling

        def branch(in_channels: int, count: int, groups: int = 1) -> Branch:
            layers = (count, blocks, kernel_size, groups, entry_kernel_size, damped)
            return Branch(in_channels, width, growth, *layers)

        n_q, n_k, n_v, n_z = residual_groups
        self.q = branch(hsi_bands, n_q, q_groups)
        self.k = branch(msi_bands, n_k)
        self.v = branch(msi_bands + hsi_bands, n_v)
        self.z = branch(hsi_bands + msi_bands, n_z)

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x_h_up = F.interpolate(x_h, scale_factor=self.scale, mode="bilinear", align_corners=False)
        x_m_down = F.interpolate(
            x_m, scale_factor=1 / self.scale, mode="bicubic", align_corners=False
        )
        q, v = self.q(x_h), self.v(torch.cat([x_m_down, x_h], dim=1))
        k, z = self.k(x_m), self.z(torch.cat([x_h_up, x_m], dim=1))
        return self.to_high_resolution(q), k, self.to_high_resolution(v), z

    def to_high_resolution(self, features: torch.Tensor) -> torch.Tensor:
        """Upsample (B, width, h, w) to (B, width, h*scale, w*scale)."""
        align_corners = None if self.upsampling == "nearest" else False
        return F.interpolate(
            features, scale_factor=self.scale, mode=self.upsampling, align_corners=align_corners
        )
