"""What a network asks of a graphics card, operation by operation, and what that costs; built in
notebooks/10_gpu_training.ipynb.
"""

from __future__ import annotations

import copy
import csv
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.module_tracker import ModuleTracker

from ..files.provenance import DATA_FOLDER

BYTES = {
    "float32": 4,
    "TF32": 4,
    "bfloat16": 2,
    "float16": 2,
}  # TF32 rounds inside the multiplication only

LAUNCH_SECONDS = 13e-6  # what a program needs to tell a card one operation, about


@dataclass(frozen=True)
class Card:
    """A graphics card by its data sheet, without sparsity (`data/gpu_cards.csv`).

    memory: bytes; bandwidth: bytes per second between memory and chip; peaks: precision -> FLOP/s,
    where supported.
    """

    name: str
    memory: float
    bandwidth: float
    peaks: dict[str, float]
    source: str

    def ridge(self, precision: str) -> float:
        """FLOP per byte from which on arithmetic, not memory, is the limit."""
        return self.peaks[precision] / self.bandwidth

    def attainable(self, intensity: float, precision: str) -> float:
        """The roof: the most FLOP/s of an operation that does `intensity` FLOP for each byte it
        moves.

        Source: S. Williams, A. Waterman, D. Patterson, "Roofline", Communications of the ACM 52,
        2009.
        """
        return min(self.peaks[precision], intensity * self.bandwidth)


@dataclass(frozen=True)
class Operation:
    """One launch. module: where, as in `named_modules`; kind: of PyTorch's; numbers: read and
    written, each once.
    """

    module: str
    kind: str
    flops: int
    numbers: int

    def intensity(self, precision: str) -> float:
        """FLOP per byte."""
        return self.flops / (self.numbers * BYTES[precision])

    def least_seconds(self, card: Card, precision: str) -> float:
        """The time at both peaks: arithmetic and memory work at the same time, the slower one
        decides.
        """
        return max(
            self.flops / card.peaks[precision], self.numbers * BYTES[precision] / card.bandwidth
        )


def cards() -> dict[str, Card]:
    """The cards of `data/gpu_cards.csv` by name."""
    found = {}
    with open(DATA_FOLDER / "gpu_cards.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            peaks = {
                name: 1e12 * float(row[f"{name.lower()}_tflops"])
                for name in BYTES
                if row[f"{name.lower()}_tflops"]
            }
            memory, bandwidth = 1e9 * float(row["memory_gb"]), 1e9 * float(row["bandwidth_gb_s"])
            found[row["card"]] = Card(row["card"], memory, bandwidth, peaks, row["source"])
    return found


def operations(network: nn.Module, x_h: torch.Tensor, x_m: torch.Tensor) -> list[Operation]:
    """All operations of one forward pass that compute or move something, in order, counted on the
    `meta` device.

    FLOPs as in `complexity.count`: activations, sums and interpolation count as 0. Each operation
    reads its inputs from memory and writes its outputs to it, once, as PyTorch does without
    `torch.compile`; what a cache saves, or a library moves on top, is not seen. `network` stays as
    it is.
    """
    shadow, x_h, x_m = copy.deepcopy(network).to("meta"), x_h.to("meta"), x_m.to("meta")
    with torch.no_grad(), _Recorder() as recorder:
        shadow(x_h, x_m)
    return recorder.operations


def training_hours(
    forward: list[Operation],
    card: Card,
    precision: str,
    steps: int,
    utilisation: float = 1.0,
    passes: float = 3.0,
) -> float:
    """Hours of so many training steps: the time at the roof over its utilisation, but never less
    than it takes to launch the operations.

    Args:
        forward: `operations` of one forward pass of a whole batch.
        utilisation: share of the roof that is reached, in (0, 1].
        passes: a training step in forward passes: backward costs two (gradients of features, and of
            weights); 4 with activation checkpointing, which repeats the forward pass.

    Raises:
        ValueError: a utilisation outside (0, 1].
    """
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation: expected a share in (0, 1], got {utilisation}")
    seconds = sum(one.least_seconds(card, precision) for one in forward) / utilisation
    return passes * steps * max(seconds, len(forward) * LAUNCH_SECONDS) / 3600


class _Recorder(TorchDispatchMode):
    """Notes every operation inside the `with` block whose output has memory of its own; views cost
    nothing.
    """

    def __init__(self):
        super().__init__()
        self.operations, self._tracker = [], ModuleTracker()

    def __enter__(self):
        self._tracker.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        self._tracker.__exit__(*error)
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        read = {
            id(x): x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)
        }.values()
        written = [x for x in tree_leaves(output) if isinstance(x, torch.Tensor)]
        storages = {x.untyped_storage()._cdata for x in read}
        if read and any(x.untyped_storage()._cdata not in storages for x in written):
            packet = function.overloadpacket
            flops = (
                flop_registry[packet](*args, **(kwargs or {}), out_val=output)
                if packet in flop_registry
                else 0
            )
            module = max(self._tracker.parents, key=lambda name: name.count(".")).partition(".")[2]
            kind = str(packet).removeprefix("aten.").lstrip("_")
            self.operations.append(
                Operation(module, kind, flops, sum(x.numel() for x in (*read, *written)))
            )
        return output
