"""The patches of a prepared data set: made once, verified ever after, and shared out; used in
notebooks/10_gpu_training.ipynb.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..files.atomic import resume, write_sealed
from .flight_lines import FlightLine, grid, passes, write_patches

EARLIER = {"scaling": "minmax"}  # what settings mean that do not say it yet

# of the patches; the paper: 1,678, 200 and 200 of 2,078
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def assign(lines: list[dict], seed: int) -> dict[str, list[dict]]:
    """Share out files (dictionaries with `flight_line` and `patches`), those of one flight line
    together.

    No part is empty. Of 1,000 random assignments it is the one whose shares of the patches are
    nearest to `SHARES`.
    """
    flights = sorted({line["flight_line"] for line in lines})
    counts = dict.fromkeys(flights, 0)
    for line in lines:
        counts[line["flight_line"]] += line["patches"]
    patches = np.array(list(counts.values()))
    wanted = np.array(list(SHARES.values()))
    tries = np.random.default_rng(seed).choice(len(SHARES), (1000, len(flights)), p=wanted)
    is_in = tries[:, None] == np.arange(len(SHARES))[:, None]  # (tries, parts, flights)
    error = np.abs(is_in @ patches / patches.sum() - wanted).sum(1)
    best = tries[np.where(is_in.any(2).all(1), error, np.inf).argmin()]
    part_of = dict(zip(flights, best, strict=True))
    return {
        part: [line for line in lines if part_of[line["flight_line"]] == number]
        for number, part in enumerate(SHARES)
    }


def verify_or_make(
    folder: Path, line: FlightLine, settings: dict, advance: Callable[[int], object]
) -> dict:
    """The facts of a flight line whose patches are on disk, after a check of their checksum, or
    else after making them.
    """
    numbers, facts = folder / f"{line.name}.npy", folder / f"{line.name}.json"
    windows = grid(line.shape, settings["patch"])
    if numbers.exists() and facts.exists():
        stored = resume(facts)
        check_line(numbers, stored["sha256"], numbers.stat().st_mtime_ns)
        advance(passes(settings["scaling"]) * len(windows))
        return stored
    made = write_patches(numbers, line.reader(), windows, settings, advance)
    if made["patches"] == 0:
        raise ValueError(
            f"{line.name}: expected at least one {settings['patch']}x{settings['patch']} patch "
            "with data everywhere, got none"
        )
    stored = {
        "name": line.name,
        "flight_line": line.flight_line,
        **made,
        "settings": settings | {"source_bytes_and_time": line.source},
    }
    write_sealed(facts, stored)
    return stored


@functools.cache
def check_line(path: Path, sha256: str, _changed_ns: int) -> None:
    """Compare the patches of a line with their checksum; once, while the file stays as it is.

    Raises:
        ValueError: they differ.
    """
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(
            f"{path}: damaged (checksum {found[:12]}…, expected {sha256[:12]}…); delete it, then "
            "prepare makes it again"
        )


def check_unchanged(path: Path, stored: dict, wanted: dict) -> None:
    """Refuse to go on from the work of other settings.

    Raises:
        ValueError: the message says what changed.
    """
    changed = []
    for name, now in json.loads(json.dumps(wanted)).items():
        was = stored.get(name, EARLIER.get(name))
        if isinstance(now, list) and isinstance(was, list):  # names of flight lines: not all
            was, now = (sorted(set(one) - set(other)) for one, other in ((was, now), (now, was)))
        if was != now:
            changed.append(f"{name}: was {was}, is {now}")
    if changed:
        raise ValueError(
            f"{path}: made from something else ({'; '.join(changed)}); delete it or choose another "
            "folder"
        )
