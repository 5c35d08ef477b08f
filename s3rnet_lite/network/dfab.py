"""Dense Feature Aggregation Block, Eq. 2 of the paper; built in notebooks/03_dfab.ipynb."""

from __future__ import annotations

import torch
from torch import nn

LEAKY_SLOPE = 0.2
RESIDUAL_SCALE = 0.2


class DFAB(nn.Module):
    """Four convolutions that each see everything before them, a fifth that merges, and a scaled
    residual (Eq. 2).

        F_j   = LeakyReLU(conv_j(Cat(F_in, F_1, ..., F_{j-1})))   j = 1 .. 4, `growth` channels each
        F_out = 0.2 * conv_5(Cat(F_in, F_1, ..., F_4)) + F_in

    Eq. 2 prints 1x1 convolutions; Fig. 3 draws 3x3 ones, and only these give the size that Table I
    states.

    Shape: (B, width, H, W) -> (B, width, H, W).

    >>> DFAB(width=8, growth=4)(torch.zeros(2, 8, 5, 6)).shape
    torch.Size([2, 8, 5, 6])

    Args:
        width: channels in and out.
        growth: channels that each of the first four convolutions adds.
        kernel_size: 3 (Fig. 3, Table I) or 1 (Eq. 2 as printed); odd.
        groups: groups of every convolution; must divide `width` and `growth`.
        damped: False for shallow networks: residuals count in full (no 0.2), and weights start as
            any convolution's.

    Raises:
        ValueError: an even kernel size, or groups that do not divide the channels.
    """

    def __init__(
        self, width: int, growth: int, kernel_size: int = 3, groups: int = 1, damped: bool = True
    ):
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: expected an odd number, got {kernel_size}")
        self.residual_scale = RESIDUAL_SCALE if damped else 1.0
        inputs = [width + j * growth for j in range(5)]
        outputs = [growth] * 4 + [width]
        convolutions = [
            nn.Conv2d(i, o, kernel_size, padding=kernel_size // 2, groups=groups)
            for i, o in zip(inputs, outputs, strict=True)
        ]
        self.convolutions = nn.ModuleList(convolutions)
        self.activation = nn.LeakyReLU(LEAKY_SLOPE)
        for convolution in convolutions:
            if damped:  # a small start keeps the block near the identity
                nn.init.kaiming_normal_(convolution.weight)
                convolution.weight.data.mul_(0.1)
                nn.init.zeros_(convolution.get_parameter("bias"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [x]
        for convolution in self.convolutions[:4]:
            features.append(self.activation(convolution(torch.cat(features, dim=1))))
        return self.residual_scale * self.convolutions[4](torch.cat(features, dim=1)) + x
