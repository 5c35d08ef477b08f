"""The embedded real scene: Indian Pines, and the bands that the paper keeps; built in
notebooks/01_degradation.ipynb.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
import torch

from ..files.atomic import packaged_file
from ..files.provenance import DATA_FOLDER
from .repair import undo_newline_damage
from .scene import Scene

DIGITAL_NUMBER_OFFSET, DIGITAL_NUMBERS_PER_RADIANCE = (
    1000,
    500,
)  # Purdue's documentation of the 1992 scene
PAPER_CHANNELS = (
    *range(11, 104),
    *range(117, 152),
    *range(171, 215),
)  # of AVIRIS's 224, counted from 1: the paper's 172
RADIANCE_UNIT = "µW cm⁻² nm⁻¹ sr⁻¹"  # of (DN - 1000) / 500


def indian_pines(repaired: bool = True) -> Scene:
    """AVIRIS over north-western Indiana, June 1992: 144 x 144 pixels of about 20 m, 170 bands, real
    radiance.

    The distributed file is damaged: 2.5 % of its numbers lost 768 when a byte was mistaken for a
    line end. `repair.py` shows the evidence and undoes it; `repaired=False` gives the file as
    distributed.

    Digital numbers become radiance by (DN - 1000) / 500, clipped at 0; then the whole scene goes
    min-max to [0, 1]. The 170 bands are those of the paper's 172 that worked in 1992, in the
    instrument's order, which steps back in
    wavelength where two of its spectrometers overlap: sort for plotting only. The last row and
    column are left out, so that 144 is divisible by 4, 8 and 16.

    Source: doi:10.4231/R7RX991C (CC BY 3.0), read from `data/cache/` if a copy lies there, else
    from the installed package `tensorly`; band centres from `data/indian_pines_bands.csv`.

    Raises:
        FileNotFoundError: neither place has the file.
    """
    with open(DATA_FOLDER / "indian_pines_bands.csv", newline="", encoding="utf-8") as file:
        table = [row for row in csv.DictReader(file) if row["in_s3rnet_172"] == "1"]
    bands = [int(row["index"]) for row in table]
    path = _indian_pines_file("Indian_pines_corrected.npy")
    numbers = (_repaired_numbers(path) if repaired else np.load(path))[:144, :144, bands]
    radiance = np.clip(
        (numbers.astype(np.float32) - DIGITAL_NUMBER_OFFSET) / DIGITAL_NUMBERS_PER_RADIANCE, 0, None
    )
    offset = float(radiance.min())
    scale = float(radiance.max()) - offset
    labels = np.load(_indian_pines_file("Indian_pines_gt.npy"))[:144, :144].astype(np.int64)
    return Scene(
        cube=torch.from_numpy(
            np.ascontiguousarray(((radiance - offset) / scale).transpose(2, 0, 1))
        ),
        wavelengths_nm=torch.tensor(
            [float(row["centre_nm"]) for row in table], dtype=torch.float64
        ),
        fwhm_nm=torch.tensor([float(row["fwhm_nm"]) for row in table], dtype=torch.float64),
        labels=torch.from_numpy(labels),
        name="indian_pines",
        scale=scale,
        offset=offset,
    )


def paper_bands() -> tuple[torch.Tensor, torch.Tensor]:
    """Band centres and widths in nanometres, (172,) float64 each, of the bands that the paper keeps
    of AVIRIS's 224.

    Channels 11-103, 117-151 and 171-214, as AVIRIS was calibrated in 1992
    (`data/indian_pines_bands.csv`). Channels 33 and 97
    did not work then: theirs continue the regular steps of their spectrometers.
    """
    with open(DATA_FOLDER / "indian_pines_bands.csv", newline="", encoding="utf-8") as file:
        known = {
            int(row["aviris_channel"]): (float(row["centre_nm"]), float(row["fwhm_nm"]))
            for row in csv.DictReader(file)
        }
    for dead in (33, 97):  # each is the first channel of its spectrometer
        (centre, width), (next_centre, next_width) = known[dead + 1], known[dead + 2]
        known[dead] = (2 * centre - next_centre, 2 * width - next_width)
    table = torch.tensor([known[channel] for channel in PAPER_CHANNELS], dtype=torch.float64)
    return table[:, 0], table[:, 1]


@cache
def _repaired_numbers(path: Path) -> np.ndarray:
    """Kept, because the repair takes a second. Callers copy."""
    return undo_newline_damage(np.load(path))


def _indian_pines_file(name: str) -> Path:
    return packaged_file(DATA_FOLDER / "cache", name, "tensorly", "datasets/data")
