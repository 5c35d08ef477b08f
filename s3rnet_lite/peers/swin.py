"""Residual groups of shifted-window attention (Z. Liu et al., "Swin Transformer", ICCV 2021), a
part of QRCODE; drawn in notebooks/09_peers_table1.ipynb.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

WINDOW = 8


class WindowAttention(nn.Module):
    """Self-attention within windows of 8x8 pixels that lie on a grid moved by `shift`, with a
    learnt bias per relative position.

    The image is rolled by `shift`, so that windows at the border hold pixels from two opposite
    sides; these do not see each other.

    Shape: (B, H, W, width), H and W multiples of 8 -> the same. Source: Z. Liu et al., "Swin
    Transformer", ICCV 2021.
    """

    def __init__(self, width: int, heads: int, shift: int):
        super().__init__()
        self.heads, self.shift = heads, shift
        self.to_qkv, self.to_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.position_bias = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, heads))
        nn.init.trunc_normal_(self.position_bias, std=0.02)
        row, column = torch.arange(WINDOW**2) // WINDOW, torch.arange(WINDOW**2) % WINDOW
        down, right = row[:, None] - row + WINDOW - 1, column[:, None] - column + WINDOW - 1
        self.register_buffer("position", down * (2 * WINDOW - 1) + right, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[1:3]
        windows = _to_windows(x.roll((-self.shift, -self.shift), (1, 2)))
        q, k, v = self.to_qkv(windows).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        logits_bias = self.position_bias[self.position].permute(2, 0, 1)  # (heads, 64, 64)
        if self.shift:
            logits_bias = logits_bias + self._mask(height, width, x)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=logits_bias)
        x = _from_windows(self.to_out(attended.transpose(2, 3).flatten(3)), height, width)
        return x.roll((self.shift, self.shift), (1, 2))

    def _mask(self, height: int, width: int, like: torch.Tensor) -> torch.Tensor:
        """0 between pixels that were neighbours before the roll, -inf between others: (windows, 1,
        64, 64).
        """
        rows, columns = (
            torch.arange(n, device=like.device) >= n - self.shift for n in (height, width)
        )
        side = _to_windows((2 * rows[:, None] + columns.int())[None, ..., None])[0, :, :, 0]
        apart = side[:, :, None] != side[:, None]
        zeros = torch.zeros(apart.shape, dtype=like.dtype, device=like.device)
        return zeros.masked_fill(apart, -math.inf)[:, None]


def _to_windows(x: torch.Tensor) -> torch.Tensor:
    """(B, H, W, C) -> (B, windows, 64, C), row by row."""
    x = x.unflatten(2, (-1, WINDOW)).unflatten(1, (-1, WINDOW)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)


def _from_windows(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The way back: (B, windows, 64, C) -> (B, H, W, C)."""
    x = x.reshape(len(x), height // WINDOW, width // WINDOW, WINDOW, WINDOW, -1)
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class SwinBlock(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)); shape (B, H, W, width) -> the same."""

    def __init__(self, width: int, heads: int, shift: int, mlp_ratio: int):
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), WindowAttention(width, heads, shift))
        hidden = mlp_ratio * width
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(x)
        return x + self.perceptron(x)


class SwinGroup(nn.Module):
    """Swin blocks whose windows lie on the grid and between it by turns, a 3x3 convolution, plus
    the input.

    Shape: (B, width, H, W), H and W multiples of 8 -> the same.
    """

    def __init__(self, width: int, heads: int, blocks: int, mlp_ratio: int):
        super().__init__()
        self.blocks = nn.Sequential(
            *(SwinBlock(width, heads, WINDOW // 2 * (i % 2), mlp_ratio) for i in range(blocks))
        )
        self.convolution = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convolution(self.blocks(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)) + x
