"""ENVI images: a text header and a file of raw numbers beside it; used in
notebooks/10_gpu_training.ipynb.

Headers come from many programs and hands. What is written in another way than ENVI's but can mean
one thing only is read, with a warning where something had to be assumed.
"""

from __future__ import annotations

import glob
import math
import re
import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np

from . import extras
from .outputs import ENVI_DATA as DATA_ENDINGS
from .reading import cut, naming, nanometres_per_unit, no_variable

# axes in the order in which they lie on disk
INTERLEAVES = {"bsq": "CHW", "bil": "HCW", "bip": "HWC"}
FIELDS = ("lines", "samples", "bands", "data type", "interleave")
GEOREFERENCE = ("map info", "projection info", "coordinate system string")


def find_header(path: Path) -> Path | None:
    """The header beside a data file, NAME.img.hdr or NAME.hdr; None if there is none."""
    candidates = [path.with_name(path.name + ".hdr"), path.with_suffix(".hdr")]
    return next((header for header in candidates if header.is_file() and header != path), None)


def read_envi(path: Path, given, variable: str | None, order: str | None = None) -> dict:
    """See `readers`."""
    no_variable(path, variable)
    header = read_header(path)
    shape = tuple(int(_numbers(path, header, name, 1)[0]) for name in ("bands", "lines", "samples"))
    dtype, offset = _type(path, header), 0
    if "header offset" in header:
        offset = int(_numbers(path, header, "header offset", 1)[0])
    axes = INTERLEAVES[header["interleave"].lower()]
    data = data_file(path)
    _check_size(path, data, offset, shape, dtype)
    stored = tuple(dict(zip("CHW", shape, strict=True))[axis] for axis in axes)
    found = {
        "shape": shape,
        "dtype": dtype,
        "_cut": partial(_cut_raw, data, dtype, offset, stored, axes),
        "good_bands": np.ones(shape[0], bool),
    }
    if "wavelength" in header and given is None:
        found |= _wavelengths(path, header, found["good_bands"])
    if "bbl" in header:
        found["good_bands"] &= _numbers(path, header, "bbl", shape[0]) > 0
    if "data ignore value" in header:
        found |= {"ignore_value": float(_numbers(path, header, "data ignore value", 1)[0])}
    found |= _gains(path, header, shape[0])
    georeference = {name: header[name] for name in GEOREFERENCE if name in header}
    system = georeference.get("coordinate system string")
    if isinstance(system, list):  # split at its commas as if it were a list
        georeference["coordinate system string"] = "{" + ",".join(system) + "}"
    return found | {"georeference": georeference or None}


def read_header(path: Path) -> dict:
    """The fields of a header, with lists in { }, whatever its encoding, commas and brackets."""
    envi = extras.load("spectral.io.envi")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    text = re.sub(r"(=\s*)\[([^\]]*)\]", r"\1{\2}", text.replace("\0", ""))
    text = re.sub(r",(\s*)\}", r"\1}", text)
    with tempfile.TemporaryDirectory() as folder, naming(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about capital letters in the names of fields
        clean = Path(folder, "clean.hdr")
        clean.write_text(to_ascii(text), encoding="ascii")  # spectral reads in the user's encoding
        header = {
            name: from_ascii(value) if isinstance(value, str) else list(map(from_ascii, value))
            for name, value in envi.read_envi_header(str(clean)).items()
        }
    if "wavelengths" in header and "wavelength" not in header:
        header["wavelength"] = header["wavelengths"]
        warnings.warn(f"{path}: read the field 'wavelengths' as 'wavelength'", stacklevel=4)
    missing = [name for name in FIELDS if name not in header]
    if missing:
        raise ValueError(f"{path}: the header lacks {', '.join(missing)}")
    if "byte order" not in header:
        header["byte order"] = "0"
        warnings.warn(
            f"{path}: the header lacks byte order; 0 (low byte first) assumed", stacklevel=4
        )
    for name, known in (("interleave", INTERLEAVES), ("data type", envi.envi_to_dtype)):
        if str(header[name]).lower() not in known:
            raise ValueError(
                f"{path}: {name}: expected one of {', '.join(known)}, got {header[name]!r}"
            )
    if "spectral library" in str(header.get("file type", "")).lower():
        raise ValueError(f"{path}: expected an image, got a spectral library")
    for name in ("major frame offsets", "minor frame offsets"):
        if re.search("[1-9]", str(header.get(name, ""))):
            raise ValueError(f"{path}: {name}: expected none or 0, got {header[name]}")
    return header


def to_ascii(text: str) -> str:
    """Other characters as &#181; and the like."""
    return text.encode("ascii", "xmlcharrefreplace").decode()


def from_ascii(text: str) -> str:
    """Undo `to_ascii`."""
    return re.sub(r"&#(\d{1,6});", lambda found: chr(int(found[1])), text)


def write_header(path: Path, header: dict) -> None:
    """Write the fields of an image's header, in UTF-8."""
    envi = extras.load("spectral.io.envi")
    envi.write_envi_header(
        str(path), {k: to_ascii(v) if isinstance(v, str) else v for k, v in header.items()}
    )
    path.write_text(from_ascii(path.read_text(encoding="ascii")), encoding="utf-8")


def _type(path: Path, header: dict) -> np.dtype:
    envi = extras.load("spectral.io.envi")
    order = {"0": "<", "1": ">"}.get(str(header["byte order"]).strip())
    if order is None:
        raise ValueError(f"{path}: byte order: expected 0 or 1, got {header['byte order']!r}")
    return np.dtype(envi.envi_to_dtype[str(header["data type"])]).newbyteorder(order)


def _numbers(path: Path, header: dict, name: str, count: int) -> np.ndarray:
    try:
        numbers = np.atleast_1d(np.asarray(header[name], dtype=np.float64))
    except ValueError as error:
        raise ValueError(f"{path}: {name}: expected numbers ({error})") from error
    if len(numbers) != count:
        raise ValueError(f"{path}: {name}: expected {count} values, got {len(numbers)}")
    return numbers


def _wavelengths(path: Path, header: dict, good_bands: np.ndarray) -> dict:
    """Centres and widths in nm. A band without any (0, as PRISMA marks dead ones) is set to what
    its neighbours say and is no longer good.
    """
    count = len(good_bands)
    centres = _numbers(path, header, "wavelength", count)
    if not centres.any():
        return {}  # a one-band image's, say
    nm = nanometres_per_unit(path, centres[centres > 0], header.get("wavelength units"))
    widths = _numbers(path, header, "fwhm", count) if "fwhm" in header else None
    dead = centres == 0
    if widths is not None:
        dead |= widths == 0
    if dead.any() and not dead.all():
        warnings.warn(
            f"{path}: bands {np.flatnonzero(dead).tolist()} (counted from 0) have a wavelength or "
            "width of 0 and are left out",
            stacklevel=4,
        )
        good_bands &= ~dead
        index = np.arange(count)
        centres[dead] = np.interp(index[dead], index[~dead], centres[~dead])
        if widths is not None:
            widths[dead] = np.interp(index[dead], index[~dead], widths[~dead])
    found = {"wavelengths_nm": centres * nm}
    return found if widths is None else found | {"fwhm_nm": widths * nm}


def _gains(path: Path, header: dict, count: int) -> dict:
    if "reflectance scale factor" in header:
        factor = _numbers(path, header, "reflectance scale factor", 1)[0]
        if not 0 < factor < np.inf:
            raise ValueError(
                f"{path}: reflectance scale factor: expected a positive number, got {factor}"
            )
        return {"_gain": np.full(count, 1 / factor)}
    found = {}
    for key, name in (("_gain", "data gain values"), ("_offset", "data offset values")):
        if name in header:
            one_for_all = len(np.atleast_1d(header[name])) == 1
            values = _numbers(path, header, name, 1 if one_for_all else count)
            found[key] = np.broadcast_to(values, count).copy()
    return found


def data_file(path: Path) -> Path:
    """Beside the header: its name without ending or with one of `DATA_ENDINGS`, else the only other
    file of that name.
    """
    stem = path.with_suffix("")
    endings = [spelled for ending in DATA_ENDINGS for spelled in (ending, ending.upper())]
    for ending in endings:
        candidate = stem.with_name(stem.name + ending)
        if candidate.is_file():
            return candidate
    others = [
        other
        for other in path.parent.glob(f"{glob.escape(stem.name)}.*")
        if other.is_file() and other.stem == stem.name and other.suffix.lower() != ".hdr"
    ]
    if len(others) != 1:
        raise FileNotFoundError(
            f"{path}: no data file beside the header (same name, without ending or with .img, "
            f".dat, ...); found {', '.join(sorted(other.name for other in others)) or 'none'}"
        )
    return others[0]


def _check_size(
    path: Path, data: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype
) -> None:
    """Refuse a header that its data file cannot follow."""
    if min(*shape, offset + 1) < 1:
        raise ValueError(
            f"{path}: expected positive bands, lines and samples and no negative header offset, "
            f"got {shape}, {offset}"
        )
    expected, size = offset + math.prod(shape) * dtype.itemsize, data.stat().st_size
    if size < expected:
        raise ValueError(
            f"{data}: truncated: by its header it should have {expected} bytes, it has {size}"
        )


def _cut_raw(
    filename: str, dtype: np.dtype, offset: int, stored: tuple, axes: str, *window
) -> np.ndarray:
    return cut(np.memmap(filename, dtype, "r", offset, stored), axes, *window)
