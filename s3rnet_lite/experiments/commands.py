"""The commands of the campaigns, each beside its options."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ..files.command_line import (
    DATA,
    LEAST,
    NETWORKS,
    SCENE,
    SCENE_FILE,
    SEED,
    command,
    maybe,
    number,
    option,
    output,
    path,
    result_file,
    simulated_bands,
)

RECIPES = ("common", "published")
NOISES = ("bare", "published", "denoised", "common")
SEEDS = "trainings of each network, seeds 0, 1, ..."
SOURCE = (DATA, SCENE, SCENE_FILE)
CAMPAIGN = (
    option("--network", choices=NETWORKS, nargs="+", default=NETWORKS, help="default: all eleven"),
    number("--seconds", 60.0, "CPU time of each training on one thread", LEAST),
    number("--workers", 2, "trainings at a time"),
    *SOURCE,
    number("--patches", 8, "of --data's test part that are scored, evenly spaced"),
    path("--out", "folder for results and models (default: runs/NAME of the data)", False),
)


@command(
    "compare",
    simulated_bands(4),
    number("--seeds", 3, SEEDS),
    option("--recipe", choices=RECIPES, nargs="+", default=RECIPES, help="default: both"),
    *CAMPAIGN,
    example="--msi-bands 4 --seeds 1 --recipe common",
)
def compare(arguments: argparse.Namespace) -> None:
    """Train S3RNet and its ten peers (lite presets) with equal CPU time on the same data, score
    them, and print our Table I.

    Runs that are stored already are not repeated: the same command goes on where it was stopped.
    Results on Indian Pines lie in data/results; those on other images in a folder of their own.
    """
    from . import comparison

    bands, shared = arguments.msi_bands, campaign(arguments)
    who = arguments.network, arguments.recipe
    comparison.compare(*who, bands, arguments.seeds, arguments.workers, shared)
    print(comparison.format_table(comparison.stored(shared.results / "comparison"), bands))


@command(
    "robustness",
    option("--recipe", choices=NOISES, nargs="+", default=NOISES, help="default: all"),
    number("--seeds", 1, SEEDS),
    *CAMPAIGN,
    example="--network s3rnet mssjfl --recipe bare",
)
def robust(arguments: argparse.Namespace) -> None:
    """Train the eleven networks without noise, with 35 dB and with random noise on the LR-HSI, and
    score all under noise and faults.

    Runs that are stored already are not repeated: the same command goes on where it was stopped.
    Results on Indian Pines lie in data/results; those on other images in a folder of their own.
    """
    from . import robustness

    shared = campaign(arguments)
    who = arguments.network, arguments.recipe
    robustness.run_all(*who, arguments.seeds, arguments.workers, shared)
    stored = robustness.stored(shared.results / "robustness")
    for recipe in arguments.recipe:
        for snr in (None, 35, 15):
            names, noises, scores = robustness.table(stored, recipe, snr)
            level = "no noise" if snr is None else f"{snr} dB"
            print(f"\n{recipe} recipe, {level} on the LR-HSI: pooled PSNR, by training noise")
            print(f"{'':18}" + "".join(f"{noise:>10}" for noise in noises))
            for name, row in zip(names, scores, strict=True):
                print(f"{name:18}" + "".join(f"{score:10.2f}" for score in row))


def campaign(arguments: argparse.Namespace):
    """The `Campaign` that options say; other images than Indian Pines have folders of their own."""
    from ..training.sources import INDIAN_PINES, Source
    from .runs import Campaign

    patches = arguments.patches if arguments.data else None
    source, out = Source(arguments.data, arguments.scene, arguments.file, patches), arguments.out
    if source != INDIAN_PINES and out is None:
        out = Path("runs", source.name)
    if out is None:
        return Campaign(arguments.seconds)
    return Campaign(arguments.seconds, source, out, out / "models")


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
    store(arguments.out, content, began, arguments.seed)


@command("demands", number("--seeds", 3, SEEDS), example="--seeds 1")
def demands(arguments: argparse.Namespace) -> None:
    """Train what the paper's text asks for beside its equations, and the recipes taken apart;
    stored in data/results/demands.json, resumed.
    """
    from . import demands

    demands.run(arguments.seeds)


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
    store(arguments.out or RESULTS_FOLDER / "skip_search.json", found, began)


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


@command(
    "evaluate",
    option(
        "--checkpoint",
        type=Path,
        nargs="*",
        default=[],
        help=".safetensors files of equal degradation",
    ),
    simulated_bands(6),
    *SOURCE,
    result_file(required=False),
    example="--checkpoint model.safetensors --out scores.json",
)
def evaluate(arguments: argparse.Namespace) -> None:
    """Score checkpoints, if any, and classical methods on the Indian Pines test region, or on the
    test patches of a data set.
    """
    from .. import metrics
    from ..training import sources
    from . import evaluation

    began, checkpoints, bands = time.perf_counter(), arguments.checkpoint, arguments.msi_bands
    source = sources.Source(arguments.data, arguments.scene, arguments.file)
    if source.data is None:
        content = evaluation.on_scene(sources.whole_scene(source), checkpoints, bands)
        rows = content["baselines"] | {row["checkpoint"]: row for row in content["networks"]}
        if "noise_ceiling" in content:
            rows["noise ceiling (about 2 dB)"] = content["noise_ceiling"]
        seeds = [row["seed"] for row in content["networks"]]
    else:
        content = evaluation.on_data_set(checkpoints, bands, source.data)
        rows, seeds = content["mean_scores"], 0
    print(metrics.format_rows(rows))
    if arguments.out:
        store(arguments.out, content, began, seeds)


def store(out: Path, content: dict, began: float, seed: int = 0) -> None:
    """Write a result with where it comes from."""
    from ..files import atomic, provenance

    origin = provenance.facts(seed, time.perf_counter() - began)
    atomic.write_json(out, {**content, "provenance": origin})
    print(f"Wrote {out}")
