"""The claims ledger: what the paper says, what was measured, and a verdict; read in chapter 12."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from filelock import FileLock

from ..files import provenance
from ..files.atomic import resume, write_json, write_text
from ..files.provenance import course_folder
from . import markdown

FILE = provenance.RESULTS_FOLDER / "claims.json"
VERDICTS = {
    "arithmetic": ("consistent", "inconsistent"),
    "experiment": ("supported", "not supported", "mixed"),
}
NOT_TESTABLE = "not testable here"
SECTIONS = re.compile(r"Abstract|Sec\. [IV]+(-[A-Z])?|Eq\. \d+|Fig\. \d|Table [IV]+")
_BEGAN = time.perf_counter()


@dataclass(frozen=True)
class Claim:
    """One row of the ledger.

    id: short and unique in the ledger, to be cited ("fig1-concentrated", say).
    claim: what the paper says, in our words.
    section: where it says so ("Table I", "Sec. II-D", "Eq. 3").
    kind: "arithmetic" (the paper's own figures must agree with each other) or "experiment".
    scope: for what the measurement speaks: scene, bands, preset or recipe, seeds, budget.
    measured: the numbers, with units, and their spread over seeds.
    verdict: one of `VERDICTS[kind]`, at small scale for an experiment, or "not testable here".
    command: what makes the measurement, to be run from the repository's root.
    source: the result file in `data/results/`, or the chapter that measures it live.
    tolerance: how far apart two numbers may lie and still count as equal, where that matters.

    White space in any of them counts as one blank.

    Raises:
        ValueError: an empty field, or a kind, verdict, id or section that is none.
    """

    id: str
    claim: str
    section: str
    kind: str
    scope: str
    measured: str
    verdict: str
    command: str
    source: str
    tolerance: str = ""

    def __post_init__(self):
        for name, value in asdict(self).items():
            object.__setattr__(self, name, " ".join(value.split()))
            if not value.strip() and name != "tolerance":
                raise ValueError(f"{name}: expected a text, got {value!r}")
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.id):
            raise ValueError(
                f"id: expected words of a to z and 0 to 9 and hyphens, got {self.id!r}"
            )
        if not SECTIONS.match(self.section):
            raise ValueError(f"section: expected 'Sec. II-D', 'Table I', ..., got {self.section!r}")
        if self.kind not in VERDICTS:
            raise ValueError(f"kind: expected one of {tuple(VERDICTS)}, got {self.kind!r}")
        expected = (*VERDICTS[self.kind], NOT_TESTABLE)
        if self.verdict not in expected:
            raise ValueError(f"verdict: expected one of {expected}, got {self.verdict!r}")


def rows(text: str, measured: dict[str, str], **shared: str) -> list[Claim]:
    """Claims that share their kind, scope, command and source, one per line of `text`:
    `id | section | verdict | what the paper says`.

    >>> rows(
    ...     "sum | Eq. 9 | consistent | the sum is 4",
    ...     {"sum": "2 + 2 = 4"},
    ...     kind="arithmetic", scope="two numbers", command="make run", source="chapter 12",
    ... )[0].verdict
    'consistent'

    Raises:
        ValueError: as `Claim`; a line of other form, or a claim without a measurement or the
            reverse.
    """
    lines = [[part.strip() for part in line.split("|")] for line in text.strip().splitlines()]
    for line in lines:
        if len(line) != 4:
            raise ValueError(f"text: expected 'id | section | verdict | claim', got {line}")
    if {line[0] for line in lines} != set(measured):
        differing = sorted({line[0] for line in lines} ^ set(measured))
        raise ValueError(f"measured: expected one entry per claim, differing {differing}")
    return [
        Claim(name, claim, section, measured=measured[name], verdict=verdict, **shared)
        for name, section, verdict, claim in lines
    ]


class Table:
    """Claims as a table: HTML where it is rendered, Markdown as plain text."""

    _HEADS = ("id", "the paper says", "where", "measured", "scope", "verdict")

    def __init__(self, rows: list[Claim]):
        self._cells = [
            [row.id, row.claim, row.section, row.measured, row.scope, row.verdict] for row in rows
        ]

    def __repr__(self) -> str:
        cells = ([cell.replace("|", "∣") for cell in row] for row in self._cells)
        return markdown.table(list(self._HEADS), cells, text_columns=len(self._HEADS))

    def _repr_html_(self) -> str:
        style = ' style="text-align:left; vertical-align:top"'
        lines = [_html_row("th", self._HEADS, style)]
        lines += [_html_row("td", cells, style) for cells in self._cells]
        return f"<table>{''.join(lines)}</table>"


def _html_row(tag: str, cells: Iterable[str], style: str) -> str:
    return f"<tr>{''.join(f'<{tag}{style}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"


def record(chapter: str, rows: list[Claim], file: Path | None = None) -> Table:
    """Replace the rows of one chapter ("07_energy_fig1", say); those of other chapters stay.

    Written are `data/results/claims.json` and `claims.csv` while `make notebooks` runs, otherwise
    the same in `runs/` of the working folder. A file that says the same already is left alone.
    Chapters that run at the same time wait for each other.

    Raises:
        ValueError: an id twice, here or in another chapter.
    """
    file = file or course_folder("data/results") / FILE.name
    with FileLock(file.with_suffix(".lock")):
        ledger = resume(file) or {}
        content = [asdict(row) for row in rows]
        if ledger.get(chapter, {}).get("claims") != content:
            command = {"command": f"notebooks/{chapter}.ipynb"}
            ledger[chapter] = {
                "claims": content,
                "provenance": provenance.facts(0, time.perf_counter() - _BEGAN) | command,
            }
            _check_unique(ledger)
            write_json(file, dict(sorted(ledger.items())))
            write_text(file.with_suffix(".csv"), _csv(ledger))
    return Table(rows)


def load(file: Path = FILE) -> dict[str, list[Claim]]:
    """Chapter -> its rows, in reading order."""
    return {
        chapter: [Claim(**row) for row in entry["claims"]]
        for chapter, entry in json.loads(file.read_text(encoding="utf-8")).items()
    }


def _check_unique(ledger: dict) -> None:
    seen = {}
    for chapter, entry in ledger.items():
        for row in entry["claims"]:
            if row["id"] in seen:
                raise ValueError(f"id: {row['id']!r} is in {seen[row['id']]} and in {chapter}")
            seen[row["id"]] = chapter


def _csv(ledger: dict) -> str:
    """The ledger for a spreadsheet: one line per claim."""
    text = io.StringIO()
    names = ["chapter", *(field.name for field in fields(Claim))]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for chapter, entry in sorted(ledger.items()):
        writer.writerows({"chapter": chapter} | row for row in entry["claims"])
    return text.getvalue()
