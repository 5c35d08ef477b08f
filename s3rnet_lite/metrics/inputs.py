"""Two images that belong together, and the peak to measure them by."""

from __future__ import annotations

import math

import torch

from ..files.checks import check_cube


def check_same(y_hat: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both in float64, without gradients, if they are images of one shape."""
    check_cube("y_hat", y_hat)
    check_cube("y", y)
    if y_hat.shape != y.shape:
        raise ValueError(
            f"y_hat: expected the reference's shape {tuple(y.shape)}, got {tuple(y_hat.shape)}"
        )
    return y_hat.detach().double(), y.detach().double()


def check_peak(y: torch.Tensor, peak: str | float) -> torch.Tensor:
    """(..., C) or (..., 1)."""
    if peak == "band":
        values = y.amax(dim=(-2, -1))
    elif peak == "max":
        values = y.amax(dim=(-3, -2, -1))[..., None]
    elif (
        isinstance(peak, (int, float))
        and not isinstance(peak, bool)
        and math.isfinite(peak)
        and peak > 0
    ):
        values = y.new_full((*y.shape[:-3], 1), float(peak))
    else:
        raise ValueError(f"peak: expected 'band', 'max' or a positive number, got {peak!r}")
    if bool((values <= 0).any()):
        raise ValueError(
            f"y: PSNR needs a positive peak, and {int((values <= 0).sum())} bands have none"
        )
    return values
