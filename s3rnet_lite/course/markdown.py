"""Markdown of tables and paragraphs, for pages that are generated."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable


def table(heads: list[str], rows: Iterable[list[str]], text_columns: int = 1) -> str:
    """A table whose first columns hold text, the others numbers, aligned to the right.

    >>> print(table(["method", "PSNR"], [["bicubic", "33.19"]]))
    | method | PSNR |
    |---|--:|
    | bicubic | 33.19 |
    """
    rule = ["---"] * text_columns + ["--:"] * (len(heads) - text_columns)
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])


def paragraph(text: str, mark: str = "") -> str:
    """Lines of at most 100 characters; with a mark ("- ", "1. ") an item of a list."""
    return textwrap.fill(
        " ".join(text.split()),
        width=100,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_long_words=False,
        break_on_hyphens=False,
    )
