"""Quality of a fused image against the reference, in float64; built in
notebooks/02_metrics_and_baselines.ipynb.

All take a prediction and a reference of equal shape (C, H, W) or (B, C, H, W), floating-point,
finite. A batch gives the mean over its images. Every result is a Python float unless said
otherwise.
"""

from __future__ import annotations

import math

import torch

from ..files.checks import check_cube
from .inputs import check_peak as _peak
from .inputs import check_same as _pair
from .similarity import q2n, similarity, ssim, uiqi

__all__ = [
    "MAIN",
    "ergas",
    "estimate_noise",
    "evaluate",
    "format_rows",
    "noise_ceiling",
    "pooled_psnr",
    "psnr",
    "q2n",
    "rmse",
    "sam",
    "sam_map",
    "similarity",
    "ssim",
    "uiqi",
]

# of `evaluate`, in the order of tables
MAIN = ("psnr_pooled_scene_peak", "psnr_band_mean_band_peak", "sam_degrees", "ergas", "rmse")


def psnr(
    y_hat: torch.Tensor, y: torch.Tensor, peak: str | float = "band", per_band: bool = False
) -> float | torch.Tensor:
    """Mean over bands of the peak signal-to-noise ratio 10 log10(peak^2 / MSE_b), in decibels.

    >>> y = torch.ones(2, 4, 4)
    >>> round(psnr(y + 0.1, y), 4), psnr(y + 0.1, y, per_band=True).shape
    (20.0, torch.Size([2]))

    Args:
        peak: "band" (the reference's maximum in each band: the paper's definition), "max" (its
            maximum over all bands), or a positive number.
        per_band: return the (C,) or (B, C) values instead of their mean.

    Raises:
        TypeError, ValueError: see `check_cube`; another `peak`; a band whose peak is not positive.
    """
    y_hat, y = _pair(y_hat, y)
    mse = (y_hat - y).square().mean(dim=(-2, -1))
    values = 10 * torch.log10(_peak(y, peak).square() / mse)
    return values if per_band else float(values.mean())


def pooled_psnr(y_hat: torch.Tensor, y: torch.Tensor, peak: str | float = "max") -> float:
    """One PSNR for the whole cube, 10 log10(peak^2 / MSE) in decibels, MSE over all bands and
    pixels; `peak` as `psnr`.
    """
    if peak == "band":
        raise ValueError(
            "peak: one value for the whole cube is needed, 'max' or a number, got 'band'"
        )
    y_hat, y = _pair(y_hat, y)
    mse = (y_hat - y).square().mean(dim=(-3, -2, -1))
    return float((10 * torch.log10(_peak(y, peak)[..., 0].square() / mse)).mean())


def rmse(y_hat: torch.Tensor, y: torch.Tensor, unit: float = 1.0) -> float:
    """Root mean squared error over all bands and pixels, times `unit` (a scene's `scale` gives the
    sensor's unit).

    >>> round(rmse(torch.zeros(2, 3, 3), torch.full((2, 3, 3), 0.5), unit=10.0), 4)
    5.0
    """
    y_hat, y = _pair(y_hat, y)
    return float((y_hat - y).square().mean(dim=(-3, -2, -1)).sqrt().mean() * unit)


def ergas(y_hat: torch.Tensor, y: torch.Tensor, scale: int = 4) -> float:
    """Relative dimensionless global error 100 / scale * sqrt(mean_b (RMSE_b / mean_b)^2); 0 is
    perfect.

    Source: L. Wald, Data Fusion, 2002; with 100 / r as in the paper (some packages have 100 / r^2).

    Raises:
        ValueError: a band of the reference has mean 0, or `scale` is not positive.
    """
    if not scale > 0:
        raise ValueError(f"scale: expected a positive ratio of pixel sizes, got {scale!r}")
    y_hat, y = _pair(y_hat, y)
    means = y.mean(dim=(-2, -1))
    if bool((means == 0).any()):
        raise ValueError(
            f"y: ERGAS divides by each band's mean, and {int((means == 0).sum())} bands have mean 0"
        )
    relative = (y_hat - y).square().mean(dim=(-2, -1)) / means.square()
    return float((100 / scale * relative.mean(-1).sqrt()).mean())


def sam(y_hat: torch.Tensor, y: torch.Tensor) -> float:
    """Spectral angle mapper: mean angle between predicted and true spectra in degrees, 0 to 180.

    Pixels where either spectrum is all zero have no angle and are left out; `evaluate` counts them.

    >>> y = torch.tensor([1.0, 0.0])[:, None, None]
    >>> round(sam(y.flip(0), y), 4)  # a right angle
    90.0

    Raises:
        ValueError: no pixel has an angle.
    """
    angles = sam_map(y_hat, y)
    if bool(angles.isnan().all()):
        raise ValueError("y_hat, y: every pixel has an all-zero spectrum, so no angle exists")
    return float(angles.nanmean(dim=(-2, -1)).nanmean())


def sam_map(y_hat: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The angle of every pixel in degrees, (..., H, W) float64, NaN where a spectrum is all zero.

    Computed as 2 atan2(|u - v|, |u + v|) of the unit spectra (W. Kahan, "How Futile are Mindless
    Assessments of Roundoff", 2006), which stays exact for parallel spectra, where the arc cosine
    loses half its digits.

    >>> sam_map(torch.rand(5, 3, 4), torch.rand(5, 3, 4)).shape
    torch.Size([3, 4])
    """
    y_hat, y = _pair(y_hat, y)
    norm_hat, norm = (x.norm(dim=-3, keepdim=True) for x in (y_hat, y))
    u, v = y_hat / norm_hat, y / norm
    return torch.rad2deg(2 * torch.atan2((u - v).norm(dim=-3), (u + v).norm(dim=-3)))


def evaluate(
    y_hat: torch.Tensor, y: torch.Tensor, scale: int = 4, unit: float = 1.0
) -> dict[str, float]:
    """Every metric under a name that says its definition; `zero_pixels` is how many pixels SAM left
    out.
    """
    return {
        "psnr_pooled_scene_peak": pooled_psnr(y_hat, y, "max"),
        "psnr_band_mean_band_peak": float(psnr(y_hat, y, "band")),
        "psnr_band_mean_scene_peak": float(psnr(y_hat, y, "max")),
        "sam_degrees": sam(y_hat, y),
        "ergas": ergas(y_hat, y, scale),
        "rmse": rmse(y_hat, y, unit),
        "zero_pixels": int(sam_map(y_hat, y).isnan().sum()),
    }


def noise_ceiling(y: torch.Tensor, scale: int = 4, unit: float = 1.0) -> dict[str, float]:
    """What a perfect prediction of the noise-free scene would score against this noisy reference,
    as `evaluate`.

    Good to about 2 dB: see `estimate_noise`, also for the arguments and what is raised.
    """
    return evaluate(y.double() - estimate_noise(y), y.double(), scale, unit)


def estimate_noise(y: torch.Tensor) -> torch.Tensor:
    """The noise in one image (C, H, W) with many more pixels than bands, float64.

    Noise is what a regression of each band on all other bands leaves, the usual estimate for
    hyperspectral images (J. Bioucas-Dias and J. Nascimento, "Hyperspectral subspace
    identification", 2008), enlarged for the fitted coefficients. Structured noise that bands share
    is missed.

    Raises:
        ValueError: a batch, too few pixels, or bands that depend on each other exactly.
    """
    if check_cube("y", y).ndim != 3:
        raise ValueError(f"y: expected one image (C, H, W), got shape {tuple(y.shape)}")
    pixels = y.detach().double().flatten(1)
    bands, count = pixels.shape
    if count <= 2 * bands:
        raise ValueError(
            f"y: expected many more pixels than its {bands} bands to regress on, got {count}"
        )
    centred = pixels - pixels.mean(1, keepdim=True)
    # The residual of regressing band b on the rest is row b of the inverse covariance, divided by
    # its diagonal.
    precision, singular = torch.linalg.inv_ex(centred @ centred.T)
    dependence = precision.diagonal() * centred.square().sum(
        1
    )  # variance over what the other bands leave of it
    if int(singular) or not bool(((dependence > 0) & (dependence < 1e12)).all()):
        raise ValueError(
            "y: a band is constant or an exact mixture of others, so its noise cannot be told from "
            "its signal"
        )
    return (
        precision @ centred / precision.diagonal()[:, None] * math.sqrt(count / (count - bands))
    ).reshape(y.shape)


def format_rows(rows: dict[str, dict]) -> str:
    """Rows of `evaluate` as a text table, one method a line."""
    headings = ("pooled PSNR", "band PSNR", "SAM [deg]", "ERGAS", "RMSE")
    lines = [" " * 54 + "".join(f"{heading:>13}" for heading in headings)]
    for name, row in rows.items():
        lines.append(f"{name:54}" + "".join(f"{row[metric]:13.3f}" for metric in MAIN))
    return "\n".join(lines)
