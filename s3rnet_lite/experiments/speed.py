"""What `fast` gains on this machine, and what the machine could give at most; used in
notebooks/10_gpu_training.ipynb.

The plain version is the same modules with `fast.disabled()`, in the usual channels-first layout,
with the loss and the injection as chapters 06 and 02 write them. Both run in turns in one process,
so that what else the machine does meets both; a ratio is that of two runs next to each other.
Weights and inputs are random: time does not depend on them.
"""

from __future__ import annotations

import contextlib
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

from .. import baselines
from ..analysis import complexity
from ..files import provenance
from ..network import fast
from ..network.s3rnet import S3RNet
from ..sensing.degradation import Degradation
from ..training import losses
from ..training.fusion import FusionModel
from ..training.loop import CONFIGS, CropSampler

HSI_BANDS, MSI_BANDS = 172, 4
TRAINING_SHAPES = {
    "paper": (1, 64)
}  # batch and crop of a step; other presets take those of their configuration


class PlainFusionModel(FusionModel):
    """`FusionModel` with its injection pass by pass."""

    def _finish(self, output: torch.Tensor, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        if self.skip != "injection":
            return super()._finish(output, x_h, x_m)
        guess = (
            torch.einsum("cm,...mhw->...chw", self.regression[:, :-1], x_m)
            + self.regression[:, -1, None, None]
            + output
        )
        for _ in range(2):
            guess = guess + baselines.upsample(
                x_h - self.degrade.spatial(guess), self.degrade.scale, "bicubic"
            )
        return guess


def plain_loss(
    y_hat: torch.Tensor, y: torch.Tensor, sam_weight: float, band_scale: torch.Tensor | None
) -> torch.Tensor:
    """`losses.l1_sam_loss`, step by step."""

    def unit(spectra: torch.Tensor) -> torch.Tensor:
        squared = spectra.square().sum(dim=1, keepdim=True)
        return torch.where(
            squared > losses.DARKEST**2, spectra / squared.clamp_min(losses.DARKEST**2).sqrt(), 0.0
        )

    squared = (unit(y_hat) - unit(y)).square().sum(dim=1)
    smooth = (squared + losses.EPSILON**2).sqrt() - losses.EPSILON
    angle = 2 * torch.atan2(smooth, (4 - squared).clamp_min(losses.EPSILON**2).sqrt())
    difference = y_hat - y if band_scale is None else (y_hat - y) / band_scale[:, None, None]
    return difference.abs().mean() + sam_weight * angle.mean()


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
    large kernels.
    """
    network, x_h, x_m = _forward_parts(preset, size)
    macs = complexity.count(network, x_h, x_m).macs

    def plain() -> torch.Tensor:
        with fast.disabled():
            return network(x_h, x_m)

    def quick() -> torch.Tensor:
        return network(x_h, x_m)

    matrix = torch.rand(2048, 2048)
    image = torch.rand(1, 256, 128, 128).contiguous(memory_format=torch.channels_last)
    convolution = nn.Conv2d(256, 256, 3, padding=1, bias=False).to(
        memory_format=torch.channels_last
    )
    times = in_turns(
        {
            "plain": plain,
            "fast": quick,
            "matrix": lambda: matrix @ matrix,
            "convolution": lambda: convolution(image),
        },
        runs,
    )
    rates = {
        "plain": macs / statistics.median(times["plain"]),
        "fast": macs / statistics.median(times["fast"]),
        "matrix product, 2048 x 2048": 2048**3 / statistics.median(times["matrix"]),
        "3x3 convolution, 256 channels, 128 x 128": 256
        * 256
        * 9
        * 128
        * 128
        / statistics.median(times["convolution"]),
    }
    ceiling = 256 * 256 * 9 * 128 * 128 / macs
    shares = {
        name: statistics.median(
            c / (ceiling * t) for t, c in zip(times[name], times["convolution"], strict=True)
        )
        for name in ("plain", "fast")
    }
    return {
        "what": "forward",
        "hsi_bands": HSI_BANDS,
        "msi_bands": MSI_BANDS,
        "batch": 1,
        "size": size,
        "macs": macs,
        **_compared(times["plain"], times["fast"]),
        "gflop_per_second": {name: round(2e-9 * rate, 1) for name, rate in rates.items()},
        "share_of_convolution_ceiling": shares,
        "largest_relative_difference": _difference(quick(), plain()),
        "memory_growth_bytes": {
            name: _memory_growth(preset, size, name) for name in ("plain", "fast")
        },
    }


def training_row(preset: str, runs: int) -> dict:
    """Time of a whole step: crops, degradation, forward, loss, backward, clipping, Adam."""
    config = CONFIGS[preset]
    batch, crop = TRAINING_SHAPES.get(preset, (config.batch_size, config.crop))
    degrade = Degradation(srf=torch.rand(MSI_BANDS, HSI_BANDS).softmax(1))
    cube = torch.rand(HSI_BANDS, 2 * crop, 2 * crop)
    network = S3RNet.from_preset(preset, HSI_BANDS, MSI_BANDS)
    sampler = CropSampler([cube], degrade, crop, config.mixing)

    def step_of(model: FusionModel, loss_function: Callable) -> Callable[[], float]:
        generator, optimizer = (
            torch.Generator().manual_seed(0),
            torch.optim.Adam(model.parameters(), lr=config.learning_rate),
        )
        band_scale = model.output_spread.flatten() if config.standardised_l1 else None

        def step() -> float:
            x_h, x_m, y = sampler.batch(batch, generator)
            loss = loss_function(model(x_h, x_m), y, config.sam_weight, band_scale)
            optimizer.zero_grad()
            loss.backward()
            if config.gradient_clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
            optimizer.step()
            return loss.item()

        return step

    plain_model = PlainFusionModel(
        copy.deepcopy(network), degrade, config.scaling, config.skip, cube
    )
    plain_step = step_of(plain_model, plain_loss)
    model = FusionModel(network, degrade, config.scaling, config.skip, cube).to(
        memory_format=torch.channels_last
    )
    fast_step = step_of(model, losses.l1_sam_loss)

    def plain() -> float:
        with fast.disabled():
            return plain_step()

    times = in_turns({"plain": plain, "fast": fast_step}, runs)
    return {
        "what": "training step",
        "hsi_bands": HSI_BANDS,
        "msi_bands": MSI_BANDS,
        "batch": batch,
        "size": crop,
        **_compared(times["plain"], times["fast"]),
    }


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
    lines = [
        f"{'preset':8}{'what':15}{'plain s':>9}{'fast s':>9}{'ratio':>7}  (of pairs)      share of "
        "ceiling  memory growth"
    ]
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


def _compared(plain: list[float], quick: list[float]) -> dict:
    ratios = [a / b for a, b in zip(plain, quick, strict=True)]
    return {
        "runs": len(ratios),
        "seconds": {"plain": statistics.median(plain), "fast": statistics.median(quick)},
        "ratio": {
            "median": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
            "pairs": ratios,
        },
    }


def _difference(y_hat: torch.Tensor, y: torch.Tensor) -> float:
    return float((y_hat - y).abs().max() / y.abs().max())


def _forward_parts(preset: str, size: int) -> tuple[S3RNet, torch.Tensor, torch.Tensor]:
    network = S3RNet.from_preset(preset, HSI_BANDS, MSI_BANDS)
    return (
        network,
        torch.rand(1, HSI_BANDS, size // 4, size // 4),
        torch.rand(1, MSI_BANDS, size, size),
    )


def _memory_growth(preset: str, size: int, which: str) -> int:
    """Bytes by which a new process grows in its first forward pass beyond a small one's, as the
    system counts them.
    """
    command = [sys.executable, "-m", f"{__package__}.speed", preset, str(size), which]
    return json.loads(
        subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=provenance.REPOSITORY
        ).stdout
    )


def _largest_size() -> int:
    """Bytes that this process had in memory at most. Linux lets `getrusage` begin with what the
    parent had, its status file not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * next(
            int(line.split()[1])
            for line in status.read_text().splitlines()
            if line.startswith("VmHWM")
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@torch.no_grad()
def _main(preset: str, size: str, which: str) -> None:
    network, x_h, x_m = _forward_parts(preset, int(size))
    with fast.disabled() if which == "plain" else contextlib.nullcontext():
        network(x_h[..., :2, :2], x_m[..., :8, :8])  # so that the libraries are ready
        before = _largest_size()
        network(x_h, x_m)
    print(_largest_size() - before)


if __name__ == "__main__":
    _main(*sys.argv[1:])
