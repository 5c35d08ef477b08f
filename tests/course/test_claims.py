"""The ledger of claims keeps every chapter's rows, also when two chapters write at once, and
refuses what is no verdict.
"""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from s3rnet_lite.course import claims

ROW = claims.Claim("the sum is 4 (Eq. 9)", "make run", "2 + 2 = 4", "reproduced")


def test_a_chapter_replaces_its_own_rows_only(tmp_path):
    file = tmp_path / "claims.json"
    other = claims.Claim("the sum is 5", "make run", "4", "differs")
    claims.record("08_b", [other], file)
    claims.record("07_a", [ROW, ROW], file)
    claims.record("07_a", [ROW], file)
    assert claims.load(file) == {"07_a": [ROW], "08_b": [other]}
    assert list(claims.load(file)) == ["07_a", "08_b"]
    assert json.loads(file.read_text())["07_a"]["provenance"]["command"] == "notebooks/07_a.ipynb"


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
        list(pool.map(lambda number: claims.record(f"{number:02}_x", [ROW], file), range(16)))
    assert len(claims.load(file)) == 16


@pytest.mark.parametrize(
    ("field", "value"),
    [("verdict", "proven"), ("verdict", ""), ("claim", " "), ("measured", ""), ("command", "")],
)
def test_a_row_needs_all_its_fields_and_a_known_verdict(field, value):
    row = {"claim": "a", "command": "b", "measured": "c", "verdict": "differs"} | {field: value}
    with pytest.raises(ValueError, match=field):
        claims.Claim(**row)


def test_the_table_has_one_line_per_row_and_no_stray_column_marks():
    lines = claims.table([ROW, claims.Claim("|x| is 1", "a | b", "2", "differs")]).splitlines()
    assert len(lines) == 4 and {line.count("|") for line in lines} == {5}
