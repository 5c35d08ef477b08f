"""The claims ledger: what the paper says, what was measured, and a verdict; read in chapter 12."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from ..files import provenance
from ..files.atomic import write_json
from ..files.provenance import course_folder
from . import markdown

FILE = provenance.RESULTS_FOLDER / "claims.json"
VERDICTS = ("reproduced", "differs", "not testable here")
_BEGAN = time.perf_counter()


@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    claim: what the paper says, in our words, and where it says so.
    command: what makes the measurement, to be run from the repository's root.
    measured: the numbers, with units.
    verdict: one of `VERDICTS`.

    Raises:
        ValueError: another verdict, or an empty field.
    """

    claim: str
    command: str
    measured: str
    verdict: str

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict: expected one of {VERDICTS}, got {self.verdict!r}")
        for name, value in asdict(self).items():
            if not value.strip():
                raise ValueError(f"{name}: expected a text, got {value!r}")


def record(chapter: str, rows: list[Claim], file: Path | None = None) -> None:
    """Replace the rows of one chapter ("07_energy_fig1", say); those of other chapters stay.

    Written is `data/results/claims.json` while `make notebooks` runs, otherwise
    `runs/data/results/claims.json` in the working folder.

    A file that says the same already is left alone. Chapters that run at the same time wait for
    each other.
    """
    file = file or course_folder("data/results") / FILE.name
    with FileLock(file.with_suffix(".lock")):
        ledger = json.loads(file.read_text()) if file.exists() else {}
        content = [asdict(row) for row in rows]
        if ledger.get(chapter, {}).get("claims") == content:
            return
        command = {"command": f"notebooks/{chapter}.ipynb"}
        ledger[chapter] = {
            "claims": content,
            "provenance": provenance.facts(0, time.perf_counter() - _BEGAN) | command,
        }
        write_json(file, dict(sorted(ledger.items())))


def load(file: Path = FILE) -> dict[str, list[Claim]]:
    """Chapter -> its rows, in reading order."""
    return {
        chapter: [Claim(**row) for row in entry["claims"]]
        for chapter, entry in json.loads(file.read_text()).items()
    }


def table(rows: list[Claim]) -> str:
    """The rows as Markdown."""
    cells = ([row.claim, row.measured, f"**{row.verdict}**", f"`{row.command}`"] for row in rows)
    heads = ["the paper says", "measured", "verdict", "command"]
    unbroken = ([cell.replace("|", "∣") for cell in row] for row in cells)
    return markdown.table(heads, unbroken, text_columns=4)
