"""The labs: generated from the chapters, with nothing in them that a student should not see, and
nothing else missing.
"""

import re
import shutil

import nbformat
import pytest
from nbclient import NotebookClient

from s3rnet_lite.course import labs, notebooks
from s3rnet_lite.course.notebooks import chapters
from s3rnet_lite.files import atomic

SOURCE = '''def half(x):
    """Half of x."""
    ### BEGIN SOLUTION
    result = x / 2
    return result
    ### END SOLUTION'''

ANSWER = re.compile(r"### BEGIN SOLUTION\n(.*)### END SOLUTION", re.DOTALL)


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


def test_a_write_that_fails_leaves_the_chapter_whole(tmp_path, monkeypatch):
    path = tmp_path / "chapter.ipynb"
    shutil.copy(chapters()[0], path)
    whole = path.read_bytes()
    notebooks.write(nbformat.read(path, as_version=4), path)
    assert path.read_bytes() == whole

    def full(_):
        raise OSError("no space left")

    monkeypatch.setattr(atomic, "sync", full)
    with pytest.raises(OSError, match="no space left"):
        notebooks.write(nbformat.v4.new_notebook(), path)
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]


def test_no_lab_is_left_of_a_chapter_that_is_gone():
    names = {path.name for path in labs.LABS_FOLDER.glob("*.ipynb")}
    assert names == {path.name for path in chapters()}


def test_every_stub_is_its_solution_with_the_answer_taken_out(pair):
    chapter, lab = pair
    assert len(chapter.cells) == len(lab.cells)
    for original, student in zip(chapter.cells, lab.cells, strict=True):
        if not tagged(original, "solution"):
            if original.cell_type == "code":
                assert student.source == original.source
            continue
        [answer] = ANSWER.findall(original.source)
        assert answer.strip() and answer not in student.source
        kept = student.source.splitlines()
        kept.remove(next(line for line in kept if "raise NotImplementedError" in line))
        rest = original.source.replace(answer, "").splitlines()
        assert kept == [line for line in rest if "SOLUTION" not in line]


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


def test_the_lecturers_page_lists_the_exercises(pair):
    text = "\n".join(cell.source for cell in pair[0].cells if cell.cell_type == "markdown")
    exercises = re.findall(r"^### Exercise \d · (.+ \(\d+) minutes\)$", text, re.MULTILINE)
    assert "### To think about" in text and "<summary>Rubric</summary>" in text
    row = ", ".join(f"{one})" for one in exercises)
    assert f" | {row} |\n" in (notebooks.FOLDER / "LECTURERS.md").read_text()


@pytest.mark.slow
def test_a_student_copy_fails_only_where_nothing_is_written_yet(pair):
    """With the solutions in place every code cell equals the chapter's, which runs without errors
    (see above).
    """
    lab = pair[1]
    resources = {"metadata": {"path": str(labs.LABS_FOLDER)}}
    NotebookClient(lab, timeout=600, allow_errors=True, resources=resources).execute()
    failed = {
        index: output.ename
        for index, cell in enumerate(lab.cells)
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    }
    checks = {index for index, cell in enumerate(lab.cells) if tagged(cell, "check")}
    solutions = {index for index, cell in enumerate(lab.cells) if tagged(cell, "solution")}
    assert checks <= set(failed) <= checks | solutions
    assert set(failed.values()) == {"NotImplementedError"}
