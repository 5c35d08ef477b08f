"""Hyperspectral scenes: the embedded Indian Pines image and its split in space; built in notebooks/01_degradation.ipynb."""

from __future__ import annotations

import csv
import importlib.util
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from .checks import check_cube
from .repair import undo_newline_damage
from .sensors import DATA_FOLDER
from .simulation import simulate_radiance

DIGITAL_NUMBER_OFFSET, DIGITAL_NUMBERS_PER_RADIANCE = 1000, 500  # Purdue's documentation of the 1992 scene
PAPER_CHANNELS = (*range(11, 104), *range(117, 152), *range(171, 215))  # of AVIRIS's 224, counted from 1: the paper's 172
RADIANCE_UNIT = "µW cm⁻² nm⁻¹ sr⁻¹"  # of (DN - 1000) / 500


@dataclass(frozen=True)
class Scene:
    """One unbatched hyperspectral image.

    cube: (C, H, W) float32 in [0, 1]; `cube * scale + offset` is in the sensor's unit again.
    wavelengths_nm, fwhm_nm: (C,) float64, band centres and full widths at half maximum in nanometres.
    labels: (H, W) int64 land-cover classes with 0 = unlabelled, or None.
    """

    cube: torch.Tensor
    wavelengths_nm: torch.Tensor
    fwhm_nm: torch.Tensor
    labels: torch.Tensor | None
    name: str
    scale: float
    offset: float

    def __post_init__(self):
        check_cube("cube", self.cube)
        if self.cube.ndim != 3:
            raise ValueError(f"cube: expected an unbatched image (C, H, W), got shape {tuple(self.cube.shape)}")
        for name in ("wavelengths_nm", "fwhm_nm"):
            if tuple(getattr(self, name).shape) != (self.cube.shape[0],):
                raise ValueError(
                    f"{name}: expected shape ({self.cube.shape[0]},), one value a band, got {tuple(getattr(self, name).shape)}"
                )

    def crop(self, rows: slice, columns: slice, name: str) -> Scene:
        """The same bands over a part of the image, as a view."""
        labels = None if self.labels is None else self.labels[rows, columns]
        return replace(self, cube=self.cube[:, rows, columns], labels=labels, name=name)


def indian_pines(repaired: bool = True) -> Scene:
    """AVIRIS over north-western Indiana, June 1992: 144 x 144 pixels of about 20 m, 170 bands, real radiance.

    The distributed file is damaged: 2.8 % of its numbers lost 768 when a byte was mistaken for a line end. `repair.py` shows
    the evidence and undoes it; `repaired=False` gives the file as distributed.

    Digital numbers become radiance by (DN - 1000) / 500, clipped at 0; then the whole scene goes min-max to [0, 1].
    The 170 bands are those of the paper's 172 that worked in 1992, in the instrument's order, which steps back in
    wavelength where two of its spectrometers overlap: sort for plotting only. The last row and column are left out, so
    that 144 is divisible by 4, 8 and 16.

    Source: doi:10.4231/R7RX991C (CC BY 3.0), read from `data/cache/` if a copy lies there, else from the installed
    package `tensorly`; band centres from `data/indian_pines_bands.csv`.

    Raises:
        FileNotFoundError: neither place has the file.
    """
    with open(DATA_FOLDER / "indian_pines_bands.csv", newline="") as file:
        table = [row for row in csv.DictReader(file) if row["in_s3rnet_172"] == "1"]
    bands = [int(row["index"]) for row in table]
    path = _indian_pines_file("Indian_pines_corrected.npy")
    numbers = (_repaired_numbers(path) if repaired else np.load(path))[:144, :144, bands]
    radiance = np.clip((numbers.astype(np.float32) - DIGITAL_NUMBER_OFFSET) / DIGITAL_NUMBERS_PER_RADIANCE, 0, None)
    offset = float(radiance.min())
    scale = float(radiance.max()) - offset
    labels = np.load(_indian_pines_file("Indian_pines_gt.npy"))[:144, :144].astype(np.int64)
    return Scene(
        cube=torch.from_numpy(np.ascontiguousarray(((radiance - offset) / scale).transpose(2, 0, 1))),
        wavelengths_nm=torch.tensor([float(row["centre_nm"]) for row in table], dtype=torch.float64),
        fwhm_nm=torch.tensor([float(row["fwhm_nm"]) for row in table], dtype=torch.float64),
        labels=torch.from_numpy(labels),
        name="indian_pines",
        scale=scale,
        offset=offset,
    )


def split(scene: Scene, gap: int = 16, multiple: int = 4) -> tuple[Scene, Scene, Scene]:
    """Cut a scene in space into train, validation and test regions that share no pixel and do not touch.

    Test is the right-hand 30 % of the columns, validation the lower sixth of the rest, train what remains; strips of
    `gap` pixels between them belong to nobody. Degrade each region by itself: then no pixel of one region can reach an
    input or a target of another, and the gap, wider than the PSF's support (12 pixels by default), keeps it so even for
    someone who degrades the whole scene first and crops afterwards.

    Args:
        gap: pixels between regions.
        multiple: heights and widths are made divisible by this (the fusion scale).

    Raises:
        ValueError: a negative gap, or a scene too small for three non-empty regions.
    """
    height, width = scene.cube.shape[-2:]
    if gap < 0 or multiple < 1:
        raise ValueError(f"gap, multiple: expected at least 0 and 1 pixels, got {gap} and {multiple}")

    def part(length: int, share: float) -> int:
        return round(length * share / multiple) * multiple

    test_width, val_height = part(width, 0.3), part(height, 1 / 6)
    train_width = (width - test_width - gap) // multiple * multiple
    train_height = (height - val_height - gap) // multiple * multiple
    if min(test_width, val_height, train_width, train_height) < multiple:
        raise ValueError(f"scene: {height}x{width} pixels are too few for three regions with gaps of {gap}")
    used_height = height // multiple * multiple
    left, bottom = slice(0, train_width), slice(height - val_height, height)
    return (
        scene.crop(slice(0, train_height), left, f"{scene.name}/train"),
        scene.crop(bottom, left, f"{scene.name}/val"),
        scene.crop(slice(0, used_height), slice(width - test_width, width), f"{scene.name}/test"),
    )


def paper_bands() -> tuple[torch.Tensor, torch.Tensor]:
    """Band centres and widths in nanometres, (172,) float64 each, of the bands that the paper keeps of AVIRIS's 224.

    Channels 11-103, 117-151 and 171-214, as AVIRIS was calibrated in 1992 (`data/indian_pines_bands.csv`). Channels 33 and 97
    did not work then: theirs continue the regular steps of their spectrometers.
    """
    with open(DATA_FOLDER / "indian_pines_bands.csv", newline="") as file:
        known = {int(row["aviris_channel"]): (float(row["centre_nm"]), float(row["fwhm_nm"])) for row in csv.DictReader(file)}
    for dead in (33, 97):  # each is the first channel of its spectrometer
        known[dead] = tuple(2 * first - second for first, second in zip(known[dead + 1], known[dead + 2]))
    table = torch.tensor([known[channel] for channel in PAPER_CHANNELS], dtype=torch.float64)
    return table[:, 0], table[:, 1]


def simulate(seed: int = 0, size: int = 256, wavelengths_nm=None, fwhm_nm=None) -> Scene:
    """A SIMULATED scene of measured spectra: invented land, radiance in the units of `indian_pines`, see `simulation.py`.

    Args:
        seed: another number, another landscape.
        size: height and width in pixels, at least 16.
        wavelengths_nm: (C,) band centres in nanometres; the paper's 172 AVIRIS bands if None.
        fwhm_nm: (C,) full widths at half maximum; by default the median distance between centres.

    Raises:
        FileNotFoundError: the spectra or Indian Pines, whose training region lends light and green plants, are not there.
        ValueError: a size below 16, or bands that are not nanometres between 300 and 2600.
    """
    if size < 16:
        raise ValueError(f"size: expected at least 16 pixels, got {size}")
    if wavelengths_nm is None:
        wavelengths_nm, paper_fwhm_nm = paper_bands()
        fwhm_nm = paper_fwhm_nm if fwhm_nm is None else fwhm_nm
    wavelengths_nm = torch.as_tensor(wavelengths_nm, dtype=torch.float64)
    if wavelengths_nm.ndim != 1 or not bool(((wavelengths_nm >= 300) & (wavelengths_nm <= 2600)).all()):
        raise ValueError("wavelengths_nm: expected band centres between 300 and 2600 nm on one axis")
    if fwhm_nm is None:
        fwhm_nm = wavelengths_nm.sort().values.diff().median().expand(len(wavelengths_nm))
    fwhm_nm = torch.as_tensor(fwhm_nm, dtype=torch.float64)
    if fwhm_nm.shape != wavelengths_nm.shape or not bool((fwhm_nm > 0).all()):
        raise ValueError(f"fwhm_nm: expected {len(wavelengths_nm)} positive widths in nanometres, got shape {tuple(fwhm_nm.shape)}")
    radiance, labels = simulate_radiance(_lender(), seed, size, wavelengths_nm.numpy(), fwhm_nm.numpy())
    offset, scale = float(radiance.min()), float(np.ptp(radiance))
    radiance -= offset
    radiance /= scale
    return Scene(torch.from_numpy(radiance), wavelengths_nm, fwhm_nm, torch.from_numpy(labels), f"simulated/seed{seed}", scale, offset)


@cache
def _lender() -> Scene:
    return split(indian_pines())[0]


@cache
def _repaired_numbers(path: Path) -> np.ndarray:
    """Kept, because the repair takes a second. Callers copy."""
    return undo_newline_damage(np.load(path))


def _indian_pines_file(name: str) -> Path:
    cached = DATA_FOLDER / "cache" / name
    if cached.exists():
        return cached
    package = importlib.util.find_spec("tensorly")  # found, not imported: importing it takes a second
    if package is not None:
        shipped = Path(package.origin).parent / "datasets" / "data" / name
        if shipped.exists():
            return shipped
    raise FileNotFoundError(f"{name}: not in {cached.parent} and the package tensorly is not installed (pip install tensorly)")
