"""Reading and writing files so that nothing is ever half-written and damage is named."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


def write_tensors(
    path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]
) -> None:
    """Write a safetensors file."""
    separate = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()
    }
    write_file(path, lambda temporary: save_file(separate, temporary, metadata))


def read_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Every tensor of a safetensors file, and its metadata.

    Raises:
        ValueError: the file is damaged or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged, or not a safetensors file ({error})") from error


def write_json(path: str | Path, content: dict) -> None:
    """Write JSON, one item a line."""
    write_file(
        path,
        lambda temporary: Path(temporary).write_text(
            json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        ),
    )


def write_array(path: str | Path, array: np.ndarray) -> None:
    """Write a .npy file."""

    def save(temporary: str) -> None:
        with open(temporary, "wb") as file:  # a file object, because np.save appends .npy to names
            np.save(file, array)

    write_file(path, save)


def packaged_file(cache: Path, name: str, package: str, folder: str) -> Path:
    """The data file `name`: the copy in `cache` if there is one, else that in `folder` of an
    installed package.

    The package is found, not imported: importing one can take seconds.

    Raises:
        FileNotFoundError: neither place has the file.
    """
    if (cache / name).exists():
        return cache / name
    found = importlib.util.find_spec(package)
    if found is not None and (shipped := Path(found.origin).parent / folder / name).exists():
        return shipped
    raise FileNotFoundError(
        f"{name}: not in {cache} and the package {package} is not installed (pip install {package})"
    )


def write_file(path: str | Path, write: Callable[[str], object]) -> None:
    """Let `write` fill a temporary file, then rename it to `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
