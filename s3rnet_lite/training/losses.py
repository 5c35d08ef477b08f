"""The training loss: L1 + 0.1 SAM along the band axis (Section III-A3 of the paper); built in
notebooks/06_training.ipynb.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

EPSILON = 1e-6  # smooths the length of a difference of unit spectra
# Spectra of a smaller norm count as all zero: their direction is noise, its gradient would be huge.
DARKEST = 1e-3


def spectral_angle(y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean angle between spectra in radians, differentiable everywhere.

    The axis of C is compared, whatever its place in memory: scaling a spectrum costs nothing,
    changing its shape does. With unit spectra u and v and d = |u - v| the angle is 2 asin(d / 2),
    here 2 atan2(d, sqrt(4 - d^2)). d is smoothed to sqrt(d^2 + e^2) - e, which is 0 at 0 and has a
    gradient of 0 there, where the arc cosine's is infinite. An all-zero spectrum has no direction:
    it gets a constant angle and no gradient.

    Shape: two of (..., C, H, W) -> scalar.

    >>> y = torch.tensor([1.0, 0.0])[:, None, None]
    >>> round(float(spectral_angle(y, y.flip(0))), 4)  # a right angle
    1.5708
    """
    difference = unit_spectra(y_hat) - unit_spectra(y)
    return _angle(difference.square().sum(dim=-3))


def l1_sam_loss(
    y_hat: torch.Tensor,
    y: torch.Tensor,
    sam_weight: float = 0.1,
    band_scale: torch.Tensor | None = None,
    angle: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = spectral_angle,
) -> torch.Tensor:
    """Mean |y_hat - y| plus `sam_weight` times the mean spectral angle in radians.

    Args:
        band_scale: (C,) positive; divides each band's difference, so that dark bands count as much
            as bright ones.
        angle: `spectral_angle`, or `fast_spectral_angle`, which `training.fit` takes.

    Shape: two of (..., C, H, W) -> scalar.
    """
    by_band = (y_hat - y).abs().mean(dim=(-2, -1))
    if band_scale is not None:
        by_band = by_band / band_scale
    return by_band.mean() + sam_weight * angle(y_hat, y)


def unit_spectra(y: torch.Tensor) -> torch.Tensor:
    """Every spectrum of (..., C, H, W) divided by its norm; 0 where that is below `DARKEST`."""
    return y * _inverse_norm(y)


def fast_spectral_angle(y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`spectral_angle` with its gradient written out: two passes over all bands, where autograd
    takes six.
    """
    return _angle(_SquaredDistance.apply(y_hat, y).squeeze(-3))


def _angle(squared: torch.Tensor) -> torch.Tensor:
    """Mean angle from the squared distances of unit spectra."""
    smooth = (squared + EPSILON**2).sqrt() - EPSILON
    return (2 * torch.atan2(smooth, (4 - squared).clamp_min(EPSILON**2).sqrt())).mean()


def _inverse_norm(y: torch.Tensor) -> torch.Tensor:
    squared = (y * y).sum(dim=-3, keepdim=True)
    return torch.where(squared > DARKEST**2, squared.clamp_min(DARKEST**2).rsqrt(), 0.0)


class _SquaredDistance(torch.autograd.Function):
    """d^2 = |u - v|^2 of the unit spectra, two of (..., C, H, W) -> (..., 1, H, W).

    Its gradient for y_hat = n u is 2 (u - v - p u) / n, where p = u (u - v) is d^2 / 2, or 1 if v
    is all zero. Written out it takes two passes over all bands, where autograd takes six.
    """

    @staticmethod
    def forward(ctx, y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        inverse_hat, inverse = _inverse_norm(y_hat), _inverse_norm(y)
        difference = (y_hat * inverse_hat).sub_(
            y * inverse
        )  # not addcmul, whose rounding leaves a rest of equal spectra
        squared = (difference * difference).sum(dim=-3, keepdim=True)
        ctx.save_for_backward(y_hat, y, inverse_hat, inverse, difference, squared)
        return squared

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        y_hat, y, inverse_hat, inverse, difference, squared = ctx.saved_tensors

        def towards(
            own: torch.Tensor, own_inverse: torch.Tensor, other_inverse: torch.Tensor, sign: int
        ) -> torch.Tensor:
            along = (squared + (other_inverse == 0)) / 2
            weight = 2 * gradient * own_inverse
            return (difference * (sign * weight)).addcmul_(
                own, weight * own_inverse * along, value=-1
            )

        return (
            towards(y_hat, inverse_hat, inverse, 1) if ctx.needs_input_grad[0] else None,
            towards(y, inverse, inverse_hat, -1) if ctx.needs_input_grad[1] else None,
        )
