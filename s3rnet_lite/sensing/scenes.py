"""Where scenes come from: Indian Pines, files, and invented land; used in
notebooks/01_degradation.ipynb.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..files import outliers
from ..files.formats import CubeFile, open_cube
from .indian_pines import RADIANCE_UNIT, indian_pines, paper_bands
from .public import PUBLIC
from .scene import Scene, split
from .sensors import typical_width
from .simulation import simulate

__all__ = [
    "PUBLIC",
    "RADIANCE_UNIT",
    "Scene",
    "indian_pines",
    "load",
    "paper_bands",
    "public",
    "simulate",
    "split",
]


def load(
    path: str | Path,
    wavelengths_nm=None,
    fwhm_nm=None,
    variable: str | None = None,
    rows: slice = slice(None),
    columns: slice = slice(None),
    order: str | None = None,
) -> Scene:
    """A scene, or a window of one, from an image file: ENVI, GeoTIFF, MATLAB, HDF5 or NumPy
    (`formats.open_cube`).

    Bands that an ENVI header lists as bad are dropped, and with a warning those that hold no number
    anywhere in the window. A pixel that then lacks any band (NaN, infinite or the file's ignore
    value) is not `valid`, and 0 in all bands.

    The valid pixels of the window go min-max to [0, 1] whatever the file's type and range, as in
    `indian_pines`; reflectances too: `cube * scale + offset` is physical again. A cube whose values
    already run from 0 to 1 comes out as it is.

    Args:
        wavelengths_nm: (C,) band centres in nanometres, bad bands included, instead of those of the
            file.
        fwhm_nm: (C,) widths in nanometres, instead of those of the file; if neither has them, the
            median distance of two bands.
        variable: which array of a `.mat`, `.h5` or `.npz` file, if it holds several images.
        rows, columns: the window, slices without a step.
        order: of the axes, see `formats.open_cube`.

    Raises:
        FileNotFoundError, ValueError: as `formats.open_cube` and `formats.CubeFile.read`; no
            wavelengths in file or argument; values that do not fit the bands; no valid pixel in the
            window, only one value, or a pixel so far from all others that they would lose their
            precision (`files.outliers`, which also warns).
    """
    file = open_cube(path, variable, wavelengths_nm, order)
    centres, widths = _centres_and_widths(file, fwhm_nm)
    bands = np.flatnonzero(file.good_bands)
    if not len(bands):
        raise ValueError(f"{path}: its header lists all {len(centres)} bands as bad")
    cube = file.read(rows, columns, bands)
    return _scene(path, cube, centres[bands], widths[bands], bands)


def public(name: str, path: str | Path, wavelengths_nm=None, fwhm_nm=None) -> Scene:
    """One of the scenes that people in this field use, `PUBLIC`, from a file or folder that you
    have: variable, orientation and band centres are known.

    Args:
        name: a key of `PUBLIC`, "jasper_ridge" say; `s3rnet-lite scenes` lists them.
        path: the distributed file, or the folder of tiles or pictures.
        wavelengths_nm, fwhm_nm: (C,) instead of the known ones; needed where the distributor does
            not say which bands were kept.

    Raises:
        FileNotFoundError, ValueError: an unknown name; no file, or not that scene's; no band
            centres.
    """
    if name not in PUBLIC:
        raise ValueError(f"name: expected one of {', '.join(PUBLIC)}, got {name!r}")
    cube, centres, widths = PUBLIC[name].read(Path(path))
    centres = centres if wavelengths_nm is None else np.asarray(wavelengths_nm, dtype=np.float64)
    if centres is None or centres.shape != (len(cube),):
        raise ValueError(
            f"wavelengths_nm: {name} needs {len(cube)} band centres in nanometres, which its "
            "distributor does not say; give them"
            if centres is None
            else f"wavelengths_nm: expected {len(cube)} values, got shape {centres.shape}"
        )
    widths = widths if fwhm_nm is None else np.asarray(fwhm_nm, dtype=np.float64)
    if widths is None:
        widths = np.full(len(cube), typical_width(centres))
    scene = _scene(path, cube, centres, widths, np.arange(len(cube)))
    return replace(scene, name=name)


def _scene(
    path: str | Path, cube: np.ndarray, centres: np.ndarray, widths: np.ndarray, bands: np.ndarray
) -> Scene:
    """The scene of a cube (C, H, W) with NaN where there is no data, of which these `bands` of the
    file were read; the cube is changed.
    """
    finite = np.isfinite(cube)
    filled = finite.any((1, 2))
    if not filled.any():
        size = f"{cube.shape[1]}x{cube.shape[2]} pixels"
        raise ValueError(f"{path}: expected data, got none in the window of {size}")
    if not filled.all():
        empty = f"{bands[~filled].tolist()} (counted from 0)"
        warnings.warn(f"{path}: bands without any data are left out: {empty}", stacklevel=3)
        cube, finite, bands = cube[filled], finite[filled], bands[filled]
        centres, widths = centres[filled], widths[filled]
    valid = finite.all(0)
    if not valid.any():
        expected = f"data in all of its {len(bands)} bands"
        raise ValueError(f"{path}: no pixel of the window has {expected}")
    low, high = _to_unit_range(path, cube, valid)
    if low == high:
        raise ValueError(f"{path}: expected an image, got {low} everywhere")
    return Scene(
        cube=torch.from_numpy(cube),
        wavelengths_nm=torch.from_numpy(centres.astype(np.float64)),
        fwhm_nm=torch.from_numpy(widths.astype(np.float64)),
        labels=None,
        name=Path(path).stem,
        scale=high - low,
        offset=low,
        valid=None if valid.all() else torch.from_numpy(valid),
    )


def _centres_and_widths(file: CubeFile, fwhm_nm) -> tuple[np.ndarray, np.ndarray]:
    """(C,) each, in nanometres, of all bands of the file."""
    centres = file.wavelengths_nm
    if centres is None:
        raise ValueError(
            f"wavelengths_nm: {file.path} holds none; give {file.shape[0]} band centres in "
            "nanometres"
        )
    widths = file.fwhm_nm if fwhm_nm is None else np.asarray(fwhm_nm, dtype=np.float64)
    if widths is None:
        if len(centres) < 2:
            raise ValueError(
                f"fwhm_nm: {file.path} holds no width, and one band has no distance to guess it "
                "from; give it"
            )
        widths = np.full(len(centres), typical_width(centres))
    if widths.shape != centres.shape or not (widths > 0).all():
        raise ValueError(
            f"fwhm_nm: expected {len(centres)} positive widths, one a band, got {widths} of shape "
            f"{widths.shape}"
        )
    return centres, widths


def _to_unit_range(path: str | Path, cube: np.ndarray, valid: np.ndarray) -> tuple[float, float]:
    """Take the valid pixels of a cube min-max to [0, 1], others to 0, in place; the two limits."""
    cube[:, ~valid] = np.nan
    lowest, highest = cube.min(0), cube.max(0)
    outliers.check(str(path), lowest, highest, lambda row, column: cube[:, row, column])
    low, high = float(np.nanmin(lowest)), float(np.nanmax(highest))
    if low < high:
        cube -= np.float32(low)
        cube /= np.float32(high - low)
        np.clip(cube, 0, 1, out=cube)  # rounding can pass 1
    cube[:, ~valid] = 0
    return low, high
