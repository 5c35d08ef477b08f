"""Spatial-Spectral Attention Weight Block, Eqs. 3-6 of the paper; built in
notebooks/05_ssawb.ipynb.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class ChannelAttention(nn.Module):
    """Eq. 3 without its last sum: multi-head attention between channels,
    conv(Softmax(Q K^T / sqrt(d)) V).

    The product contracts the pixel axis, so a head's map is d x d, and memory grows with H*W only.
    The logits are sums over all pixels and so grow with the image; `normalise` divides q and k by
    their norms along the pixel axis, which makes logits cosines times a learned temperature (as in
    A. El-Nouby et al., "XCiT", 2021).

    Shape: three features (B, width, H, W) -> (B, width, H, W).

    >>> attention = ChannelAttention(8, heads=2, head_channels=3, normalise=True)
    >>> f = torch.ones(1, 8, 4, 5)
    >>> attention(f, f, f).shape, attention.attention_map(f, f).shape
    (torch.Size([1, 8, 4, 5]), torch.Size([1, 2, 3, 3]))
    """

    def __init__(self, width: int, heads: int, head_channels: int, normalise: bool):
        super().__init__()
        inner = heads * head_channels
        self.heads, self.normalise = heads, normalise
        self.to_q, self.to_k, self.to_v = (nn.Conv2d(width, inner, 1) for _ in range(3))
        self.to_out = nn.Conv2d(inner, width, 1)
        if normalise:
            self.temperature = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, f_q: torch.Tensor, f_k: torch.Tensor, f_v: torch.Tensor) -> torch.Tensor:
        return self.mix(self.attention_map(f_q, f_k), f_v)

    def attention_map(self, f_q: torch.Tensor, f_k: torch.Tensor) -> torch.Tensor:
        """Softmax(Q K^T / sqrt(d)): (B, heads, d, d), whose rows sum to 1."""
        return self.logits(self.to_q(f_q), self.to_k(f_k)).softmax(dim=-1)

    def mix(self, attention: torch.Tensor, f_v: torch.Tensor) -> torch.Tensor:
        """conv(attention V): each head's channels become mixtures of its channels of V."""
        mixed = attention @ self.split_heads(self.to_v(f_v))  # (B, heads, d, H*W)
        return self.to_out(mixed.flatten(1, 2).unflatten(2, f_v.shape[2:]))

    def logits(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """What the softmax sees: two projected features (B, heads*d, H, W) -> (B, heads, d, d)."""
        q, k = self.split_heads(q), self.split_heads(k)
        if self.normalise:
            return F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.temperature
        return q @ k.mT / q.shape[2] ** 0.5

    def split_heads(self, x: torch.Tensor) -> torch.Tensor:
        """(B, heads*d, H, W) -> (B, heads, d, H*W)."""
        return x.flatten(2).unflatten(1, (self.heads, -1))


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
        convolution = nn.Conv2d(4 * width, 4, 1)
        self.gates = nn.Sequential(convolution, nn.Sigmoid())
        if gate_bias is not None:
            nn.init.zeros_(convolution.weight)
            nn.init.constant_(convolution.get_parameter("bias"), gate_bias)

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, z: torch.Tensor
    ) -> torch.Tensor:
        z_prime = self.attention(q, k, v) + z
        w_q, w_k, w_v, w_z = self.gates(torch.cat([q, k, v, z_prime], dim=1)).split(1, dim=1)
        return w_q * q + w_k * k + w_v * v + w_z * z_prime
