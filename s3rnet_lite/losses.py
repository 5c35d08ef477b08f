"""The training loss: L1 + 0.1 SAM along the band axis (Section III-A3 of the paper); built in notebooks/06_training.ipynb."""

from __future__ import annotations

import torch

EPSILON = 1e-6  # smooths the length of a difference of unit spectra
DARKEST = 1e-3  # spectra of a smaller norm count as all zero: their direction is noise, and its gradient would be huge


def spectral_angle(y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean angle between spectra in radians, differentiable everywhere.

    The axis of C is compared, whatever its place in memory: scaling a spectrum costs nothing, changing its shape does.
    With unit spectra u and v and d = |u - v| the angle is 2 asin(d / 2), here 2 atan2(d, sqrt(4 - d^2)). d is smoothed to
    sqrt(d^2 + e^2) - e, which is 0 at 0 and has a gradient of 0 there, where the arc cosine's is infinite. An all-zero
    spectrum has no direction: it gets a constant angle and no gradient.

    Shape: two of (..., C, H, W) -> scalar.
    """
    squared = (_unit(y_hat) - _unit(y)).square().sum(dim=-3)
    smooth = (squared + EPSILON**2).sqrt() - EPSILON
    return (2 * torch.atan2(smooth, (4 - squared).clamp_min(EPSILON**2).sqrt())).mean()


def l1_sam_loss(y_hat: torch.Tensor, y: torch.Tensor, sam_weight: float = 0.1, band_scale: torch.Tensor | None = None) -> torch.Tensor:
    """Mean |y_hat - y| plus `sam_weight` times the mean spectral angle in radians.

    Args:
        band_scale: (C,) positive; divides each band's difference, so that dark bands count as much as bright ones.

    Shape: two of (..., C, H, W) -> scalar.
    """
    difference = y_hat - y
    if band_scale is not None:
        difference = difference / band_scale[:, None, None]
    return difference.abs().mean() + sam_weight * spectral_angle(y_hat, y)


def _unit(y: torch.Tensor) -> torch.Tensor:
    squared = y.square().sum(dim=-3, keepdim=True)
    return torch.where(squared > DARKEST**2, y / squared.clamp_min(DARKEST**2).sqrt(), 0.0)
