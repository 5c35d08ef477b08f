"""U2Net: S. Peng, C. Guo, X. Wu, L.-J. Deng, ACM Multimedia, 2023; drawn in
notebooks/09_peers_table1.ipynb.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..files.checks import check_pair
from .parts import SubpixelUpsampling, fuse_in_tiles, upsample

PRESETS = {
    "paper": dict(width=64, head_channels=16, learned_upsampling=True, tile=64),
    "lite": dict(width=24, head_channels=24, learned_upsampling=False, tile=32),
}
SLOPE = 0.01  # of every LeakyReLU


def conv3(in_channels: int, out_channels: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, groups=groups)


class U2Net(nn.Module):
    """Two U-Nets side by side, one for the spectra (x) and one for space (y); at each of five
    levels x takes from y.

        level          0          1          2          3          4
        resolution     1   down  1/2  down  1/4   up   1/2   up    1
        x: U ----->  S2Block -> S2Block -> S2Block -> S2Block -> S2Block --> head --> + U --> output
                        ^          ^          ^          ^          ^
        y: x_m --->     + ResBlock + ResBlock + ResBlock + ResBlock +
        channels      width     2 width    4 width    2 width     width

    U is the upsampled LR-HSI. Each Down and Up is one module used for both x and y, so the two stay
    comparable; going up adds what level 1 and level 0 had (x of the S2Block, y of the ResBlock).
    See `CrossAttention` for how x takes from y.

    Shape: x_h (B, C, h, w), x_m (B, M, h*scale, w*scale) -> (B, C, h*scale, w*scale).

    Args:
        width: channels at full resolution.
        head_channels: of each attention head; a level has (channels // head_channels) heads.
        learned_upsampling: U by a convolution to scale**2 values per band (4.3 million weights for
            172 bands), else bicubic.
        tile: side, in HR pixels, of the squares within which pixels attend.
        overlap: of neighbouring tiles, blended linearly; 0 shows seams.
        global_skip: add U to the output.

    Raises:
        ValueError: a scale or tile that cannot be halved twice, or a width that is no multiple of
            head_channels; from `forward`, inputs that do not belong together.

    Differences from the published code: it allocates layers that it never calls (left out: 416,320
        weights for width 64),
    is written for one MSI band, and clamps to [0, 1] at inference (nothing is clamped here, so data
    of any scaling go through). Its tiles have a border that is cut off; ours overlap and blend.
    "lite" (ours) is narrower, has one head at full resolution and upsamples by bicubic
    interpolation.
    """

    def __init__(
        self,
        hsi_bands: int,
        msi_bands: int,
        scale: int = 4,
        width: int = 64,
        head_channels: int = 16,
        learned_upsampling: bool = True,
        tile: int = 64,
        overlap: int = 8,
        global_skip: bool = True,
    ):
        super().__init__()
        if scale % 4 or tile % 4:
            raise ValueError(
                "scale and tile: expected multiples of 4, as both U-Nets halve the image twice, "
                f"got {scale} and {tile}"
            )
        if width % head_channels:
            raise ValueError(
                f"width: expected a multiple of head_channels {head_channels}, got {width}"
            )
        self.hsi_bands, self.msi_bands, self.scale = hsi_bands, msi_bands, scale
        self.tile, self.overlap, self.global_skip = tile, overlap, global_skip
        widths = [width, 2 * width, 4 * width, 2 * width, width]
        self.upsample = SubpixelUpsampling(hsi_bands, scale) if learned_upsampling else None
        self.embed_x = nn.Sequential(conv3(hsi_bands, width), nn.LeakyReLU(SLOPE))
        self.embed_y = nn.Sequential(conv3(msi_bands, width), nn.LeakyReLU(SLOPE))
        self.s2_blocks = nn.ModuleList(S2Block(w, head_channels) for w in widths)
        self.res_blocks = nn.ModuleList(ResBlock(w) for w in widths[:4])
        self.down = nn.ModuleList(Down(w, 2 * w) for w in widths[:2])
        self.up = nn.ModuleList(Up(w, w // 2) for w in widths[2:4])
        self.head = nn.Sequential(conv3(width, width), nn.LeakyReLU(SLOPE), conv3(width, hsi_bands))

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        check_pair(x_h, x_m, self.scale, self.hsi_bands, self.msi_bands)
        upsampled = (
            upsample(x_h, self.scale, "bicubic") if self.upsample is None else self.upsample(x_h)
        )
        # Both inputs of the tiles are at high resolution, hence scale=1.
        residual = fuse_in_tiles(
            self._two_unets, upsampled, x_m, scale=1, tile=self.tile, overlap=self.overlap
        )
        return upsampled + residual if self.global_skip else residual

    def _two_unets(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x, y = self.embed_x(x), self.embed_y(y)
        skips = []
        for level, down in enumerate(self.down):
            x, y = self.s2_blocks[level](x, y), self.res_blocks[level](y)
            skips.append((x, y))
            x, y = down(x), down(y)
        for level, up in enumerate(self.up, start=2):
            x, y = self.s2_blocks[level](x, y), self.res_blocks[level](y)
            skip_x, skip_y = skips.pop()
            x, y = up(x, skip_x), up(y, skip_y)
        return self.head(self.s2_blocks[4](x, y))


class S2Block(nn.Module):
    """x takes from y: x' = x + CrossAttention(norm(x), norm(y)), one norm for both; output x' +
    perceptron(norm'(x')).

    Shape: x (B, width, H, W), y the same -> new x, the same.
    """

    def __init__(self, width: int, head_channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = CrossAttention(width, head_channels)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width // 2),
            nn.LeakyReLU(SLOPE),
            nn.Linear(width // 2, width),
        )

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        tokens_x, tokens_y = x.flatten(2).mT, y.flatten(2).mT  # (B, N, width)
        tokens_x = tokens_x + self.attention(self.norm(tokens_x), self.norm(tokens_y))
        return (tokens_x + self.perceptron(tokens_x)).mT.unflatten(2, x.shape[-2:])


class CrossAttention(nn.Module):
    """Each image gives the map that it knows best, and the other image is read through it.

        S = Softmax(y_1 y_2^T / sqrt(d))         N x N, from the MSI: which pixels belong together
        T = Softmax(x_1^T x_2 sqrt(d) / N)       d x d, from the HSI: which channels belong together
        output = W (S x_1 * y_1 T) + b           * elementwise; each head its own maps

    T's logits are means over the pixels (times sqrt(d)), so they do not grow with the image. S is
    never stored.

    Shape: tokens x (B, N, width), y the same -> (B, N, width).
    """

    def __init__(self, width: int, head_channels: int):
        super().__init__()
        self.heads = width // head_channels
        self.to_x1, self.to_x2, self.to_y1, self.to_y2 = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.to_out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x_1, x_2, y_1, y_2 = self.project(x, y)
        pixels, channels = x_1.shape[-2:]
        spectral_map = (x_1.mT @ x_2 * (channels**0.5 / pixels)).softmax(
            dim=-1
        )  # T (B, heads, d, d)
        product = F.scaled_dot_product_attention(y_1, y_2, x_1) * (y_1 @ spectral_map)
        return self.to_out(product.transpose(1, 2).flatten(2))

    def project(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """x_1, x_2, y_1, y_2, each (B, heads, N, d)."""
        projected = (self.to_x1(x), self.to_x2(x), self.to_y1(y), self.to_y2(y))
        return tuple(tokens.unflatten(2, (self.heads, -1)).transpose(1, 2) for tokens in projected)


class ResBlock(nn.Module):
    """y + two 3x3 convolutions of y, half as wide between. Shape: (B, width, H, W) -> (B, width, H,
    W).
    """

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            conv3(width, width // 2), nn.LeakyReLU(SLOPE), conv3(width // 2, width)
        )

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return y + self.layers(y)


class Down(nn.Sequential):
    """To half the resolution. Shape: (B, in_channels, H, W) -> (B, out_channels, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(
            nn.Conv2d(in_channels, in_channels, 2, stride=2),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(in_channels, out_channels, 1),
            conv3(out_channels, out_channels, groups=out_channels),
            nn.LeakyReLU(SLOPE),
        )


class Up(nn.Module):
    """To twice the resolution, plus the skip. Shape: (B, in_channels, H, W), skip (B, out_channels,
    2H, 2W) -> like the skip.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.grow = nn.Sequential(
            nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2), nn.LeakyReLU(SLOPE)
        )
        self.mix = nn.Sequential(conv3(out_channels, out_channels), nn.LeakyReLU(SLOPE))

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.mix(self.grow(x) + skip)
