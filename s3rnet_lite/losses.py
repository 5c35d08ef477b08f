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
    difference = y_hat * _inverse_length(y_hat) - y * _inverse_length(y)
    squared = _SquaredLength.apply(difference).squeeze(-3)
    smooth = (squared + EPSILON**2).sqrt() - EPSILON
    return (2 * torch.atan2(smooth, (4 - squared).clamp_min(EPSILON**2).sqrt())).mean()


def l1_sam_loss(y_hat: torch.Tensor, y: torch.Tensor, sam_weight: float = 0.1, band_scale: torch.Tensor | None = None) -> torch.Tensor:
    """Mean |y_hat - y| plus `sam_weight` times the mean spectral angle in radians.

    Args:
        band_scale: (C,) positive; divides each band's difference, so that dark bands count as much as bright ones.

    Shape: two of (..., C, H, W) -> scalar.
    """
    by_band = (y_hat - y).abs().mean(dim=(-2, -1))
    if band_scale is not None:
        by_band = by_band / band_scale
    return by_band.mean() + sam_weight * spectral_angle(y_hat, y)


def _inverse_length(y: torch.Tensor) -> torch.Tensor:
    squared = _SquaredLength.apply(y)
    return torch.where(squared > DARKEST**2, squared.clamp_min(DARKEST**2).rsqrt(), 0.0)


class _SquaredLength(torch.autograd.Function):
    """Sum of squares over the bands, (..., C, H, W) -> (..., 1, H, W). Its gradient 2 y takes autograd three passes, here one."""

    @staticmethod
    def forward(ctx, y: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(y)
        return (y * y).sum(dim=-3, keepdim=True)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        (y,) = ctx.saved_tensors
        return y * (2 * gradient)
