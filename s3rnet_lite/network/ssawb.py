"""Spatial-Spectral Attention Weight Block, Eqs. 3-6 of the paper; built in
notebooks/05_ssawb.ipynb.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from . import fast


class ChannelAttention(nn.Module):
    """Eq. 3 without its last sum: multi-head attention between channels, conv(Softmax(Q K^T /
    sqrt(d)) V).

    The product contracts the pixel axis, so a head's map is d x d and memory grows with H*W only.
    The logits are sums over all pixels and so grow with the image; `normalise` divides q and k by
    their norms along the pixel axis, which makes logits cosines times a learned temperature (as in
    A. El-Nouby et al., "XCiT", 2021).

    Mixing channels is a 1x1 convolution whose weights depend on the image, so it is folded into the
    one that follows: conv(A V) = (W A) V + b. The result is the same, and one pass over all pixels
    is saved.

    `weights`, None or the softmax (B, heads, d, d), is what `tiling` sets: a tile of an image takes
    those of the whole image.

    Shape: three features (B, width, H, W) -> (B, width, H, W).
    """

    def __init__(self, width: int, heads: int, head_channels: int, normalise: bool):
        super().__init__()
        inner = heads * head_channels
        self.heads, self.normalise, self.weights = heads, normalise, None
        self.to_q, self.to_k, self.to_v = (nn.Conv2d(width, inner, 1) for _ in range(3))
        self.to_out = nn.Conv2d(inner, width, 1)
        if normalise:
            self.temperature = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, f_q: torch.Tensor, f_k: torch.Tensor, f_v: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = f_q.shape
        attention = self.weights
        if attention is None:
            attention = self.logits(self.to_q(f_q), self.to_k(f_k)).softmax(
                dim=-1
            )  # (B, heads, d, d)
        weight = self.to_out.weight.reshape(
            -1, self.heads, attention.shape[-1]
        )  # (width, heads, d)
        folded = torch.einsum("ohd,bhde->bohe", weight, attention).flatten(2)  # (B, width, heads*d)
        attended = (folded @ self.to_v(f_v).flatten(2)).reshape(batch, -1, height, width)
        return attended + self.to_out.bias[:, None, None]

    def logits(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """What the softmax sees: projected features (B, heads*d, H, W) twice -> (B, heads, d,
        d).
        """
        q, k = (x.flatten(2).unflatten(1, (self.heads, -1)) for x in (q, k))  # (B, heads, d, H*W)
        if self.normalise:
            return F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.temperature
        return q @ k.mT / q.shape[2] ** 0.5


class SSAWB(nn.Module):
    """Fuse four features with one sigmoid gate map each (Eqs. 3-6).

        Z' = ChannelAttention(Q, K, V) + Z                     Eq. 3
        W  = Sigmoid(conv_1x1(Cat(Q, K, V, Z')))               Eqs. 4 and 5; four maps
        F  = W_1 Q + W_2 K + W_3 V + W_4 Z'                    Eq. 6; unprojected features

    Shape: four features (B, width, H, W) -> (B, width, H, W).

    Args:
        heads, head_channels: of the attention.
        normalise_attention: see `ChannelAttention`.
        gate_bias: None starts the gates as any convolution; a number starts them constant, at
            Sigmoid(gate_bias).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        head_channels: int,
        normalise_attention: bool,
        gate_bias: float | None,
    ):
        super().__init__()
        self.attention = ChannelAttention(width, heads, head_channels, normalise_attention)
        self.gates = nn.Sequential(nn.Conv2d(4 * width, 4, 1), nn.Sigmoid())
        if gate_bias is not None:
            nn.init.zeros_(self.gates[0].weight)
            nn.init.constant_(self.gates[0].bias, gate_bias)

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, z: torch.Tensor
    ) -> torch.Tensor:
        if fast.applies(self, q, k, v, z):
            return fast.fuse(self, q, k, v, z)
        z_prime = self.attention(q, k, v) + z
        w_q, w_k, w_v, w_z = self.gates(torch.cat([q, k, v, z_prime], dim=1)).split(1, dim=1)
        return w_q * q + w_k * k + w_v * v + w_z * z_prime
