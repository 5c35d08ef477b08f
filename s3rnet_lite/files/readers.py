"""How each image format is read, with the library of the field for it; used in
notebooks/10_gpu_training.ipynb.

A reader takes (path, wavelengths given or None, variable or None) and returns what the file says:
`shape`, `dtype`, and `_cut`, which fetches a window, always; wavelengths, gains and the rest of
`formats.CubeFile` where the file has them. The libraries are imported where they are used: training
on arrays needs none of them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from . import extras

INTERLEAVES = {
    "bsq": "CHW",
    "bil": "HCW",
    "bip": "HWC",
}  # axes in the order in which they lie on disk
ENVI_FIELDS = ("lines", "samples", "bands", "data type", "interleave", "byte order")
ENVI_GEOREFERENCE = ("map info", "projection info", "coordinate system string")
UNITS_NM = {
    "nanometer": 1,
    "nanometre": 1,
    "nm": 1,
    "micrometer": 1000,
    "micrometre": 1000,
    "micron": 1000,
    "um": 1000,
    "µm": 1000,
}
PLAUSIBLE_NM = (
    200,
    30_000,
)  # ultraviolet to thermal infrared: tells nanometres from micrometres where no unit is named


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Every library has its own exceptions for a damaged file: make them one that names the
    file.
    """
    try:
        yield
    except (FileNotFoundError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(
            f"{path}: damaged, truncated or not what its ending says ({type(error).__name__}: "
            f"{error})"
        ) from error


def cut(array, axes: str, bands: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """A window (C', h, w) of anything that is sliced like an array; `axes` names its axes in order,
    HWC say.
    """
    first, stop = int(bands.min()), int(bands.max()) + 1
    window = {
        "C": slice(first, stop),
        "H": rows,
        "W": columns,
    }  # slices, which every library reads fast
    part = np.transpose(
        array[tuple(window[axis] for axis in axes)], [axes.index(axis) for axis in "CHW"]
    )
    return part if np.array_equal(bands, np.arange(first, stop)) else part[bands - first]


def read_envi(path: Path, given, variable: str | None) -> dict:
    envi = extras.load("spectral.io.envi")

    _no_variable(path, variable)
    with naming(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about capital letters in the names of fields
        header = envi.read_envi_header(str(path))
    missing = [name for name in ENVI_FIELDS if name not in header]
    if missing:
        raise ValueError(f"{path}: the header lacks {', '.join(missing)}")
    for name, known in (("interleave", INTERLEAVES), ("data type", envi.envi_to_dtype)):
        if str(header[name]).lower() not in known:
            raise ValueError(
                f"{path}: {name}: expected one of {', '.join(known)}, got {header[name]!r}"
            )
    with naming(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = envi.open(str(path))
        except envi.EnviDataFileNotFoundError as error:
            raise FileNotFoundError(
                f"{path}: no data file beside the header (same name, without ending or with .img, "
                ".dat, ...)"
            ) from error
    if isinstance(image, envi.SpectralLibrary):
        raise ValueError(f"{path}: expected an image, got a spectral library")
    shape, axes, dtype = (
        (image.nbands, image.nrows, image.ncols),
        INTERLEAVES[header["interleave"].lower()],
        np.dtype(image.dtype),
    )
    if min(*shape, image.offset + 1) < 1:
        raise ValueError(
            f"{path}: expected positive bands, lines and samples and no negative header offset, "
            f"got {shape}, {image.offset}"
        )
    expected = image.offset + image.nbands * image.nrows * image.ncols * dtype.itemsize
    size = Path(image.filename).stat().st_size
    if size < expected:
        raise ValueError(
            f"{image.filename}: truncated: by its header it should have {expected} bytes, it has "
            f"{size}"
        )
    stored = tuple(dict(zip("CHW", shape, strict=True))[axis] for axis in axes)

    def values(name: str, count: int = image.nbands) -> np.ndarray:
        try:
            numbers = np.atleast_1d(np.asarray(header[name], dtype=np.float64))
        except ValueError as error:
            raise ValueError(f"{path}: {name}: expected numbers ({error})") from error
        if len(numbers) != count:
            raise ValueError(f"{path}: {name}: expected {count} values, got {len(numbers)}")
        return numbers

    found = {
        "shape": shape,
        "dtype": dtype,
        "_cut": partial(_cut_raw, image.filename, dtype, image.offset, stored, axes),
    }
    if "wavelength" in header and given is None:
        nm = _nanometres_per_unit(path, values("wavelength"), header.get("wavelength units"))
        found |= {"wavelengths_nm": values("wavelength") * nm}
        if "fwhm" in header:
            found |= {"fwhm_nm": values("fwhm") * nm}
    if "bbl" in header:
        found |= {"good_bands": values("bbl") > 0}
    if "data ignore value" in header:
        found |= {"ignore_value": float(values("data ignore value", 1)[0])}
    if "reflectance scale factor" in header:
        factor = values("reflectance scale factor", 1)[0]
        if not 0 < factor < np.inf:
            raise ValueError(
                f"{path}: reflectance scale factor: expected a positive number, got {factor}"
            )
        found |= {"_gain": np.full(image.nbands, 1 / factor)}
    else:
        found |= {
            key: values(name)
            for key, name in (("_gain", "data gain values"), ("_offset", "data offset values"))
            if name in header
        }
    georeference = {name: header[name] for name in ENVI_GEOREFERENCE if name in header}
    if isinstance(
        georeference.get("coordinate system string"), list
    ):  # split at its commas as if it were a list
        georeference["coordinate system string"] = (
            "{" + ",".join(georeference["coordinate system string"]) + "}"
        )
    return found | {"georeference": georeference or None}


def _cut_raw(
    filename: str, dtype: np.dtype, offset: int, stored: tuple, axes: str, *window
) -> np.ndarray:
    return cut(np.memmap(filename, dtype, "r", offset, stored), axes, *window)


def read_geotiff(path: Path, given, variable: str | None) -> dict:
    _no_variable(path, variable)
    with naming(path), _geotiff(path) as dataset:
        pages = len(dataset.subdatasets)
        found = {
            "shape": (dataset.count, dataset.height, dataset.width),
            "dtype": np.result_type(*dataset.dtypes),
            "_cut": partial(_cut_geotiff, path),
            "_gain": np.array(dataset.scales),
            "_offset": np.array(dataset.offsets),
            "ignore_value": dataset.nodata,
        }
        if dataset.crs is not None or not dataset.transform.is_identity:
            crs = None if dataset.crs is None else dataset.crs.to_wkt()
            found |= {"georeference": {"crs": crs, "transform": tuple(dataset.transform)[:6]}}
        # GDAL puts wavelengths into plain tags, as in the ENVI header they came from, and since
        # 3.10 rounded to 1 nm into IMAGERY
        tags = [dataset.tags(band) | dataset.tags(band, ns="IMAGERY") for band in dataset.indexes]
    if pages:
        raise ValueError(f"{path}: expected one image of many bands, got {pages} images (pages)")

    def values(name: str) -> np.ndarray | None:
        return (
            np.array([float(tag[name]) for tag in tags])
            if all(name in tag for tag in tags)
            else None
        )

    centres, centres_um, widths_um = (
        values("wavelength"),
        values("CENTRAL_WAVELENGTH_UM"),
        values("FWHM_UM"),
    )
    if centres is not None and given is None:
        found |= {
            "wavelengths_nm": centres
            * _nanometres_per_unit(path, centres, tags[0].get("wavelength_units"))
        }
    elif centres_um is not None and given is None:
        found |= {"wavelengths_nm": centres_um * 1000}
    if widths_um is not None:
        found |= {"fwhm_nm": widths_um * 1000}
    return found


@contextmanager
def _geotiff(path: Path) -> Iterator:
    rasterio = extras.load("rasterio")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            yield dataset


def _cut_geotiff(path: Path, bands: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    with _geotiff(path) as dataset:
        return dataset.read(
            (bands + 1).tolist(), window=((rows.start, rows.stop), (columns.start, columns.stop))
        )


def read_npy(path: Path, given, variable: str | None) -> dict:
    _no_variable(path, variable)
    with naming(path):
        array = np.load(path, mmap_mode="r")
    if array.ndim != 3:
        raise ValueError(
            f"{path}: expected an array with three axes (C, H, W), got shape {array.shape}"
        )
    return {"shape": array.shape, "dtype": array.dtype, "_cut": partial(_cut_npy, path)}


def _cut_npy(path: Path, *window) -> np.ndarray:
    return cut(np.load(path, mmap_mode="r"), "CHW", *window)


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


def _no_variable(path: Path, variable: str | None) -> None:
    if variable is not None:
        raise ValueError(f"variable: {path} holds one image, which has no name; got {variable!r}")


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
    nm = _nanometres_per_unit(path, values, attributes.get("units", attributes.get("Units")))
    widths = [width * nm for width in vectors("fwhm").values() if len(width) == len(values)]
    return values * nm, widths[0] if len(widths) == 1 else None


def _nanometres_per_unit(path: Path, values: np.ndarray, unit: str | bytes | None) -> float:
    """1 or 1000: from the unit's name, or from the values where it is unknown."""
    unit = unit.decode() if isinstance(unit, bytes) else str(unit or "unknown")
    known = unit.strip().lower().removesuffix("s")
    if known in UNITS_NM:
        return UNITS_NM[known]
    for factor in (1, 1000):
        if (
            known == "unknown"
            and PLAUSIBLE_NM[0] <= values.min() * factor
            and values.max() * factor <= PLAUSIBLE_NM[1]
        ):
            return factor
    span = f"{values.min():g} to {values.max():g}"
    raise ValueError(
        f"{path}: wavelengths: expected nanometers or micrometers, got {span} with unit {unit!r}; "
        "give wavelengths_nm"
    )


READERS: dict[str, Callable] = {
    ".hdr": read_envi,
    ".tif": read_geotiff,
    ".tiff": read_geotiff,
    ".mat": read_mat,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".npy": read_npy,
    ".npz": read_npz,
}
