"""The commands that make and run the chapters, each beside its options."""

from __future__ import annotations

import argparse

from ..files.command_line import command, option


@command(
    "notebooks",
    option("--in-place", action="store_true", help="write outputs into the chapters, for a commit"),
)
def run_notebooks(arguments: argparse.Namespace) -> None:
    """Execute every chapter; the executed copies go to runs/notebooks/, or into the chapters
    themselves.
    """
    from . import notebooks, readme

    notebooks.execute(arguments.in_place)
    if arguments.in_place:
        readme.write()
        print(f"Wrote the chapters and {notebooks.REPOSITORY / 'figures'}")
    else:
        print(f"Executed chapters: {notebooks.COPIES}")
        print(f"Figures: {notebooks.COPIES.with_name('figures')}")


@command("labs")
def write_labs(_arguments: argparse.Namespace) -> None:
    """Write the student versions of the chapters, with stubs for solutions, to notebooks/labs/."""
    from . import labs

    for path in labs.write():
        print(f"Wrote {path}")
