"""Image files of the field, opened lazily and written window by window; used in
notebooks/10_gpu_training.ipynb.

Every cube comes out as (C, H, W), whatever the order on disk. ENVI and GeoTIFF say which axis holds
the bands. The others do not, so `.npy` and `.npz` are (C, H, W), as everywhere here, and `.mat` and
`.h5` are (H, W, C), the habit of the field, unless the file's wavelengths (or those given) are as
many as another axis is long. How each format is read: `readers.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import extras, outputs, readers, reading
from .envi import find_header, read_header, write_header

ENVI_LAYOUT = {
    "header offset": "0",
    "data type": "4",
    "interleave": "bsq",
    "byte order": "0",
}  # of files we write: float32, low byte first


@dataclass(frozen=True, eq=False)
class CubeFile:
    """An image on disk, of which `read` fetches windows. Holds no open file, so it can be sent to
    another process.

    shape: (C, H, W), bad bands included.
    wavelengths_nm, fwhm_nm: (C,) float64, or None if nobody says.
    good_bands: (C,) bool, from ENVI's bad-band list; else all True.
    ignore_value: the number on disk that means "no data", or None.
    georeference: what `create_cube` can carry on: ENVI's `map info`, `projection info` and
        `coordinate system string`, or `crs` (WKT) and `transform` (six numbers) of a GeoTIFF; None
        if the file has none.
    """

    path: Path
    shape: tuple[int, int, int]
    wavelengths_nm: np.ndarray | None
    fwhm_nm: np.ndarray | None
    good_bands: np.ndarray
    ignore_value: float | None
    georeference: dict | None
    _cut: Callable[[np.ndarray, slice, slice], np.ndarray] = field(
        repr=False
    )  # (bands, rows, columns) -> numbers as on disk
    _gain: np.ndarray = field(repr=False)  # (C,): physical value = number * gain + offset
    _offset: np.ndarray = field(repr=False)

    def read(
        self, rows: slice = slice(None), columns: slice = slice(None), bands=None
    ) -> np.ndarray:
        """A window (C', h, w), float32, in physical units, NaN where the file has no data.

        Args:
            rows, columns: slices without a step; as with lists, they may reach beyond the image.
            bands: numbers, a mask (C,) or a slice; None takes all, the bad ones too.

        Raises:
            ValueError: an empty window, a step, bands that do not exist, or data that cannot be
                read.
        """
        count, height, width = self.shape
        window = _bounds("rows", rows, height), _bounds("columns", columns, width)
        try:
            chosen = np.arange(count)[slice(None) if bands is None else bands]
        except IndexError as error:
            raise ValueError(
                f"bands: expected some of the {count} bands of {self.path} ({error})"
            ) from error
        if chosen.ndim != 1 or not len(chosen):
            raise ValueError(
                "bands: expected a list, a mask or a slice that takes at least one band, got "
                f"{bands!r}"
            )
        with reading.naming(self.path):
            numbers = self._cut(chosen, *window)
            with np.errstate(over="ignore"):  # -1.8e308 for "no data" becomes -inf, then NaN
                cube = np.array(numbers, np.float32, order="C")
        gain, offset = (
            values[chosen, None, None].astype(np.float32) for values in (self._gain, self._offset)
        )
        if (gain != 1).any():
            cube *= gain
        if (offset != 0).any():
            cube += offset
        if self.ignore_value is not None:
            integers = (
                numbers.dtype.kind in "iu" and self.ignore_value.is_integer()
            )  # compared as such: no float64 copy
            cube[numbers == (int(self.ignore_value) if integers else self.ignore_value)] = np.nan
        return cube


def open_cube(
    path: str | Path, variable: str | None = None, wavelengths_nm=None, order: str | None = None
) -> CubeFile:
    """Open an image file without reading its pixels (`.npz` and MATLAB 5 files, often compressed,
    are read whole and kept).

    Formats: ENVI `.hdr` (the data file lies beside it), GeoTIFF `.tif`, MATLAB `.mat` (5 and 7.3),
    HDF5 `.h5`, `.hdf5`, `.he5` (PRISMA's two cubes as one, see `prisma`) or netCDF 4 `.nc`, NumPy
    `.npy` or `.npz`. An array of two axes is one band.

    Args:
        variable: which array of a `.mat`, `.h5` or `.npz` file; needed only if several have three
            axes.
        wavelengths_nm: (C,) band centres in nanometres, instead of those of the file.
        order: of the axes of a `.npy`, `.npz`, `.mat` or `.h5` array, three letters of C, H and W
            ("HWC"), where wavelengths do not tell. ENVI and GeoTIFF know.

    Raises:
        FileNotFoundError: no such file, or no data beside an ENVI header.
        ValueError: another ending; a damaged, truncated or complex-valued file; a header with a
            field missing or wrong; no 3-D array, or several without `variable`; wavelengths that do
            not fit the bands or have an unknown unit.
    """
    path, reader = _find_reader(Path(path))
    if wavelengths_nm is not None:
        wavelengths_nm = np.asarray(wavelengths_nm, dtype=np.float64)
        if wavelengths_nm.ndim != 1:
            raise ValueError(
                f"wavelengths_nm: expected one value a band, got shape {wavelengths_nm.shape}"
            )
    if order is not None and sorted(order) != ["C", "H", "W"]:
        raise ValueError(f"order: expected the letters C, H and W in some order, got {order!r}")
    with reading.naming(path):
        found = reader(path, wavelengths_nm, variable, order)
    shape, dtype = found["shape"], found.pop("dtype")
    if dtype.kind not in "iuf":
        raise ValueError(
            f"{path}: expected real numbers, got "
            f"{'complex or compound ones' if dtype.kind in 'cV' else dtype}"
        )
    if 0 in shape:
        raise ValueError(f"{path}: expected a non-empty image, got shape {shape}")
    if wavelengths_nm is not None:
        found |= {"wavelengths_nm": wavelengths_nm, "fwhm_nm": None}
    return CubeFile(path=path, **_complete(path, found))


def _find_reader(path: Path) -> tuple[Path, Callable]:
    """The file to open, which is the header where the data file of an ENVI image was named, and
    what reads it.
    """
    reader = readers.READERS.get(path.suffix.lower())
    if reader is None and path.is_file() and (header := find_header(path)):
        return header, readers.READERS[".hdr"]
    if reader is None:
        raise ValueError(
            f"{path}: expected a file that ends in {', '.join(readers.READERS)} (of an ENVI image, "
            "name the .hdr)"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return path, reader


def _complete(path: Path, found: dict) -> dict:
    """What a reader found, with the usual values for what a file does not say."""
    bands = found["shape"][0]
    usual = {"wavelengths_nm": None, "fwhm_nm": None, "ignore_value": None, "georeference": None}
    usual |= {"good_bands": np.ones(bands, bool), "_gain": np.ones(bands)}
    found = usual | {"_offset": np.zeros(bands)} | found
    for name in ("wavelengths_nm", "fwhm_nm"):
        values = found[name]
        if values is not None and (
            len(values) != bands or not (np.isfinite(values) & (values > 0)).all()
        ):
            raise ValueError(
                f"{path}: {name}: expected {bands} positive values, one a band, got "
                f"{len(values)}: {values}"
            )
    return found


def create_cube(
    path: str | Path,
    shape: tuple[int, int, int],
    wavelengths_nm=None,
    fwhm_nm=None,
    georeference: dict | None = None,
) -> np.memmap:
    """Create a file of zeros to be filled window by window: a writable float32 array (C, H, W)
    whose pages the system writes.

    `.npy` holds numbers only; `.hdr` makes an ENVI header with wavelengths and georeference and the
    data (`.img`, bsq) beside it. An existing file is replaced.

    Args:
        georeference: as in `CubeFile`; a GeoTIFF's becomes ENVI's.

    Raises:
        ValueError: another ending, a name under which other ENVI data lie, or a GeoTIFF that is
            rotated.
        OSError: the disk has no room for it.
    """
    path = Path(path)
    if path.suffix not in (".npy", ".hdr"):
        raise ValueError(f"{path}: expected a file to write that ends in .npy or .hdr")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        return outputs.reserved(path, np.lib.format.open_memmap, np.float32, shape=tuple(shape))
    if path.with_suffix("").is_file():  # ENVI readers take data without an ending first
        raise ValueError(
            f"{path}: its name belongs to the data file {path.with_suffix('')}; choose another"
        )
    header = dict(zip(("bands", "lines", "samples"), shape, strict=True))
    header |= ENVI_LAYOUT | _envi_georeference(georeference or {})
    for name, values in (("wavelength", wavelengths_nm), ("fwhm", fwhm_nm)):
        if values is not None:
            header |= {"wavelength units": "Nanometers", name: [float(value) for value in values]}
    write_header(path, header)
    return outputs.reserved(path.with_suffix(".img"), np.memmap, "<f4", shape=tuple(shape))


def reopen_cube(path: str | Path) -> np.memmap:
    """The file that `create_cube` made, again as a writable array (C, H, W) with what was written
    so far.

    Raises:
        FileNotFoundError, ValueError: as `open_cube`, or not a file of `create_cube`'s.
    """
    path, shape = Path(path), open_cube(path).shape
    if path.suffix == ".npy":
        array = np.lib.format.open_memmap(path, "r+")
        if array.dtype == np.float32:
            return array
    if path.suffix == ".hdr":
        header = read_header(path)
        if path.with_suffix(".img").exists() and ENVI_LAYOUT.items() <= header.items():
            return np.memmap(path.with_suffix(".img"), "<f4", "r+", shape=shape)
    raise ValueError(
        f"{path}: expected a file made by create_cube: .npy, float32, or .hdr with an .img, "
        "float32, bsq"
    )


def _bounds(name: str, window: slice, length: int) -> slice:
    """The slice with both ends as numbers within the image."""
    first, stop, step = window.indices(length)
    if step != 1 or first >= stop:
        raise ValueError(
            f"{name}: expected a non-empty slice without a step within 0..{length}, got {window}"
        )
    return slice(first, stop)


def _envi_georeference(georeference: dict) -> dict:
    """The header fields of ENVI for what `CubeFile.georeference` holds."""
    if "transform" not in georeference:
        return georeference
    from_wkt = extras.load("rasterio.crs").CRS.from_wkt

    width, row_skew, left, column_skew, height, top = georeference["transform"]
    if row_skew or column_skew or width <= 0 or height >= 0:
        raise ValueError(
            f"georeference: expected a north-up transform, got {georeference['transform']}"
        )
    crs = from_wkt(georeference["crs"]) if georeference["crs"] else None
    name = "Geographic Lat/Lon" if crs is not None and crs.is_geographic else "Arbitrary"
    fields = {"map info": [name, 1, 1, left, top, width, -height]}  # the corner of pixel (1, 1)
    return (
        fields
        if crs is None
        else fields | {"coordinate system string": "{" + crs.to_wkt(version="WKT1_ESRI") + "}"}
    )


def bounds(file: CubeFile) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom edge of a north-up image, in the units of its map; None if the
    file does not say.
    """
    place = file.georeference or {}
    if "transform" in place:
        width, _, left, _, height, top = place["transform"]
    elif "map info" in place:
        column, row, left, top, width, height = (float(number) for number in place["map info"][1:7])
        left, top, height = left - (column - 1) * width, top + (row - 1) * height, -height
    else:
        return None
    return left, top, left + width * file.shape[2], top + height * file.shape[1]
