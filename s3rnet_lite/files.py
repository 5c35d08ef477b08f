"""Reading and writing files so that nothing is ever half-written and damage is named."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


def write_tensors(path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file."""
    separate = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    _write(path, lambda temporary: save_file(separate, temporary, metadata))


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
    _write(path, lambda temporary: Path(temporary).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n"))


def write_array(path: str | Path, array: np.ndarray) -> None:
    """Write a .npy file."""

    def save(temporary: str) -> None:
        with open(temporary, "wb") as file:  # a file object, because np.save appends .npy to names
            np.save(file, array)

    _write(path, save)


def read_array(path: str | Path) -> torch.Tensor:
    """A cube (C, H, W) from a .npy file, or from a .npz file that holds one array, as float32.

    Raises:
        TypeError: the values are no floating-point numbers.
        ValueError: another ending, a damaged file, or not exactly one array in it.
    """
    path = Path(path)
    if path.suffix not in (".npy", ".npz"):
        raise ValueError(f"{path}: expected a .npy or .npz file")
    try:
        content = np.load(path, allow_pickle=False)
        if path.suffix == ".npz":
            if len(content.files) != 1:
                raise ValueError(f"expected one array, got {len(content.files)}: {', '.join(content.files)}")
            content = content[content.files[0]]
    except (ValueError, EOFError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: cannot be read as NumPy file ({error})") from error
    if not np.issubdtype(content.dtype, np.floating):
        raise TypeError(f"{path}: expected floating-point values in [0, 1], got {content.dtype}; scale them first")
    return torch.from_numpy(np.ascontiguousarray(content, dtype=np.float32))


def _write(path: str | Path, write: Callable[[str], object]) -> None:
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
