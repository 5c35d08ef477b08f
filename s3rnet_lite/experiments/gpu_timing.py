"""One call of the GPU command, and its table of times; used in notebooks/10_gpu_training.ipynb."""

from __future__ import annotations

import itertools
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from ..analysis import complexity
from ..files import atomic, provenance
from ..network.s3rnet import S3RNet
from ..training.devices import changed_forward, peak_memory, synchronise, tensor_float_32
from ..training.losses import l1_sam_loss

MSI_BANDS, HSI_BANDS, SCALE, SEED = 4, 172, 4, 0
PRECISIONS = ("fp32", "tf32", "bf16")
PASSES = ("forward", "training step")
CASE = ("image_size", "pass", "precision", "channels_last", "compiled")  # of a row of times
# What compiling the paper's network may take; without that much time left it is not begun.
COMPILE_SECONDS = 180


@dataclass(frozen=True)
class Size:
    """What to run: a preset of S3RNet, crops and batches to train on, at most so many steps, and
    image sizes to time.
    """

    preset: str
    crop: int
    batch_size: int
    most_steps: int
    image_sizes: tuple[int, ...]
    simulated_size: int


@dataclass(frozen=True)
class Call:
    """One call of the command: where it runs, what at, how long it may take, and where things
    lie.
    """

    device: torch.device
    size: Size
    minutes: float
    began: float
    work: Path
    timing: Path
    training: Path

    def seconds_left(self, share: float = 1.0) -> float:
        """Until this share of the minutes is over."""
        return self.began + share * 60 * self.minutes - time.perf_counter()

    def store(self, path: Path, content: dict) -> None:
        """Write it with where it comes from."""
        origin = provenance.facts(SEED, time.perf_counter() - self.began, self.device.type)
        atomic.write_sealed(
            path,
            {
                "device": describe(self.device),
                "preset": self.size.preset,
                **content,
                "provenance": origin,
            },
        )


def describe(device: torch.device) -> dict:
    """Name, memory, compute capability and versions."""
    if device.type == "cpu":
        return {"name": "CPU", "torch": torch.__version__}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def time_runs(work: Callable[[], object], device: torch.device, runs: int = 7) -> dict[str, float]:
    """Medians of `runs` after two more for warming up: "seconds" of the work, and "launch_seconds"
    that a clock sees which does not wait for the device: only the time to tell it what to do.
    """
    launched, finished = [], []
    for _ in range(2 + runs):
        synchronise(device)
        began = time.perf_counter()
        work()
        launched.append(time.perf_counter() - began)
        synchronise(device)
        finished.append(time.perf_counter() - began)
    return {
        "seconds": statistics.median(finished[2:]),
        "launch_seconds": statistics.median(launched[2:]),
    }


def time_network(
    preset: str,
    image_size: int,
    which: str,
    precision: str,
    channels_last: bool,
    compiled: bool,
    device: torch.device,
) -> dict:
    """Time one forward pass without gradients, or one training step, of one image, and find the
    peak memory with all in it.
    """
    torch.manual_seed(SEED)
    network = S3RNet.from_preset(preset, HSI_BANDS, MSI_BANDS).to(device)
    shapes = (HSI_BANDS, image_size // SCALE), (MSI_BANDS, image_size), (HSI_BANDS, image_size)
    x_h, x_m, y = (torch.rand(1, bands, side, side, device=device) for bands, side in shapes)
    if channels_last:
        network.to(memory_format=torch.channels_last)
        x_h, x_m, y = (x.contiguous(memory_format=torch.channels_last) for x in (x_h, x_m, y))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def forward() -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            return network(x_h, x_m)

    def step() -> None:
        optimizer.zero_grad()
        l1_sam_loss(forward().float(), y).backward()
        optimizer.step()

    row = dict(zip(CASE, (image_size, which, precision, channels_last, compiled), strict=True))
    if compiled:
        torch.compiler.reset()
    with tensor_float_32(precision == "tf32"), changed_forward(network, compiled=compiled):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        with torch.set_grad_enabled(which != "forward"):
            row |= time_runs(forward if which == "forward" else step, device)
    on_card = device.type == "cuda"
    row["peak_memory_mib"] = peak_memory(device) / 2**20 if on_card else None
    return row


def time_all(call: Call, share: float = 1.0, compiled: bool = False) -> None:
    """All rows of the table of times that are not stored yet, until this share of the minutes is
    over.

    Compiling is slow, so that only channels_last at the largest size is timed compiled.
    """
    rows = stored(call.timing).get("rows", [])
    done = {tuple(row[key] for key in CASE) for row in rows}
    sizes, formats = call.size.image_sizes, (False, True)
    if compiled:
        sizes, formats = sizes[-1:], (True,)
    for case in itertools.product(sizes, PASSES, PRECISIONS, formats, (compiled,)):
        if case in done or call.seconds_left(share) < (COMPILE_SECONDS if compiled else 5):
            continue
        try:
            row = time_network(call.size.preset, *case, call.device)
        except RuntimeError as error:  # too little memory, or no compiler
            message = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            row = dict(zip(CASE, case, strict=True), error=message)
        shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
        print(", ".join(f"{key} {value}" for key, value in shown.items()))
        rows.append(row)
        macs = counted(call.size.preset, call.size.image_sizes)
        call.store(call.timing, {"counted": macs, "rows": rows})
        if call.device.type == "cuda":
            torch.cuda.empty_cache()


@cache
def counted(preset: str, image_sizes: tuple[int, ...]) -> list[dict]:
    """MACs of one image and, for float32, the memory of its activations, counted from shapes."""
    rows = []
    with torch.device("meta"):
        network = S3RNet.from_preset(preset, HSI_BANDS, MSI_BANDS)
        for length in image_sizes:
            small = length // SCALE
            pair = (
                torch.empty(1, HSI_BANDS, small, small),
                torch.empty(1, MSI_BANDS, length, length),
            )
            sizes = {
                which: complexity.peak_memory(network, *pair, which != "forward") / 2**20
                for which in PASSES
            }
            macs = complexity.count(network, *pair).macs
            rows.append({"image_size": length, "macs": macs, "activations_mib": sizes})
    return rows


def stored(path: Path) -> dict:
    """What earlier calls wrote there."""
    return atomic.resume(path) or {}


def slug(name: str) -> str:
    return "_".join(re.findall("[a-z0-9]+", name.lower()))
