"""The labs: generated from the chapters, with nothing in them that a student should not see, and
nothing else missing.
"""

import re

import nbformat
import pytest
from nbclient import NotebookClient

from s3rnet_lite.course import labs
from s3rnet_lite.course.notebooks import chapters

SOURCE = '''def half(x):
    """Half of x."""
    ### BEGIN SOLUTION
    result = x / 2
    return result
    ### END SOLUTION'''


def tagged(cell, *tags):
    return bool(set(tags) & set(cell.metadata.get("tags", [])))


@pytest.fixture(params=chapters(), ids=lambda path: path.stem)
def pair(request):
    path = labs.LABS_FOLDER / request.param.name
    assert path.exists(), "run `python -m s3rnet_lite labs`"
    return nbformat.read(request.param, as_version=4), nbformat.read(path, as_version=4)


def test_a_stub_keeps_signature_and_docstring_and_raises():
    stub = labs.SOLUTION.sub(labs.STUB, SOURCE)
    assert stub == 'def half(x):\n    """Half of x."""\n    raise NotImplementedError("your turn")'


def test_the_committed_labs_are_the_generated_ones(pair):
    chapter, lab = pair
    assert nbformat.writes(labs.student_version(chapter)) == nbformat.writes(lab)


def test_no_lab_is_left_of_a_chapter_that_is_gone():
    assert {path.name for path in labs.LABS_FOLDER.iterdir() if path.suffix == ".ipynb"} == {
        path.name for path in chapters()
    }


def test_every_stub_is_its_solution_with_the_answer_taken_out(pair):
    chapter, lab = pair
    assert len(chapter.cells) == len(lab.cells)
    for original, student in zip(chapter.cells, lab.cells, strict=True):
        if not tagged(original, "solution"):
            if original.cell_type == "code":
                assert student.source == original.source
            continue
        answer = re.search(r"### BEGIN SOLUTION\n(.*)### END SOLUTION", original.source, re.DOTALL)[
            1
        ]
        assert answer.strip() and answer not in student.source
        assert (
            student.source.count("raise NotImplementedError") == 1
            and "SOLUTION" not in student.source
        )
        kept = [
            line for line in student.source.splitlines() if "raise NotImplementedError" not in line
        ]
        assert kept == [
            line
            for line in original.source.replace(answer, "").splitlines()
            if "SOLUTION" not in line
        ]


def test_the_links_of_a_lab_lead_somewhere(pair):
    for cell in pair[1].cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", cell.source):
                assert (labs.LABS_FOLDER / target).exists(), target


def test_solution_and_check_cells_carry_the_metadata_of_nbgrader(pair):
    for notebook in pair:
        graded = [cell for cell in notebook.cells if tagged(cell, "solution", "check")]
        names = [cell.metadata["nbgrader"]["grade_id"] for cell in graded]
        assert len(set(names)) == len(names) >= 6
        assert all("nbgrader" not in cell.metadata for cell in notebook.cells if cell not in graded)
        for cell in graded:
            marks = cell.metadata["nbgrader"]
            assert marks["solution"] == tagged(cell, "solution") and marks["schema_version"] == 3
            assert (marks["grade"], marks["locked"], marks.get("points")) == (
                (True, True, 1) if tagged(cell, "check") else (False, False, None)
            )


def test_a_student_copy_fails_in_stubs_and_checks_only_and_there_because_nothing_is_written_yet(
    pair,
):
    """With the solutions in place every code cell equals the chapter's (see above), and that one
    runs without errors.
    """
    lab = pair[1]
    client = NotebookClient(
        lab, timeout=600, allow_errors=True, resources={"metadata": {"path": str(labs.LABS_FOLDER)}}
    )
    client.execute()
    failures = [
        (cell, output)
        for cell in lab.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]
    assert all(
        tagged(cell, "solution", "check") and output.ename == "NotImplementedError"
        for cell, output in failures
    )
    failed = [cell for cell, _ in failures]
    assert [cell for cell in lab.cells if tagged(cell, "check")] == [
        cell for cell in failed if tagged(cell, "check")
    ]
