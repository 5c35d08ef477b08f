"""Image files for tests, written without the code that is tested."""

from pathlib import Path

import h5py
import numpy as np
import rasterio
import scipy.io

MATLAB_FILES = (
    Path(scipy.io.__file__).parent / "matlab" / "tests" / "data"
)  # saved by MATLAB, shipped with scipy
ENVI_TYPES = {
    1: "u1",
    2: "i2",
    3: "i4",
    4: "f4",
    5: "f8",
    12: "u2",
    13: "u4",
    14: "i8",
    15: "u8",
}  # from ENVI's documentation
TO_DISK = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}  # from (C, H, W)
CENTRES = np.array([410.5, 520.25, 640.0, 700.0, 1650.75])
CUBE = np.random.default_rng(0).integers(0, 10_000, (5, 6, 7)).astype(np.int16)
WINDOW = slice(1, 5), slice(3, 6)
UTM = {"crs": "EPSG:32616", "transform": rasterio.Affine(20, 0, 500_000, 0, -30, 4_480_000)}


def write_envi(folder: Path, numbers: np.ndarray = CUBE, leave_out: str = "", **fields) -> Path:
    """An ENVI image whose header and bytes are made here, without a library. `fields`: header
    fields with _ for blanks.
    """
    bands, lines, samples = numbers.shape
    code = {np.dtype(name): code for code, name in ENVI_TYPES.items()}[
        numbers.dtype.newbyteorder("=")
    ]
    header = {
        "samples": samples,
        "lines": lines,
        "bands": bands,
        "header offset": 0,
        "data type": code,
        "interleave": "bsq",
        "byte order": 0,
    }
    header |= {name.replace("_", " "): value for name, value in fields.items()}
    header.pop(leave_out, None)
    stored = numbers.transpose(TO_DISK.get(str(header.get("interleave")).lower(), (0, 1, 2)))
    data = stored.astype(
        numbers.dtype.newbyteorder("<>"[int(header.get("byte order", 0))])
    ).tobytes()
    path = folder / "image.hdr"
    path.write_text("ENVI\n" + "".join(f"{name} = {value}\n" for name, value in header.items()))
    (folder / "image").write_bytes(b"\xab" * header["header offset"] + data)
    return path


def braces(values) -> str:
    return "{" + ", ".join(str(value) for value in values) + "}"


def write_geotiff(path: Path, numbers: np.ndarray = CUBE, **options) -> Path:
    bands, height, width = numbers.shape
    shape = {"count": bands, "height": height, "width": width}
    with rasterio.open(
        path, "w", driver="GTiff", dtype=numbers.dtype, **shape, **(UTM | options)
    ) as file:
        file.write(numbers)
    return path


def write_hdf5(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def write_matlab73(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """As MATLAB's `save -v7.3` lays it out: a block of 512 bytes with its name, then HDF5 with
    every array transposed.
    """
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = np.atleast_2d(array).T
        file["#refs#/a"] = np.zeros((2, 3, 4))
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def write_matlab5(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    scipy.io.savemat(path, arrays, do_compression=True)
    return path


NAMED = {".mat": write_matlab5, "73.mat": write_matlab73, ".h5": write_hdf5, ".hdf5": write_hdf5}
