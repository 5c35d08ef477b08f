"""Commands beside their options: what `python -m s3rnet_lite` is made of.

A module that holds commands imports nothing heavy at its top, so that `--help` answers at once;
what a command needs it imports when it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PRESETS = ("paper", "lite", "tiny")
SKIPS = ("none", "bilinear", "injection", "details")
MSI_BANDS = (1, 3, 4, 6)


@dataclass(frozen=True)
class Command:
    """What the parser shows and runs."""

    run: Callable[[argparse.Namespace], None]
    options: tuple[tuple[tuple, dict], ...]


COMMANDS: dict[str, Command] = {}


def command(name: str, *options: tuple[tuple, dict]) -> Callable:
    """Decorate a function of the parsed arguments; its docstring is the help text."""

    def add(function: Callable[[argparse.Namespace], None]) -> Callable:
        COMMANDS[name] = Command(function, options)
        return function

    return add


def option(*names: str, **settings) -> tuple[tuple, dict]:
    """One option of a command: the arguments of `argparse.ArgumentParser.add_argument`."""
    return names, settings


def number(name: str, default: float, text: str) -> tuple[tuple, dict]:
    """An option that is a number of the default's type, which the help text names."""
    return option(name, type=type(default), default=default, help=f"{text} (default: {default:g})")


SEED = number("--seed", 0, "of the weights and of every batch")


def path(name: str, text: str, required: bool = True) -> tuple[tuple, dict]:
    """An option that names a file or a folder."""
    return option(name, type=Path, required=required, help=text)


def result_file(required: bool = True) -> tuple[tuple, dict]:
    """`--out` of a command that measures something."""
    return path("--out", "JSON file for the results and where they come from", required)


def simulated_bands(default: int) -> tuple[tuple, dict]:
    """`--msi-bands`."""
    text = f"1 (PAN), 3 (RGB), 4 or 6 (Landsat TM) bands (default: {default})"
    return option("--msi-bands", type=int, choices=MSI_BANDS, default=default, help=text)


def parser(prog: str, description: str) -> argparse.ArgumentParser:
    """The parser of all commands that have been added so far."""
    whole = argparse.ArgumentParser(prog=prog, description=description)
    subparsers = whole.add_subparsers(required=True, metavar="COMMAND")
    for name, one in COMMANDS.items():
        text = one.run.__doc__
        added = subparsers.add_parser(name, help=text, description=text)
        added.set_defaults(run=one.run)
        for names, settings in one.options:
            added.add_argument(*names, **settings)
    return whole
