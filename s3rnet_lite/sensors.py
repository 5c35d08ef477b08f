"""Spectral response functions (SRF) of multispectral sensors on any wavelength grid; built in notebooks/01_degradation.ipynb.

The measured relative responses of Landsat-5 TM lie in `data/landsat5_tm_response.csv` (see `data/README.md`).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

DATA_FOLDER = Path(__file__).resolve().parent.parent / "data"

LANDSAT_TM_BANDS = {4: (1, 2, 3, 4), 6: (1, 2, 3, 4, 5, 7)}  # band 6 is thermal and sees no sunlight
MINIMUM_COVERAGE = 0.05  # an MSI band with less of its response on the grid than this cannot be simulated at all


@dataclass(frozen=True)
class Coverage:
    """How an HSI wavelength grid and an MSI sensor see each other.

    msi_coverage: per MSI band, the share of its response that lies where the grid has HSI bands, 0 to 1.
    hsi_bands_per_msi_band: per MSI band, the number of HSI bands with at least 1 % of that row's largest weight.
    unseen_hsi_bands: indices of the HSI bands that no MSI band sees (below 1 % of every row's largest weight).
    """

    msi_coverage: tuple[float, ...]
    hsi_bands_per_msi_band: tuple[int, ...]
    unseen_hsi_bands: tuple[int, ...]


@cache
def landsat_tm_responses() -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The measured table: band number -> (wavelengths in nm, relative response 0 to 1)."""
    rows: dict[int, list[tuple[float, float]]] = {}
    with open(DATA_FOLDER / "landsat5_tm_response.csv", newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(int(row["band"]), []).append((float(row["wavelength_nm"]), float(row["response"])))
    return {band: tuple(np.array(column) for column in zip(*pairs)) for band, pairs in rows.items()}


def landsat_tm(wavelengths_nm, bands: int = 4, fwhm_nm=None) -> torch.Tensor:
    """SRF of Landsat-5 TM on a grid of HSI bands: `x_m = srf @ y`.

    Each HSI band is taken as a Gaussian of its own width; its weight in an MSI band is the overlap of the two
    responses, so wide HSI bands count for more. Rows are then divided by their sums.

    Args:
        wavelengths_nm: (C,) band centres in nanometres, in any order.
        bands: 4 (TM 1-4, visible and near infrared) or 6 (TM 1-5 and 7).
        fwhm_nm: (C,) full widths at half maximum in nanometres; by default the median distance between centres.

    Returns:
        (bands, C) float32, non-negative, every row sums to 1.

    Raises:
        ValueError: another number of bands, wavelengths that are not nanometres, or an MSI band without any HSI band.
    """
    weights, coverage = _overlaps(wavelengths_nm, bands, fwhm_nm)
    for number, share in zip(LANDSAT_TM_BANDS[bands], coverage):
        if share < MINIMUM_COVERAGE:
            response_nm, response = landsat_tm_responses()[number]
            half = response_nm[response > response.max() / 2]
            raise ValueError(
                f"wavelengths_nm: Landsat TM band {number} ({half[0]:.0f}-{half[-1]:.0f} nm) has no support among the HSI "
                f"bands ({share:.1%} of its response covered, at least {MINIMUM_COVERAGE:.0%} needed)"
            )
    return torch.from_numpy(weights / weights.sum(1, keepdims=True)).float()


def landsat_tm_coverage(wavelengths_nm, bands: int = 4, fwhm_nm=None) -> Coverage:
    """Report which HSI bands no MSI band sees, and how well each MSI band is supported. Arguments as `landsat_tm`."""
    weights, coverage = _overlaps(wavelengths_nm, bands, fwhm_nm)
    seen = (weights >= 0.01 * weights.max(1, keepdims=True)) & (weights > 0)
    return Coverage(
        msi_coverage=tuple(float(share) for share in coverage),
        hsi_bands_per_msi_band=tuple(int(count) for count in seen.sum(1)),
        unseen_hsi_bands=tuple(int(i) for i in np.flatnonzero(~seen.any(0))),
    )


def _overlaps(wavelengths_nm, bands: int, fwhm_nm) -> tuple[np.ndarray, np.ndarray]:
    """Integrals of MSI response times HSI response (M, C), and the covered share of each MSI response (M,)."""
    if bands not in LANDSAT_TM_BANDS:
        raise ValueError(f"bands: expected one of {tuple(LANDSAT_TM_BANDS)}, got {bands}")
    centres = np.asarray(wavelengths_nm, dtype=float)
    if centres.ndim != 1 or centres.size < 2 or not np.isfinite(centres).all():
        raise ValueError(f"wavelengths_nm: expected at least two finite values on one axis, got shape {centres.shape}")
    if centres.min() < 100 or centres.max() > 20_000:
        raise ValueError(f"wavelengths_nm: expected nanometres (100 to 20000), got {centres.min():g} to {centres.max():g}")
    if fwhm_nm is None:
        fwhm_nm = np.median(np.diff(np.sort(centres)))
    sigma = np.asarray(fwhm_nm, dtype=float) / np.sqrt(8 * np.log(2))
    if sigma.shape not in ((), centres.shape) or not (np.isfinite(sigma) & (sigma > 0)).all():
        raise ValueError(f"fwhm_nm: expected {centres.size} positive, finite widths in nanometres, got shape {sigma.shape}")
    weights, coverage = [], []
    for number in LANDSAT_TM_BANDS[bands]:
        response_nm, response = landsat_tm_responses()[number]
        gaussians = np.exp(-0.5 * ((response_nm[:, None] - centres) / sigma) ** 2)  # (wavelengths of the table, C)
        weights.append(np.trapezoid(response[:, None] * gaussians, response_nm, axis=0))
        covered = np.minimum(gaussians.sum(1), 1.0)
        coverage.append(np.trapezoid(response * covered, response_nm) / np.trapezoid(response, response_nm))
    return np.stack(weights), np.array(coverage)
