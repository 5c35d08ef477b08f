"""Execute the chapters; `make run` and `make notebooks`."""

from __future__ import annotations

import re
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from tqdm import tqdm

from ..files.provenance import REPOSITORY

FOLDER = REPOSITORY / "notebooks"
EXECUTED_COPIES = REPOSITORY / "runs" / "notebooks"


def chapters() -> list[Path]:
    """The chapter notebooks in reading order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))


def execute(in_place: bool) -> None:
    """Run every chapter from top to bottom with a progress bar; stop at the first error.

    Args:
        in_place: write outputs and run times into the chapters themselves; otherwise the executed
            copies go to `runs/notebooks/` and the chapters stay as they are.
    """
    notebooks = {path: nbformat.read(path, as_version=4) for path in chapters()}
    cells = sum(
        cell.cell_type == "code" for notebook in notebooks.values() for cell in notebook.cells
    )
    with tqdm(total=cells, unit="cell") as bar:
        for path, notebook in notebooks.items():
            bar.set_description(path.stem)
            began = time.perf_counter()
            client = NotebookClient(
                notebook,
                timeout=600,
                coalesce_streams=True,
                resources={"metadata": {"path": str(FOLDER)}},
                on_cell_executed=lambda **_: bar.update(),
            )
            client.execute()
            seconds = round(time.perf_counter() - began)
            notebook.metadata["measured_seconds"] = seconds
            notebook.cells[0].source = re.sub(
                r"\d+ s to run on two", f"{seconds} s to run on two", notebook.cells[0].source
            )
            _strip(notebook)
            target = path if in_place else EXECUTED_COPIES / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, target)


def _strip(notebook: nbformat.NotebookNode) -> None:
    """Remove what changes from run to run and tells a reader nothing: widgets, time stamps, the
    kernel's patch version.
    """
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(
                "application/vnd.jupyter.widget-view+json", None
            )  # a random name; text and picture stay
