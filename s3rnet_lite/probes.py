"""Read features from outside: networks know nothing of being watched; used in notebooks/06, 07 and 08."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def record(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Within the block, every output of `module` is appended, detached, to the list that this yields."""
    outputs: list[torch.Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.detach()))
    try:
        yield outputs
    finally:
        handle.remove()
