"""FusFormer: J.-F. Hu, T.-Z. Huang, L.-J. Deng, H.-X. Dou, D. Hong, G. Vivone, GRSL, 2022; drawn in
notebooks/09_peers_table1.ipynb.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..files.checks import check_pair
from .parts import fuse_in_tiles, upsample

PRESETS = {
    "paper": dict(width=48, heads=3, blocks="AFAFAAFAAF", tile=64),
    "lite": dict(width=64, heads=1, blocks="AFAF", tile=32),
}


class FusFormer(nn.Module):
    """Every HR pixel is a token that looks at all others; what they tell each other becomes the
    missing detail.

        x_h -- bicubic x4 --> U --+------------------------------------------ + --> output
                                  |                                           |
        x_m ----------------------+--> tokens --> A F A F A A F A A F --> refine
                        one a pixel,              each adds               3x3 convolutions,
                        bands -> width            to the token            width -> bands

    A is self-attention over all pixels of a tile, F a two-layer perceptron on each pixel alone,
    both behind a LayerNorm.
    Tokens carry no position: shuffle the pixels and the blocks' outputs are shuffled alike. Only U
    and the two convolutions of `refine` know who is whose neighbour. The softmax depends on the
    number of tokens, so larger images are cut to tiles of the training size.

    Shape: x_h (B, C, h, w), x_m (B, M, h*scale, w*scale) -> (B, C, h*scale, w*scale).

    Args:
        width: channels of a token.
        heads: of each attention; each has width // heads channels.
        blocks: the letters A and F in order. The paper's are an "encoder" AF AF and a "decoder" AAF
            AAF without cross-attention.
        tile: side, in HR pixels, of the squares within which pixels attend.
        overlap: of neighbouring tiles, blended linearly; 0 shows seams.
        global_skip: add U to the output.

    Raises:
        ValueError: width not divisible by heads, or another letter among the blocks; from
            `forward`, inputs that do not belong together.

    Differences from the published code: it declares position embeddings that it never uses (left
        out), and clamps U and
    the output to [0, 1] (nothing is clamped here, so data of any scaling go through). Tiles blend
    the tokens, so `refine` sees one whole image; overlap and blending are ours. "lite" (ours) has
    one wide head, as the cost of softmax grows with the number of heads, and two attentions instead
    of six.
    """

    def __init__(
        self,
        hsi_bands: int,
        msi_bands: int,
        scale: int = 4,
        width: int = 48,
        heads: int = 3,
        blocks: str = "AFAFAAFAAF",
        tile: int = 64,
        overlap: int = 8,
        global_skip: bool = True,
    ):
        super().__init__()
        if width % heads:
            raise ValueError(f"width: expected a multiple of heads {heads}, got {width}")
        if set(blocks) - set("AF"):
            raise ValueError(
                "blocks: expected the letters A (attention) and F (perceptron) only, got "
                f"{blocks!r}"
            )
        self.hsi_bands, self.msi_bands, self.scale = hsi_bands, msi_bands, scale
        self.tile, self.overlap, self.global_skip = tile, overlap, global_skip
        self.embed = nn.Linear(hsi_bands + msi_bands, width)
        self.blocks = nn.Sequential(
            *(Attention(width, heads) if letter == "A" else Perceptron(width) for letter in blocks)
        )
        self.refine = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(width, hsi_bands, 3, padding=1),
        )

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        check_pair(x_h, x_m, self.scale, self.hsi_bands, self.msi_bands)
        upsampled = upsample(x_h, self.scale, "bicubic")
        # Both inputs of the tiles are at high resolution, hence scale=1.
        features = fuse_in_tiles(
            self._transform, upsampled, x_m, scale=1, tile=self.tile, overlap=self.overlap
        )
        residual = self.refine(features)
        return upsampled + residual if self.global_skip else residual

    def _transform(self, upsampled: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        """One tile: an image of bands to an image of tokens (B, width, H, W)."""
        tokens = self.embed(torch.cat([upsampled, x_m], dim=1).flatten(2).mT)  # (B, H*W, width)
        return self.blocks(tokens).mT.unflatten(2, x_m.shape[-2:])


class Attention(nn.Module):
    """tokens + W Softmax(Q K^T / sqrt(d)) V, with Q, K, V linear in LayerNorm(tokens): each pixel
    averages over all pixels.

    Shape: (B, N, width) -> (B, N, width). No mask, no position. The N x N map is never stored.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        attended = F.scaled_dot_product_attention(*self.project(tokens))  # (B, heads, N, d)
        return tokens + self.to_out(attended.transpose(1, 2).flatten(2))

    def project(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Q, K and V, each (B, heads, N, d)."""
        return (
            self.to_qkv(self.norm(tokens))
            .unflatten(2, (3, self.heads, -1))
            .permute(2, 0, 3, 1, 4)
            .unbind()
        )


class Perceptron(nn.Module):
    """tokens + W_2 LeakyReLU(W_1 LayerNorm(tokens)), as wide inside as outside; each pixel alone.

    Shape: (B, N, width) -> (B, N, width).
    """

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.LeakyReLU(0.01),
            nn.Linear(width, width),
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens + self.layers(tokens)
