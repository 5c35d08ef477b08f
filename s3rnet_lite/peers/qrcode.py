"""QRCODE, C.-H. Lin, C.-C. Hsu, S.-S. Young, C.-Y. Hsieh and S.-C. Tai, IEEE TGRS 2024; drawn in
notebooks/09_peers_table1.ipynb.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from ..files.checks import check_pair
from ..network.dfab import LEAKY_SLOPE
from ..network.mbfn import ResidualGroup
from .parts import fuse_padded, upsample
from .swin import WINDOW, SwinGroup

PRESETS: dict[str, dict] = {
    # Our reconstruction: the team's earlier network with its convex stream, and one residual Swin
    # group; 0.07 % above Table I.
    "paper": {},
    # Grouped convolutions (QRCODE's way to save), one dense block per group, and 1x1 convolutions
    # between bands and features.
    "lite": dict(
        width=32,
        growth=8,
        stream_groups=1,
        draft_groups=2,
        blocks=1,
        groups=2,
        band_kernel_size=1,
        swin_blocks=2,
        heads=2,
        mlp_ratio=2,
    ),
}


class ConvexFusion(nn.Module):
    """The convex sub-network: of all low-rank images, the one that explains the HR-MSI and stays
    near the LR-HSI. Nothing is learnt.

        X_h = E S_h      E: the `rank` principal axes of the LR-HSI's spectra, as long as their
                         spread; S_h: maps of variance 1
        X_m = G S_h      at low resolution, with block means of X_m: G is how the HR-MSI answers to
                         each map, by least squares
        S   = argmin 1/2 ||X_m - G S||^2 + lam/2 ||S - up(S_h)||^2
            = (G^T G + lam I)^-1 (G^T X_m + lam up(S_h))
            = up(S_h) + G^T (G G^T + lam I)^-1 (X_m - G up(S_h))
              the same, but M x M instead of rank x rank
        Z   = E S + mean

    Images are centred first and the sensor's response is not asked for, so any scaling of the bands
    will do. Uncorrelated maps of variance 1 turn least squares into a mean of products, and make
    lam trust each axis in proportion to its spread. lam is `weight` times the variance of X_m. Runs
    in float64 (no autocast shortens it) and is not differentiated.

    Shape: x_h (B, C, h, w), x_m (B, M, h*scale, w*scale) -> (B, C, h*scale, w*scale).
    """

    FLOOR = (
        1e-9  # axes with less relative variance are left out: there are more axes than pixels, say
    )
    TINY = 1e-12  # keeps the system solvable if an input is constant

    def __init__(self, scale: int, rank: int, weight: float):
        super().__init__()
        self.scale, self.rank, self.weight = scale, rank, weight

    @torch.no_grad()
    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        mean = x_h.double().mean((2, 3), keepdim=True)
        x_h_centred, x_m_centred = (
            x_h.double() - mean,
            x_m.double() - x_m.double().mean((2, 3), keepdim=True),
        )
        basis, maps = self.decompose(x_h_centred)
        response = (
            F.avg_pool2d(x_m_centred, self.scale).flatten(2)
            @ maps.flatten(2).mT
            / maps[0, 0].numel()
        )
        lam = self.weight * x_m_centred.square().mean((1, 2, 3)) + self.TINY
        maps = self.solve(
            response,
            x_m_centred.flatten(2),
            upsample(maps, self.scale, "bicubic").flatten(2),
            lam[:, None, None],
        )
        return ((basis @ maps).unflatten(2, x_m.shape[2:]) + mean).to(x_h.dtype)

    def decompose(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Centred (B, C, h, w) -> E (B, C, rank) and S_h (B, rank, h, w), uncorrelated, of variance
        1 (or 0 if left out).
        """
        pixels = x.flatten(2)
        variances, axes = torch.linalg.eigh(pixels @ pixels.mT / pixels.shape[2])  # ascending
        variances, axes = variances[:, -self.rank :], axes[:, :, -self.rank :]
        spread = variances.clamp_min(0).sqrt() * (variances > self.FLOOR * variances[:, -1:])
        inverse = torch.where(spread > 0, 1 / spread, 0)
        return axes * spread[:, None], (inverse[:, :, None] * (axes.mT @ pixels)).unflatten(
            2, x.shape[2:]
        )

    @staticmethod
    def solve(
        response: torch.Tensor, x_m: torch.Tensor, prior: torch.Tensor, lam: torch.Tensor
    ) -> torch.Tensor:
        """S from G (B, M, rank), centred X_m (B, M, P), up(S_h) (B, rank, P) and lam (B, 1, 1)."""
        identity = torch.eye(response.shape[1], dtype=response.dtype, device=response.device)
        return prior + response.mT @ torch.linalg.solve(
            response @ response.mT + lam * identity, x_m - response @ prior
        )


class ResidualStream(nn.Sequential):
    """Dense residual groups in sequence, plus the stream's input; shape (B, width, H, W) -> the
    same.
    """

    def __init__(self, width: int, growth: int, count: int, blocks: int, groups: int):
        super().__init__(
            *(ResidualGroup(width, growth, blocks, groups=groups) for _ in range(count))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + x


class QRCODE(nn.Module):
    """A fusion by convex optimisation guides, as a third input, a dense network with shifted-window
    attention.

        x_h --conv, up 2, stream, up 2, conv--+
                                              + --conv to C bands, conv--stream--SwinGroup--+
        x_m --conv, stream, conv--------------+                                             |
        ConvexFusion(x_h, x_m) --conv, stream-----------------------------------------------+
                                                          y_hat <-- conv to C bands --------+

    The convex solution enters as features, not as an image that the network's output corrects:
    "quasi-residual". Attention in shifted windows lets features find each other where the two
    inputs are misaligned. The streams' residual groups of dense blocks are those of S3RNet (`DFAB`,
    `mbfn.ResidualGroup`): S3RNet, of the same team, inherits them from here.

    Source: C.-H. Lin et al., "QRCODE: Quasi-Residual Convex Deep Network for Fusing Misaligned
    Hyperspectral and Multispectral Images", IEEE TGRS 62, 2024. Its code is not public. The three
    streams are those of the team's earlier public COCNN, where the convex solution is read from
    disk. OUR RECONSTRUCTION: the convex solver (`ConvexFusion`, run within the network), and place
    and size of the Swin group. The team works on data in [-1, 1]; nothing is clipped here, so any
    range will do.

    Shape: x_h (B, C, h, w), x_m (B, M, h*scale, w*scale) -> (B, C, h*scale, w*scale); any sides
    (padded to windows of 8x8).

    Args:
        hsi_bands, msi_bands: C and M.
        scale: ratio of pixel sizes, even.
        width, growth: of the dense blocks in the draft; 2 * width, growth / 2 for x_h; width / 2, 2
            * growth for x_m.
        stream_groups, draft_groups: residual groups in each of the three streams, and in the draft.
        blocks: dense blocks in a residual group.
        groups: of the convolutions in all streams but that of x_m; divides width, growth and growth
            // 2.
        band_kernel_size: of the convolutions between C bands and features at high resolution.
        swin_blocks, heads, mlp_ratio: of the Swin group.
        rank, prior_weight: of `ConvexFusion`.

    Raises:
        ValueError: an odd scale, groups that do not divide the channels; from `forward`, inputs
            that do not fit together.
    """

    def __init__(
        self,
        hsi_bands: int,
        msi_bands: int,
        scale: int = 4,
        width: int = 172,
        growth: int = 43,
        stream_groups: int = 2,
        draft_groups: int = 6,
        blocks: int = 3,
        groups: int = 1,
        band_kernel_size: int = 3,
        swin_blocks: int = 6,
        heads: int = 4,
        mlp_ratio: int = 4,
        rank: int = 10,
        prior_weight: float = 0.003,
    ):
        super().__init__()
        if scale % 2:
            raise ValueError(
                f"scale: expected an even number (x_h is upsampled in two steps), got {scale}"
            )
        self.hsi_bands, self.msi_bands, self.scale = hsi_bands, msi_bands, scale

        def convolution(i: int, o: int, kernel_size: int = 3, **options) -> nn.Conv2d:
            return nn.Conv2d(i, o, kernel_size, padding=kernel_size // 2, **options)

        activation = nn.LeakyReLU(LEAKY_SLOPE)
        self.hsi = nn.Sequential(
            convolution(hsi_bands, 2 * width),
            activation,
            nn.Upsample(scale_factor=scale // 2),
            ResidualStream(2 * width, growth // 2, stream_groups, blocks, groups),
            nn.Upsample(scale_factor=2),
            activation,
            convolution(2 * width, width, groups=groups),
        )
        self.msi = nn.Sequential(
            convolution(msi_bands, width // 2),
            activation,
            ResidualStream(width // 2, 2 * growth, stream_groups, blocks, 1),
            activation,
            convolution(width // 2, width),
        )
        self.draft = nn.Sequential(
            convolution(width, hsi_bands, band_kernel_size),
            activation,
            convolution(hsi_bands, width, band_kernel_size),
            activation,
            ResidualStream(width, growth, draft_groups, blocks, groups),
            SwinGroup(width, heads, swin_blocks, mlp_ratio),
            activation,
        )
        self.convex = ConvexFusion(scale, rank, prior_weight)
        self.guide = nn.Sequential(
            convolution(hsi_bands, width, band_kernel_size),
            activation,
            ResidualStream(width, growth, stream_groups, blocks, groups),
            activation,
        )
        self.head = convolution(width, hsi_bands, band_kernel_size, bias=False)

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        check_pair(x_h, x_m, self.scale, self.hsi_bands, self.msi_bands)
        high = torch.cat(
            [x_m, self.convex(x_h, x_m)], dim=1
        )  # the convex solution of the image as it is, then padded with it
        return fuse_padded(self._fuse, x_h, high, self.scale, math.lcm(WINDOW, self.scale))

    def _fuse(self, x_h: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        x_m, convex = high.split([self.msi_bands, self.hsi_bands], dim=1)
        return self.head(self.draft(self.hsi(x_h) + self.msi(x_m)) + self.guide(convex))
