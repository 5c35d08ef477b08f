"""Flight lines of 2 x 3 patches in ENVI files, and the data set made from them."""

from pathlib import Path

import numpy as np
from spectral.io import envi

from s3rnet_lite.training import dataset

PATCH, BANDS = 32, 12
WAVELENGTHS = np.linspace(450, 2300, BANDS)


def flight_line(seed: int, height: int = 70, width: int = 100, bands: int = BANDS) -> np.ndarray:
    """(C, H, W) int16 in which band 0 names the line, and no two pixels are alike."""
    cube = np.random.default_rng(seed).integers(0, 10_000, (bands, height, width), dtype=np.int16)
    cube[0] = 100 * seed
    return cube


def write_line(path: Path, cube: np.ndarray, wavelengths=WAVELENGTHS, **fields) -> str:
    header = {"wavelength": list(wavelengths), "wavelength units": "Nanometers"}
    header |= {"fwhm": [160.0] * len(cube), **fields}
    interleave = ("bip", "bil", "bsq")[sum(map(ord, path.name)) % 3]
    image = cube.transpose(1, 2, 0)
    envi.save_image(str(path), image, interleave=interleave, metadata=header, force=True)
    return str(path)


def prepare(folder, sources, **changes) -> dataset.DataSet:
    return dataset.prepare(
        folder, list(sources), **{"patch": PATCH, "keep_bands": "all", "progress": False, **changes}
    )


def content(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
