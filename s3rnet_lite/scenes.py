"""Hyperspectral scenes: the embedded Indian Pines image, files, and the split in space; built in notebooks/01_degradation.ipynb."""

from __future__ import annotations

import csv
import warnings
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from .checks import check_cube
from .files import packaged_file
from .formats import open_cube
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
    valid: (H, W) bool, False where the sensor has no data (the cube is 0 there), or None: every pixel is valid.
    """

    cube: torch.Tensor
    wavelengths_nm: torch.Tensor
    fwhm_nm: torch.Tensor
    labels: torch.Tensor | None
    name: str
    scale: float
    offset: float
    valid: torch.Tensor | None = None

    def __post_init__(self):
        check_cube("cube", self.cube)
        if self.cube.ndim != 3:
            raise ValueError(f"cube: expected an unbatched image (C, H, W), got shape {tuple(self.cube.shape)}")
        for name in ("wavelengths_nm", "fwhm_nm"):
            if tuple(getattr(self, name).shape) != (self.cube.shape[0],):
                raise ValueError(
                    f"{name}: expected shape ({self.cube.shape[0]},), one value a band, got {tuple(getattr(self, name).shape)}"
                )
        if self.valid is not None and (self.valid.shape != self.cube.shape[1:] or self.valid.dtype != torch.bool):
            raise ValueError(
                f"valid: expected shape {tuple(self.cube.shape[1:])} of bool, got {tuple(self.valid.shape)} of {self.valid.dtype}"
            )

    def crop(self, rows: slice, columns: slice, name: str) -> Scene:
        """The same bands over a part of the image, as a view."""
        labels, valid = (None if map is None else map[rows, columns] for map in (self.labels, self.valid))
        return replace(self, cube=self.cube[:, rows, columns], labels=labels, valid=valid, name=name)


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


def load(
    path: str | Path,
    wavelengths_nm=None,
    fwhm_nm=None,
    variable: str | None = None,
    rows: slice = slice(None),
    columns: slice = slice(None),
) -> Scene:
    """A scene, or a window of one, from an image file: ENVI, GeoTIFF, MATLAB, HDF5 or NumPy (`formats.open_cube`).

    Bands that an ENVI header lists as bad are dropped, and with a warning those that hold no number anywhere in the window. A
    pixel that then lacks any band (NaN, infinite or the file's ignore value) is not `valid`, and 0 in all bands.

    The valid pixels of the window go min-max to [0, 1] whatever the file's type and range, as in `indian_pines`; reflectances
    too: `cube * scale + offset` is physical again. A cube whose values already run from 0 to 1 comes out as it is.

    Args:
        wavelengths_nm: (C,) band centres in nanometres, bad bands included, instead of those of the file.
        fwhm_nm: (C,) widths in nanometres, instead of those of the file; if neither has them, the median distance of two bands.
        variable: which array of a `.mat`, `.h5` or `.npz` file, if it holds several images.
        rows, columns: the window, slices without a step.

    Raises:
        FileNotFoundError, ValueError: as `formats.open_cube` and `formats.CubeFile.read`; no wavelengths in file or argument; values
            that do not fit the bands; no valid pixel in the window, or only one value.
    """
    file = open_cube(path, variable, wavelengths_nm)
    if file.wavelengths_nm is None:
        raise ValueError(f"wavelengths_nm: {path} holds none; give {file.shape[0]} band centres in nanometres")
    centres = file.wavelengths_nm
    widths = file.fwhm_nm if fwhm_nm is None else np.asarray(fwhm_nm, dtype=np.float64)
    if widths is None:
        if len(centres) < 2:
            raise ValueError(f"fwhm_nm: {path} holds no width, and one band has no distance to guess it from; give it")
        widths = np.full(len(centres), np.median(np.diff(np.sort(centres))))
    if widths.shape != centres.shape or not (widths > 0).all():
        raise ValueError(f"fwhm_nm: expected {len(centres)} positive widths, one a band, got {widths} of shape {widths.shape}")
    bands = np.flatnonzero(file.good_bands)
    if not len(bands):
        raise ValueError(f"{path}: its header lists all {len(centres)} bands as bad")

    cube = file.read(rows, columns, bands)
    finite = np.isfinite(cube)
    filled = finite.any((1, 2))
    if not filled.any():
        raise ValueError(f"{path}: expected data, got none in the window of {cube.shape[1]}x{cube.shape[2]} pixels")
    if not filled.all():
        warnings.warn(f"{path}: bands without any data are left out: {bands[~filled].tolist()} (counted from 0)", stacklevel=2)
        cube, finite, bands = cube[filled], finite[filled], bands[filled]
    valid = finite.all(0)
    if not valid.any():
        raise ValueError(f"{path}: no pixel of the window has data in all of its {len(bands)} bands")
    if not valid.all():
        cube[:, ~valid] = np.nan  # which fmin and fmax pass over
    low, high = float(np.fmin.reduce(cube, axis=None)), float(np.fmax.reduce(cube, axis=None))
    if low == high:
        raise ValueError(f"{path}: expected an image, got {low} everywhere")
    cube -= np.float32(low)
    cube /= np.float32(high - low)
    np.clip(cube, 0, 1, out=cube)  # rounding can pass 1
    cube[:, ~valid] = 0
    return Scene(
        cube=torch.from_numpy(cube),
        wavelengths_nm=torch.from_numpy(centres[bands]),
        fwhm_nm=torch.from_numpy(widths[bands]),
        labels=None,
        name=Path(path).stem,
        scale=high - low,
        offset=low,
        valid=None if valid.all() else torch.from_numpy(valid),
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
    return packaged_file(DATA_FOLDER / "cache", name, "tensorly", "datasets/data")
