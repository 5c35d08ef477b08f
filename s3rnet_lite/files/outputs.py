"""May this file be written? Decided before any work, and in one place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ENVI_DATA = ("", ".img", ".dat", ".raw", ".bin", ".bsq", ".bil", ".bip", ".hyspex")


@dataclass(frozen=True)
class Output:
    """A file that a command writes, and what it writes beside it.

    suffixes: the allowed ones, such as (".npy", ".hdr").
    beside: endings of further files: ".json" of NAME.json, "_report.png" of NAME_report.png.

    >>> Output((".safetensors",), (".json",)).files(Path("runs/a.safetensors"))
    [PosixPath('runs/a.safetensors'), PosixPath('runs/a.json')]
    """

    suffixes: tuple[str, ...]
    beside: tuple[str, ...] = ()

    def files(self, path: Path) -> list[Path]:
        """All that will be written."""
        return [path, *(path.with_name(path.stem + ending) for ending in self.beside)]

    def check(self, path: str | Path, inputs: Iterable[str | Path] = ()) -> None:
        """Refuse what would fail after the work is done, or destroy something.

        Raises:
            ValueError: another suffix; a link, a folder or a device in the place of a file; a file
                that is also an input, or belongs to one.
            OSError: a folder that cannot be written to.
        """
        path = Path(path)
        if path.suffix not in self.suffixes:
            expected = " or ".join(self.suffixes)
            raise ValueError(f"{path}: expected a file to write that ends in {expected}")
        taken = [(given, part) for given in map(Path, inputs) for part in belonging(given)]
        for file in self.files(path):
            check_free(file)
            for given, part in taken:
                if same(file, part):
                    raise ValueError(
                        f"{file}: belongs to {given}, which is used too; choose another name"
                    )


def belonging(path: Path) -> list[Path]:
    """An input file and those that are read with it: metadata, or the data of an ENVI header."""
    if path.suffix == ".safetensors":
        return [path, path.with_suffix(".json")]
    if path.suffix == ".hdr":
        return [path, *(path.with_suffix(ending) for ending in ENVI_DATA)]
    return [path]


def check_free(path: Path) -> None:
    """A regular file may be replaced, nothing else, and only in a folder that can be written to.

    Raises:
        ValueError, OSError: see `Output.check`.
    """
    kind = "a link" if path.is_symlink() else "a folder" if path.is_dir() else "a device"
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ValueError(f"{path}: expected a file or a free name to write to, got {kind}")
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise ValueError(f"{path}: expected a folder to write to, got the file {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: cannot be written, the folder {folder} is read-only")


def same(one: Path, other: Path) -> bool:
    """Whether two names are those of one file, through links too."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()


def reserved(path: Path, create: Callable, dtype, shape: tuple[int, ...]):
    """A new mapped file that has its room on the disk: writing to a page for which there is none
    would end the program without a word.

    Args:
        create: `np.memmap`, or what takes the same arguments.

    Raises:
        OSError: there is no room.
    """
    try:
        array = create(path, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error})") from error
    return array
