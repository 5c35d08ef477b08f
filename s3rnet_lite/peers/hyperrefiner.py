"""HyperRefiner: B. Zhou et al., International Journal of Digital Earth, 2023; drawn in
notebooks/09_peers_table1.ipynb.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from ..files.checks import check_pair
from .parts import FeaturePyramid, fuse_padded, upsample

PRESETS: dict[str, dict] = {
    "paper": {},
    # Pooling by 2 leaves 8 x 8 LR pixels more than a single code to choose from; without dropout a
    # run can be resumed exactly.
    "lite": dict(width=12, coarse_width=12, coarse_stages=2, pooling=2)
    | dict(dropout=0.0, softmax_over="keys", tail=False, decoder=False),
}


class SpatialGate(nn.Module):
    """conv(y) * Sigmoid(conv(x)): a weight for every pixel and channel of y, decided by x."""

    def __init__(self, channels: int):
        super().__init__()
        self.of_x, self.of_y = (
            nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2)
        )

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.of_y(y) * torch.sigmoid(self.of_x(x))


class ChannelGate(nn.Module):
    """y * Sigmoid(conv along the channels of x's spatial means): a weight for every channel of y
    (ECA-Net, CVPR 2020).
    """

    def __init__(self, channels: int):
        super().__init__()
        # odd: 5 for 128 channels, 3 for 64
        kernel = int((math.log2(channels) + 1) / 2) // 2 * 2 + 1
        self.along_channels = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return y * torch.sigmoid(self.along_channels(x.mean((2, 3))[:, None]))[:, 0, :, None, None]


class DualRefinedAttention(nn.Module):
    """Two gates on the joint features, then two more that these open on the HSI and MSI features h
    and p.

    Shape: p, h (B, width, H, W) -> (B, 2*width, H, W).
    """

    def __init__(self, width: int):
        super().__init__()
        self.spatial, self.channel = SpatialGate(2 * width), ChannelGate(2 * width)
        self.mix = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.halve = nn.Conv2d(2 * width, width, 1)
        self.refine_h, self.refine_p = SpatialGate(width), ChannelGate(width)
        self.join = nn.Conv2d(3 * width, 2 * width, 1)

    def forward(self, p: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        joint = torch.cat([p, h], dim=1)
        g = self.halve(self.mix(self.spatial(joint, joint) + self.channel(joint, joint) + joint))
        return 2 * self.join(torch.cat([self.refine_h(g, h), self.refine_p(g, p), g], dim=1))


class CoarseFusion(nn.Module):
    """SRNet: the detail that a first, convolutional fusion adds to the upsampled HSI.

    Shape: upsampled HSI (B, C, H, W), MSI (B, M, H, W) -> (B, C, H, W).
    """

    def __init__(self, hsi_bands: int, msi_bands: int, width: int, stages: int):
        super().__init__()

        def convolution(bands: int) -> nn.Conv2d:
            return nn.Conv2d(bands, width, 3, padding=1)

        self.from_msi, self.from_hsi = convolution(msi_bands), convolution(hsi_bands)
        self.shared = nn.ModuleList(
            nn.Sequential(convolution(width), convolution(width)) for _ in range(stages)
        )
        self.attentions = nn.ModuleList(DualRefinedAttention(width) for _ in range(stages))
        self.to_bands = nn.Conv2d(2 * width, hsi_bands, 3, padding=1)

    def forward(self, x_h_up: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        p, h = self.from_msi(x_m), self.from_hsi(x_h_up)
        refined = []
        for shared, attention in zip(self.shared, self.attentions, strict=True):
            p, h = shared(p), shared(h)
            refined.append(attention(p, h))
        return self.to_bands(sum(refined))


class Encoder(nn.ModuleList):
    """Spectral codes of the LR-HSI at three lengths, its pixels in reading order taken as one
    sequence.

    Shape: (B, C, n) -> (B, widths[i], n / pooling**(i + 1)) for three widths; n divisible by
    pooling**3.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], pooling: int, dropout: float):
        def norm(width: int) -> list[nn.Module]:
            return [nn.BatchNorm1d(width), nn.Dropout(dropout)]

        super().__init__(
            nn.Sequential(
                nn.Conv1d(before, width, 3, padding=1),
                nn.ReLU(),
                *norm(width),
                nn.Conv1d(width, width, 3, padding=1),
                nn.MaxPool1d(pooling),
                nn.ReLU(),
                *norm(width),
            )
            for before, width in pairwise((channels, *widths))
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        codes = []
        for level in self:
            x = level(x)
            codes.append(x)
        return codes


class Decoder(nn.Sequential):
    """From the shortest code back to a non-negative LR-HSI sequence, (B, widths[-1], n /
    pooling**3) -> (B, C, n).
    """

    def __init__(self, channels: int, widths: tuple[int, ...], pooling: int, dropout: float):
        layers: list[nn.Module] = []
        for width, after in zip(widths[::-1], (channels, *widths)[-2::-1], strict=True):
            up = nn.ConvTranspose1d(width, width, pooling, stride=pooling)
            for layer in (up, nn.Conv1d(width, after, 3, padding=1)):
                layers += [nn.ReLU(), nn.BatchNorm1d(width), nn.Dropout(dropout), layer]
        super().__init__(*layers, nn.Softplus())


class SpectralAttention(nn.Module):
    """Every HR pixel asks the spectral codes: Softmax(Q K^T / sqrt(channels)) V; tokens are pixels.

    Shape: features (B, channels, H, W), code (B, channels, n) -> (B, channels, H, W); `weights` (B,
    H*W, n).

    Args:
        softmax_over: "keys", as usual, so the weights of a pixel sum to 1; or "queries", as the
            published code has it: the weights of a code sum to 1, so all answers shrink as the
                image grows.
    """

    def __init__(self, channels: int, softmax_over: str):
        super().__init__()
        self.axis = {"queries": 1, "keys": 2}[softmax_over]
        self.to_q, self.to_k, self.to_v, self.to_out = (
            self._projection(channels) for _ in range(4)
        )

    @staticmethod
    def _projection(channels: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )

    def weights(self, features: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        q, k = self.to_q(features).flatten(2), self.to_k(code[..., None]).flatten(2)
        return (q.mT @ k / q.shape[1] ** 0.5).softmax(dim=self.axis)

    def forward(self, features: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        v = self.to_v(code[..., None]).flatten(2)
        return self.to_out((v @ self.weights(features, code).mT).reshape(features.shape))


class HyperRefiner(nn.Module):
    """Fuse coarsely with convolutions, then refine: every HR pixel looks up what it needs in
    spectral codes of the LR-HSI.

        x_h, x_m -> SRNet -> coarse
        x_h -> encoder -> codes e_1, e_2, e_3 (-> decoder -> x_h again)
        coarse, x_m -> pyramid f_1, f_2, f_3
        t_i = attention(f_i asks e_i)
        y_3 = f_3 + t_3;   y_2 = f_2 + t_2 + enlarged y_3;   y_1 = f_1 + t_1 + enlarged y_2,
            each refined by a convolution
        y_hat = coarse + z + conv(z),   z = conv(y_1, y_2, y_3)

    A code is of pixels in reading order, `pooling` of them in a row made into one at each level,
    whatever lies below them; the attention does not mind, because it knows no places. LR sides that
    are no multiples of 2 * pooling are padded and cut off after.

    The decoder is the one part that `y_hat` does not depend on, so training on `y_hat` alone leaves
    it without gradients. It is there for `reconstruct`, whose L1 distance from x_h the authors add
    to their loss; `decoder=False` leaves it out (the lite preset does). The softmax over queries is
    the published code's; the lite preset takes the one over keys, because only this does not change
    with the size of the image. Odd things of that code that are kept: two 3x3 convolutions in a row
    without an activation, and a factor 2 after each dual attention. The third code always passes a
    ReLU before it is asked, which in that code only an in-place side effect of the decoder did. The
    first convolutions take M bands. Nothing is clamped.

    Shape: x_h (B, C, h, w), x_m (B, M, h*scale, w*scale) -> (B, C, h*scale, w*scale).

    Args:
        hsi_bands, msi_bands, scale: C, M and the ratio of pixel sizes.
        width: of the pyramid at full size and of the first code; twice and four times that at the
            next levels.
        coarse_width, coarse_stages: of SRNet.
        pooling: LR pixels in a row that become one at each of the encoder's three levels, 2 or 4.
        dropout: of encoder and decoder.
        softmax_over: "queries" or "keys", see `SpectralAttention`.
        tail: False leaves conv(z) out.
        decoder: build it, see above.
        global_skip: False leaves the upsampled x_h out of the output (not out of `coarse`, on which
            all else works).

    Raises:
        ValueError: unknown pooling or softmax_over; from `forward`, inputs that do not fit
            together; from `reconstruct`, no decoder.

    Source: B. Zhou et al., "HyperRefiner", Int. J. Digital Earth 16(1), 2023; the code is at
        github.com/zsspo/Fusion_HyperRefiner.
    """

    def __init__(
        self,
        hsi_bands: int,
        msi_bands: int,
        scale: int = 4,
        width: int = 64,
        coarse_width: int = 64,
        coarse_stages: int = 3,
        pooling: int = 4,
        dropout: float = 0.1,
        softmax_over: str = "queries",
        tail: bool = True,
        decoder: bool = True,
        global_skip: bool = True,
    ):
        super().__init__()
        if pooling not in (2, 4):
            raise ValueError(f"pooling: expected 2 or 4, got {pooling}")
        if softmax_over not in ("queries", "keys"):
            raise ValueError(f"softmax_over: expected 'queries' or 'keys', got {softmax_over!r}")
        self.hsi_bands, self.msi_bands = hsi_bands, msi_bands
        self.scale, self.global_skip = scale, global_skip
        self.lr_multiple = 2 * pooling  # then the number of LR pixels is divisible by pooling**3
        widths = (width, 2 * width, 4 * width)
        self.coarse = CoarseFusion(hsi_bands, msi_bands, coarse_width, coarse_stages)
        self.encoder = Encoder(hsi_bands, widths, pooling, dropout)
        self.decoder = Decoder(hsi_bands, widths, pooling, dropout) if decoder else None
        self.features = FeaturePyramid(hsi_bands + msi_bands, widths, 3)
        self.attentions = nn.ModuleList(SpectralAttention(w, softmax_over) for w in widths)
        self.refine = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1) for w in widths)
        self.enlarge = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * w, 4 * w, 3, padding=1), nn.PixelShuffle(2), nn.ReLU())
            for w in widths[:2]
        )
        self.to_bands = nn.Conv2d(sum(widths), hsi_bands, 1)
        self.tail = nn.Conv2d(hsi_bands, hsi_bands, 3, padding=1) if tail else None

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        check_pair(x_h, x_m, self.scale, self.hsi_bands, self.msi_bands)
        return fuse_padded(self._fuse, x_h, x_m, self.scale, self.lr_multiple * self.scale)

    def reconstruct(self, x_h: torch.Tensor) -> torch.Tensor:
        """The LR-HSI as the autoencoder remembers it, (B, C, h, w) -> (B, C, h, w), at least 0."""
        if self.decoder is None:
            raise ValueError("reconstruct: this HyperRefiner was built with decoder=False")

        def remember(x: torch.Tensor, _) -> torch.Tensor:
            return self.decoder(self.encoder(x.flatten(2))[-1]).reshape(x.shape)

        return fuse_padded(remember, x_h, x_h, 1, self.lr_multiple)

    def _fuse(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        x_h_up = upsample(x_h, self.scale, "bilinear")
        detail = self.coarse(x_h_up, x_m)
        features = self.features(torch.cat([x_h_up + detail, x_m], dim=1))
        codes = self.encoder(x_h.flatten(2))
        codes[2] = F.relu(codes[2])
        refined = []  # from quarter to full size
        for level in (2, 1, 0):
            y = features[level] + self.attentions[level](features[level], codes[level])
            if level < 2:
                y = y + self.enlarge[level](refined[-1])
            refined.append(y + self.refine[level](y))
        quarter, half, full = refined
        pyramid = [full, upsample(half, 2, "bicubic"), upsample(quarter, 4, "bicubic")]
        z = self.to_bands(torch.cat(pyramid, dim=1))
        residual = detail + z if self.tail is None else detail + z + self.tail(z)
        return x_h_up + residual if self.global_skip else residual
