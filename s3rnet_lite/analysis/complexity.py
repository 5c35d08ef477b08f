"""Size, work, memory and time of any fusion network; used in notebooks/04, 06 and 09."""

from __future__ import annotations

import copy
import statistics
import time
import weakref
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Complexity:
    """parameters: trainable numbers; macs: multiply-accumulates of one forward pass; flops: 2 *
    macs.
    """

    parameters: int
    macs: int
    flops: int


@dataclass(frozen=True)
class Measurement:
    """seconds: median of `runs` forward passes without gradients; device and threads: on what."""

    seconds: float
    runs: int
    device: str
    threads: int


def count(network: nn.Module, x_h: torch.Tensor, x_m: torch.Tensor) -> Complexity:
    """Count convolutions, linear layers, matrix products (attention included) and scans for inputs
    of these shapes.

    Works on the `meta` device: only shapes matter, no memory is used, and `network` stays as it is.
    Activations, normalisations, interpolation and other operations of a few FLOPs per number are
    not counted.

    >>> class Sum(nn.Conv2d):
    ...     def forward(self, x_h, x_m):
    ...         return super().forward(x_m)
    >>> count(Sum(2, 3, 1), torch.empty(1), torch.empty(1, 2, 4, 4))
    Complexity(parameters=9, macs=96, flops=192)
    """
    shadow = copy.deepcopy(network).to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(x_h.to("meta"), x_m.to("meta"))
    flops = counter.get_total_flops()
    return Complexity(
        sum(p.numel() for p in network.parameters() if p.requires_grad), flops // 2, flops
    )


_LAYERS = ("aten.convolution", "aten.mm", "aten.addmm")  # have weights; the rest multiply features


def macs_by_convention(
    network: nn.Module, x_h: torch.Tensor, x_m: torch.Tensor
) -> dict[str, float]:
    """MACs of one forward pass as tools count them.

    "layers" leaves out products between activations (attention, scans); "layers, oversized" counts
    transposed convolutions at their output's size, stride² times too much; "all" is `count`'s;
    "twice all" are floating-point operations.

    Args:
        network: works in place, and is cheapest on the `meta` device.
    """
    extra = []

    def oversized(layer: nn.Module, entered: tuple, left: torch.Tensor) -> None:
        macs = entered[0].numel() * layer.weight[0].numel()
        extra.append(macs * (left.shape[2:].numel() / entered[0].shape[2:].numel() - 1))

    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d)
    layers = [module for module in network.modules() if isinstance(module, transposed)]
    handles = [layer.register_forward_hook(oversized) for layer in layers]
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(x_h, x_m)
    finally:
        for handle in handles:
            handle.remove()
    flops = {str(name): value for name, value in counter.get_flop_counts()["Global"].items()}
    weighted, everything = sum(flops.get(name, 0) for name in _LAYERS) / 2, sum(flops.values()) / 2
    return {
        "layers": weighted,
        "layers, oversized": weighted + sum(extra),
        "all": everything,
        "twice all": 2 * everything,
    }


def peak_memory(
    network: nn.Module, x_h: torch.Tensor, x_m: torch.Tensor, keep_for_backward: bool = False
) -> int:
    """The most bytes that the activations of one forward pass take at a time; weights and inputs
    come on top.

    Counted from the tensors' shapes on the `meta` device, so that a full-size network needs no
    full-size machine. What a library call uses inside itself (a convolution's workspace, the state
    within a scan) is not seen.

    Args:
        keep_for_backward: count what training keeps, too.
    """
    shadow, x_h, x_m = copy.deepcopy(network).to("meta"), x_h.to("meta"), x_m.to("meta")
    with torch.set_grad_enabled(keep_for_backward), _LiveBytes() as meter:
        shadow(x_h, x_m)
    return meter.peak


@torch.no_grad()
def measure(network: nn.Module, x_h: torch.Tensor, x_m: torch.Tensor, runs: int = 7) -> Measurement:
    """Time forward passes on the device of `x_h`: two for warming up, then the median of `runs`.

    A GPU works behind the program's back: without waiting for it, a clock sees the launch only.

    Raises:
        ValueError: fewer than one run.
    """
    if runs < 1:
        raise ValueError(f"runs: expected at least 1, got {runs}")
    on_gpu = x_h.device.type == "cuda"
    seconds = []
    for _ in range(2 + runs):
        began = time.perf_counter()
        network(x_h, x_m)
        if on_gpu:
            torch.cuda.synchronize(x_h.device)
        seconds.append(time.perf_counter() - began)
    device = torch.cuda.get_device_name(x_h.device) if on_gpu else x_h.device.type
    return Measurement(statistics.median(seconds[2:]), runs, device, torch.get_num_threads())


class _LiveBytes(TorchDispatchMode):
    """Bytes of the tensors created inside the `with` block and still alive: `now`, and at most
    `peak`; as in chapter 04.
    """

    def __init__(self):
        super().__init__()
        self.now, self.peak, self._sizes = 0, 0, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if (
                isinstance(tensor, torch.Tensor)
                and tensor.untyped_storage()._cdata not in self._sizes
            ):
                storage = tensor.untyped_storage()
                self._sizes[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._free, storage._cdata)
        return output

    def _free(self, key: int) -> None:
        self.now -= self._sizes.pop(key)
