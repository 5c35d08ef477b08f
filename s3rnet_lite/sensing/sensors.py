"""Spectral response functions (SRF) of multispectral sensors on any wavelength grid; built in
notebooks/01_degradation.ipynb.

The measured relative responses of Landsat-5 TM and Sentinel-2A lie in `data/*_response.csv` (see
`data/README.md`).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..files.provenance import DATA_FOLDER

LANDSAT_TM_BANDS = {
    4: (1, 2, 3, 4),
    6: (1, 2, 3, 4, 5, 7),
}  # band 6 is thermal and sees no sunlight
# Nominal band limits in nm of the Advanced Land Imager on EO-1 (panchromatic, MS-1, MS-2, MS-3);
# the response is taken as 1 between them.
PAN_NM = (480, 690)
RGB_NM = {"blue": (450, 515), "green": (525, 605), "red": (630, 690)}
MSI_BANDS = (1, 3, 4, 6)  # numbers of bands that `simulated_msi` knows
SENSORS = ("landsat_tm", "sentinel2a", "pan", "rgb")
SENTINEL2_10M = ("2", "3", "4", "8")
SENTINEL2_BANDS = ("2", "3", "4", "5", "6", "7", "8", "8A", "11", "12")  # those of 10 and 20 m
MINIMUM_COVERAGE = 0.05  # of an MSI band's response on the grid; with less it cannot be simulated


@dataclass(frozen=True)
class Coverage:
    """How an HSI wavelength grid and an MSI sensor see each other.

    msi_coverage: per MSI band, the share of its response that lies where the grid has HSI bands, 0
    to 1.
    hsi_bands_per_msi_band: per MSI band, the number of HSI bands with at least 1 % of that row's
    largest weight.
    unseen_hsi_bands: indices of the HSI bands that no MSI band sees (below 1 % of every row's
    largest weight).
    """

    msi_coverage: tuple[float, ...]
    hsi_bands_per_msi_band: tuple[int, ...]
    unseen_hsi_bands: tuple[int, ...]


@cache
def _responses(sensor: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A measured table of `data/`: band name -> (wavelengths in nm, relative response 0 to 1)."""
    rows: dict[str, tuple[list[float], list[float]]] = {}
    with open(DATA_FOLDER / f"{sensor}_response.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            nanometres, response = rows.setdefault(row["band"], ([], []))
            nanometres.append(float(row["wavelength_nm"]))
            response.append(float(row["response"]))
    return {band: (np.array(columns[0]), np.array(columns[1])) for band, columns in rows.items()}


@cache
def landsat_tm_responses() -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """The measured table: band number -> (wavelengths in nm, relative response 0 to 1)."""
    return {int(band): response for band, response in _responses("landsat5_tm").items()}


def landsat_tm(wavelengths_nm, bands: int = 4, fwhm_nm=None) -> torch.Tensor:
    """SRF of Landsat-5 TM on a grid of HSI bands: `x_m = srf @ y`.

    Each HSI band is taken as a Gaussian of its own width; its weight in an MSI band is the overlap
    of the two responses, so wide HSI bands count for more. Rows are then divided by their sums.

    >>> landsat_tm(range(400, 2500, 10), bands=6).shape
    torch.Size([6, 210])

    Args:
        wavelengths_nm: (C,) band centres in nanometres, in any order.
        bands: 4 (TM 1-4, visible and near infrared) or 6 (TM 1-5 and 7).
        fwhm_nm: (C,) full widths at half maximum in nanometres; by default the median distance
            between centres.

    Returns:
        (bands, C) float32, non-negative, every row sums to 1.

    Raises:
        ValueError: another number of bands, wavelengths that are not nanometres, or an MSI band
            without any HSI band.
    """
    return _srf("Landsat TM", _landsat_tables(bands), wavelengths_nm, fwhm_nm)


def sentinel2a(
    wavelengths_nm, bands: Sequence[str] = SENTINEL2_BANDS, fwhm_nm=None
) -> torch.Tensor:
    """SRF of Sentinel-2A's multispectral instrument on a grid of HSI bands; everything else as
    `landsat_tm`.

    Args:
        bands: names out of `SENTINEL2_BANDS`, in the order of the image's bands.

    Returns:
        (len(bands), C) float32, non-negative, every row sums to 1.
    """
    unknown = [band for band in bands if band not in SENTINEL2_BANDS]
    if unknown or not bands:
        raise ValueError(f"bands: expected names out of {SENTINEL2_BANDS}, got {tuple(bands)}")
    return _srf(
        "Sentinel-2A",
        {band: _responses("sentinel2a")[band] for band in bands},
        wavelengths_nm,
        fwhm_nm,
    )


def pan(wavelengths_nm, fwhm_nm=None, limits_nm: tuple[float, float] = PAN_NM) -> torch.Tensor:
    """SRF of a panchromatic sensor, one band that sees everything between two wavelengths alike, by
    default those of EO-1's Advanced Land Imager; everything else as `landsat_tm`.

    >>> pan(range(400, 1000, 10)).shape
    torch.Size([1, 60])
    """
    return _srf("PAN", {"pan": _box(*limits_nm)}, wavelengths_nm, fwhm_nm)


def rgb(wavelengths_nm, fwhm_nm=None) -> torch.Tensor:
    """SRF of a colour camera, blue, green and red, with the nominal limits of EO-1's Advanced Land
    Imager; everything else as `landsat_tm`.

    >>> rgb(range(400, 1000, 10)).shape
    torch.Size([3, 60])
    """
    tables = {name: _box(*limits) for name, limits in RGB_NM.items()}
    return _srf("RGB", tables, wavelengths_nm, fwhm_nm)


def simulated_msi(wavelengths_nm, bands: int, fwhm_nm=None) -> torch.Tensor:
    """The SRF with that many bands: 1 (`pan`), 3 (`rgb`), 4 or 6 (`landsat_tm`).

    Raises:
        ValueError: another number, and as `landsat_tm`.
    """
    if bands not in MSI_BANDS:
        raise ValueError(f"bands: expected one of {MSI_BANDS}, got {bands!r}")
    if bands == 1:
        return pan(wavelengths_nm, fwhm_nm)
    return (
        rgb(wavelengths_nm, fwhm_nm) if bands == 3 else landsat_tm(wavelengths_nm, bands, fwhm_nm)
    )


def read_srf(
    source: str, msi_bands: int, hsi_bands: int, wavelengths_nm=None, fwhm_nm=None
) -> torch.Tensor:
    """(M, C) spectral response of a known sensor, or from a file.

    Args:
        source: "landsat_tm" (4 or 6 bands), "sentinel2a" (10 bands, or 4: those of 10 m), "pan" (1
            band), "rgb" (3 bands), or a .csv or .npy file of (M, C) numbers.
        wavelengths_nm, fwhm_nm: (C,) of the HSI, which a sensor needs.

    Raises:
        FileNotFoundError, ValueError: no such file; not M rows of C finite numbers with positive
            sums; a sensor without wavelengths or with another number of bands.
    """
    if source in SENSORS:
        if wavelengths_nm is None:
            raise ValueError(
                f"srf: {source} needs wavelengths in the HSI file; give a file of numbers, or "
                "leave it to be estimated"
            )
        if source in ("pan", "rgb"):
            expected = 1 if source == "pan" else 3
            if msi_bands != expected:
                raise ValueError(f"srf: {source} has {expected} bands; the MSI has {msi_bands}")
            return simulated_msi(wavelengths_nm, msi_bands, fwhm_nm)
        if source == "landsat_tm":
            return landsat_tm(wavelengths_nm, msi_bands, fwhm_nm)
        if msi_bands not in (4, 10):
            raise ValueError(
                f"srf: sentinel2a has 10 bands, or the 4 of 10 m; the MSI has {msi_bands}"
            )
        return sentinel2a(
            wavelengths_nm, SENTINEL2_10M if msi_bands == 4 else SENTINEL2_BANDS, fwhm_nm
        )
    path = Path(source)
    if path.suffix not in (".csv", ".npy"):
        raise ValueError(
            f"srf: expected {' or '.join(SENSORS)}, or a .csv or .npy file, got {source!r}"
        )
    try:
        text = path.suffix != ".npy"
        numbers = np.loadtxt(path, delimiter=",", encoding="utf-8-sig") if text else np.load(path)
        srf = np.atleast_2d(numbers).astype(np.float64)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read as numbers ({error})") from error
    sound = np.isfinite(srf).all() and (srf.sum(1) > 0).all()
    if srf.shape != (msi_bands, hsi_bands) or not sound:
        raise ValueError(
            f"{path}: expected {msi_bands} rows (MSI bands) of {hsi_bands} finite numbers (good "
            f"HSI bands) with positive sums, got shape {srf.shape}"
        )
    return torch.from_numpy(srf / srf.sum(1, keepdims=True)).float()


def landsat_tm_coverage(wavelengths_nm, bands: int = 4, fwhm_nm=None) -> Coverage:
    """Report which HSI bands no MSI band sees, and how well each MSI band is supported. Arguments
    as `landsat_tm`.
    """
    weights, coverage = _overlaps(_landsat_tables(bands), wavelengths_nm, fwhm_nm)
    seen = (weights >= 0.01 * weights.max(1, keepdims=True)) & (weights > 0)
    return Coverage(
        msi_coverage=tuple(float(share) for share in coverage),
        hsi_bands_per_msi_band=tuple(int(count) for count in seen.sum(1)),
        unseen_hsi_bands=tuple(int(i) for i in np.flatnonzero(~seen.any(0))),
    )


def typical_width(wavelengths_nm) -> float:
    """The width of a band where nobody says: the median distance of neighbouring centres, in nm.

    >>> typical_width([420.0, 400.0, 410.0, 460.0])
    10.0
    """
    distances = np.diff(np.sort(np.asarray(wavelengths_nm, dtype=float)))
    return float(np.median(distances)) if len(distances) else math.nan


def _landsat_tables(bands: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    if bands not in LANDSAT_TM_BANDS:
        raise ValueError(f"bands: expected one of {tuple(LANDSAT_TM_BANDS)}, got {bands}")
    return {number: landsat_tm_responses()[number] for number in LANDSAT_TM_BANDS[bands]}


def _box(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Response 1 between two wavelengths, as a table of steps of 1 nm."""
    if not (math.isfinite(high - low) and 0 < low < high):
        raise ValueError(f"limits_nm: expected two rising wavelengths, got {low} and {high}")
    nanometres = np.linspace(low, high, max(2, round(high - low) + 1))
    return nanometres, np.ones_like(nanometres)


def _srf(
    sensor: str, tables: Mapping[Any, tuple[np.ndarray, np.ndarray]], wavelengths_nm, fwhm_nm
) -> torch.Tensor:
    """The overlaps as rows that sum to 1, if every MSI band has some."""
    weights, coverage = _overlaps(tables, wavelengths_nm, fwhm_nm)
    for (band, (response_nm, response)), share in zip(tables.items(), coverage, strict=True):
        if share < MINIMUM_COVERAGE:
            half = response_nm[response > response.max() / 2]
            raise ValueError(
                f"wavelengths_nm: {sensor} band {band} ({half[0]:.0f}-{half[-1]:.0f} nm) has no "
                "support among the HSI "
                f"bands ({share:.1%} of its response covered, at least {MINIMUM_COVERAGE:.0%} "
                "needed)"
            )
    return torch.from_numpy(weights / weights.sum(1, keepdims=True)).float()


def _overlaps(
    tables: Mapping[Any, tuple[np.ndarray, np.ndarray]], wavelengths_nm, fwhm_nm
) -> tuple[np.ndarray, np.ndarray]:
    """Integrals of MSI response times HSI response (M, C), and the covered share of each MSI
    response (M,).
    """
    centres = np.asarray(wavelengths_nm, dtype=float)
    if centres.ndim != 1 or centres.size < 2 or not np.isfinite(centres).all():
        raise ValueError(
            "wavelengths_nm: expected at least two finite values on one axis, got shape "
            f"{centres.shape}"
        )
    if centres.min() < 100 or centres.max() > 20_000:
        raise ValueError(
            f"wavelengths_nm: expected nanometres (100 to 20000), got {centres.min():g} to "
            f"{centres.max():g}"
        )
    if fwhm_nm is None:
        fwhm_nm = typical_width(centres)
    sigma = np.asarray(fwhm_nm, dtype=float) / np.sqrt(8 * np.log(2))
    if sigma.shape not in ((), centres.shape) or not (np.isfinite(sigma) & (sigma > 0)).all():
        raise ValueError(
            f"fwhm_nm: expected {centres.size} positive, finite widths in nanometres, got shape "
            f"{sigma.shape}"
        )
    weights, coverage = [], []
    for response_nm, response in tables.values():
        gaussians = np.exp(
            -0.5 * ((response_nm[:, None] - centres) / sigma) ** 2
        )  # (wavelengths of the table, C)
        weights.append(np.trapezoid(response[:, None] * gaussians, response_nm, axis=0))
        covered = np.minimum(gaussians.sum(1), 1.0)
        coverage.append(
            np.trapezoid(response * covered, response_nm) / np.trapezoid(response, response_nm)
        )
    return np.stack(weights), np.array(coverage)
