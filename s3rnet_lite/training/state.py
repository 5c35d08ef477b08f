"""The file that an interrupted training goes on from; used in notebooks/06_training.ipynb and built
in notebooks/10_gpu_training.ipynb.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..files.atomic import digest, read_tensors, write_tensors

# Settings that change how a step is computed and not, beyond rounding, what comes out: a run may go
# on with others.
FREE_TO_CHANGE = ("accumulate", "checkpoint_activations", "compile")


def fingerprint(references: list[torch.Tensor]) -> str:
    """What tells training images from others: a checksum of their shapes and of every 16th pixel
    along both sides.
    """
    return digest({str(i): y[:, ::16, ::16].contiguous() for i, y in enumerate(references)})


def save_state(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, run: dict
) -> None:
    """Write weights, the optimizer's moments, and `run`: everything else, ready for JSON, with the
    settings as "config".
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    write_tensors(path, tensors, {"run": json.dumps(run)})


def load_state(
    path: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    config: dict,
    data: str | None = None,
) -> dict:
    """Put the weights and moments back, and return `run`.

    Args:
        data: `fingerprint` of the training images.

    Raises:
        ValueError: a damaged file, another kind of file, or the state of a run with other settings,
            another network or other images.
    """
    tensors, metadata = read_tensors(path)
    if "run" not in metadata:
        raise ValueError(f"{path}: not a training state written by training.fit")
    run, expected = json.loads(metadata["run"]), json.loads(json.dumps(config))
    changed = [
        f"{name} was {run['config'].get(name)!r}, is {value!r}"
        for name, value in expected.items()
        if name not in FREE_TO_CHANGE and run["config"].get(name) != value
    ]
    if changed:
        raise ValueError(f"{path}: a state of another run ({', '.join(changed)})")
    weights = {
        name.removeprefix("model."): x for name, x in tensors.items() if name.startswith("model.")
    }
    own = {name: x.shape for name, x in model.state_dict().items()}
    if own != {name: x.shape for name, x in weights.items()}:
        raise ValueError(f"{path}: a state of another run (its network has other weights)")
    if run.get("data", data) != data:
        raise ValueError(f"{path}: a state of another run (it saw other training images)")
    model.load_state_dict(weights)
    optimizer_state = optimizer.state_dict()
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            optimizer_state["state"].setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(optimizer_state)
    return run
