"""Commands beside their options: what `python -m s3rnet_lite` is made of.

A module that holds commands imports nothing heavy at its top, so that `--help` answers at once;
what a command needs it imports when it runs.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .outputs import Output

PRESETS = ("paper", "lite", "tiny")
SKIPS = ("none", "bilinear", "injection", "details")
MSI_BANDS = (1, 3, 4, 6)


@dataclass(frozen=True)
class Command:
    """What the parser shows and runs."""

    run: Callable[[argparse.Namespace], None]
    options: tuple[tuple[tuple, dict], ...]
    example: str


COMMANDS: dict[str, Command] = {}
GROUPS = {  # the order of `--help`; a command that no group names comes last
    "Images and models": ("fuse", "adapt", "evaluate", "train", "prepare", "scenes", "check-scene"),
    "The course": ("notebooks", "labs"),
    "Experiments": (
        "compare",
        "compare-scenes",
        "robustness",
        "ablate",
        "demands",
        "deafness",
        "complexity",
    ),
    "Upkeep": ("benchmark", "fuse-benchmark", "adapt-benchmark", "gpu", "skip-search"),
}


def command(name: str, *options: tuple[tuple, dict], example: str = "") -> Callable:
    """Decorate a function of the parsed arguments; its docstring is the help text.

    Args:
        example: the rest of a command line that makes sense, after the command's name.
    """

    def add(function: Callable[[argparse.Namespace], None]) -> Callable:
        COMMANDS[name] = Command(function, options, f"{name} {example}".strip())
        return function

    return add


def option(*names: str, **settings) -> tuple[tuple, dict]:
    """One option of a command: the arguments of `argparse.ArgumentParser.add_argument`."""
    return names, settings


def limited(kind: type, low: float = -math.inf, high: float = math.inf) -> Callable:
    """What argparse calls to read an int or a float: finite, and from `low` to `high`.

    >>> limited(int, 1)("3")
    3
    """

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and low <= value <= high):
            name = "a whole number" if kind is int else "a number"
            limits = f" from {low:g}" if low > -math.inf else ""
            limits += f" to {high:g}" if high < math.inf else ""
            raise argparse.ArgumentTypeError(f"expected {name}{limits}, got {text!r}")
        return value

    return read


LONGEST_CHOICES = 16  # letters; argparse does not wrap what it shows in braces
LEAST = 1e-6  # of what has to be positive
MOST_PIXELS = 65_536  # along a side
SNR_DB = (-50.0, 200.0)


def number(
    name: str, default: float, text: str, low: float = 1, high: float = math.inf
) -> tuple[tuple, dict]:
    """An option that is a number of the default's type, which the help text names."""
    kind = limited(type(default), low, high)
    return option(name, type=kind, default=default, help=f"{text} (default: {default:g})")


def maybe(
    name: str, kind: type, text: str, low: float = 1, high: float = math.inf, **settings
) -> tuple[tuple, dict]:
    """An option that is a number, or None if it is not given."""
    return option(name, type=limited(kind, low, high), help=text, **settings)


class OneOrRange(argparse.Action):
    """One number, or two as (lowest, highest)."""

    def __call__(self, parser, namespace, values, option_string=None):
        if len(values) > 2 or values != sorted(values):
            parser.error(
                f"{option_string}: expected one number, or the lowest and the highest, got {values}"
            )
        setattr(namespace, self.dest, values[0] if len(values) == 1 else tuple(values))


def flag(name: str, text: str) -> tuple[tuple, dict]:
    """An option without a value: True, or None for what the preset says."""
    return option(name, action="store_true", default=None, help=text)


SEED = number("--seed", 0, "of the weights and of every batch", low=0, high=2**32 - 1)


def path(name: str, text: str, required: bool = True) -> tuple[tuple, dict]:
    """An option that names a file or a folder."""
    return option(name, type=Path, required=required, help=text)


def output(
    name: str, text: str, suffixes: tuple[str, ...], beside: tuple[str, ...] = (), required=True
) -> tuple[tuple, dict]:
    """An option that names a file to write; checked before the command runs (`check_outputs`)."""
    return option(name, type=Path, required=required, help=text, writes=Output(suffixes, beside))


def result_file(required: bool = True) -> tuple[tuple, dict]:
    """`--out` of a command that measures something."""
    text = "JSON file for the results and where they come from"
    return output("--out", text, (".json",), required=required)


def simulated_bands(default: int) -> tuple[tuple, dict]:
    """`--msi-bands`."""
    text = f"1 (PAN), 3 (RGB), 4 or 6 (Landsat TM) bands (default: {default})"
    return option("--msi-bands", type=int, choices=MSI_BANDS, default=default, help=text)


DATA = path("--data", "folder from prepare, instead of Indian Pines", required=False)
SCENE = option("--scene", help="a name of `s3rnet-lite scenes` (default: Indian Pines)")
SCENE_FILE = path("--file", "the scene's file or folder", required=False)
NETWORKS = (
    "s3rnet",
    "pzres_net",
    "mssjfl",
    "dual_unet",
    "dhif_net",
    "fusformer",
    "hypertransformer",
    "hyperrefiner",
    "u2net",
    "qrcode",
    "fusion_mamba",
)


def parser(prog: str, description: str) -> argparse.ArgumentParser:
    """The parser of all commands that have been added so far."""
    completion = "Completion in a shell: `pip install shtab`, then `shtab --shell=bash -u "
    completion += "s3rnet_lite.__main__.whole_parser` (or zsh, tcsh) prints it."
    whole = argparse.ArgumentParser(
        prog=prog, description=description, epilog=completion, formatter_class=Grouped
    )
    whole.add_argument("--version", action=Version, nargs=0, help="print the version, and stop")
    subparsers = whole.add_subparsers(metavar="COMMAND")
    listed = [name for names in GROUPS.values() for name in names]
    ranks = {name: rank for rank, name in enumerate(listed)}
    for name, one in sorted(COMMANDS.items(), key=lambda item: ranks.get(item[0], len(ranks))):
        text = one.run.__doc__ or ""
        example = f"Example: s3rnet-lite {one.example}"
        short = re.split(r"[.;]\s|\.$", text.partition("\n\n")[0])[0]  # its first sentence
        added = subparsers.add_parser(name, help=short, description=text, epilog=example)
        added.set_defaults(run=one.run)
        for names, settings in one.options:
            added.add_argument(*names, **_shown(settings))
        added.set_defaults(command=name)
    return whole


class Grouped(argparse.HelpFormatter):
    """The list of commands under the titles of their groups."""

    def _format_action(self, action: argparse.Action) -> str:
        titles = {names[0]: title for title, names in GROUPS.items()}
        title = titles.get(action.dest)
        shown = super()._format_action(action)
        return f"\n  {title}:\n{shown}" if title else shown


class Version(argparse.Action):
    """Print the package's version, looked up only when it is asked for."""

    def __call__(self, parser, namespace, values, option_string=None):
        from .. import __version__

        print(__version__)
        parser.exit()


def _shown(settings: dict) -> dict:
    """An option as argparse takes it; many choices stand in the help text, which wraps, instead of
    in the usage, which does not.
    """
    shown = {key: value for key, value in settings.items() if key != "writes"}
    if len(", ".join(map(str, shown.get("choices") or ()))) > LONGEST_CHOICES:
        names = ", ".join(shown["choices"])
        shown |= {"metavar": "NAME", "help": f"{shown['help']}; one of {names}"}
    return shown


def check_outputs(arguments: argparse.Namespace) -> None:
    """Refuse, before any work, what cannot be written or would destroy an input.

    Raises:
        ValueError, OSError: see `outputs.Output.check`.
    """
    options = COMMANDS[arguments.command].options
    given = {names[-1].lstrip("-").replace("-", "_"): how for names, how in options}
    paths = {
        name: [one for one in (x if isinstance(x, list) else [x]) if isinstance(one, Path)]
        for name, x in vars(arguments).items()
    }
    for name, how in given.items():
        for path in paths[name] if "writes" in how else ():
            others = [one for other, found in paths.items() if other != name for one in found]
            how["writes"].check(path, others)
