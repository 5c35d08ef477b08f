"""What `network.fast` gains on this machine, and what the machine could give at most; used in
notebooks/10_gpu_training.ipynb.

Plain is the network as written, channels first, with the loss as written. Fast is `speed_up` of it,
with the gradient of the spectral angle written out. They run in turns in one process, so that what
else the machine does meets both; a ratio is that of two runs next to each other. Weights and inputs
are random: time does not depend on them.
"""

from __future__ import annotations

import copy
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from ..analysis import complexity
from ..files import provenance
from ..network.fast import speed_up
from ..network.s3rnet import S3RNet
from ..sensing.degradation import Degradation
from ..training import CONFIGS, CropSampler
from ..training.fusion import FusionModel
from ..training.losses import fast_spectral_angle, l1_sam_loss, spectral_angle

HSI_BANDS, MSI_BANDS = 172, 4
# batch and crop of a step; other presets take those of their configuration
TRAINING_SHAPES = {"paper": (1, 64)}
CONVOLUTION_MACS = 256 * 256 * 9 * 128 * 128  # of the 3x3 convolution that is the ceiling


def run(presets: list[str], size: int, runs: int) -> dict:
    """Forward pass and training step of each preset, plain and fast, and the machine's ceiling.

    Args:
        size: side of the HR image of a forward pass, a multiple of 4.
        runs: pairs that are timed, after one that is not.

    Raises:
        ValueError: no run, or a size that is no multiple of 4.
    """
    if runs < 1:
        raise ValueError(f"runs: expected at least 1, got {runs}")
    if size < 4 or size % 4:
        raise ValueError(f"size: expected a positive multiple of 4, got {size}")
    began = time.perf_counter()
    torch.manual_seed(0)
    rows = []
    for preset in presets:
        rows += [
            {"preset": preset, **forward_row(preset, size, runs)},
            {"preset": preset, **training_row(preset, runs)},
        ]
    return {
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "rows": rows,
        "provenance": provenance.facts(0, time.perf_counter() - began),
    }


@torch.no_grad()
def forward_row(preset: str, size: int, runs: int) -> dict:
    """Time, memory and rate of a forward pass without gradients, batch 1, next to the rates of two
    large kernels; and what storing everything channels last gains alone.
    """
    network, *pair = _forward_parts(preset, size)
    last = torch.channels_last
    turned, turned_pair = copy.deepcopy(network).to(memory_format=last), [_last(x) for x in pair]
    faster, macs = speed_up(network), complexity.count(network, *pair).macs
    matrix, image = torch.rand(2048, 2048), _last(torch.rand(1, 256, 128, 128))
    convolution = nn.Conv2d(256, 256, 3, padding=1, bias=False).to(memory_format=last)
    times = in_turns(
        {
            "plain": lambda: network(*pair),
            "channels last": lambda: turned(*turned_pair),
            "fast": lambda: faster(*pair),
            "matrix": lambda: matrix @ matrix,
            "convolution": lambda: convolution(image),
        },
        runs,
    )
    seconds = {name: statistics.median(values) for name, values in times.items()}
    rates = {
        "plain": macs / seconds["plain"],
        "fast": macs / seconds["fast"],
        "matrix product, 2048 x 2048": 2048**3 / seconds["matrix"],
        "3x3 convolution, 256 channels, 128 x 128": CONVOLUTION_MACS / seconds["convolution"],
    }
    share = macs / CONVOLUTION_MACS
    shares = {
        name: share * _ratios(times["convolution"], times[name])["median"]
        for name in ("plain", "fast")
    }
    growth = {name: _memory_growth(preset, size, name) for name in ("plain", "fast")}
    return {
        "what": "forward",
        **_shape(1, size),
        "macs": macs,
        **_compared(times["plain"], times["fast"]),
        "ratio_of_channels_last_alone": _ratios(times["plain"], times["channels last"]),
        "gflop_per_second": {name: round(2e-9 * rate, 1) for name, rate in rates.items()},
        "share_of_convolution_ceiling": shares,
        "largest_relative_difference": _difference(faster(*pair), network(*pair)),
        "memory_growth_bytes": growth,
    }


def training_row(preset: str, runs: int) -> dict:
    """Time of a whole step: crops, degradation, forward, loss, backward, clipping, Adam."""
    config = CONFIGS[preset]
    batch, crop = TRAINING_SHAPES.get(preset, (config.batch_size, config.crop))
    degrade = Degradation(srf=torch.rand(MSI_BANDS, HSI_BANDS).softmax(1))
    cube = torch.rand(HSI_BANDS, 2 * crop, 2 * crop)
    network = S3RNet.from_preset(preset, HSI_BANDS, MSI_BANDS)
    sampler = CropSampler([cube], degrade, crop, config.mixing)

    def step_of(model: FusionModel, angle: Callable) -> Callable[[], float]:
        generator = torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
        band_scale = model.output_spread.flatten() if config.standardised_l1 else None

        def step() -> float:
            x_h, x_m, y = sampler.batch(batch, generator)
            loss = l1_sam_loss(model(x_h, x_m), y, config.sam_weight, band_scale, angle)
            optimizer.zero_grad()
            loss.backward()
            if config.gradient_clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
            optimizer.step()
            return loss.item()

        return step

    plain = FusionModel(network, degrade, config.scaling, config.skip, cube)
    faster = speed_up(copy.deepcopy(plain)).to(memory_format=torch.channels_last)
    steps = {"plain": step_of(plain, spectral_angle), "fast": step_of(faster, fast_spectral_angle)}
    times = in_turns(steps, runs)
    shape = _shape(batch, crop)
    return {"what": "training step", **shape, **_compared(times["plain"], times["fast"])}


def in_turns(functions: dict[str, Callable], runs: int) -> dict[str, list[float]]:
    """Seconds of each function, called in turns, every second round backwards; one round for
    warming up is not counted.
    """
    times = {name: [] for name in functions}
    for turn in range(1 + runs):
        for name in list(functions) if turn % 2 else reversed(functions):
            began = time.perf_counter()
            functions[name]()
            if turn:
                times[name].append(time.perf_counter() - began)
    return times


def cpu_name() -> str:
    """As Linux calls it, or what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def format_rows(rows: list[dict]) -> str:
    """A table to read."""
    heads = f"{'preset':8}{'what':15}{'plain s':>9}{'fast s':>9}{'ratio':>7}  (of pairs)  "
    lines = [heads + "    share of ceiling  memory growth"]
    for row in rows:
        seconds, ratio = row["seconds"], row["ratio"]
        line = f"{row['preset']:8}{row['what']:15}{seconds['plain']:9.3f}{seconds['fast']:9.3f}"
        line += f"{ratio['median']:7.2f}"
        line += f"  ({ratio['lowest']:.2f} to {ratio['highest']:.2f})"
        if row["what"] == "forward":
            share, growth = row["share_of_convolution_ceiling"], row["memory_growth_bytes"]
            line += f"  {share['plain']:5.0%} -> {share['fast']:.0%}      "
            line += f"{growth['plain'] / 2**20:.0f} -> {growth['fast'] / 2**20:.0f} MiB"
        lines.append(line)
    return "\n".join(lines)


def _shape(batch: int, size: int) -> dict:
    return {"hsi_bands": HSI_BANDS, "msi_bands": MSI_BANDS, "batch": batch, "size": size}


def _compared(plain: list[float], quick: list[float]) -> dict:
    seconds = {"plain": statistics.median(plain), "fast": statistics.median(quick)}
    return {"runs": len(plain), "seconds": seconds, "ratio": _ratios(plain, quick)}


def _ratios(slow: list[float], quick: list[float]) -> dict:
    """Of runs next to each other."""
    pairs = [a / b for a, b in zip(slow, quick, strict=True)]
    median = statistics.median(pairs)
    return {"median": median, "lowest": min(pairs), "highest": max(pairs), "pairs": pairs}


def _last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _difference(y_hat: torch.Tensor, y: torch.Tensor) -> float:
    return float((y_hat - y).abs().max() / y.abs().max())


def _forward_parts(preset: str, size: int) -> tuple[S3RNet, torch.Tensor, torch.Tensor]:
    x_h, x_m = torch.rand(1, HSI_BANDS, size // 4, size // 4), torch.rand(1, MSI_BANDS, size, size)
    return S3RNet.from_preset(preset, HSI_BANDS, MSI_BANDS), x_h, x_m


def _memory_growth(preset: str, size: int, which: str) -> int:
    """Bytes by which a new process grows in its first forward pass beyond a small one's, as the
    system counts them.
    """
    command = [sys.executable, "-m", __spec__.name, preset, str(size), which]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _largest_size() -> int:
    """Bytes that this process had in memory at most. Linux lets `getrusage` begin with what the
    parent had, its status file not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        sizes = dict(line.split(":") for line in status.read_text().splitlines())
        return 1024 * int(sizes["VmHWM"].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@torch.no_grad()
def _main(preset: str, size: str, which: str) -> None:
    network, x_h, x_m = _forward_parts(preset, int(size))
    network = speed_up(network) if which == "fast" else network
    network(x_h[..., :2, :2], x_m[..., :8, :8])  # so that the libraries are ready
    before = _largest_size()
    network(x_h, x_m)
    print(_largest_size() - before)


if __name__ == "__main__":
    _main(*sys.argv[1:])
