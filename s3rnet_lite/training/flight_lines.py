"""Flight lines, from files or SIMULATED, cut into patches for `dataset.prepare`; used in
notebooks/10_gpu_training.ipynb.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..files import outliers
from ..files.atomic import write_file
from ..files.envi import data_file
from ..files.formats import CubeFile, open_cube
from ..sensing.indian_pines import PAPER_CHANNELS, paper_bands
from ..sensing.scenes import simulate
from ..sensing.sensors import typical_width

LEVELS = 65535  # y = number / 65535
SCALINGS = {  # the percentiles of a flight line's numbers that become 0 and 1
    "minmax": (0.0, 100.0),
    "percentile": (0.1, 99.9),
}
AVIRIS_CHANNELS = 224
AVIRIS_FLIGHT = re.compile(
    r"f\d{6}t\d{2}p\d{2}_?r\d{2}"
)  # date, take-off, plot and run begin the names of its files
Window = tuple[slice, slice]  # rows, columns
Reader = Callable[
    [slice, slice], np.ndarray
]  # rows, columns -> (C, h, w) float32 in the sensor's unit, NaN for no data


class FileLine:
    """A flight line on disk, of which some bands are kept.

    name: of the file, up to its first dot.
    flight_line: what a name of AVIRIS's says; else the name.
    shape: (H, W).
    source: what tells whether the file has changed: the size in bytes and the time of the last
    change (ns) of each of its files.
    """

    def __init__(self, path: Path, keep_bands: str):
        cube = open_cube(path)
        if cube.wavelengths_nm is None:
            raise ValueError(
                f"{path}: has no wavelengths, which the spectral responses of the HR-MSI need"
            )
        self.name, self.shape, self._cube = path.name.split(".")[0], cube.shape[1:], cube
        flight = AVIRIS_FLIGHT.match(self.name)
        self.flight_line = flight[0] if flight else self.name
        self._bands = _kept_bands(cube, keep_bands)
        self.wavelengths_nm = cube.wavelengths_nm[self._bands]
        self.fwhm_nm = _widths(cube)[self._bands]
        self.source = {
            file.name: [file.stat().st_size, file.stat().st_mtime_ns]
            for file in data_files(cube.path)
        }

    def reader(self) -> Reader:
        return lambda rows, columns: self._cube.read(rows, columns, self._bands)


class SimulatedLine:
    """A SIMULATED flight line of 2 x 2 patches, made when it is read; attributes as of
    `FileLine`.
    """

    def __init__(self, seed: int, patch: int):
        self.name = self.flight_line = f"simulated{seed:04}"
        self.shape, self.source = (2 * patch, 2 * patch), {"simulated seed": seed}
        self.wavelengths_nm, self.fwhm_nm = (band.numpy() for band in paper_bands())
        self._seed = seed

    def reader(self) -> Reader:
        made = simulate(self._seed, self.shape[0])
        return lambda rows, columns: (
            made.cube[:, rows, columns].numpy() * np.float32(made.scale) + np.float32(made.offset)
        )


FlightLine = FileLine | SimulatedLine


def check_lines(lines: list[FlightLine]) -> None:
    """Raise ValueError unless these can become one data set."""
    if (found := len({line.flight_line for line in lines})) < 3:
        raise ValueError(
            "expected at least 3 flight lines, so that none is in two of train, val and test, got "
            f"{found}"
        )
    names = [line.name for line in lines]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"expected files of different names, got more than one {', '.join(twice)}")
    first = lines[0]
    for line in lines[1:]:
        if len(line.wavelengths_nm) != len(first.wavelengths_nm):
            raise ValueError(
                f"{line.name}: expected {len(first.wavelengths_nm)} bands as in {first.name}, got "
                f"{len(line.wavelengths_nm)}"
            )
        apart = np.abs(line.wavelengths_nm - first.wavelengths_nm)
        if (apart > first.fwhm_nm / 2).any():
            raise ValueError(
                f"{line.name}: expected the bands of {first.name}, got some up to "
                f"{apart.max():.1f} nm apart"
            )


def grid(shape: tuple[int, int], patch: int) -> list[Window]:
    """Rows and columns of patches side by side, with the incomplete ones at the right and lower
    border.
    """
    rows, columns = (
        [slice(first, min(first + patch, length)) for first in range(0, length, patch)]
        for length in shape
    )
    return [(row, column) for row in rows for column in columns]


def write_patches(
    path: Path,
    read: Reader,
    windows: list[Window],
    settings: dict,
    advance: Callable[[int], object],
) -> dict:
    """Find the range of a flight line and its complete windows, then write these to `path`; without
    any, nothing is written.

    Args:
        windows: as from `grid`.
        settings: "patch" and "scaling", as of `dataset.prepare`.
        advance: is told after each window that one more is done; there are `passes(scaling)`.

    Returns:
        `patches`, their number, and `scale`, `offset`, `clipped` (the share of numbers in these
        patches outside the range, which became 0 or 1), `corners` and `sha256` if there are any.

    Raises:
        ValueError: a single pixel takes the whole range (`files.outliers`, which also warns).
    """
    lowest, highest, complete = _survey(read, windows, settings["patch"], advance)
    if not complete:
        return {"patches": 0}
    extremes = lowest, highest, lambda row, column: _pixel(read, row, column)
    # percentiles pass over an outlier, unless their histogram has one bin for all others
    usual = settings["scaling"] == "minmax"
    outliers.check(path.stem, *extremes, outliers.SUSPECT if usual else outliers.LOST)
    limits = float(np.nanmin(lowest)), float(np.nanmax(highest))
    if settings["scaling"] != "minmax":
        percentiles = SCALINGS[settings["scaling"]]
        limits = _percentiles(read, windows, limits, percentiles, advance)
    clipped = []

    def save(temporary: str) -> None:
        clipped.append(_write(temporary, read, complete, limits, advance))

    write_file(path, save)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    advance(len(windows) - len(complete))
    return {
        "patches": len(complete),
        "scale": limits[1] - limits[0],
        "offset": limits[0],
        "clipped": clipped[-1],
        "corners": [[rows.start, columns.start] for rows, columns in complete],
        "sha256": digest,
    }


def _survey(
    read: Reader, windows: list[Window], patch: int, advance: Callable[[int], object]
) -> tuple[np.ndarray, np.ndarray, list[Window]]:
    """Each pixel's least and largest number (H, W), NaN without data, and the windows with data
    everywhere.
    """
    size = [windows[-1][axis].stop for axis in (0, 1)]
    lowest, highest = (np.full(size, np.nan, np.float32) for _ in range(2))
    complete = []
    for rows, columns in windows:
        bottom, top, valid = _extremes(read(rows, columns))
        lowest[rows, columns] = np.where(valid, bottom, np.nan)
        highest[rows, columns] = np.where(valid, top, np.nan)
        if valid.all() and valid.shape == (patch, patch):
            complete.append((rows, columns))
        advance(1)
    return lowest, highest, complete


def _pixel(read: Reader, row: int, column: int) -> np.ndarray:
    """Its spectrum."""
    return read(slice(row, row + 1), slice(column, column + 1))[:, 0, 0]


def _write(
    path: str,
    read: Reader,
    windows: list[Window],
    limits: tuple[float, float],
    advance: Callable[[int], object],
) -> float:
    """Store windows of one size as uint16, `limits` as 0 and `LEVELS`; the share of numbers that
    were beyond.
    """
    outside, lowest, highest = 0, *limits
    with open(path, "wb") as file:
        for number, (rows, columns) in enumerate(windows):
            cube = read(rows, columns)
            if number == 0:
                shape = (len(windows), *cube.shape)
                header = {"descr": "<u2", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            cube -= np.float32(lowest)
            cube *= np.float32(LEVELS / (highest - lowest))
            np.rint(cube, out=cube)
            outside += int(((cube < 0) | (cube > LEVELS)).sum())
            file.write(cube.clip(0, LEVELS, out=cube).astype("<u2"))
            advance(1)
    return outside / int(np.prod(shape))


def _extremes(cube: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each pixel of (C, H, W), its least and largest number, and whether it has data: is finite
    and not the same in all bands.
    """
    bottom, top = cube.min(0), cube.max(0)  # NaN if any band is NaN
    return bottom, top, np.isfinite(bottom) & np.isfinite(top) & (bottom < top)


def passes(scaling: str) -> int:
    """How often `write_patches` reads a flight line."""
    return 2 if scaling == "minmax" else 3


def _percentiles(
    read: Reader,
    windows: list[Window],
    limits: tuple[float, float],
    percentiles: tuple[float, float],
    advance: Callable[[int], object],
) -> tuple[float, float]:
    """Percentiles of all numbers with data, from a histogram with `LEVELS` steps between `limits`,
    to the next step outwards.
    """
    counts = np.zeros(LEVELS, np.int64)
    for rows, columns in windows:
        cube = read(rows, columns)
        counts += np.histogram(cube[:, _extremes(cube)[2]], LEVELS, limits)[0]
        advance(1)
    shares, edges = 100 * np.cumsum(counts) / counts.sum(), np.linspace(*limits, LEVELS + 1)
    low, high = np.searchsorted(shares, percentiles)
    return float(edges[low]), float(edges[high + 1])


def _kept_bands(cube: CubeFile, keep_bands: str) -> np.ndarray:
    if keep_bands == "all":
        return np.flatnonzero(cube.good_bands)
    if keep_bands != "paper":
        raise ValueError(f"keep_bands: expected 'paper' or 'all', got {keep_bands!r}")
    if cube.shape[0] != AVIRIS_CHANNELS:
        raise ValueError(
            f"{cube.path}: expected AVIRIS's {AVIRIS_CHANNELS} bands, got {cube.shape[0]}; "
            "keep_bands 'all' takes any"
        )
    return np.array(PAPER_CHANNELS) - 1


def _widths(cube: CubeFile) -> np.ndarray:
    if cube.fwhm_nm is not None:
        return cube.fwhm_nm
    return np.full(cube.shape[0], typical_width(cube.wavelengths_nm))


def data_files(path: Path) -> list[Path]:
    """The files that an image consists of."""
    return [path, data_file(path)] if path.suffix.lower() == ".hdr" else [path]
