"""Read features from outside: networks know nothing of being watched; used in notebooks/06, 07 and
08.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import nn


@contextmanager
def record(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Within the block, every output of `module` is appended, detached, to the list that this
    yields.
    """
    outputs: list[torch.Tensor] = []
    handle = module.register_forward_hook(
        lambda _module, _inputs, output: outputs.append(output.detach())
    )
    try:
        yield outputs
    finally:
        handle.remove()


@contextmanager
def record_all(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, list[torch.Tensor]]]:
    """As `record`, for several modules at once: name -> list of outputs."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(record(module)) for name, module in modules.items()}
