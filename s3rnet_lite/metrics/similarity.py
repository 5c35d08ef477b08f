"""Likeness in windows: SSIM, UIQI and its extension to whole spectra, Q2n; all in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F

from .inputs import check_peak as _peak
from .inputs import check_same as _pair


def ssim(y_hat: torch.Tensor, y: torch.Tensor) -> float:
    """Structural similarity, mean over bands and pixels, 1 at best (Z. Wang et al., 2004): Gaussian
    windows of 11 pixels, each band divided by the reference's maximum in it, as `psnr`'s peak.

    >>> y = torch.rand(3, 16, 16)
    >>> round(ssim(y, y), 6)
    1.0

    Raises:
        ValueError: fewer than 11 pixels a side; a band whose maximum is not positive.
    """
    x, y = _pair(y_hat, y)
    if min(y.shape[-2:]) < 11:
        raise ValueError(f"y: SSIM needs at least 11 pixels a side, got {tuple(y.shape[-2:])}")
    peak = _peak(y, "band")[..., None, None]
    taps = torch.exp(-0.5 * (torch.arange(-5.0, 6.0, dtype=y.dtype) / 1.5) ** 2)
    taps = taps / taps.sum()

    def smooth(image: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(image, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))

    moments = _moments(_bands(x / peak), _bands(y / peak), smooth)
    return float(_quality(*moments, c1=0.01**2, c2=0.03**2).mean())


def uiqi(y_hat: torch.Tensor, y: torch.Tensor, window: int = 8) -> float:
    """Universal image quality index Q (Z. Wang and A. Bovik, 2002), mean over bands and all square
    windows: correlation times equality of means and of contrasts, -1 to 1. `q2n` of one band.

    >>> y = torch.rand(3, 16, 16)
    >>> round(uiqi(y, y), 6), uiqi(1.2 * y, y) < 1
    (1.0, True)
    """
    x, y = map(_bands, _pair(y_hat, y))
    window = min(window, *y.shape[-2:])
    mean_x, mean_y, xx, yy, xy = (
        F.avg_pool2d(image, window, stride=1) for image in (x, y, x * x, y * y, x * y)
    )
    variances = (xx - mean_x**2).clamp_min(0) + (yy - mean_y**2).clamp_min(0)
    return float(
        _quality(variances, (xy - mean_x * mean_y), mean_x**2 + mean_y**2, mean_x * mean_y).mean()
    )


def q2n(y_hat: torch.Tensor, y: torch.Tensor, block: int = 32) -> float:
    """Q2n of pansharpening (A. Garzelli and F. Nencini, 2009), 0 to 1 at best: `uiqi` with whole
    spectra in place of grey values, as hypercomplex numbers of 2^n >= C parts.

    In it, the correlation is the modulus of the hypercomplex covariance E[(z - E z)(w - E w)*],
    means and contrasts are moduli. Mean over square blocks side by side, the last of a row or
    column flush with the border. Bands are taken as they are, without standardising them first.

    >>> y = torch.rand(5, 64, 48)
    >>> round(q2n(y, y), 6)
    1.0
    """
    x, y = (image[None] if image.ndim == 3 else image for image in _pair(y_hat, y))
    size, parts = min(block, *y.shape[-2:]), 2 ** math.ceil(math.log2(y.shape[1]))
    values = []
    for rows in _starts(y.shape[-2], size):
        for columns in _starts(y.shape[-1], size):
            part = (..., slice(rows, rows + size), slice(columns, columns + size))
            z, w = (
                F.pad(image[part].flatten(2), (0, 0, 0, parts - y.shape[1])) for image in (x, y)
            )
            means = z.mean(-1, keepdim=True), w.mean(-1, keepdim=True)
            z, w = z - means[0], w - means[1]
            variances = (z.square() + w.square()).mean(-1).sum(-1)
            covariance = _modulus_of_product(z @ w.mT / z.shape[-1])
            light = [mean.norm(dim=(1, 2)) for mean in means]
            squares, product = light[0] ** 2 + light[1] ** 2, light[0] * light[1]
            values.append(_quality(variances, covariance, squares, product))
    return float(torch.stack(values).mean())


def similarity(y_hat: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    """All three by name; without SSIM if the images have fewer than 11 pixels a side."""
    structure = {"ssim": ssim(y_hat, y)} if min(y.shape[-2:]) >= 11 else {}
    return {**structure, "uiqi": uiqi(y_hat, y), "q2n": q2n(y_hat, y)}


def _bands(images: torch.Tensor) -> torch.Tensor:
    """(..., C, H, W) -> (bands, 1, H, W), every band of every image by itself."""
    return images.reshape(-1, 1, *images.shape[-2:])


def _moments(
    x: torch.Tensor, y: torch.Tensor, mean: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum of variances, covariance, sum of squared means and product of means, in windows."""
    mean_x, mean_y, xx, yy, xy = map(mean, (x, y, x * x, y * y, x * y))
    variances = (xx - mean_x**2).clamp_min(0) + (yy - mean_y**2).clamp_min(0)
    return variances, xy - mean_x * mean_y, mean_x**2 + mean_y**2, mean_x * mean_y


def _quality(
    variances: torch.Tensor,
    covariance: torch.Tensor,
    squares: torch.Tensor,
    product: torch.Tensor,
    c1: float = 0.0,
    c2: float = 0.0,
) -> torch.Tensor:
    """(2 covariance + c2) / (sum of variances + c2) times (2 product of means + c1) / (sum of their
    squares + c1); a factor that is 0 / 0, of two constant or two black images, is 1.
    """
    constant, black = variances + c2 <= 1e-12 * squares, squares + c1 <= 0
    structure = (2 * covariance + c2) / (variances + c2).masked_fill(constant, 1.0)
    light = (2 * product + c1) / (squares + c1).masked_fill(black, 1.0)
    return structure.masked_fill(constant, 1.0) * light.masked_fill(black, 1.0)


def _starts(length: int, size: int) -> list[int]:
    return [*range(0, length - size, size), length - size]


def _modulus_of_product(products: torch.Tensor) -> torch.Tensor:
    """|E[z w*]| of hypercomplex z and w from the expected products of their parts, E[z_i w_j]: (B,
    n, n) -> (B,). The units i and j multiply to plus or minus the unit i XOR j.
    """
    n = products.shape[-1]
    signed = products * _signs(n).to(products)
    signed[..., 1:] *= -1  # the conjugate of w
    unit = torch.arange(n)
    of_pair = (unit[:, None] ^ unit).flatten()
    return (
        products.new_zeros(len(products), n).index_add_(1, of_pair, signed.flatten(1)).norm(dim=1)
    )


@cache
def _signs(n: int) -> torch.Tensor:
    """(n, n): the sign of unit i times unit j, by the doubling of A. Cayley and L. Dickson, (a, b)
    (c, d) = (a c - d* b, d a + b c*).
    """
    if n == 1:
        return torch.ones(1, 1)
    half = _signs(n // 2)
    conjugate = torch.cat([torch.ones(1), -torch.ones(n // 2 - 1)])
    return torch.cat(
        [torch.cat([half, half.T], 1), torch.cat([conjugate * half, -conjugate * half.T], 1)]
    )
