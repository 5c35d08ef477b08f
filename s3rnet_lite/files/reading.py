"""What all readers of images share: errors that name the file, windows, and units of wavelength."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

UNITS_NM = dict.fromkeys(("nanometer", "nanometre", "nm"), 1)
UNITS_NM |= dict.fromkeys(("angstrom", "ångström", "å"), 0.1)
UNITS_NM |= dict.fromkeys(("micrometer", "micrometre", "micron", "um", "µm"), 1000)
# ultraviolet to thermal infrared: tells nanometres from micrometres where no unit is named
PLAUSIBLE_NM = (200, 30_000)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Every library has its own exceptions for a damaged file: make them one that names the
    file.
    """
    try:
        yield
    except (FileNotFoundError, ImportError):
        raise
    except MemoryError as error:
        raise ValueError(f"{path}: larger than the free memory ({error})") from error
    except Exception as error:
        name = re.escape(str(path.with_suffix("")))  # of the header and of what it describes
        if type(error) is ValueError and re.search(rf"(^|\s){name}[.:]", str(error)):
            raise  # says it already
        raise ValueError(
            f"{path}: damaged, truncated or not what its ending says ({type(error).__name__}: "
            f"{error})"
        ) from error


@contextmanager
def naming_pair(hsi: Path, msi: Path) -> Iterator[None]:
    """Errors about the images x_h and x_m also name the files that they come from."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if str(hsi) in str(error) or str(msi) in str(error):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{hsi} as x_h, {msi} as x_m: {error}") from error


def cut(array, axes: str, bands: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """A window (C', h, w) of anything that is sliced like an array; `axes` names its axes in order,
    HWC say.
    """
    first, stop = int(bands.min()), int(bands.max()) + 1
    # slices, which every library reads fast
    window = {"C": slice(first, stop), "H": rows, "W": columns}
    part = array[tuple(window[axis] for axis in axes)]
    part = np.transpose(part, [axes.index(axis) for axis in "CHW"])
    return part if np.array_equal(bands, np.arange(first, stop)) else part[bands - first]


def nanometres_per_unit(path: Path, values: np.ndarray, unit: str | bytes | None) -> float:
    """0.1, 1 or 1000: from the unit's name, or from the values where it is unknown."""
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
        f"{path}: wavelengths: expected nanometers, micrometers or angstrom, got {span} with unit "
        f"{unit!r}; give wavelengths_nm"
    )


def no_variable(path: Path, variable: str | None) -> None:
    """Refuse a name where there is nothing to choose from."""
    if variable is not None:
        raise ValueError(f"variable: {path} holds one image, which has no name; got {variable!r}")
