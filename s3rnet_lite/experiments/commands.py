"""The commands of the campaigns, each beside its options."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ..files.command_line import (
    LEAST,
    MOST_PIXELS,
    PRESETS,
    SEED,
    command,
    limited,
    maybe,
    number,
    option,
    output,
    path,
    result_file,
    simulated_bands,
)

NETWORKS = (
    "s3rnet",
    "pzres_net",
    "mssjfl",
    "dual_unet",
    "dhif_net",
    "fusformer",
    "hypertransformer",
    "hyperrefiner",
    "u2net",
    "qrcode",
    "fusion_mamba",
)
RECIPES = ("common", "published")
NOISES = ("bare", "published", "denoised", "common")
SEEDS = "trainings of each network, seeds 0, 1, ..."
SECONDS = number("--seconds", 60.0, "CPU time of each training on one thread", LEAST)
WORKERS = number("--workers", 2, "trainings at a time")


@command(
    "compare",
    simulated_bands(4),
    number("--seeds", 3, SEEDS),
    option("--recipe", choices=RECIPES, nargs="+", default=RECIPES, help="default: both"),
    SECONDS,
    WORKERS,
    example="--msi-bands 4 --seeds 1 --recipe common",
)
def compare(arguments: argparse.Namespace) -> None:
    """Train S3RNet and its ten peers (lite presets) with equal CPU time on the same data, score
    them, and print our Table I.

    Runs that are stored already are not repeated: the same command goes on where it was stopped.
    """
    from . import comparison

    bands, recipes = arguments.msi_bands, arguments.recipe
    comparison.compare(
        NETWORKS, recipes, bands, arguments.seeds, arguments.seconds, arguments.workers
    )
    print(comparison.format_table(comparison.stored(), bands))


@command(
    "robustness",
    option("--recipe", choices=NOISES, nargs="+", default=NOISES, help="default: all"),
    option("--network", choices=NETWORKS, nargs="+", default=NETWORKS, help="default: all eleven"),
    number("--seeds", 1, SEEDS),
    SECONDS,
    WORKERS,
    example="--network s3rnet mssjfl --recipe bare",
)
def robust(arguments: argparse.Namespace) -> None:
    """Train the eleven networks without noise, with 35 dB and with random noise on the LR-HSI, and
    score all under noise and faults.

    Runs that are stored already are not repeated: the same command goes on where it was stopped.
    """
    from . import robustness

    robustness.run_all(
        arguments.network, arguments.recipe, arguments.seeds, arguments.seconds, arguments.workers
    )
    for recipe in arguments.recipe:
        for snr in (None, 35, 15):
            names, noises, scores = robustness.table(robustness.stored(), recipe, snr)
            level = "no noise" if snr is None else f"{snr} dB"
            print(f"\n{recipe} recipe, {level} on the LR-HSI: pooled PSNR, by training noise")
            print(f"{'':18}" + "".join(f"{noise:>10}" for noise in noises))
            for name, row in zip(names, scores, strict=True):
                print(f"{name:18}" + "".join(f"{score:10.2f}" for score in row))


@command(
    "ablate",
    simulated_bands(6),
    number("--steps", 300, "weight updates of each variant"),
    SEED,
    result_file(),
    example="--msi-bands 6 --out ablation.json",
)
def ablate(arguments: argparse.Namespace) -> None:
    """Train the lite preset with one part changed at a time, and validate each variant (never on
    the test region).
    """
    from tqdm.auto import tqdm

    from . import ablations

    began, bands, steps = time.perf_counter(), arguments.msi_bands, arguments.steps
    names = tqdm(ablations.VARIANTS, unit="variant")
    rows = [ablations.run(name, bands, steps, arguments.seed) for name in names]
    content = {"msi_bands": bands, "steps": steps, "variants": rows}
    _store(arguments.out, content, began, arguments.seed)


@command("adapt-benchmark", result_file(), example="--out adaptation.json")
def benchmark_adapt(arguments: argparse.Namespace) -> None:
    """Measure `adapt` on pairs made from images, where the truth is known."""
    from ..inference import adaptation
    from . import adaptation_truth

    began = time.perf_counter()
    _store(arguments.out, adaptation_truth.run(), began, adaptation.CONFIG.seed)


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
    _store(arguments.out, {"scaling": scaling, "exactness": tiling_speed.exactness()}, began)


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
    option("--out", type=Path, help="folder for gpu_*.json of a GPU (default: data/results)"),
    example="--minutes 8",
)
def run_on_gpu(arguments: argparse.Namespace) -> None:
    """Time and train the paper's network on this machine's GPU; the same command goes on where it
    stopped. Tiny without a GPU.
    """
    from ..files.provenance import RESULTS_FOLDER
    from . import gpu

    gpu.run(arguments.minutes, arguments.out or RESULTS_FOLDER)


def _store(out: Path, content: dict, began: float, seed: int = 0) -> None:
    from ..files import atomic, provenance

    origin = provenance.facts(seed, time.perf_counter() - began)
    atomic.write_json(out, {**content, "provenance": origin})
    print(f"Wrote {out}")


@command(
    "compare-scenes",
    path("--folder", "with the files of known scenes, see `s3rnet-lite scenes`"),
    output("--out", "JSON file (default: data/results/scenes.json)", (".json",), required=False),
    option("--method", nargs="*", default=[], help="bicubic, ..., lite, adapt, zero-shot (all)"),
    example="--folder scenes --method sylvester lite",
)
def compare_scenes(arguments: argparse.Namespace) -> None:
    """Score every method on both halves of every known scene, learning from the other half.

    Rows that are stored already are not repeated: the same command goes on where it was stopped.
    """
    from . import elsewhere

    out = arguments.out or elsewhere.FILE
    elsewhere.run(arguments.folder, out, tuple(arguments.method))
    print(elsewhere.table(out))


@command(
    "skip-search",
    path("--folder", "with the files of known scenes, see `s3rnet-lite scenes`"),
    output(
        "--out", "JSON file (default: data/results/skip_search.json)", (".json",), required=False
    ),
    example="--folder scenes",
)
def skip_search(arguments: argparse.Namespace) -> None:
    """Try other settings of the lite model's skip and guard, inside the left halves of scenes."""
    from ..files.provenance import RESULTS_FOLDER
    from . import skip_search

    began = time.perf_counter()
    found = skip_search.search(arguments.folder)
    _store(arguments.out or RESULTS_FOLDER / "skip_search.json", found, began)


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


@command(
    "deafness",
    option("--size", choices=("small", "long", "full"), default="small", help="default: small"),
    number("--seeds", 1, SEEDS),
    maybe("--minutes", float, "of each training, all calls together (default: to its end)", LEAST),
    example="--size small --seeds 3",
)
def deaf(arguments: argparse.Namespace) -> None:
    """Train S3RNet in the paper's form at four learning rates (size "full": the full-size network
    at the paper's), and watch whether it uses the LR-HSI; stored in data/results/deafness, resumed.
    """
    from . import deafness

    full = arguments.size == "full"
    sizes = [deafness.Trajectory("full", seed=seed) for seed in range(arguments.seeds)]
    for one in sizes if full else deafness.all_small(arguments.seeds, arguments.size):
        deafness.run(one, arguments.minutes)
