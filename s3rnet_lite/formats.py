"""Image files opened lazily: ENVI, GeoTIFF, MATLAB, HDF5, NumPy; used in notebooks/10_gpu_training.ipynb.

Every cube comes out as (C, H, W), whatever the order on disk. ENVI and GeoTIFF say which axis holds the bands. The others do not, so
`.npy` and `.npz` are (C, H, W), as everywhere here, and `.mat` and `.h5` are (H, W, C), the habit of the field, unless the file's
wavelengths (or those given) are as many as another axis is long. MATLAB 7.3 files are HDF5 with the axes reversed; that is undone.

The format libraries are imported where they are used: training on arrays needs none of them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

INTERLEAVES = {"bsq": "CHW", "bil": "HCW", "bip": "HWC"}  # axes in the order in which they lie on disk
UNITS_NM = {"nanometer": 1, "nanometre": 1, "nm": 1, "micrometer": 1000, "micrometre": 1000, "micron": 1000, "um": 1000, "µm": 1000}
PLAUSIBLE_NM = (200, 30_000)  # ultraviolet to thermal infrared: decides between nm and µm where a file names no unit
ENVI_GEOREFERENCE = ("map info", "coordinate system string")


@dataclass(frozen=True, eq=False)
class CubeFile:
    """An image on disk, of which `read` fetches windows.

    shape: (C, H, W), bad bands included.
    wavelengths_nm, fwhm_nm: (C,) float64, or None if nobody says.
    good_bands: (C,) bool, from ENVI's bad-band list; else all True.
    ignore_value: the number on disk that means "no data", or None.
    georeference: what `create_cube` can carry on: ENVI's `map info` and `coordinate system string`, or `crs` (WKT) and `transform`
        (six numbers) of a GeoTIFF; None if the file has none.
    """

    path: Path
    shape: tuple[int, int, int]
    wavelengths_nm: np.ndarray | None
    fwhm_nm: np.ndarray | None
    good_bands: np.ndarray
    ignore_value: float | None
    georeference: dict | None
    _numbers: Callable[[np.ndarray, slice, slice], np.ndarray] = field(repr=False)  # as on disk, but (C, H, W)
    _gain: np.ndarray = field(repr=False)  # physical value = number * gain + offset, band by band
    _offset: np.ndarray = field(repr=False)

    def read(self, rows: slice = slice(None), columns: slice = slice(None), bands=None) -> np.ndarray:
        """A window (C', h, w), float32, in physical units, NaN where the file has no data.

        Args:
            rows, columns: slices without a step; as with lists, they may reach beyond the image.
            bands: numbers, a mask (C,) or a slice; None takes all, the bad ones too.

        Raises:
            ValueError: an empty window, a step, bands that do not exist, or data that cannot be read.
        """
        count, height, width = self.shape
        windows = []
        for name, window, length in (("rows", rows, height), ("columns", columns, width)):
            first, stop, step = window.indices(length)
            if step != 1 or first >= stop:
                raise ValueError(f"{name}: expected a non-empty slice without a step within 0..{length}, got {window}")
            windows.append(slice(first, stop))
        try:
            chosen = np.arange(count)[slice(None) if bands is None else bands]
        except IndexError as error:
            raise ValueError(f"bands: expected some of the {count} bands of {self.path} ({error})") from error
        if chosen.ndim != 1 or not len(chosen):
            raise ValueError(f"bands: expected a list, a mask or a slice that takes at least one band, got {bands!r}")
        with _reading(self.path):
            numbers = self._numbers(chosen, *windows)
        cube = np.empty(numbers.shape, np.float32)
        cube[:] = numbers
        gain, offset = (values[chosen, None, None].astype(np.float32) for values in (self._gain, self._offset))
        if (gain != 1).any():
            cube *= gain
        if (offset != 0).any():
            cube += offset
        if self.ignore_value is not None:
            whole = numbers.dtype.kind in "iu" and float(self.ignore_value).is_integer()  # compared as integers: no float64 copy
            cube[numbers == (int(self.ignore_value) if whole else self.ignore_value)] = np.nan
        return cube


def open_cube(path: str | Path, variable: str | None = None, wavelengths_nm=None) -> CubeFile:
    """Open an image file without reading its pixels (`.npz` and MATLAB 5 files are compressed: these are read whole).

    Formats: ENVI `.hdr` (the data file lies beside it), GeoTIFF `.tif`, MATLAB `.mat`, HDF5 `.h5` or `.hdf5`, NumPy `.npy` or `.npz`.

    Args:
        variable: which array of a `.mat`, `.h5` or `.npz` file; needed only if several have three axes.
        wavelengths_nm: (C,) band centres in nanometres; go before those of the file.

    Raises:
        FileNotFoundError: no such file, or no data beside an ENVI header.
        ValueError: another ending; a damaged, truncated or complex-valued file; a header with a field missing or wrong; no 3-D array,
            or several without `variable`; wavelengths that do not fit the bands or have an unknown unit.
    """
    path = Path(path)
    openers = {".hdr": _open_envi, ".tif": _open_geotiff, ".tiff": _open_geotiff, ".npy": _open_npy}
    openers |= {".npz": _open_npz, ".mat": _open_mat, ".h5": _open_hdf5, ".hdf5": _open_hdf5}
    opener = openers.get(path.suffix.lower())
    if opener is None:
        raise ValueError(f"{path}: expected a file that ends in {', '.join(openers)} (of an ENVI image, name the .hdr)")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if wavelengths_nm is not None:
        wavelengths_nm = np.asarray(wavelengths_nm, dtype=np.float64)
        if wavelengths_nm.ndim != 1:
            raise ValueError(f"wavelengths_nm: expected one value a band, got shape {wavelengths_nm.shape}")
    if opener in (_open_envi, _open_geotiff, _open_npy):
        if variable is not None:
            raise ValueError(f"variable: {path} holds one image, without a name; got {variable!r}")
        found = opener(path, wavelengths_nm)
    else:
        found = opener(path, wavelengths_nm, variable)
    shape, dtype = found["shape"], found.pop("dtype")
    if dtype.kind not in "iuf":
        raise ValueError(f"{path}: expected real numbers, got {'complex ones' if dtype.kind in 'cV' else dtype}")
    if 0 in shape:
        raise ValueError(f"{path}: expected a non-empty image, got shape {shape}")
    if wavelengths_nm is not None:
        found |= {"wavelengths_nm": wavelengths_nm, "fwhm_nm": None}
    centres = found.get("wavelengths_nm")
    if centres is not None and (len(centres) != shape[0] or not (np.isfinite(centres) & (centres > 0)).all()):
        raise ValueError(f"{path}: wavelengths_nm: expected {shape[0]} positive values, one a band, got {len(centres)}")
    nothing = {"wavelengths_nm": None, "fwhm_nm": None, "ignore_value": None, "georeference": None}
    nothing |= {"good_bands": np.ones(shape[0], bool), "_gain": np.ones(shape[0]), "_offset": np.zeros(shape[0])}
    return CubeFile(path=path, **(nothing | found))


def create_cube(
    path: str | Path, shape: tuple[int, int, int], wavelengths_nm=None, fwhm_nm=None, georeference: dict | None = None
) -> np.memmap:
    """Create a file of zeros to be filled window by window: a writable array (C, H, W), float32, whose pages the system writes.

    `.npy` holds numbers only; `.hdr` makes an ENVI header with wavelengths and georeference, and the data (`.img`, bsq) beside it. An
    existing file is replaced.

    Raises:
        ValueError: another ending, or a rotated georeference, which ENVI's map info has no place for.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        return np.lib.format.open_memmap(path, "w+", np.float32, tuple(shape))
    if path.suffix != ".hdr":
        raise ValueError(f"{path}: expected a file to write that ends in .npy or .hdr")
    from spectral.io import envi

    header = dict(zip(("bands", "lines", "samples"), shape)) | {"header offset": 0, "data type": 4, "interleave": "bsq"}
    header |= {"byte order": 0} | _envi_georeference(georeference or {})
    for name, values in (("wavelength", wavelengths_nm), ("fwhm", fwhm_nm)):
        if values is not None:
            header |= {"wavelength units": "Nanometers", name: [float(value) for value in values]}
    envi.write_envi_header(str(path), header)
    return np.memmap(path.with_suffix(".img"), "<f4", "w+", shape=tuple(shape))


def reopen_cube(path: str | Path) -> np.memmap:
    """The file that `create_cube` made, again as a writable array (C, H, W) with what is in it.

    Raises:
        FileNotFoundError, ValueError: as `open_cube`, or the file is not one of `create_cube`'s.
    """
    path = Path(path)
    file = open_cube(path)
    if path.suffix == ".npy":
        array = np.lib.format.open_memmap(path, "r+")
    else:
        array = np.memmap(path.with_suffix(".img"), "<f4", "r+", shape=file.shape)
    if path.suffix not in (".npy", ".hdr") or array.dtype != np.float32:
        raise ValueError(f"{path}: expected a float32 file made by create_cube, got {array.dtype}")
    return array


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Each library has its own exceptions for a damaged file: make them one."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path}: damaged, truncated or not what its ending says ({type(error).__name__}: {error})") from error


def _cut(array, axes: str, bands: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """A window of anything that is sliced like an array; `axes` are its axes in order, such as HWC."""
    span = slice(int(bands.min()), int(bands.max()) + 1)  # only slices are cheap in every library
    window = {"C": span, "H": rows, "W": columns}
    part = np.transpose(array[tuple(window[axis] for axis in axes)], [axes.index(axis) for axis in "CHW"])
    return part if np.array_equal(bands, np.arange(span.start, span.stop)) else part[bands - span.start]


def _cut_raw(path: Path, dtype, offset: int, stored: tuple, axes: str, *window) -> np.ndarray:
    return _cut(np.memmap(path, dtype, "r", offset, stored), axes, *window)


def _cut_npy(path: Path, *window) -> np.ndarray:
    return _cut(np.load(path, mmap_mode="r"), "CHW", *window)


def _cut_hdf5(path: Path, variable: str, axes: str, *window) -> np.ndarray:
    import h5py

    with h5py.File(path) as file:
        return _cut(file[variable], axes, *window)


def _cut_geotiff(path: Path, bands: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    with _geotiff(path) as dataset:
        return dataset.read((bands + 1).tolist(), window=((rows.start, rows.stop), (columns.start, columns.stop)))


def _open_envi(path: Path, given) -> dict:
    from spectral.io import envi

    with _reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on capital letters in field names
        header = envi.read_envi_header(str(path))
    missing = [name for name in ("lines", "samples", "bands", "data type", "interleave", "byte order") if name not in header]
    if missing:
        raise ValueError(f"{path}: the header lacks {', '.join(missing)}")
    interleave = str(header["interleave"]).lower()
    if interleave not in INTERLEAVES:
        raise ValueError(f"{path}: interleave: expected {', '.join(INTERLEAVES)}, got {header['interleave']!r}")
    if header["data type"] not in envi.envi_to_dtype:
        raise ValueError(f"{path}: data type: expected one of {', '.join(envi.envi_to_dtype)}, got {header['data type']!r}")
    if "library" in str(header.get("file type", "")).lower():
        raise ValueError(f"{path}: expected an image, got a spectral library")
    with _reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = envi.open(str(path))
        except envi.EnviDataFileNotFoundError as error:
            raise FileNotFoundError(
                f"{path}: no data file beside the header (same name, ending .img, .dat, .{interleave} or none)"
            ) from error
    data, axes, dtype = Path(image.filename), INTERLEAVES[interleave], np.dtype(image.dtype)
    shape = (image.nbands, image.nrows, image.ncols)
    expected = image.offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if data.stat().st_size < expected:
        raise ValueError(f"{data}: truncated: its header asks for {expected} bytes, it has {data.stat().st_size}")
    stored = tuple(dict(zip("CHW", shape))[axis] for axis in axes)
    found = {"shape": shape, "dtype": dtype, "_numbers": partial(_cut_raw, data, dtype, image.offset, stored, axes)}

    def values(name: str, count: int = shape[0]) -> np.ndarray | None:
        try:
            numbers = np.atleast_1d(np.asarray(header[name], dtype=np.float64)) if name in header else None
        except ValueError as error:
            raise ValueError(f"{path}: {name}: {error}") from error
        if numbers is not None and len(numbers) != count:
            raise ValueError(f"{path}: {name}: expected {count} values, got {len(numbers)}")
        return numbers

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
        factor = float(values("reflectance scale factor", 1)[0])
        if not (np.isfinite(factor) and factor > 0):
            raise ValueError(f"{path}: reflectance scale factor: expected a positive number, got {factor}")
        found |= {"_gain": np.full(shape[0], 1 / factor)}
    else:
        gains, offsets = values("data gain values"), values("data offset values")
        found |= {} if gains is None else {"_gain": gains}
        found |= {} if offsets is None else {"_offset": offsets}
    return found | {"georeference": {name: header[name] for name in ENVI_GEOREFERENCE if name in header} or None}


@contextmanager
def _geotiff(path: Path):
    import rasterio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        dataset = rasterio.open(path)
    with dataset:
        yield dataset


def _open_geotiff(path: Path, given) -> dict:
    with _reading(path), _geotiff(path) as dataset:
        bands = range(1, dataset.count + 1)
        found = {
            "shape": (dataset.count, dataset.height, dataset.width),
            "dtype": np.result_type(*dataset.dtypes),
            "ignore_value": dataset.nodata,
            "_numbers": partial(_cut_geotiff, path),
            "_gain": np.array(dataset.scales),
            "_offset": np.array(dataset.offsets),
        }
        if dataset.crs is not None or not dataset.transform.is_identity:
            wkt = dataset.crs.to_wkt() if dataset.crs is not None else None
            found |= {"georeference": {"crs": wkt, "transform": tuple(dataset.transform)[:6]}}
        # GDAL knows two places: band tags (from ENVI headers) and, since 3.10, the domain IMAGERY
        tags = [dataset.tags(band) for band in bands]
        imagery = [dataset.tags(band, ns="IMAGERY") for band in bands]
    if given is None:
        if all("CENTRAL_WAVELENGTH_UM" in tag for tag in imagery):
            found |= {"wavelengths_nm": 1000 * np.array([float(tag["CENTRAL_WAVELENGTH_UM"]) for tag in imagery])}
            if all("FWHM_UM" in tag for tag in imagery):
                found |= {"fwhm_nm": 1000 * np.array([float(tag["FWHM_UM"]) for tag in imagery])}
        elif all("wavelength" in tag for tag in tags):
            centres = np.array([float(tag["wavelength"]) for tag in tags])
            found |= {"wavelengths_nm": centres * _nanometres_per_unit(path, centres, tags[0].get("wavelength_units"))}
    return found


def _open_npy(path: Path, given) -> dict:
    with _reading(path):
        array = np.load(path, mmap_mode="r")
    if array.ndim != 3:
        raise ValueError(f"{path}: expected an array (C, H, W), got shape {array.shape}")
    return {"shape": array.shape, "dtype": array.dtype, "_numbers": partial(_cut_npy, path)}


def _open_npz(path: Path, given, variable: str | None) -> dict:
    with _reading(path), np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    name, axes, found = _find_cube(path, arrays, given, variable, "CHW")
    return found | {"_numbers": partial(_cut, arrays[name], axes)}


def _open_mat(path: Path, given, variable: str | None) -> dict:
    import h5py
    from scipy.io import loadmat

    if h5py.is_hdf5(path):
        return _open_hdf5(path, given, variable, reverse=True)
    with _reading(path):
        arrays = {name: array for name, array in loadmat(path, appendmat=False).items() if isinstance(array, np.ndarray)}
    name, axes, found = _find_cube(path, arrays, given, variable, "HWC")
    return found | {"_numbers": partial(_cut, arrays[name], axes)}


def _open_hdf5(path: Path, given, variable: str | None, reverse: bool = False) -> dict:
    import h5py

    with _reading(path):
        file = h5py.File(path)
    with file:
        datasets = {}

        def note(name: str, item) -> None:
            if isinstance(item, h5py.Dataset) and not name.startswith("#"):  # MATLAB's own tables
                datasets[name] = item

        file.visititems(note)
        name, axes, found = _find_cube(path, datasets, given, variable, "HWC", reverse)
        attributes = datasets[name].attrs
        # netCDF's attributes, and those of NEON's reflectance files, whose factor divides
        gain = attributes.get("scale_factor", 1 / attributes.get("Scale_Factor", 1))
        ignore = attributes.get("_FillValue", attributes.get("Data_Ignore_Value"))
        count = found["shape"][0]
        found |= {"_gain": np.full(count, gain, float), "_offset": np.full(count, attributes.get("add_offset", 0), float)}
    return found | {
        "_numbers": partial(_cut_hdf5, path, name, axes),
        "ignore_value": None if ignore is None else float(np.ravel(ignore)[0]),
    }


def _find_cube(path: Path, variables: dict, given, variable: str | None, habit: str, reverse: bool = False) -> tuple[str, str, dict]:
    """Which of the named arrays is the image, how its axes lie, and its shape, type, wavelengths and widths."""
    listing = ", ".join(f"{name} {tuple(array.shape)}" for name, array in variables.items()) or "nothing"
    cubes = [name for name, array in variables.items() if array.ndim == 3 and array.dtype.kind in "iufcV"]
    if variable is not None and variable not in variables:
        raise ValueError(f"variable: {path} has no {variable!r}; it holds {listing}")
    if variable is None and len(cubes) > 1:
        several = ", ".join(f"{name} {tuple(variables[name].shape)}" for name in cubes)
        raise ValueError(f"{path}: holds several images, choose one with variable=: {several}")
    if not cubes or (variable is not None and variable not in cubes):
        raise ValueError(f"{path}: expected an array of numbers with three axes in {variable or 'it'}; it holds {listing}")
    name = variable or cubes[0]
    lengths = variables[name].shape[::-1] if reverse else variables[name].shape
    centres, widths = (given, None) if given is not None else _find_wavelengths(path, variables, lengths)
    axes = habit if centres is None or habit == "CHW" else _place_bands(path, lengths, len(centres))
    found = {"shape": tuple(lengths[axes.index(axis)] for axis in "CHW"), "dtype": variables[name].dtype}
    return name, axes[::-1] if reverse else axes, found | {"wavelengths_nm": centres, "fwhm_nm": widths}


def _find_wavelengths(path: Path, variables: dict, lengths: tuple) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Band centres and widths in nanometres: the vectors whose names say so."""

    def vectors(words: str) -> dict[str, np.ndarray]:
        named = {name: array for name, array in variables.items() if re.search(words, name.rsplit("/")[-1], re.IGNORECASE)}
        return {
            name: np.ravel(array[()])
            for name, array in named.items()
            if array.dtype.kind in "iuf" and array.size == max(array.shape, default=0)
        }

    centres = vectors("wave|lambda")
    if not centres:
        return None, None
    fitting = {name: values for name, values in centres.items() if len(values) in lengths}
    if len(fitting) != 1:
        listing = ", ".join(f"{name} ({len(values)})" for name, values in centres.items())
        raise ValueError(f"{path}: expected one vector of wavelengths as long as an axis of {lengths}, got {listing}; give wavelengths_nm")
    ((name, values),) = fitting.items()
    attributes = getattr(variables[name], "attrs", {})
    nm = _nanometres_per_unit(path, values, attributes.get("units", attributes.get("Units")))
    widths = [width for width in vectors("fwhm").values() if len(width) == len(values)]
    return values.astype(np.float64) * nm, widths[0].astype(np.float64) * nm if len(widths) == 1 else None


def _place_bands(path: Path, lengths: tuple, count: int) -> str:
    """The axes in order, bands where the length is `count`."""
    fitting = [axis for axis, length in enumerate(lengths) if length == count]
    if len(fitting) != 1:
        raise ValueError(
            f"{path}: cannot tell which axis of {lengths} holds the bands: {len(fitting)} axes are as long as the {count} wavelengths; "
            "save the image as .npy (C, H, W)"
            if fitting
            else f"{path}: wavelengths_nm: {count} values fit no axis of {lengths}"
        )
    return {0: "CHW", 1: "HCW", 2: "HWC"}[fitting[0]]


def _nanometres_per_unit(path: Path, values: np.ndarray, unit) -> float:
    unit = unit.decode() if isinstance(unit, bytes) else str(unit or "unknown")
    known = UNITS_NM.get(unit.strip().lower().removesuffix("s"))
    if known is not None:
        return known
    low, high = PLAUSIBLE_NM
    for factor in (1, 1000):
        if unit.lower() == "unknown" and len(values) and low <= values.min() * factor and values.max() * factor <= high:
            return factor
    raise ValueError(
        f"{path}: wavelengths: expected nanometers or micrometers, got unit {unit!r}, {values.min()} to {values.max()}; give wavelengths_nm"
    )


def _envi_georeference(georeference: dict) -> dict:
    """Header fields of ENVI for what `CubeFile.georeference` holds."""
    if "transform" not in georeference:
        return georeference
    from rasterio.crs import CRS

    width, skew_x, left, skew_y, height, top = georeference["transform"]
    if skew_x or skew_y or width <= 0 or height >= 0:
        raise ValueError(f"georeference: expected a north-up transform, got {georeference['transform']}")
    crs = CRS.from_wkt(georeference["crs"]) if georeference["crs"] else None
    name = "Arbitrary" if crs is None else "Geographic Lat/Lon" if crs.is_geographic else "Projected"
    fields = {"map info": [name, 1, 1, left, top, width, -height]}
    return fields if crs is None else fields | {"coordinate system string": crs.to_wkt(version="WKT1_ESRI").split(",")}
