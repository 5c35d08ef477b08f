"""The paper's data set from AVIRIS flight lines: patches on disk, memory-mapped for training; used
in notebooks/10_gpu_training.ipynb.

A prepared folder holds `lines/NAME.npy`, the patches (N, C, P, P) of one file as uint16,
`lines/NAME.json`, what they are and their checksum, and `dataset.json`, written last, so its
presence means that nothing is missing. LR-HSI and HR-MSI are not stored: they are computed from
each crop by the degradation that `dataset.json` describes.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from ..files.atomic import read_json, resume, write_sealed
from ..sensing.degradation import Degradation
from ..sensing.scene import Scene
from ..sensing.sensors import MSI_BANDS, simulated_msi
from .flight_lines import (
    LEVELS,
    SCALINGS,
    FileLine,
    FlightLine,
    SimulatedLine,
    check_lines,
    grid,
    passes,
)
from .patches import assign, check_line, check_unchanged, verify_or_make

CARD = "dataset.json"


@dataclass(frozen=True)
class DataSet:
    """A prepared folder.

    card: all of `dataset.json`.
    wavelengths_nm, fwhm_nm: (C,) float64.
    parts: per part, its files: name, flight_line, patches, scale, offset, clipped, corners (row and
    column of each patch), sha256, ...
    """

    folder: Path
    card: dict
    wavelengths_nm: torch.Tensor
    fwhm_nm: torch.Tensor
    parts: dict[str, list[dict]]

    def degradation(self, msi_bands: int = 4) -> Degradation:
        """The operator that makes the inputs, with 4 or 6 Landsat TM bands."""
        cards = self.card["degradations"]
        if str(msi_bands) not in cards:
            raise ValueError(
                f"msi_bands: {self.folder} has degradations with {' or '.join(cards) or 'no'} "
                f"bands, got {msi_bands}"
            )
        return Degradation.from_card(cards[str(msi_bands)])


def load(folder: str | Path) -> DataSet:
    """What a prepared folder holds, without reading any patch.

    Raises:
        ValueError: a damaged `dataset.json`, or one that names files outside the folder.
        FileNotFoundError: no `dataset.json`: the folder is something else, or `prepare` has not
            finished.
    """
    folder = Path(folder)
    if not (folder / CARD).is_file():
        raise FileNotFoundError(
            f"{folder / CARD}: no prepared data set, or not finished; run python -m s3rnet_lite "
            f"prepare --out {folder}"
        )
    card = read_json(folder / CARD)
    try:
        bands = [
            torch.tensor(card[name], dtype=torch.float64) for name in ("wavelengths_nm", "fwhm_nm")
        ]
        names = [str(line["name"]) for lines in card["parts"].values() for line in lines]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / CARD}: damaged, or not written by prepare ({type(error).__name__}: {error})"
        ) from error
    for name in names:
        if name in ("", "..") or Path(name).name != name:
            raise ValueError(f"{folder / CARD}: expected plain names of lines, got {name!r}")
    return DataSet(folder, card, *bands, card["parts"])


def references(folder: str | Path, part: str) -> list[torch.Tensor]:
    """All patches of "train", "val" or "test": uint16 tensors (C, P, P) with y = number / 65535.

    They are views of files mapped into memory, whose checksums are compared first, once in a
    program. Changes to them are never written.

    Raises:
        FileNotFoundError, ValueError: as `load`; another part; a file is missing or damaged.
    """
    data = load(folder)
    if part not in data.parts:
        raise ValueError(f"part: expected one of {', '.join(data.parts)}, got {part!r}")
    patches = []
    for line in data.parts[part]:
        path = data.folder / "lines" / f"{line['name']}.npy"
        check_line(path, line["sha256"], path.stat().st_mtime_ns)
        try:
            patches += torch.from_numpy(np.load(path, mmap_mode="c")).unbind()
        except ValueError as error:
            raise ValueError(
                f"{path}: damaged or truncated ({error}); delete it, then prepare makes it again"
            ) from error
    return patches


def scene(folder: str | Path, part: str, index: int) -> Scene:
    """One patch as a scene of its own, float32 in [0, 1]; `cube * scale + offset` is in the unit of
    the flight line, within half of scale / 65535, but for numbers that were clipped.
    """
    data = load(folder)
    patch = references(folder, part)[index]
    line, (row, column) = [
        (line, corner) for line in data.parts[part] for corner in line["corners"]
    ][index]
    name = f"{line['name']}/row{row}column{column}"
    cube = patch.to(torch.float32) / LEVELS
    return Scene(cube, data.wavelengths_nm, data.fwhm_nm, None, name, line["scale"], line["offset"])


def prepare(
    folder: str | Path,
    sources: list[str | Path],
    simulated: int = 0,
    patch: int = 256,
    keep_bands: str = "paper",
    seed: int = 0,
    workers: int = 2,
    progress: bool = True,
    scaling: str = "minmax",
) -> DataSet:
    """Cut flight lines into patches and share these out, 80, 10 and 10 %, so that no flight line is
    in two parts.

    Each line goes to [0, 1] by itself, over its pixels with data. It is read window by window,
    twice, or three times for percentiles. Patches lie side by side from the upper left corner;
    those with a pixel without data (not finite, the file's ignore value, or all bands equal) are
    left out. Files named as AVIRIS's are, with the same date, take-off, plot and run, belong to one
    flight line; any other file is one by itself. Whether two flight lines saw the same ground is
    for you to know.

    Killed, it goes on where it was: finished lines are kept. What is there already is checked
    against its checksum, so a second run on a finished folder verifies it.

    Args:
        sources: image files (`formats.open_cube`).
        simulated: make this many SIMULATED lines of 2 x 2 patches (`scenes.simulate`) instead.
        patch: height and width, divisible by 4.
        keep_bands: "paper" takes channels 11-103, 117-151 and 171-214 of AVIRIS's 224 by number;
            "all" takes every band that the file does not call bad, of any sensor.
        seed: of the assignment.
        workers: flight lines at a time, in threads; each holds a few windows in memory.
        scaling: what becomes 0 and 1: "minmax", a line's least and largest number, as the paper;
            "percentile", its percentiles 0.1 and 99.9 (`flight_lines.SCALINGS`), so that one
            glint does not darken the line. Numbers beyond are clipped and do not come back;
            `dataset.json` has their share.

    Raises:
        FileNotFoundError, ValueError: bad arguments or files; bands that differ between lines; a
            line without a complete patch; fewer than three lines; the folder holds the work of
            other settings, of a source that has changed since, or damaged files.
    """
    folder = Path(folder)
    if patch < 16 or patch % 4:
        raise ValueError(f"patch: expected a multiple of 4 and at least 16 pixels, got {patch}")
    if workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}")
    if scaling not in SCALINGS:
        raise ValueError(f"scaling: expected one of {', '.join(SCALINGS)}, got {scaling!r}")
    lines = _lines(sources, simulated, patch, keep_bands)
    settings = {"patch": patch, "keep_bands": keep_bands, "scaling": scaling}
    known = settings | {"seed": seed, "lines": [line.name for line in lines]}
    with _alone(folder):
        before = resume(folder / CARD)
        if before is not None:
            check_unchanged(folder / CARD, before["settings"], known)
        facts = _make_all(folder / "lines", lines, settings, workers, progress)
        card = {
            "simulated": bool(simulated),
            "settings": known,
            "storage": "uint16 (patches, bands, rows, columns); y = number / 65535; "
            "y * scale + offset is in the unit of the flight line; what was beyond is clipped",
            "parts": assign(facts, seed),
            "degradations": _degradations(lines[0]),
            "wavelengths_nm": lines[0].wavelengths_nm.tolist(),
            "fwhm_nm": lines[0].fwhm_nm.tolist(),
        }
        if card != before:
            write_sealed(folder / CARD, card)
    return load(folder)


def _lines(
    sources: list[str | Path], simulated: int, patch: int, keep_bands: str
) -> list[FlightLine]:
    """Flight lines in the order of their names, checked to be of the same bands."""
    if bool(sources) == bool(simulated) or simulated < 0:
        raise ValueError(
            f"expected flight lines, or a number of simulated ones, got {len(sources)} files and "
            f"{simulated} simulated"
        )
    lines: list[FlightLine] = [SimulatedLine(number, patch) for number in range(simulated)]
    lines += [FileLine(Path(source), keep_bands) for source in sources]
    check_lines(lines)
    return sorted(lines, key=lambda line: line.name)


def _make_all(
    folder: Path, lines: list[FlightLine], settings: dict, workers: int, progress: bool
) -> list[dict]:
    """The facts of all lines, whose patches are on disk then."""
    for line in lines:  # all of them before the first long work
        stored = folder / f"{line.name}.json"
        if stored.exists():
            before = read_json(stored)["settings"]
            check_unchanged(stored, before, settings | {"source_bytes_and_time": line.source})
    windows = sum(len(grid(line.shape, settings["patch"])) for line in lines)
    # One thread in each worker's matrix products: threads that wait for one another spin, and made
    # this several times slower.
    with (
        tqdm(
            total=passes(settings["scaling"]) * windows, unit="window", disable=not progress
        ) as bar,
        threadpool_limits(1),
        ThreadPoolExecutor(workers) as pool,
    ):
        jobs = [(folder, line, settings, bar.update) for line in lines]
        futures = [pool.submit(verify_or_make, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)  # lines that are under way are finished first
            raise
    made = [future.result() for future in futures]
    return [{name: x for name, x in facts.items() if name != "settings"} for facts in made]


def _degradations(line: FlightLine) -> dict[str, dict]:
    """Cards by number of MSI bands, for those numbers that the wavelengths support."""
    cards = {}
    for bands in MSI_BANDS:
        try:
            srf = simulated_msi(line.wavelengths_nm, bands, line.fwhm_nm)
        except ValueError:  # visible and near infrared only, say
            continue
        cards[str(bands)] = Degradation(srf=srf).card()
    return cards


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else prepares this folder meanwhile."""
    (folder / "lines").mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise ValueError(f"{folder}: another prepare is at work there") from error
