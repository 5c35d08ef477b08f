"""What a sharp camera's bands say of the detail in all the others: a regression that learns from
training scenes and from the pair at hand; used in notebooks/06_training.ipynb.
"""

from __future__ import annotations

import torch
from torch import nn

from .. import baselines
from ..sensing.degradation import Degradation

RIDGE = 1e-4  # of a feature's own power; tried by `s3rnet-lite skip-search`, as PAIR_SHARE
PAIR_SHARE = 0.5  # evidence of a pair that looks like the training scenes, theirs being 1
LEAST_PIXELS = 64  # of the pair degraded once more, to be heard at all
DARK = 0.02  # keeps ratios of dark pixels small, on [0, 1] data
FEATURES_A_BAND = 3


class DetailRegression(nn.Module):
    """Predicts an HR-HSI from the HR-MSI, pixel by pixel, so that its *detail* is right: what is
    left of an image when all that its LR-HSI shows is taken out (`baselines.inject` into nothing).

    A regression on values mostly learns the colours, which the LR-HSI knows already, and hands the
    colours' slope on to the detail. Here both sides of the ridge regression are detail. Features of
    each MSI band are its value, the root of it and its share of all bands.

    The evidence comes from two places, as sums of squares and products: from training scenes at
    full resolution, where the truth is known, and from the pair itself, degraded once more, where
    the LR-HSI is the truth (Wald's protocol). The pair counts for `PAIR_SHARE` of the training
    scenes, and for more the worse these explain it; the weights are averaged with those of the
    training scenes alone.

    Shape: x_m (..., M, H, W) in [0, 1] and weights (C, 3M) -> (..., C, H, W).

    Args:
        degrade: relates the two inputs.
        y: training HR-HSI, a list of (C, H, W); None leaves placeholders for a checkpoint to fill.
        x_m: the HR-MSI (M, H, W) of each.
    """

    def __init__(
        self,
        degrade: Degradation,
        y: list[torch.Tensor] | None = None,
        x_m: list[torch.Tensor] | None = None,
    ):
        super().__init__()
        self.degrade = degrade
        msi_bands, hsi_bands = degrade.srf.shape
        size = FEATURES_A_BAND * msi_bands
        self.register_buffer("power", torch.eye(size, dtype=torch.float64))
        self.register_buffer("product", torch.zeros(size, hsi_bands, dtype=torch.float64))
        if y is not None and x_m is not None:
            sums = [
                self._evidence(h, m, r)
                for h, m, r in zip(map(degrade.spatial, y), x_m, y, strict=True)
            ]
            pixels = sum(image[0].numel() for image in y)
            self.power.copy_(sum(power for power, _ in sums) / pixels)
            self.product.copy_(sum(product for _, product in sums) / pixels)

    def forward(self, x_m: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return torch.einsum("cf,...fhw->...chw", weights.to(x_m), features(x_m))

    def trained_weights(self) -> torch.Tensor:
        """(C, features), from the training scenes alone."""
        return _ridge(self.power, self.product)

    def learn_from(self, x_h: torch.Tensor, x_m: torch.Tensor) -> tuple[torch.Tensor, float]:
        """What the training scenes and one pair say together; x_h (C, h, w), x_m (M, h*r, w*r).

        Returns:
            weights (C, features), and the misfit: the squared error that the training scenes' own
            weights leave of the pair's detail, over that of the pair's own; at least 1, and larger
            the less the two are alike (`guard.FAMILIAR`). 1 of a pair that is too small to tell.
        """
        trained = self.trained_weights()
        reduced = reduce_pair(x_h, x_m, self.degrade)
        if reduced is None:
            return trained, 1.0
        pixels = reduced[2][0].numel()
        power, product = (total / pixels for total in self._evidence(*reduced))
        total = self._detail(reduced[2], reduced[0]).double().square().sum() / pixels
        left = [
            total - 2 * (weights * product.mT).sum() + ((weights @ power) * weights).sum()
            for weights in (trained, _ridge(power, product))
        ]
        misfit = max(1.0, float(left[0] / left[1].clamp_min(1e-12)))
        share = PAIR_SHARE * misfit * self.power.trace() / power.trace()
        own = _ridge(self.power + share * power, self.product + share * product)
        return (trained + own) / 2, misfit

    def _evidence(
        self, x_h: torch.Tensor, x_m: torch.Tensor, y: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums over pixels: (features, features) and (features, C) float64."""
        inputs = features(x_m)
        inputs = baselines.inject(
            torch.zeros_like(self.degrade.spatial(inputs)), inputs, self.degrade, 2
        )
        inputs, targets = (x.flatten(1).double() for x in (inputs, self._detail(y, x_h)))
        return inputs @ inputs.mT, inputs @ targets.mT

    def _detail(self, y: torch.Tensor, x_h: torch.Tensor) -> torch.Tensor:
        """What the LR-HSI does not show of y."""
        return y - baselines.inject(x_h, torch.zeros_like(y), self.degrade, 2)


def features(x_m: torch.Tensor) -> torch.Tensor:
    """(..., M, H, W) in [0, 1] -> (..., 3M, H, W): value, root, share of the sum over bands."""
    positive = x_m.clamp_min(0)
    share = x_m / (positive.sum(-3, keepdim=True) + DARK)
    return torch.cat([x_m, (positive + 1e-6).sqrt(), share], dim=-3)


def reduce_pair(
    x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """The pair degraded once more, on the pixels that the scale divides: x_h (C, h/r, w/r), x_m (M,
    h, w), and the reference y (C, h, w); None if too little is left.
    """
    rows, columns = (length // degrade.scale * degrade.scale for length in x_h.shape[-2:])
    y = x_h[..., :rows, :columns]
    if rows * columns < LEAST_PIXELS or not degrade.fits(rows, columns):
        return None
    return degrade.spatial(y), degrade.spatial(x_m)[..., :rows, :columns], y


def _ridge(power: torch.Tensor, product: torch.Tensor) -> torch.Tensor:
    """Weights (C, features) of a ridge regression whose features all count alike."""
    spread = power.diagonal().sqrt().clamp_min(1e-12)
    scaled = power / spread / spread[:, None] + RIDGE * torch.eye(len(power)).to(power)
    return (torch.linalg.solve(scaled, product / spread[:, None]) / spread[:, None]).mT
