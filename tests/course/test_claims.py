"""The ledger of claims keeps every chapter's rows, also when two chapters write at once, refuses
what is no verdict, and can be read as a table, as JSON and as CSV.
"""

import csv
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import nbformat
import pytest

from s3rnet_lite.course import claims, notebooks
from s3rnet_lite.files.provenance import RESULTS_FOLDER

ROW = claims.Claim(
    id="sum",
    claim="the sum is 4",
    section="Eq. 9",
    kind="arithmetic",
    scope="two numbers",
    measured="2 + 2 = 4",
    verdict="consistent",
    command="make run",
    source="chapter 07",
)
OTHER = replace(ROW, id="other", claim="the sum is 5", verdict="inconsistent")


@pytest.mark.parametrize(("chapter", "rows"), claims.load().items(), ids=str)
def test_the_ledger_says_what_its_chapter_shows(chapter, rows):
    # whose outputs pytest compares with what the chapter computes anew from the result files
    notebook = nbformat.read(notebooks.FOLDER / f"{chapter}.ipynb", as_version=4)
    shown = [
        output["data"]["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/plain" in output.get("data", {})
    ]
    assert repr(claims.Table(rows)) in shown


@pytest.mark.parametrize(
    "row", [row for rows in claims.load().values() for row in rows], ids=lambda row: row.id
)
def test_the_source_of_a_claim_is_there(row):
    chapter = re.fullmatch(r"chapter (\d\d)", row.source)
    folder, name = (
        (notebooks.FOLDER, f"{chapter[1]}_*.ipynb") if chapter else (RESULTS_FOLDER, row.source)
    )
    assert list(folder.glob(name)), row.source


def test_a_chapter_replaces_its_own_rows_only(tmp_path):
    file = tmp_path / "claims.json"
    claims.record("08_b", [OTHER], file)
    claims.record("07_a", [ROW, replace(ROW, id="second")], file)
    claims.record("07_a", [ROW], file)
    assert claims.load(file) == {"07_a": [ROW], "08_b": [OTHER]}
    assert list(claims.load(file)) == ["07_a", "08_b"]
    assert json.loads(file.read_text())["07_a"]["provenance"]["command"] == "notebooks/07_a.ipynb"


def test_the_csv_file_has_every_field_of_every_row(tmp_path):
    claims.record("08_b", [OTHER], tmp_path / "claims.json")
    claims.record("07_a", [ROW], tmp_path / "claims.json")
    with (tmp_path / "claims.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [("07_a", ROW), ("08_b", OTHER)]
    assert rows == [{"chapter": chapter} | asdict(row) for chapter, row in expected]


def test_an_id_stands_once_in_the_ledger(tmp_path):
    file = tmp_path / "claims.json"
    claims.record("07_a", [ROW], file)
    before = file.read_bytes()
    with pytest.raises(ValueError, match="'sum' is in 07_a and in 08_b"):
        claims.record("08_b", [ROW], file)
    assert file.read_bytes() == before


def test_rows_that_say_the_same_leave_the_file_alone(tmp_path):
    file = tmp_path / "claims.json"
    claims.record("07_a", [ROW], file)
    ledger = json.loads(file.read_text())
    ledger["07_a"]["provenance"]["date"] = "long ago"
    file.write_text(json.dumps(ledger))
    claims.record("07_a", [ROW], file)
    assert "long ago" in file.read_text()


def test_chapters_that_finish_together_do_not_lose_rows(tmp_path):
    file = tmp_path / "claims.json"
    with ThreadPoolExecutor(8) as pool:
        rows = [replace(ROW, id=f"sum-{number}") for number in range(16)]
        list(pool.map(lambda row: claims.record(f"{row.id}_x", [row], file), rows))
    assert len(claims.load(file)) == 16


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("verdict", "proven"),
        ("verdict", "supported"),  # for experiments only
        ("claim", " "),
        ("measured", ""),
        ("command", ""),
        ("kind", "opinion"),
        ("section", "page 3"),
        ("id", "Sum of two"),
    ],
)
def test_a_row_needs_all_its_fields_and_known_words(field, value):
    with pytest.raises(ValueError, match=field):
        replace(ROW, **{field: value})


def test_the_table_has_one_line_per_row_and_no_stray_marks(tmp_path):
    odd = replace(ROW, id="odd", claim="|x| < 1 & more")
    table = claims.record("07_a", [ROW, odd], tmp_path / "claims.json")
    lines = repr(table).splitlines()
    assert len(lines) == 4 and {line.count("|") for line in lines} == {7}
    page = table._repr_html_()
    assert page.count("<tr>") == 3 and "|x| &lt; 1 &amp; more" in page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sum | Eq. 9 | consistent", "expected 'id"),
        ("sum | Eq. 9 | consistent | is 4\nother | Eq. 9 | consistent | is 5", "differing.*other"),
    ],
)
def test_rows_refuse_a_line_of_other_form_and_a_claim_without_measurement(text, message):
    shared = {"kind": "arithmetic", "scope": "a", "command": "b", "source": "c"}
    with pytest.raises(ValueError, match=message):
        claims.rows(text, {"sum": "4"}, **shared)
