"""Single pixels that take the range of an image for themselves, so that scaling to [0, 1] leaves
the others next to nothing of it; used in notebooks/10_gpu_training.ipynb.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

TAIL = 0.01  # of the pixels, at either end: these may be outliers
# of the range, that all others share: too little to be usual, and less than seven of the 65,536
# levels of a prepared data set
SUSPECT, LOST = 1e-2, 1e-4


def check(
    what: str,
    lowest: np.ndarray,
    highest: np.ndarray,
    spectrum: Callable[[int, int], np.ndarray],
    suspect: float = SUSPECT,
) -> None:
    """Warn of an image of whose range 99 % of the pixels share less than `suspect`, and name the
    band and the pixel that have the rest.

    Args:
        what: the image's name, for the message.
        lowest, highest: (H, W), each pixel's extremes over the bands; NaN without data.
        spectrum: row and column -> that pixel's numbers (C,).

    Raises:
        ValueError: they share less than `LOST`.
    """
    low, high = float(np.nanmin(lowest)), float(np.nanmax(highest))
    if not low < high:
        return
    usual_low = float(np.nanquantile(lowest, TAIL, method="higher"))
    usual_high = float(np.nanquantile(highest, 1 - TAIL, method="lower"))
    share = (usual_high - usual_low) / (high - low)
    if share >= suspect:
        return
    above = high - usual_high >= usual_low - low
    place = np.nanargmax(highest) if above else np.nanargmin(lowest)
    row, column = divmod(int(place), lowest.shape[1])
    band = int(np.argmax(spectrum(row, column) * (1 if above else -1)))
    text = (
        f"{what}: of the bands in use, band {band} holds {high if above else low:g} in row {row}, "
        f"column {column} (all counted from 0), while {1 - TAIL:.0%} of the pixels lie within "
        f"{usual_low:g} to {usual_high:g}: of the range [0, 1] that leaves them {share:.1g}; if "
        "that number is wrong, correct it, or mark the pixel as having no data"
    )
    if share < LOST:
        raise ValueError(text)
    warnings.warn(text, stacklevel=3)
