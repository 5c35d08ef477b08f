"""The notebook standard: every chapter is executed, whole, readable, and says nothing that its
outputs do not show.

Run with `--nbval`, pytest also executes each chapter and compares every output with the stored one.
"""

import re

import nbformat
import pytest

from s3rnet_lite.course.notebooks import chapters

SECTIONS = (
    "## Prerequisites",
    "## Exercises",
    "## Quiz",
    "## Recap",
    "## What's next",
    "## References",
)
ALLOWED_TAGS = {"solution", "check", "nbval-ignore-output", "raises-exception"}


@pytest.fixture(params=chapters(), ids=lambda path: path.stem)
def chapter(request):
    notebook = nbformat.read(request.param, as_version=4)
    nbformat.validate(notebook)
    return request.param, notebook


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(notebook, tag: str):
    return [cell for cell in code_cells(notebook) if tag in cell.metadata.get("tags", [])]


def prose(notebook) -> str:
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_it_was_executed_once_from_top_to_bottom(chapter):
    cells = code_cells(chapter[1])
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)


def test_it_has_the_common_skeleton(chapter):
    path, notebook = chapter
    head = notebook.cells[0].source
    assert re.match(rf"# {path.name[:2]} · \S", head)
    assert re.search(r"^\*\*Question\.\*\* .+\?$", head, re.MULTILINE)
    assert "**You will** be able to:" in head
    time = r"^\*\*Time\.\*\* about \d+ minutes to read; (\d+) s to run on two CPU cores\.$"
    seconds = re.search(time, head, re.MULTILINE)
    assert int(seconds[1]) == notebook.metadata["measured_seconds"] <= 180
    text = prose(notebook)
    positions = [text.find("\n" + section + "\n") for section in SECTIONS[1:]]
    assert all(position > 0 for position in positions) and positions == sorted(positions)
    assert notebook.cells[1].source.startswith("## Prerequisites\n")
    assert "| concept | needed? | where to learn it |" in text
    objectives = len(re.findall(r"^- ", head, re.MULTILINE))
    recap = text[text.find("\n## Recap\n") : text.find("\n## What's next\n")]
    assert 3 <= objectives <= 5 and len(re.findall(r"^- ", recap, re.MULTILINE)) == objectives


def test_it_can_be_read_at_one_sitting(chapter):
    _, notebook = chapter
    cells = [cell.source.splitlines() for cell in code_cells(notebook)]
    assert 15 <= len(cells) <= 30
    assert 1_600 <= len(prose(notebook).split("\n## References\n")[0].split()) <= 2_100
    assert max(map(len, cells)) <= 25 and sum(map(len, cells)) <= 350 and len(cells[0]) <= 8
    assert max(len(line) for lines in cells for line in lines) <= 100


def test_one_thing_to_remember_stands_at_the_top_and_in_the_recap(chapter):
    _, notebook = chapter
    text = prose(notebook)
    recap = text[text.find("\n## Recap\n") : text.find("\n## What's next\n")]
    assert re.search(r"^\*\*Remember\.\*\* \S", notebook.cells[0].source, re.MULTILINE)
    assert re.search(r"^\*\*Remember\.\*\* \S", recap, re.MULTILINE)


def test_it_has_something_to_play_with_that_shows_where_only_read(chapter):
    pages = [
        output["data"].get("text/html", "")
        for cell in code_cells(chapter[1])
        for output in cell.outputs
        if "data" in output
    ]
    assert any('class="flipbook"' in page for page in pages)


def test_outputs_show_numbers_instead_of_true(chapter):
    for cell in code_cells(chapter[1]):
        for output in cell.outputs:
            assert not re.search(r": True$", output.get("text", ""), re.MULTILINE), cell.source


def test_answers_are_set_as_markdown(chapter):
    # without a blank line after the summary, Markdown inside shows raw
    for block in re.findall(r"</summary>(.*?)</details>", prose(chapter[1]), re.DOTALL):
        if re.search(r"[`*$]", block):
            assert block.startswith("\n\n") and block.endswith("\n"), block


def test_it_is_small_and_stores_no_widget_state(chapter):
    path, notebook = chapter
    assert path.stat().st_size <= 2**20
    assert "widgets" not in notebook.metadata
    kinds = {
        kind
        for cell in code_cells(notebook)
        for output in cell.outputs
        for kind in output.get("data", {})
    }
    assert kinds <= {"text/plain", "image/png", "text/html"}  # what shows without a kernel


def test_tags_are_known_and_ignored_outputs_are_few_and_explained(chapter):
    notebook = chapter[1]
    tags = {tag for cell in code_cells(notebook) for tag in cell.metadata.get("tags", [])}
    assert tags <= ALLOWED_TAGS
    ignored = tagged(notebook, "nbval-ignore-output")
    assert len(ignored) <= 2 and all("#" in cell.source for cell in ignored)


def test_numbers_are_printed_to_at_most_four_decimals(chapter):
    for cell in code_cells(chapter[1]):
        for output in cell.outputs:
            text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
            assert not re.search(r"\d\.\d{5,}(?!e)", text), text[:300]


def test_exercises_have_hints_a_solution_and_a_check(chapter):
    _, notebook = chapter
    exercises = [
        cell.source
        for cell in notebook.cells
        if re.match(r"### Exercise \d · .+ \(\d+ minutes\)", cell.source)
    ]
    assert 3 <= len(exercises) <= 5
    for text in exercises:
        assert text.count("<details>") == 2 and "**Expected:**" in text
    solutions, checks = (tagged(notebook, tag) for tag in ("solution", "check"))
    assert len(solutions) == len(checks) == len(exercises)
    for cell in solutions:
        begins, ends = (cell.source.count(f"### {word} SOLUTION") for word in ("BEGIN", "END"))
        assert begins == ends == 1
    assert all("assert " in cell.source for cell in checks)


def test_links_inside_the_repository_lead_somewhere(chapter):
    path, notebook = chapter
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose(notebook)):
        assert (path.parent / target).exists(), target
