"""HyperTransformer: W. G. C. Bandara and V. M. Patel, CVPR 2022; drawn in
notebooks/09_peers_table1.ipynb.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..files.checks import check_pair
from .parts import FeaturePyramid, upsample

PRESETS: dict[str, dict] = {
    "paper": {},
    "lite": dict(
        width=8, first_kernel_size=3, head_blocks=1, stage_blocks=1, output_blocks=0, lr_size=None
    ),
}


class ResBlock(nn.Module):
    """x + conv(ReLU(conv(x))), nothing normalised."""

    def __init__(self, width: int):
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.change = nn.Sequential(first, nn.ReLU(), second)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.change(x)


def res_blocks(width: int, count: int) -> nn.Sequential:
    """`count` ResBlocks and one more convolution."""
    return nn.Sequential(
        *(ResBlock(width) for _ in range(count)), nn.Conv2d(width, width, 3, padding=1)
    )


class PlainAttention(nn.Module):
    """Softmax(Q K^T / pixels) V, where a token is a whole feature map: no parameters, so any image
    size.

    Divided by the number of pixels, the product is the mean of q * k over the image, so its size
    does not matter either. As this mean is small at first, the weights begin almost equal; the
    norms that end each level of the pyramids learn to raise it.

    Shape: q, k, v (B, channels, H, W) -> (B, channels, H, W); `weights` (B, channels, channels),
    rows sum to 1.
    """

    def weights(self, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        q, k = q.flatten(2), k.flatten(2)
        return (q @ k.mT / q.shape[-1]).softmax(dim=-1)

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return (self.weights(q, k) @ v.flatten(2)).reshape(q.shape)


class MultiHeadAttention(nn.Module):
    """The same with `heads` learned projections of each feature map to `head_size` numbers, added
    to V and normalised.

    Shape: as `PlainAttention`, for maps of exactly `pixels` pixels, because the projections'
    weights are one per pixel.
    """

    def __init__(self, channels: int, pixels: int, heads: int, head_size: int):
        super().__init__()
        self.heads, self.temperature = heads, pixels**0.5
        self.to_q, self.to_k, self.to_v = (
            nn.Linear(pixels, heads * head_size, bias=False) for _ in range(3)
        )
        self.to_out = nn.Linear(heads * head_size, pixels, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        maps = [to(x.flatten(2)) for to, x in ((self.to_q, q), (self.to_k, k), (self.to_v, v))]
        tokens_q, tokens_k, tokens_v = (
            x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in maps
        )
        weights = (tokens_q @ tokens_k.mT / self.temperature).softmax(
            dim=-1
        )  # (B, heads, channels, channels)
        attended = self.to_out((weights @ tokens_v).transpose(1, 2).flatten(2))
        return self.norm(v + attended.reshape(v.shape))


class Stage(nn.Module):
    """Take up the transferred features t, then refine: x + conv(BN(x), t), then x +
    ResBlocks(x).
    """

    def __init__(self, width: int, blocks: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.mix = nn.Conv2d(2 * width, width, 3, padding=1)
        self.blocks = res_blocks(width, blocks)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        x = x + self.mix(torch.cat([self.norm(x), t], dim=1))
        return x + self.blocks(x)


class HyperTransformer(nn.Module):
    """Ask with the blurred HSI, compare with the equally blurred MSI, take from the sharp MSI;
    three times, coarse to fine.

        Q = pyramid of x_h, enlarged          x_h -> conv, ResBlocks -> stage at x_h's size <- T_3
        K = pyramid of x_m, blurred like x_h      -> x2              -> stage at twice that <- T_2
        V = pyramid of x_m, same weights as K     -> x2              -> stage at x_m's size <- T_1
        T_i = attention(Q_i, K_i, V_i), enlarged  -> conv, ResBlocks -> y_hat
        T_3, T_2 and T_1 have 4, 2 and 1 times `width` channels

    The tokens of the attention are feature channels, not pixels: each channel of Q is answered by
    the channels of V whose blurred versions in K look like it. Nothing is added to the output from
    the upsampled x_h, and nothing is clamped.

    The published multi-head attention has one weight per pixel, so with `lr_size` a number the
    network takes images of that one size only. `lr_size=None` (the lite preset) selects the
    published code's single-head form, without parameters, for any size; its temperature is the
    number of pixels, that of the multi-head form its root.

    This is the network that predicts: the published training helpers (two auxiliary outputs, the
    texture loss's second pass) and the VGG layers that no output depends on are left out, and the
    first MSI convolution takes M bands where the original has one panchromatic band.

    Shape: x_h (B, C, h, w), x_m (B, M, 4h, 4w) -> (B, C, 4h, 4w).

    Args:
        hsi_bands, msi_bands, scale: C, M and 4, the only ratio of the three-level pyramid.
        width: channels at x_m's size.
        first_kernel_size: of both pyramids.
        head_blocks, stage_blocks, output_blocks: ResBlocks before, in and after the three stages;
            without any after them, their last convolution goes too.
        heads: of the multi-head attention; each projects a map to `lr_size` numbers. Only with
            `lr_size`.
        lr_size: side of the square x_h, or None, see above.

    Raises:
        ValueError: a scale other than 4; from `forward`, inputs that do not fit together or not
            `lr_size`.

    Source: W. G. C. Bandara and V. M. Patel, "HyperTransformer", CVPR 2022;
        github.com/wgcban/HyperTransformer.
    """

    def __init__(
        self,
        hsi_bands: int,
        msi_bands: int,
        scale: int = 4,
        width: int = 64,
        first_kernel_size: int = 7,
        head_blocks: int = 16,
        stage_blocks: int = 4,
        output_blocks: int = 4,
        heads: int = 4,
        lr_size: int | None = 64,
    ):
        super().__init__()
        if scale != 4:
            raise ValueError(
                "scale: HyperTransformer's pyramid has the sizes 1, 1/2 and 1/4, so expected 4, "
                f"got {scale}"
            )
        self.hsi_bands, self.msi_bands, self.scale, self.lr_size = (
            hsi_bands,
            msi_bands,
            scale,
            lr_size,
        )
        widths = (width, 2 * width, 4 * width)
        self.hsi_features = FeaturePyramid(hsi_bands, widths, first_kernel_size)
        self.msi_features = FeaturePyramid(msi_bands, widths, first_kernel_size)
        self.head = nn.Conv2d(hsi_bands, widths[2], 3, padding=1)
        self.head_blocks = res_blocks(widths[2], head_blocks)
        # From here on each list goes from coarse to fine.
        self.attentions = nn.ModuleList(
            PlainAttention()
            if lr_size is None
            else MultiHeadAttention(channels, (lr_size * enlarged) ** 2, heads, lr_size)
            for channels, enlarged in zip(widths[::-1], (1, 2, 4), strict=True)
        )
        self.stages = nn.ModuleList(Stage(channels, stage_blocks) for channels in widths[::-1])
        self.enlarge = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.PixelShuffle(2), nn.ReLU()
            )
            for channels in widths[:0:-1]
        )
        self.to_bands = nn.Conv2d(sum(widths), hsi_bands, 3, padding=1)
        self.output_blocks = res_blocks(hsi_bands, output_blocks) if output_blocks else None

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        check_pair(x_h, x_m, self.scale, self.hsi_bands, self.msi_bands)
        if self.lr_size is not None and tuple(x_h.shape[-2:]) != (self.lr_size, self.lr_size):
            raise ValueError(
                f"x_h: this multi-head HyperTransformer was built for {self.lr_size} x "
                f"{self.lr_size} pixels (lr_size), "
                f"got {x_h.shape[-2]} x {x_h.shape[-1]}; lr_size=None takes any size"
            )
        blurred = F.interpolate(x_m, size=x_h.shape[-2:], mode="bilinear", align_corners=False)
        values, keys = (
            self.msi_features(x_m),
            self.msi_features(upsample(blurred, self.scale, "bilinear")),
        )
        queries = self.hsi_features(upsample(x_h, self.scale, "bicubic"))
        x = F.relu(self.head(x_h))
        x = x + self.head_blocks(x)
        stages = []
        for level in range(3):
            t = self.attentions[level](queries[2 - level], keys[2 - level], values[2 - level])
            stages.append(self.stages[level](x, t))
            if level < 2:
                x = self.enlarge[level](stages[-1])
        pyramid = [upsample(stages[0], 4, "bicubic"), upsample(stages[1], 2, "bicubic"), stages[2]]
        y_hat = self.to_bands(torch.cat(pyramid, dim=1))
        return y_hat if self.output_blocks is None else y_hat + self.output_blocks(y_hat)
