"""What a graphics card adds to a step: compiled and checkpointed forwards, waiting, memory; built
in notebooks/10_gpu_training.ipynb.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..network.mbfn import ResidualGroup


@contextmanager
def changed_forward(
    network: nn.Module, checkpoint_activations: bool = False, compiled: bool = False
) -> Iterator[None]:
    """Within the block, `network` checkpoints its residual groups, is compiled, or both. Parameters
    keep their names.

    Raises:
        ValueError: a network without residual groups cannot checkpoint them.
    """
    groups = [
        m for m in network.modules() if checkpoint_activations and isinstance(m, ResidualGroup)
    ]
    if checkpoint_activations and not groups:
        raise ValueError(
            "checkpoint_activations: expected a network with residual groups, got "
            f"{type(network).__name__}"
        )
    changed = [*groups, network] if compiled else groups
    for module in groups:
        module.forward = partial(checkpoint, module.forward, use_reentrant=False)
    if compiled:
        network.forward = torch.compile(network.forward)
    try:
        yield
    finally:
        for module in changed:
            del module.forward  # the class's own shows again


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was told to; a processor always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """Most bytes so far: of the tensors on a graphics card, or of this whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # here, because Windows has none

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


@contextmanager
def tensor_float_32(allowed: bool) -> Iterator[None]:
    """Within the block, float32 products on a graphics card may be rounded to TF32, or may not.

    These two switches, though old, are the ones that `torch.compile` can read in torch 2.11 to
    2.13.
    """
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
