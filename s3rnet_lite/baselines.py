"""Classical fusion, the yardstick for every network; built in notebooks/02_metrics_and_baselines.ipynb.

Each takes an LR-HSI (..., C, h, w), an HR-MSI (..., M, h*r, w*r) and the `Degradation` that relates them, and returns an
HR-HSI (..., C, h*r, w*r).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

from .checks import check_pair
from .degradation import Degradation


def bilinear(x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation) -> torch.Tensor:
    """The LR-HSI, bilinearly upsampled; the HR-MSI is not used."""
    return upsample(x_h, degrade.scale, "bilinear")


def bicubic(x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation) -> torch.Tensor:
    """The LR-HSI, bicubically upsampled; the HR-MSI is not used."""
    return upsample(x_h, degrade.scale, "bicubic")


def detail_injection(x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation) -> torch.Tensor:
    """Regression of HSI on MSI at low resolution, injected at high resolution: needs no training data.

    The regression is fitted on this very pair, from the blurred and decimated HR-MSI to the LR-HSI.
    """
    regression = fit_regression(degrade.spatial(x_m), x_h)
    return inject(x_h, apply_regression(regression, x_m), degrade)


METHODS = {"bilinear": bilinear, "bicubic": bicubic, "detail_injection": detail_injection}
NAMES = tuple(METHODS)


def run(name: str, x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation) -> torch.Tensor:
    """Fuse one pair with the method `name`, one of `NAMES`.

    Raises:
        TypeError, ValueError: an unknown name, or inputs that do not belong together.
    """
    if name not in METHODS:
        raise ValueError(f"name: expected one of {NAMES}, got {name!r}")
    check_pair(x_h, x_m, degrade.scale, degrade.srf.shape[1], degrade.srf.shape[0])
    return METHODS[name](x_h, x_m, degrade)


def upsample(x: torch.Tensor, scale: int, mode: str) -> torch.Tensor:
    """Interpolate (..., C, h, w) to (..., C, h*scale, w*scale), "bilinear" or "bicubic", pixel centres as in `Degradation`.

    Equal to `torch.nn.functional.interpolate`, written as two matrix products, which are several times faster forwards and
    backwards for many bands.
    """
    rows, columns = (torch.from_numpy(_interpolation_matrix(length, scale, mode)).to(x) for length in x.shape[-2:])
    return rows @ x @ columns.mT


@cache
def _interpolation_matrix(length: int, scale: int, mode: str) -> np.ndarray:
    """One axis: (length * scale, length) float64, the interpolation of each unit vector."""
    units = torch.eye(length, dtype=torch.float64, device="cpu")[None, :, :, None]  # unit vectors as channels of a one-column image
    return F.interpolate(units, scale_factor=(scale, 1), mode=mode, align_corners=False)[0, :, :, 0].T.contiguous().numpy()


def fit_regression(x_m: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Least squares y = R [x_m; 1] over the pixels of each image: (..., M, H, W) and (..., C, H, W) -> R (..., C, M + 1).

    Solved in float64 by `torch.linalg.lstsq`, returned in float32. Both images need the same pixels.
    """
    inputs = x_m.flatten(-2).mT.double()
    inputs = torch.cat([inputs, torch.ones_like(inputs[..., :1])], dim=-1)
    return torch.linalg.lstsq(inputs, y.flatten(-2).mT.double()).solution.mT.float()


def apply_regression(regression: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
    """R [x_m; 1]: (..., C, M + 1) and (..., M, H, W) -> (..., C, H, W), an HSI predicted from the HR-MSI alone."""
    linear, constant = regression[..., :-1].to(x_m), regression[..., -1].to(x_m)
    return torch.einsum("...cm,...mhw->...chw", linear, x_m) + constant[..., None, None]


def inject(x_h: torch.Tensor, guess: torch.Tensor, degrade: Degradation, passes: int = 1) -> torch.Tensor:
    """Make a guessed HR-HSI (..., C, H, W) agree with the LR-HSI: add what its own blurred version lacks, upsampled.

    Seen the other way round, this is the upsampled LR-HSI plus the guess's detail. One pass leaves a rest, because
    interpolation does not undo the PSF; each further pass shrinks it (iterative back-projection, M. Irani and S. Peleg, 1991).
    """
    for _ in range(passes):
        guess = guess + upsample(x_h - degrade.spatial(guess), degrade.scale, "bicubic")
    return guess
