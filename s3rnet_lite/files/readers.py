"""How each image format is read, with the library of the field for it; used in
notebooks/10_gpu_training.ipynb.

A reader takes (path, wavelengths, variable, order), each of the last three None if not given, and
returns what the file says: `shape`, `dtype`, and `_cut`, which fetches a window, always;
wavelengths, gains and the rest of `formats.CubeFile` where the file has them. The libraries are
imported where they are used: training on arrays needs none of them.
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
from .envi import read_envi
from .named_arrays import read_hdf5, read_mat, read_npy, read_npz
from .reading import naming, nanometres_per_unit, no_variable


def read_geotiff(path: Path, given, variable: str | None, order: str | None = None) -> dict:
    no_variable(path, variable)
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
        texts = [text or "" for text in dataset.descriptions]
        tags = [dataset.tags(band) | dataset.tags(band, ns="IMAGERY") for band in dataset.indexes]
    if pages:
        raise ValueError(f"{path}: expected one image of many bands, got {pages} images (pages)")

    return found | _geotiff_bands(path, tags, texts, given)


def _geotiff_bands(path: Path, tags: list[dict], texts: list[str], given) -> dict:
    """Wavelengths and widths in nm, from the bands' tags or their descriptions."""

    def values(name: str) -> np.ndarray | None:
        if not all(name in tag for tag in tags):
            return None
        return np.array([float(tag[name]) for tag in tags])

    found, widths_um = {}, values("FWHM_UM")
    if widths_um is not None:
        found["fwhm_nm"] = widths_um * 1000
    if given is not None:
        return found
    centres, centres_um = values("wavelength"), values("CENTRAL_WAVELENGTH_UM")
    described = [DESCRIBED.search(text) for text in texts]
    if centres is not None:
        nm = nanometres_per_unit(path, centres, tags[0].get("wavelength_units"))
        found["wavelengths_nm"] = centres * nm
    elif centres_um is not None:
        found["wavelengths_nm"] = centres_um * 1000
    elif all(described):
        numbers = np.array([float(match[1]) for match in described])
        found["wavelengths_nm"] = numbers * nanometres_per_unit(path, numbers, described[0][2])
    return found


# "450.0 Nanometers", as programs write it into the description of a band
DESCRIBED = re.compile(
    r"(\d+(?:\.\d+)?)\s*(nanomet(?:er|re)s?|nm|micromet(?:er|re)s?|µm|um)\b", re.I
)


@contextmanager
def _geotiff(path: Path) -> Iterator:
    rasterio = extras.load("rasterio")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        # one driver only: others follow names in the file to other files, or into the network
        with rasterio.open(path, driver="GTiff") as dataset:
            yield dataset


def _cut_geotiff(path: Path, bands: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    with _geotiff(path) as dataset:
        return dataset.read(
            (bands + 1).tolist(), window=((rows.start, rows.stop), (columns.start, columns.stop))
        )


READERS: dict[str, Callable] = {
    ".hdr": read_envi,
    ".tif": read_geotiff,
    ".tiff": read_geotiff,
    ".mat": read_mat,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".he5": read_hdf5,
    ".nc": read_hdf5,
    ".nc4": read_hdf5,
    ".npy": read_npy,
    ".npz": read_npz,
}
