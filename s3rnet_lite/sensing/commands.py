"""The commands about scenes, each beside its options."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..files.command_line import command, option, output


@command("scenes")
def list_scenes(_arguments: argparse.Namespace) -> None:
    """List the scenes that people use and `scenes.public` knows, with where to get them."""
    from . import public

    print(public.table())


@command(
    "check-scene",
    option("file", type=Path, help="your copy of Indian Pines: .npy or .mat"),
    output("--out", "write a repaired copy: .npy or .mat", (".npy", ".mat"), required=False),
    option("--variable", help="of a .mat file (default: its only image)"),
    example="Indian_pines_corrected.mat",
)
def check_scene(arguments: argparse.Namespace) -> None:
    """Tell whether a copy of Indian Pines has lost its bytes 0x0D, as that of tensorly has and very
    probably the .mat that most papers use, and repair it on request.
    """
    from . import repair

    numbers, variable = repair.read(arguments.file, arguments.variable)
    try:
        print(repair.verdict(numbers))
    except ValueError as error:
        raise ValueError(f"{arguments.file}: {error}") from error
    if arguments.out:
        repair.write(arguments.out, repair.undo_newline_damage(numbers), variable)
        print(f"Wrote {arguments.out}")
