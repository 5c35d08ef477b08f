"""White noise taken out of the LR-HSI before fusion, by a Wiener filter in closed form; built in
notebooks/11_robustness_table2.ipynb.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from .. import baselines
from ..sensing.degradation import Degradation

NOISE_SHARE = (
    2 / 3
)  # of the spectral axes: those with the least signal tell how strong the noise is


class WienerDenoiser(nn.Module):
    """Weighs a noisy LR-HSI against what the HR-MSI says of it. How strong the noise is, it finds
    out itself.

    A regression predicts the LR-HSI from the HR-MSI as the LR sensor would see it. The residual,
    what the regression misses, is small, smooth in space and nearly low-rank; white noise is none
    of these. On the training region the residual has second moments U diag(v) U^T along the
    spectrum, and a correlation c_k between neighbouring pixels on axis k of U. As a first-order
    autoregressive field it has, at the spatial frequencies (f, g) of a cosine transform, the power

        P_k(f, g) = v_k s_k(f) s_k(g)
        s_k(f) proportional to 1 / (1 + c_k^2 - 2 c_k cos f), with mean 1

    and noise of variance n adds n to each. The linear estimate of least squared error keeps P / (P
    + n) (N. Wiener, 1949). n is measured, image by image, on the axes with the least signal, as
    what they hold beyond their v. Without noise the LR-HSI stays as it is; the stronger the noise,
    the nearer the result comes to the regression.

    Shape: x_h (..., C, h, w), x_m (..., M, h*r, w*r) in [0, 1] -> (..., C, h, w).

    Args:
        degrade: relates the two inputs.
        y: training HR-HSI, a list of (C, H, W), each at least three LR pixels high and wide; None
            leaves placeholders for a checkpoint to fill.
    """

    def __init__(self, degrade: Degradation, y: list[torch.Tensor] | None = None):
        super().__init__()
        self.degrade = degrade
        msi_bands, hsi_bands = degrade.srf.shape
        self.register_buffer("regression", torch.zeros(hsi_bands, msi_bands + 1))
        self.register_buffer("axes", torch.eye(hsi_bands))  # U, strongest first
        self.register_buffer("variance", torch.ones(hsi_bands))  # v
        self.register_buffer("correlation", torch.zeros(hsi_bands))  # c
        if y is not None:
            self._fit(y)

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        predicted, components = self._predict_and_project(x_h, x_m)
        noise = self._noise_variance(components)[..., None, None, None]
        height, width = x_h.shape[-2:]
        power = (
            self.variance[:, None, None]
            * self._spectrum(height)[:, :, None]
            * self._spectrum(width)[:, None, :]
        )
        rows, columns = (cosine_transform(length).to(x_h) for length in (height, width))
        kept = power / (power + noise) * (rows @ components @ columns.mT)
        return predicted + torch.einsum("ck,...khw->...chw", self.axes, rows.mT @ kept @ columns)

    def noise_level(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        """Estimated standard deviation of the noise in each LR-HSI, in the units of [0, 1] data:
        (...).
        """
        return self._noise_variance(self._predict_and_project(x_h, x_m)[1]).sqrt()

    def _predict_and_project(
        self, x_h: torch.Tensor, x_m: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        predicted = baselines.apply_regression(self.regression, self.degrade.spatial(x_m))
        return predicted, torch.einsum("ck,...chw->...khw", self.axes, x_h - predicted)

    def _noise_variance(self, components: torch.Tensor) -> torch.Tensor:
        first = round(len(self.variance) * (1 - NOISE_SHARE))
        return (
            components[..., first:, :, :].square().mean(dim=(-3, -2, -1))
            - self.variance[first:].mean()
        ).clamp_min(0)

    def _spectrum(self, length: int) -> torch.Tensor:
        """s_k at the frequencies of a cosine transform of this length: (C, length), mean 1 over
        them.
        """
        frequencies = math.pi * torch.arange(length, device=self.correlation.device) / length
        correlation = self.correlation[:, None]
        spectrum = 1 / (1 + correlation**2 - 2 * correlation * torch.cos(frequencies))
        return spectrum / spectrum.mean(1, keepdim=True)

    def _fit(self, references: list[torch.Tensor]) -> None:
        """Regression and second moments on training pixels, for every position of the LR grid; in
        float64.
        """
        pixels = torch.cat([y.flatten(1) for y in references], dim=1)[..., None].double()
        regression = baselines.fit_regression(self.degrade.spectral(pixels), pixels)
        scale, seen = self.degrade.scale, []
        for y in references:
            height, width = (length // scale * scale - scale for length in y.shape[-2:])
            for top in range(scale):
                for left in range(scale):
                    seen.append(
                        self.degrade.spatial(y[:, top : top + height, left : left + width].double())
                    )
        residuals = [
            x_h - baselines.apply_regression(regression, self.degrade.spectral(x_h)) for x_h in seen
        ]
        flat = torch.cat([residual.flatten(1) for residual in residuals], dim=1)
        variance, axes = (
            part.flip(-1) for part in torch.linalg.eigh(flat @ flat.mT / flat.shape[1])
        )
        neighbours = torch.stack(
            [
                _neighbour_products(torch.einsum("ck,chw->khw", axes, residual))
                for residual in residuals
            ]
        ).mean(0)
        self.regression.copy_(regression)
        self.axes.copy_(axes)
        self.variance.copy_(variance.clamp_min(1e-12))
        self.correlation.copy_((neighbours / variance).clamp(0, 0.99))


def cosine_transform(length: int) -> torch.Tensor:
    """The orthonormal discrete cosine transform (type 2) as a matrix, (length, length) float64:
    `matrix @ x` transforms x.
    """
    frequency, position = (
        torch.arange(length, dtype=torch.float64)[:, None],
        torch.arange(length, dtype=torch.float64),
    )
    matrix = torch.cos(math.pi * frequency * (2 * position + 1) / (2 * length)) * math.sqrt(
        2 / length
    )
    matrix[0] /= math.sqrt(2)
    return matrix


def _neighbour_products(components: torch.Tensor) -> torch.Tensor:
    """Mean product of neighbouring pixels, down and across, of (K, h, w): (K,)."""
    down = (components[:, 1:] * components[:, :-1]).mean(dim=(1, 2))
    across = (components[:, :, 1:] * components[:, :, :-1]).mean(dim=(1, 2))
    return (down + across) / 2
