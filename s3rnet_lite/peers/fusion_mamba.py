"""FusionMamba, S. Peng, X. Zhu, H. Deng, L.-J. Deng and Z. Lei, IEEE TGRS, 2024; drawn in
notebooks/09_peers_table1.ipynb.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from ..files.checks import check_pair
from .parts import SubpixelUpsampling, fuse_padded, upsample
from .selective_scan import selective_scan

PRESETS = {"paper": dict(width=172), "lite": dict(width=16, states=4, upsampling="bicubic")}
UPSAMPLINGS = ("subpixel", "bicubic")
LEAKY_SLOPE = 0.01
STREAMS = 2  # p from the MSI, s from the HSI


class FusionMamba(nn.Module):
    """A U-Net of two streams that exchange what they know by scans along the image's rows and
    columns.

        x_h -> upsample = skip -> s --+                                                   -> fused
        x_m -------------------> p ---+-> block d -> block 2d -> block 4d -> block 2d -> block d
                                             down       down         up         up
        y_hat = head(fused) * spectral_attention(x_h) + skip

    A scan costs the same for each pixel, however large the image is, and yet carries news from its
    first pixel to its last: attention's reach without attention's squared cost. Both streams, and
    the four directions of each, are stacked and scanned together.

    Deviations from the published code: the image size is read from the inputs; gates are applied
    after the sum of the directions, which is the same. "bicubic" has no parameters where the
    published "subpixel" has 144 per pair of bands; lite uses it.

    Shape: x_h (B, C, h, w), x_m (B, M, h*scale, w*scale) -> (B, C, h*scale, w*scale), not clipped.

    Args:
        hsi_bands, msi_bands, scale: C, M and the ratio of pixel sizes.
        width: channels d of the outer blocks.
        states: memories N of each channel in a scan.
        upsampling: of the LR-HSI, "subpixel" or "bicubic".
        global_skip: add the upsampled LR-HSI to the output.

    Raises:
        ValueError: an unknown upsampling; from `forward`, inputs whose bands or sizes do not fit
            together.
    """

    def __init__(
        self,
        hsi_bands: int,
        msi_bands: int,
        scale: int = 4,
        width: int = 32,
        states: int = 8,
        upsampling: str = "subpixel",
        global_skip: bool = True,
    ):
        super().__init__()
        if upsampling not in UPSAMPLINGS:
            raise ValueError(f"upsampling: expected one of {UPSAMPLINGS}, got {upsampling!r}")
        self.hsi_bands, self.msi_bands = hsi_bands, msi_bands
        self.scale, self.global_skip = scale, global_skip
        self.upsampling = SubpixelUpsampling(hsi_bands, scale) if upsampling == "subpixel" else None
        self.raise_p, self.raise_s = (
            nn.Sequential(nn.Conv2d(bands, width, 3, padding=1), nn.LeakyReLU(LEAKY_SLOPE))
            for bands in (msi_bands, hsi_bands)
        )
        self.blocks = nn.ModuleList(
            FusionBlock(w, states) for w in (width, 2 * width, 4 * width, 2 * width, width)
        )
        self.downs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(w, 2 * w, 2, stride=2), nn.LeakyReLU(LEAKY_SLOPE))
            for w in (width, 2 * width)
        )
        self.ups = nn.ModuleList(Up(w) for w in (4 * width, 2 * width))
        self.spectral_attention = SpectralAttention(width)
        self.head = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(width, hsi_bands, 3, padding=1),
        )

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        check_pair(x_h, x_m, self.scale, self.hsi_bands, self.msi_bands)
        multiple = math.lcm(self.scale, 4)  # two halvings
        return fuse_padded(self._fuse, x_h, x_m, self.scale, multiple)

    def _fuse(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        skip = (
            upsample(x_h, self.scale, "bicubic")
            if self.upsampling is None
            else self.upsampling(x_h)
        )
        fused = self._unet(torch.cat([self.raise_p(x_m), self.raise_s(skip)]))
        output = self.head(fused) * self.spectral_attention(x_h)
        return output + skip if self.global_skip else output

    def _unet(self, streams: torch.Tensor) -> torch.Tensor:
        """(2 * B, d, H, W), p before s -> the fused map (B, d, H, W). Downs and ups are shared by
        both streams.
        """
        skips = []
        for block, down in zip(self.blocks[:2], self.downs, strict=True):
            skips.append(block(streams)[0])
            streams = down(skips[-1])
        for block, up in zip(self.blocks[2:4], self.ups, strict=True):
            streams = up(block(streams)[0], skips.pop())
        return self.blocks[4](streams)[1]


class FusionBlock(nn.Module):
    """Each stream scans itself; then each is scanned again as the other one directs; the mean of
    both is the fused map f.

        p = p + Mamba(p),             s = s + Mamba(s)
        f = linear((p + Mamba(p | s) + s + Mamba(s | p)) / 2)

    Shape: (2 * B, width, H, W), p before s -> the streams (p + f) / 2 and (s + f) / 2, alike, and f
    (B, width, H, W).
    """

    def __init__(self, width: int, states: int):
        super().__init__()
        self.norm, self.scan = StackedNorm(STREAMS, width), Mamba(STREAMS, 4, width, states)
        self.norm_signal, self.norm_selection = (
            StackedNorm(STREAMS, width),
            StackedNorm(STREAMS, width),
        )
        self.cross_scan = Mamba(STREAMS, 4, width, states, two_inputs=True)
        self.fuse = nn.Linear(width, width)

    def forward(self, streams: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = streams.permute(0, 2, 3, 1).unflatten(0, (STREAMS, -1))  # (2, B, H, W, width)
        x = x + self.scan(self.norm(x))
        crossed = x + self.cross_scan(self.norm_signal(x), self.norm_selection(x.flip(0)))
        fused = self.fuse(crossed.mean(0))
        return ((x + fused) / 2).flatten(0, 1).permute(0, 3, 1, 2), fused.permute(0, 3, 1, 2)


class Mamba(nn.Module):
    """Gated selective scans of an image in four directions: rows, rows backwards, columns, columns
    backwards (or the first two).

        x, z = linear(signal);   u = SiLU(causal convolution of x along the scan)
        delta, B, C = linear(u), or of linear(selection): a second input then decides what is
            remembered of the first
        output = linear(norm(mean over directions of (scan(u; delta, B, C) + D u) * SiLU(z)))

    Several streams, each with its own weights, go together: shape (streams, B, H, W, width), twice
    if `two_inputs`, -> the same. Groups G are directions * streams, in this order.
    """

    KERNEL_SIZE = 4

    def __init__(
        self, streams: int, directions: int, width: int, states: int, two_inputs: bool = False
    ):
        super().__init__()
        groups, self.rank, self.states = directions * streams, math.ceil(width / 16), states
        self.directions = directions
        self.in_proj = StackedLinear(streams, width, 2 * width)
        self.in_proj_selection = StackedLinear(streams, width, width) if two_inputs else None
        self.convolution = nn.Conv1d(
            groups * width, groups * width, self.KERNEL_SIZE, groups=groups * width
        )
        self.x_proj = StackedLinear(groups, width, self.rank + 2 * states)
        self.dt_proj = StackedLinear(groups, self.rank, width)
        delta = torch.exp(torch.empty(groups, width).uniform_(math.log(1e-3), math.log(0.1)))
        self.dt_bias = nn.Parameter(
            delta + torch.log(-torch.expm1(-delta))
        )  # softplus of it is delta
        self.a_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(groups, width, 1))
        self.d = nn.Parameter(torch.ones(groups, width))
        self.norm = StackedNorm(streams, width)
        self.out_proj = StackedLinear(streams, width, width)

    def forward(self, signal: torch.Tensor, selection: torch.Tensor | None = None) -> torch.Tensor:
        _, batch, height, width, _ = signal.shape
        x, z = self.in_proj(signal).chunk(2, dim=-1)
        x = self._read(x)  # (B, directions, streams, width, L)
        u = self.convolution(F.pad(x.flatten(1, 3), (self.KERNEL_SIZE - 1, 0)))  # causal
        u = self._group(F.silu(u).view_as(x))
        source = (
            u if selection is None else self._group(self._read(self.in_proj_selection(selection)))
        )
        dt, b, c = self.x_proj(source).split([self.rank, self.states, self.states], dim=-1)
        delta = F.softplus(self.dt_proj(dt, self.dt_bias))
        y = torch.addcmul(
            selective_scan(u, delta, -self.a_log.exp(), b, c), self.d[:, None, None], u
        )
        return self.out_proj(self.norm(self._unread(y, height, width) * F.silu(z)))

    def _read(self, x: torch.Tensor) -> torch.Tensor:
        """(streams, B, H, W, width) -> sequences (B, directions, streams, width, H * W)."""
        x = x.permute(1, 0, 4, 2, 3)
        sequences = [image.flatten(3) for image in ((x, x.mT) if self.directions == 4 else (x,))]
        return torch.stack(
            [s for forwards in sequences for s in (forwards, forwards.flip(3))], dim=1
        )

    def _group(self, sequences: torch.Tensor) -> torch.Tensor:
        """(B, directions, streams, width, L) -> (G, B, L, width)."""
        return sequences.permute(1, 2, 0, 4, 3).flatten(0, 1)

    def _unread(self, y: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """(G, B, L, width) -> the mean over directions, back in place, (streams, B, H, W,
        width).
        """
        forwards, backwards, *columns = y.unflatten(0, (self.directions, -1)).unbind()
        image = (forwards + backwards.flip(2)).unflatten(2, (height, width))
        if columns:
            image = image + (columns[0] + columns[1].flip(2)).unflatten(
                2, (width, height)
            ).transpose(2, 3)
        return image / self.directions


class SpectralAttention(nn.Module):
    """A weight in (0, 1) for each band: a two-way scan along the spectrum of the LR-HSI's brightest
    values.

    Shape: (B, C, h, w) -> (B, C, 1, 1).
    """

    STATES = 8

    def __init__(self, width: int):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(1, width), nn.LayerNorm(width))
        self.scan = Mamba(1, 2, width, self.STATES)
        self.weigh = nn.Linear(width, 1)

    def forward(self, x_h: torch.Tensor) -> torch.Tensor:
        bands = self.embed(x_h.amax((2, 3))[:, :, None, None])  # (B, C, 1, width)
        return torch.sigmoid(self.weigh(self.scan(bands[None])[0]))


class Up(nn.Module):
    """Twice the sides, half the channels, plus a skip: (B, width, H, W), (B, width / 2, 2H, 2W) ->
    the latter.
    """

    def __init__(self, width: int):
        super().__init__()
        half = width // 2
        self.grow = nn.Sequential(
            nn.ConvTranspose2d(width, half, 2, stride=2), nn.LeakyReLU(LEAKY_SLOPE)
        )
        self.mix = nn.Sequential(
            nn.Conv2d(half, half, 3, padding=1, groups=half),
            nn.Conv2d(half, half, 1),
            nn.LeakyReLU(LEAKY_SLOPE),
        )

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.mix(self.grow(x) + skip)


class StackedLinear(nn.Module):
    """`count` linear layers in one matrix product: (count, ..., width) -> (count, ..., width_out);
    `bias` (count, width_out).
    """

    def __init__(self, count: int, width: int, width_out: int):
        super().__init__()
        self.weight = nn.Parameter(
            torch.empty(count, width, width_out).uniform_(-(width**-0.5), width**-0.5)
        )

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        rows = x.flatten(1, -2)
        product = (
            rows @ self.weight if bias is None else torch.baddbmm(bias[:, None], rows, self.weight)
        )
        return product.unflatten(1, x.shape[1:-1])


class StackedNorm(nn.Module):
    """`count` layer norms: (count, B, H, W, width) -> the same."""

    def __init__(self, count: int, width: int):
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.ones(count, width)),
            nn.Parameter(torch.zeros(count, width)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias = (p[:, None, None, None] for p in (self.weight, self.bias))
        return torch.addcmul(bias, F.layer_norm(x, x.shape[-1:]), weight)
