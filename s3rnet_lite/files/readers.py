"""How each image format is read, with the library of the field for it; used in
notebooks/10_gpu_training.ipynb.

A reader takes (path, wavelengths given or None, variable or None) and returns what the file says:
`shape`, `dtype`, and `_cut`, which fetches a window, always; wavelengths, gains and the rest of
`formats.CubeFile` where the file has them. The libraries are imported where they are used: training
on arrays needs none of them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from . import extras
from .named_arrays import read_hdf5, read_mat, read_npz
from .reading import cut, naming, nanometres_per_unit

# axes in the order in which they lie on disk
INTERLEAVES = {"bsq": "CHW", "bil": "HCW", "bip": "HWC"}
ENVI_FIELDS = ("lines", "samples", "bands", "data type", "interleave", "byte order")
ENVI_GEOREFERENCE = ("map info", "projection info", "coordinate system string")


def read_envi(path: Path, given, variable: str | None) -> dict:
    _no_variable(path, variable)
    header, image = _open_envi(path)
    shape, dtype = (image.nbands, image.nrows, image.ncols), np.dtype(image.dtype)
    axes = INTERLEAVES[header["interleave"].lower()]
    _check_size(path, image, shape, dtype)
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
        nm = nanometres_per_unit(path, values("wavelength"), header.get("wavelength units"))
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
    system = georeference.get("coordinate system string")
    if isinstance(system, list):  # split at its commas as if it were a list
        georeference["coordinate system string"] = "{" + ",".join(system) + "}"
    return found | {"georeference": georeference or None}


def _open_envi(path: Path) -> tuple[dict, object]:
    """The header's fields, and the image as the library opens it."""
    envi = extras.load("spectral.io.envi")
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
    return header, image


def _check_size(path: Path, image, shape: tuple[int, int, int], dtype: np.dtype) -> None:
    """Refuse a header that its data file cannot follow."""
    if min(*shape, image.offset + 1) < 1:
        raise ValueError(
            f"{path}: expected positive bands, lines and samples and no negative header offset, "
            f"got {shape}, {image.offset}"
        )
    expected = image.offset + math.prod(shape) * dtype.itemsize
    size = Path(image.filename).stat().st_size
    if size < expected:
        raise ValueError(
            f"{image.filename}: truncated: by its header it should have {expected} bytes, it has "
            f"{size}"
        )


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
            * nanometres_per_unit(path, centres, tags[0].get("wavelength_units"))
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


def _no_variable(path: Path, variable: str | None) -> None:
    if variable is not None:
        raise ValueError(f"variable: {path} holds one image, which has no name; got {variable!r}")


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
