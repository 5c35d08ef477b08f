"""The commands that time and count, each beside its options."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ..files.command_line import (
    LEAST,
    MOST_PIXELS,
    NETWORKS,
    PRESETS,
    command,
    limited,
    maybe,
    number,
    option,
    path,
    result_file,
)
from .commands import store


@command("adapt-benchmark", result_file(), example="--out adaptation.json")
def benchmark_adapt(arguments: argparse.Namespace) -> None:
    """Measure `adapt` on pairs made from images, where the truth is known."""
    from ..inference import adaptation
    from . import adaptation_truth

    began = time.perf_counter()
    store(arguments.out, adaptation_truth.run(), began, adaptation.CONFIG.seed)


@command(
    "fuse-benchmark",
    option(
        "--sizes",
        type=limited(int, 64, MOST_PIXELS),
        nargs="+",
        default=[512, 1024, 2048],
        help="pixels a side (default: 512 1024 2048)",
    ),
    result_file(),
    example="--out tiling.json",
)
def benchmark_fuse(arguments: argparse.Namespace) -> None:
    """Measure time, peak memory and exactness of `fuse`."""
    from . import tiling_speed

    began = time.perf_counter()
    scaling = tiling_speed.scaling(arguments.sizes)
    store(arguments.out, {"scaling": scaling, "exactness": tiling_speed.exactness()}, began)


@command(
    "benchmark",
    option("--preset", choices=PRESETS, nargs="+", default=PRESETS[:2], help="default: paper lite"),
    number(
        "--size", 128, "height and width of the HR-MSI of a forward pass in pixels", 4, MOST_PIXELS
    ),
    number("--runs", 7, "pairs of runs to time"),
    result_file(required=False),
    example="--preset lite --runs 5",
)
def benchmark(arguments: argparse.Namespace) -> None:
    """Time S3RNet's forward pass and training step as written and sped up, and the machine's
    ceiling.
    """
    from ..files import atomic
    from . import speed

    content = speed.run(arguments.preset, arguments.size, arguments.runs)
    rows = speed.format_rows(content["rows"])
    print(f"{content['cpu']}, {content['threads']} threads\n{rows}")
    if arguments.out:
        atomic.write_json(arguments.out, content)
        print(f"Wrote {arguments.out}")


@command(
    "gpu",
    number("--minutes", 8.0, "to stay inside of", LEAST),
    path("--data", "folder from prepare: train by the paper's recipe on it alone", False),
    maybe("--epochs", int, "of --data, if not the paper's 600"),
    option("--out", type=Path, help="folder for gpu_*.json of a GPU (default: data/results)"),
    example="--minutes 8",
)
def run_on_gpu(arguments: argparse.Namespace) -> None:
    """Check one step of the paper's network on this machine's GPU, then time and train it; the same
    command goes on where it stopped. Tiny without a GPU.

    With --data nothing is timed; the paper's recipe is trained on the data set, and the result goes
    to runs/gpu unless --out is given.
    """
    from . import gpu

    where = arguments.out, gpu.WORK
    gpu.run(arguments.minutes, *where, arguments.data, arguments.epochs)


@command(
    "complexity",
    option("--network", choices=NETWORKS, default="s3rnet", help="default: s3rnet"),
    option("--preset", choices=PRESETS, default="paper", help="default: paper (tiny: s3rnet only)"),
    number("--hsi-bands", 172, "of the LR-HSI", 1, MOST_PIXELS),
    number("--msi-bands", 4, "of the HR-MSI", 1, MOST_PIXELS),
    number("--size", 256, "height and width of the HR-MSI in pixels", 4, MOST_PIXELS),
    example="--network hypertransformer --msi-bands 6",
)
def complexity(arguments: argparse.Namespace) -> None:
    """Count parameters, multiply-accumulates (MACs), FLOPs and memory without running the
    network.
    """
    import torch

    from ..analysis import complexity
    from ..peers import registry

    hsi_bands, msi_bands, size = arguments.hsi_bands, arguments.msi_bands, arguments.size
    with torch.device("meta"):
        network = registry.build(arguments.network, arguments.preset, hsi_bands, msi_bands)
        small = size // network.scale
        if size % network.scale:
            raise ValueError(f"--size: expected a multiple of {network.scale}, got {size}")
        pair = torch.empty(1, hsi_bands, small, small), torch.empty(1, msi_bands, size, size)
    counted = complexity.count(network, *pair)
    memory = complexity.peak_memory(network, *pair) / 2**20
    print(f"parameters {counted.parameters:>14,}")
    print(f"GMACs      {counted.macs / 1e9:>14,.2f}\nGFLOPs     {counted.flops / 1e9:>14,.2f}")
    print(f"peak MiB   {memory:>14,.0f}  (activations of one forward pass without gradients)")
