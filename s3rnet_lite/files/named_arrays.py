"""Files of several named arrays, one of which is the image: NumPy archives, MATLAB and HDF5."""

from __future__ import annotations

import math
import re
import warnings
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from . import extras, prisma
from .reading import cut, naming, nanometres_per_unit, no_variable

FEW_BANDS = 12  # an axis as short as this is probably that of the bands
# of an image of one band: pixels, and times the shorter side
LEAST_SIDE, DOUBTFUL_SIDES, LONGEST_SIDES = 8, 4, 20
MOST_BANDS = 512


def read_npy(path: Path, given, variable: str | None, order: str | None = None) -> dict:
    """See `readers`."""
    no_variable(path, variable)
    with naming(path):
        arrays = {"": np.load(path, mmap_mode="r")}
    _, axes, found = _find_image(path, arrays, given, None, "CHW", order)
    return found | {"_cut": partial(_cut_npy, path, axes)}


def _cut_npy(path: Path, axes: str, *window) -> np.ndarray:
    return cut(as_cube(np.load(path, mmap_mode="r")), axes, *window)


def read_npz(path: Path, given, variable: str | None, order: str | None = None) -> dict:
    """See `readers`."""
    with naming(path), np.load(path) as file:
        arrays = {name: file[name] for name in _numeric(path)}
    name, axes, found = _find_image(path, arrays, given, variable, "CHW", order)
    return found | {"_cut": partial(cut, as_cube(arrays[name]), axes)}


def _numeric(path: Path) -> list[str]:
    """The arrays of numbers in a `.npz` file that are as large as they say; nothing is allocated
    for those that are not.
    """
    names = []
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as member:
                version = np.lib.format.read_magic(member)
                read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
                shape, _, dtype = read(member)
            if dtype.hasobject or dtype.kind not in "biufc":
                continue
            if math.prod(shape) * dtype.itemsize > entry.file_size:
                raise ValueError(f"{entry.filename} says shape {shape}, but holds fewer numbers")
            names.append(entry.filename.removesuffix(".npy"))
    return names


def read_mat(path: Path, given, variable: str | None, order: str | None = None) -> dict:
    """See `readers`."""
    h5py = extras.load("h5py")
    from scipy.io import loadmat

    if h5py.is_hdf5(path):  # MATLAB 7.3: HDF5 with the axes in MATLAB's order, that is, reversed
        return read_hdf5(path, given, variable, order, reverse=True)
    with naming(path):
        arrays = dict(_fields(loadmat(path, appendmat=False)))
    return _read_arrays(path, arrays, given, variable, order)


def _read_arrays(path: Path, arrays: dict, given, variable: str | None, order: str | None) -> dict:
    _unfold(arrays)
    name, axes, found = _find_image(path, arrays, given, variable, "HWC", order)
    return found | {"_cut": partial(cut, as_cube(arrays[name]), axes)}


def _fields(contents: dict, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Every array by its name, those in structures as STRUCTURE.FIELD."""
    for name, value in contents.items():
        if not isinstance(value, np.ndarray):
            continue
        if value.dtype.names and value.size == 1:
            inside = {field: value[field].item() for field in value.dtype.names}
            yield from _fields(inside, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _unfold(arrays: dict[str, np.ndarray]) -> None:
    """Matrices (bands, pixels) with their numbers of rows and columns beside them, as the unmixing
    scenes have them, become cubes (H, W, C); MATLAB counts pixels down the columns first.
    """
    if not all(name in arrays and arrays[name].size == 1 for name in ("nRow", "nCol")):
        return
    rows, columns = (int(arrays[name].item()) for name in ("nRow", "nCol"))
    for name, array in arrays.items():
        if array.ndim == 2 and array.shape[1] == rows * columns and len(array) > FEW_BANDS:
            arrays[name] = array.reshape(len(array), columns, rows).transpose(2, 1, 0)


def read_hdf5(
    path: Path, given, variable: str | None, order: str | None = None, reverse: bool = False
) -> dict:
    """See `readers`."""
    h5py = extras.load("h5py")

    datasets = {}

    def note(name: str, item) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("#"):  # MATLAB's own tables
            if item.external or item.is_virtual:
                raise ValueError(f"the numbers of {name} lie in other files, which are not read")
            datasets[name] = item

    with naming(path):
        file = h5py.File(path)
    with file:
        with naming(path):
            file.visititems(note)
        if variable is None and (cubes := prisma.find(datasets)):
            return prisma.read(path, datasets, cubes)
        if variable not in datasets and variable is not None:
            variable = variable.replace(".", "/")  # MATLAB's name of a field
        if reverse and {"nRow", "nCol"} <= datasets.keys():
            arrays = {name: item[()].T for name, item in datasets.items()}
            return _read_arrays(path, arrays, given, variable, order)
        name, axes, found = _find_image(path, datasets, given, variable, "HWC", order, reverse)
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
        item = file[name]
        return cut(item if item.ndim == 3 else as_cube(item[()]), axes, *window)


def as_cube(array: np.ndarray) -> np.ndarray:
    """Three axes: an image of two gets one of length 1 in front, one of four with a single image
    loses that.
    """
    if array.ndim == 2:
        return array[None]
    return array.squeeze(axis=array.shape.index(1)) if array.ndim == 4 else array


def _cube_shape(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that `as_cube` gives, or None for what is no image."""
    if len(shape) == 2 and min(shape) >= LEAST_SIDE and max(shape) <= LONGEST_SIDES * min(shape):
        return (1, *shape)
    if len(shape) == 4 and 1 in shape:
        return shape[: shape.index(1)] + shape[shape.index(1) + 1 :]
    return shape if len(shape) == 3 else None


def _choose(path: Path, arrays: dict, variable: str | None, direction: int) -> str:
    """The name of the image: of cubes if there are any, else of images of one band."""

    def listed(names) -> str:
        return ", ".join(f"{name} {arrays[name].shape[::direction]}" for name in names) or "nothing"

    images = [
        name
        for name, array in arrays.items()
        if array.dtype.kind in "biufcV" and _cube_shape(array.shape) is not None
    ]
    cubes = [name for name in images if arrays[name].ndim > 2]
    if variable is not None and variable not in arrays:
        raise ValueError(f"variable: {path} has no {variable!r}; it holds {listed(arrays)}")
    if not images or variable not in [None, *images]:
        raise ValueError(
            f"{path}: expected numbers with three axes in {variable or 'one of its arrays'}; it "
            f"holds {listed(arrays)}. Reshape a matrix (bands, pixels) to (bands, height, width), "
            "or see whether scenes.public knows the scene"
        )
    candidates = [variable] if variable else cubes or images
    if len(candidates) > 1:
        raise ValueError(
            f"{path}: holds {len(candidates)} images, choose one with variable=: "
            f"{listed(candidates)}"
        )
    return candidates[0]


def _find_image(
    path: Path,
    arrays: dict,
    given,
    variable: str | None,
    habit: str,
    order: str | None = None,
    reverse: bool = False,
) -> tuple[str, str, dict]:
    """Which of the named arrays is the image, how its axes lie on disk, and its shape, type,
    wavelengths and widths.
    """
    direction = -1 if reverse else 1
    name = _choose(path, arrays, variable, direction)
    one_band = arrays[name].ndim == 2
    lengths = (_cube_shape(arrays[name].shape) or ())[:: 1 if one_band else direction]
    centres, widths = (
        (given, None) if given is not None else _find_wavelengths(path, arrays, lengths)
    )
    if one_band:
        axes = "CWH" if reverse else "CHW"
        direction = 1
        if max(lengths) > DOUBTFUL_SIDES * min(lengths[1:]):
            warnings.warn(
                f"{path}: read {lengths[1:]} as an image of one band; reshape it if it is a "
                "matrix of bands and pixels",
                stacklevel=4,
            )
    elif order is not None:
        axes = order
    else:
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
        elif centres is None and _doubtful(lengths, axes.index("C")):
            warnings.warn(
                f"{path}: read {lengths} as {axes}, bands, height and width; order= says otherwise",
                stacklevel=4,
            )
    found = {
        "shape": tuple(lengths[axes.index(axis)] for axis in "CHW"),
        "dtype": arrays[name].dtype,
    }
    return name, axes[::direction], found | {"wavelengths_nm": centres, "fwhm_nm": widths}


def _doubtful(lengths: tuple[int, ...], bands: int) -> bool:
    """Whether these axes could as well be others: bands are usually fewer than pixels along either
    side, or more; and where few, no side is as short.
    """
    own, others = lengths[bands], [length for axis, length in enumerate(lengths) if axis != bands]
    extreme = own < min(others) or own > max(others)
    few = own > FEW_BANDS >= min(others) and max(others) >= 4 * min(others)
    # (rows, columns, bands) as most programs for NumPy have it
    bands_last = bands == 0 and FEW_BANDS < own < lengths[1] < lengths[2] <= MOST_BANDS
    return 0 not in lengths and (not extreme or few or bands_last)


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
