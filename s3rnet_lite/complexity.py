"""Size and work of any fusion network, counted without running it; used in notebooks/04, 06 and 09."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Complexity:
    """parameters: trainable numbers; macs: multiply-accumulates of one forward pass; flops: 2 * macs."""

    parameters: int
    macs: int
    flops: int


def count(network: nn.Module, x_h: torch.Tensor, x_m: torch.Tensor) -> Complexity:
    """Count convolutions, linear layers and matrix products (attention included) for inputs of these shapes.

    Works on the `meta` device: only shapes matter, no memory is used, and `network` stays as it is.
    """
    shadow = copy.deepcopy(network).to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(x_h.to("meta"), x_m.to("meta"))
    flops = counter.get_total_flops()
    return Complexity(sum(p.numel() for p in network.parameters() if p.requires_grad), flops // 2, flops)
