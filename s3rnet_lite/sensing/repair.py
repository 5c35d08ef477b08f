"""Undo the damage of the distributed Indian Pines file: every byte 0x0D in it was turned into 0x0A.

The file of the package `tensorly` (0.10.0) went through a conversion of line ends meant for text:
in 8.4 million bytes the value 13 (carriage return) never occurs and 10 (line feed) occurs about
twice as often as its neighbours. Where the lost byte was the high one of a 16-bit number, the
number is 768 too small (1.5 radiance units, far above the noise); where it was the low one, 3 too
small, which is below the noise and cannot be told.

Very probably the file `Indian_pines_corrected.mat` that most papers use is damaged in the same way:
of 2,690 thresholds in decision forests that were published as trained on it (pablobueno01/
FPGA_accelerator_for_GBDT) 3 lie among the 256 numbers with the high byte 0x0D, where the repaired
scene has thousands of pixels. `s3rnet-lite check-scene FILE` tells it of anyone's copy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..files import atomic, reading

LINE_FEED, CARRIAGE_RETURN = 0x0A, 0x0D
LOST = (CARRIAGE_RETURN - LINE_FEED) << 8  # 768 digital numbers
LEFT_AS_STORED = 0  # this band errs by 173 when predicted, and one repair in it is proven false
SOUND_SHARE = 0.002  # a band with fewer suspects than this can predict others


def is_damaged(numbers: np.ndarray) -> bool:
    """Whether the high byte 0x0D is missing where 0x0A occurs."""
    high = numbers >> 8
    return bool((high == LINE_FEED).any() and not (high == CARRIAGE_RETURN).any())


def verdict(numbers: np.ndarray) -> str:
    """What the bytes of a copy (H, W, B) uint16 say, in a line or two."""
    high, low = numbers >> 8, numbers & 0xFF
    counts = [int((low == byte).sum()) for byte in (LINE_FEED, CARRIAGE_RETURN)]
    around = [int((low == byte).sum()) for byte in (0x09, 0x0B, 0x0C, 0x0E)]
    bytes_found = (
        f"low byte 0x0A: {counts[0]:,} times, 0x0D: {counts[1]:,}, their neighbours "
        f"{min(around):,} to {max(around):,}"
    )
    if not is_damaged(numbers):
        found = "Sound" if (high == CARRIAGE_RETURN).any() else "No sign of damage"
        return f"{found}: no number seems to have lost 768 ({bytes_found})."
    repaired = int((undo_newline_damage(numbers) != numbers).sum())
    return (
        f"Damaged: no number has the high byte 0x0D ({bytes_found}). {repaired:,} of "
        f"{numbers.size:,} numbers ({repaired / numbers.size:.2%}) are 768 too small."
    )


def read(path: str | Path, variable: str | None = None) -> tuple[np.ndarray, str | None]:
    """The numbers (H, W, B) of a .npy or .mat file, and the variable's name in the latter.

    Raises:
        FileNotFoundError, ValueError: no such file, another ending, no image of 16-bit numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix == ".npy":
        with reading.naming(path):
            found = {None: np.load(path, allow_pickle=False)}
    elif path.suffix == ".mat":
        from scipy.io import loadmat

        with reading.naming(path):
            found = {k: v for k, v in loadmat(path).items() if variable in (None, k)}
    else:
        raise ValueError(f"{path}: expected .npy or .mat")
    images = {k: v for k, v in found.items() if isinstance(v, np.ndarray) and v.ndim == 3}
    if len(images) != 1:
        raise ValueError(f"{path}: expected one image (rows, columns, bands), got {len(images)}")
    [(name, numbers)] = images.items()
    if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() > 0xFFFF:
        raise ValueError(f"{path}: expected 16-bit numbers as distributed, got {numbers.dtype}")
    return numbers.astype(np.uint16), name


def write(path: str | Path, numbers: np.ndarray, variable: str | None) -> None:
    """Write them as .npy or .mat.

    Raises:
        ValueError: another ending.
    """
    path = Path(path)
    if path.suffix not in (".npy", ".mat"):
        raise ValueError(f"{path}: expected .npy or .mat")
    if path.suffix == ".npy":
        return atomic.write_array(path, numbers)
    from scipy.io import savemat

    name = variable or "indian_pines_corrected"
    atomic.write_file(path, lambda temporary: savemat(temporary, {name: numbers}, appendmat=False))
    return None


def undo_newline_damage(numbers: np.ndarray) -> np.ndarray:
    """Add 768 to each number that the other bands of its pixel say has lost them.

    A number is suspect if its high byte is 0x0A. It is first compared with a regression on the
    bands that have no suspects, fitted on pixels that are not suspect, and then, until nothing
    changes, with a regression on all other bands. Of its two possible values the nearer one is
    taken; in the 170 bands they lie more than twenty times further apart than the regression errs.

    Args:
        numbers: (H, W, B) uint16 with all bands of the scene.

    Raises:
        ValueError: too few different pixels to predict a band from the others.

    Returns:
        (H, W, B) uint16; unchanged if some high byte is 0x0D, because then the file is sound, or if
        none is suspect. Band 0 stays as stored.
    """
    if not is_damaged(numbers):
        return numbers
    try:
        return _undo(numbers)
    except np.linalg.LinAlgError as error:
        size = " x ".join(map(str, numbers.shape))
        raise ValueError(
            f"expected a whole scene, got {size} numbers, too few to compare"
        ) from error


def _undo(numbers: np.ndarray) -> np.ndarray:
    """`undo_newline_damage` of a damaged scene."""
    high = numbers >> 8
    suspect = (high == LINE_FEED).reshape(-1, numbers.shape[-1])
    stored = numbers.reshape(suspect.shape).astype(np.float64)
    damaged = np.flatnonzero(suspect.any(0))

    sound = stored[:, suspect.mean(0) < SOUND_SHARE]
    sound = sound - sound.mean(0)
    components = np.linalg.eigh(sound.T @ sound)[1][:, -20:]
    scores = sound @ components
    predictors = np.column_stack([scores / scores.std(0), np.ones(len(scores))])
    predicted = stored.copy()
    for band in damaged:
        known = predictors * ~suspect[:, band, None]
        coefficients = np.linalg.solve(known.T @ predictors, known.T @ stored[:, band])
        predicted[:, band] = predictors @ coefficients

    lost = np.zeros_like(suspect)
    for _ in range(20):
        previous, lost = lost, suspect & (predicted > stored + LOST / 2)
        if (lost == previous).all():
            break
        repaired = stored + LOST * lost
        centred = repaired - repaired.mean(0)
        # Row b of the inverse covariance, divided by its diagonal, gives the residual of band b
        # regressed on all others.
        precision = np.linalg.inv(centred.T @ centred)
        predicted = repaired - centred @ precision / precision.diagonal()
    lost[:, LEFT_AS_STORED] = False
    return numbers + (LOST * lost).reshape(numbers.shape).astype(np.uint16)
