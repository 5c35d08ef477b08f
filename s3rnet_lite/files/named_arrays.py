"""Files of several named arrays, one of which is the image: NumPy archives, MATLAB and HDF5."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from . import extras
from .reading import cut, naming, nanometres_per_unit


def read_npz(path: Path, given, variable: str | None) -> dict:
    with naming(path), np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    name, axes, found = _find_image(path, arrays, given, variable, "CHW")
    return found | {"_cut": partial(cut, arrays[name], axes)}


def read_mat(path: Path, given, variable: str | None) -> dict:
    h5py = extras.load("h5py")
    from scipy.io import loadmat

    if h5py.is_hdf5(path):  # MATLAB 7.3: HDF5 with the axes in MATLAB's order, that is, reversed
        return read_hdf5(path, given, variable, reverse=True)
    with naming(path):
        arrays = {
            name: array
            for name, array in loadmat(path, appendmat=False).items()
            if isinstance(array, np.ndarray)
        }
    name, axes, found = _find_image(path, arrays, given, variable, "HWC")
    return found | {"_cut": partial(cut, arrays[name], axes)}


def read_hdf5(path: Path, given, variable: str | None, reverse: bool = False) -> dict:
    h5py = extras.load("h5py")

    datasets = {}

    def note(name: str, item) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("#"):  # MATLAB's own tables
            datasets[name] = item

    with naming(path):
        file = h5py.File(path)
    with file:
        file.visititems(note)
        name, axes, found = _find_image(path, datasets, given, variable, "HWC", reverse)
        attributes = datasets[name].attrs
        # as netCDF names them, and as the reflectance files of NEON do, whose factor divides
        gain = attributes.get("scale_factor", 1 / attributes.get("Scale_Factor", 1))
        offset, count = attributes.get("add_offset", 0), found["shape"][0]
        found |= {
            "_gain": np.full(count, gain, np.float64),
            "_offset": np.full(count, offset, np.float64),
        }
        ignore = attributes.get("_FillValue", attributes.get("Data_Ignore_Value"))
        if ignore is not None:
            found |= {"ignore_value": float(np.ravel(ignore)[0])}
    return found | {"_cut": partial(_cut_hdf5, path, name, axes)}


def _cut_hdf5(path: Path, name: str, axes: str, *window) -> np.ndarray:
    h5py = extras.load("h5py")

    with h5py.File(path) as file:
        return cut(file[name], axes, *window)


def _find_image(
    path: Path, arrays: dict, given, variable: str | None, habit: str, reverse: bool = False
) -> tuple[str, str, dict]:
    """Which of the named arrays is the image, how its axes lie on disk, and its shape, type,
    wavelengths and widths.
    """

    direction = -1 if reverse else 1

    def listed(names) -> str:
        return ", ".join(f"{name} {arrays[name].shape[::direction]}" for name in names) or "nothing"

    images = [
        name for name, array in arrays.items() if array.ndim == 3 and array.dtype.kind in "iufcV"
    ]
    if variable is not None and variable not in arrays:
        raise ValueError(f"variable: {path} has no {variable!r}; it holds {listed(arrays)}")
    if not images or variable not in [None, *images]:
        raise ValueError(
            f"{path}: expected numbers with three axes in {variable or 'one of its arrays'}; it "
            f"holds {listed(arrays)}"
        )
    if variable is None and len(images) > 1:
        raise ValueError(
            f"{path}: holds {len(images)} images, choose one with variable=: {listed(images)}"
        )
    name = variable or images[0]
    lengths = arrays[name].shape[::direction]
    centres, widths = (
        (given, None) if given is not None else _find_wavelengths(path, arrays, lengths)
    )
    axes = habit
    if centres is not None and habit == "HWC":
        fitting = [axis for axis, length in enumerate(lengths) if length == len(centres)]
        if len(fitting) != 1:
            raise ValueError(
                f"{path}: {name}: expected one axis of {lengths} to be as long as the "
                f"{len(centres)} wavelengths_nm, so that it holds "
                f"the bands; {len(fitting)} axes are"
            )
        axes = ("CHW", "HCW", "HWC")[fitting[0]]
    found = {
        "shape": tuple(lengths[axes.index(axis)] for axis in "CHW"),
        "dtype": arrays[name].dtype,
    }
    return name, axes[::direction], found | {"wavelengths_nm": centres, "fwhm_nm": widths}


def _find_wavelengths(
    path: Path, arrays: dict, lengths: tuple
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Band centres and full widths at half maximum in nanometres, from the vectors whose names say
    that they are.
    """

    def vectors(words: str) -> dict[str, np.ndarray]:
        named = {
            name: array
            for name, array in arrays.items()
            if re.search(words, name.rsplit("/")[-1], re.IGNORECASE)
        }
        return {
            name: np.ravel(array[()]).astype(np.float64)
            for name, array in named.items()
            if array.dtype.kind in "iuf" and array.size == max(array.shape, default=0)
        }

    centres = vectors("wave|lambda")
    if not centres:
        return None, None
    fitting = [name for name, values in centres.items() if len(values) in lengths]
    if len(fitting) != 1:
        listing = ", ".join(f"{name} ({len(values)})" for name, values in centres.items())
        raise ValueError(
            f"{path}: expected one vector of wavelengths as long as an axis of {lengths}, got "
            f"{listing}; give wavelengths_nm"
        )
    values = centres[fitting[0]]
    attributes = getattr(arrays[fitting[0]], "attrs", {})
    nm = nanometres_per_unit(path, values, attributes.get("units", attributes.get("Units")))
    widths = [width * nm for width in vectors("fwhm").values() if len(width) == len(values)]
    return values * nm, widths[0] if len(widths) == 1 else None
