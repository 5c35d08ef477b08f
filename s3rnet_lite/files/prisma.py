"""PRISMA's `.he5` files, levels 1 and 2, whose two cubes are one image: all bands by wavelength,
with those of the SWIR cube only where the VNIR cube ends, and without those that the file calls
dead. Rows and columns are the file's, which for level 2D run east and north.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from . import extras
from .reading import cut

PARTS = ("Vnir", "Swir")
LARGEST_NUMBER = 65535  # stands for the largest value of a level-2 cube


def find(datasets: dict) -> list[str]:
    """The names of the two cubes; [] in other files."""
    for name in datasets:
        swir = name.replace("VNIR_Cube", "SWIR_Cube")
        if name.startswith("HDFEOS/") and name != swir and swir in datasets:
            return [name, swir]
    return []


def read(path: Path, datasets: dict, names: list[str]) -> dict:
    """What `readers` expect of the image that the two cubes are; it is a radiance, or of level 2 a
    reflectance, in the product's unit.
    """
    cubes = [datasets[name] for name in names]
    attributes = cubes[0].file.attrs
    bands, end_nm = [], 0.0  # (centre, width, part, number in its cube)
    for part, (name, cube) in enumerate(zip(PARTS, cubes, strict=True)):
        lists = (f"List_Cw_{name}", f"List_Fwhm_{name}", f"List_Cw_{name}_Flags")
        missing = [one for one in lists[:2] if one not in attributes]
        if missing or len(attributes[lists[0]]) != cube.shape[1]:
            raise ValueError(f"{path}: expected {lists[0]} and {lists[1]}, one value a band")
        flags = attributes.get(lists[2], np.ones(cube.shape[1]))
        values = zip(attributes[lists[0]], attributes[lists[1]], flags, strict=True)
        own = [(nm, width, part, i) for i, (nm, width, alive) in enumerate(values) if alive]
        bands += [band for band in own if band[0] > end_nm]
        end_nm = max(band[0] for band in bands)
    centres, widths, parts, numbers = (np.array(one) for one in zip(*sorted(bands), strict=True))
    gains, offsets = np.array([_scale(attributes, name) for name in PARTS])[parts].T
    return {
        "shape": (len(bands), cubes[0].shape[0], cubes[0].shape[2]),
        "dtype": cubes[0].dtype,
        "wavelengths_nm": centres.astype(np.float64),
        "fwhm_nm": widths.astype(np.float64),
        "_gain": gains,
        "_offset": offsets,
        "_cut": partial(_cut, path, names, parts, numbers),
    }


def _scale(attributes, part: str) -> tuple[float, float]:
    """Value = number * gain + offset."""
    low, high = (attributes.get(f"L2Scale{part}{end}") for end in ("Min", "Max"))
    if low is not None:
        return (float(high) - float(low)) / LARGEST_NUMBER, float(low)
    factor, offset = attributes.get(f"ScaleFactor_{part}", 1), attributes.get(f"Offset_{part}", 0)
    return 1 / float(factor), -float(offset)


def _cut(
    path: Path,
    names: list[str],
    parts: np.ndarray,
    numbers: np.ndarray,
    bands: np.ndarray,
    rows: slice,
    columns: slice,
) -> np.ndarray:
    size = len(bands), rows.stop - rows.start, columns.stop - columns.start
    with extras.load("h5py").File(path) as file:
        window = np.empty(size, file[names[0]].dtype)
        for part, name in enumerate(names):
            own = parts[bands] == part
            if own.any():
                window[own] = cut(file[name], "HCW", numbers[bands[own]], rows, columns)
    return window
