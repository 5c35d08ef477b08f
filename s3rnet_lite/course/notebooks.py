"""Execute the chapters; `make run` and `make notebooks`."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from tqdm import tqdm

from ..files import atomic
from ..files.provenance import IN_PLACE, REPOSITORY

FOLDER = REPOSITORY / "notebooks"
COPIES = REPOSITORY / "runs" / "notebooks"


def chapters() -> list[Path]:
    """The chapter notebooks in reading order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))


def execute(in_place: bool) -> None:
    """Run every chapter from top to bottom with a progress bar; stop at the first error.

    Args:
        in_place: write outputs, run times and figures into the repository; otherwise everything
            goes to `runs/`, and the repository stays as it is.
    """
    if in_place:
        os.environ[IN_PLACE] = "1"  # which the kernels inherit
    notebooks = {path: nbformat.read(path, as_version=4) for path in chapters()}
    cells = sum(cell.cell_type == "code" for one in notebooks.values() for cell in one.cells)
    with tqdm(total=cells, unit="cell") as bar:
        for path, notebook in notebooks.items():
            bar.set_description(path.stem)
            run(notebook, FOLDER if in_place else REPOSITORY, bar)
            target = path if in_place else COPIES / path.name
            write(notebook, target)


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook as Jupyter does."""
    atomic.write_text(path, nbformat.writes(notebook) + "\n")


def run(notebook: nbformat.NotebookNode, folder: Path, bar: tqdm | None = None) -> None:
    """Execute one chapter in `folder`, note its run time, and strip what tells a reader nothing."""
    began = time.perf_counter()
    NotebookClient(
        notebook,
        timeout=600,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
        on_cell_executed=lambda **_: bar is None or bar.update(),
    ).execute()
    seconds = round(time.perf_counter() - began)
    notebook.metadata["measured_seconds"] = seconds
    head = notebook.cells[0]
    head.source = re.sub(r"\d+ s to run on two", f"{seconds} s to run on two", head.source)
    _strip(notebook)


def _strip(notebook: nbformat.NotebookNode) -> None:
    """Remove what changes from run to run and tells a reader nothing: widgets, time stamps, the
    kernel's patch version.
    """
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            # a random name; text and picture stay
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
