"""All eleven networks on the same data with equal compute: our Table I; read in
notebooks/09_peers_table1.ipynb.
"""

from __future__ import annotations

import csv
import functools
import json
import math
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

from .. import peers, training
from ..analysis import complexity
from ..files import atomic, provenance
from ..files.provenance import DATA_FOLDER
from ..peers import registry
from ..sensing import scenes
from . import evaluation
from .ablations import PAPER_FORM, VARIANTS

FOLDER = provenance.RESULTS_FOLDER / "comparison"
CHECKPOINTS = provenance.REPOSITORY / "runs" / "comparison"
RECIPES = ("common", "published")
LEARNING_RATES = (1e-3, 3e-3)
SEARCH_SEED, SEARCH_SHARE = (
    1000,
    0.5,
)  # the search's seed is none of the reported ones; its runs are half as long
RANGE_SCALED = ("s3rnet", "qrcode")  # published for data in [-1, 1]; the others for [0, 1]
# S3RNet-lite with three parts changed, chosen in short runs (not stored) on the validation region:
# narrower, no 3x3 convolution over all 170 bands at the entry of each branch, and full residuals,
# as damped ones suit networks many times deeper.
S3RNET = dict(width=24, growth=12, head_width=48, entry_kernel_size=1, damped=False)
METRICS = ("psnr_pooled_scene_peak", "psnr_band_mean_band_peak", "sam_degrees", "ergas")


@dataclass(frozen=True)
class Run:
    """One training: which network, how, on how many MSI bands, with which seed."""

    network: str
    recipe: str
    msi_bands: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.recipe}_{self.msi_bands}bands_{self.network}_seed{self.seed}"


def recipe(
    network: str, name: str, steps: int, learning_rate: float, seed: int, **changes
) -> tuple[dict, training.TrainingConfig]:
    """What to change in the network's lite preset, and how to train it.

    "common": everything that helps S3RNet-lite from outside is given to all: standardised bands,
    the closed-form skip, loss, warm-up, clipping and mixing. A network's own skip from the
    upsampled LR-HSI makes room for the wrapper's, if there is one. "published": the network as its
    authors describe it, on their data range, with plain L1 (S3RNet: L1 + 0.1 SAM), Adam and a
    cosine. Further losses of single papers (on intermediate images, on features) are left out.
    `changes` are fields of the `TrainingConfig` that shall differ from the recipe's.

    Raises:
        ValueError: an unknown recipe.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe: expected one of {RECIPES}, got {name!r}")
    config = replace(
        training.CONFIGS["lite"],
        steps=steps,
        learning_rate=learning_rate,
        warmup_steps=steps // 15,
        validate_every=steps,
        seed=seed,
    )
    if name == "common":
        config = replace(config, **changes)
        if network == "s3rnet":
            return S3RNET, config
        return (
            {"global_skip": False}
            if network in peers.WITH_GLOBAL_SKIP and config.skip != "none"
            else {}
        ), config
    config = replace(config, **PAPER_FORM, warmup_steps=0, gradient_clip=None)
    if network not in RANGE_SCALED:
        config = replace(config, scaling="none")
    if network == "s3rnet":
        return VARIANTS["the paper's form"]["network"], replace(config, **changes)
    return {}, replace(config, sam_weight=0.0, **changes)


def train(
    run: Run, steps: int, learning_rate: float, **config_changes
) -> tuple[training.History, dict, dict]:
    """Train one network; returns its history, the changes to its preset, and {"cpu_seconds",
    "wall_seconds"} of the training.

    `config_changes` are fields of the `TrainingConfig` that differ from the recipe's.
    """
    region, val, _ = regions()
    changes, config = recipe(
        run.network, run.recipe, steps, learning_rate, run.seed, **config_changes
    )
    torch.manual_seed(run.seed)
    network = registry.build(run.network, "lite", len(region.cube), run.msi_bands, **changes)
    cpu, wall = time.process_time(), time.perf_counter()
    history = training.fit(network, region, val, config, progress=False)
    return (
        history,
        changes,
        {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall},
    )


def search(network: str, recipe_name: str, budget_seconds: float, folder: Path = FOLDER) -> dict:
    """How many steps the budget buys, and which learning rate serves best in half of them on the
    validation region.

    The result, for 4 MSI bands, serves both band numbers; it is stored in `folder`, and read from
    there if it exists.

    Raises:
        ValueError: a stored search for another budget.
    """
    path = folder / f"search_{recipe_name}_{network}.json"
    if path.exists():
        stored = json.loads(path.read_text())
        if stored["budget_cpu_seconds"] != budget_seconds:
            raise ValueError(
                f"budget: expected {stored['budget_cpu_seconds']} CPU-seconds, as for {path}, got "
                f"{budget_seconds}"
            )
        return stored
    torch.set_num_threads(1)
    began = time.perf_counter()
    run = Run(network, recipe_name, 4, SEARCH_SEED)
    train(run, 2, min(LEARNING_RATES))  # caches fill
    cpu_seconds = [train(run, count, min(LEARNING_RATES))[2]["cpu_seconds"] for count in (1, 11)]
    steps = max(4, round(budget_seconds / max(1e-3, (cpu_seconds[1] - cpu_seconds[0]) / 10)))
    trials = [
        {"learning_rate": rate, **_validation_score(run, round(steps * SEARCH_SHARE), rate)}
        for rate in LEARNING_RATES
    ]
    best = max(
        trials,
        key=lambda trial: trial["psnr_pooled"] if trial["psnr_pooled"] is not None else -math.inf,
    )
    content = {
        "network": network,
        "recipe": recipe_name,
        "budget_cpu_seconds": budget_seconds,
        "steps": steps,
        "learning_rate": best["learning_rate"],
        "validation_trials": trials,
        "provenance": provenance.facts(SEARCH_SEED, time.perf_counter() - began),
    }
    atomic.write_json(path, content)
    return content


def train_and_test(
    run: Run, budget_seconds: float, folder: Path = FOLDER, checkpoints: Path = CHECKPOINTS
) -> dict:
    """One run: trained as the search says, then, and only then, scored on the test region; stored
    in `folder`, read if there.
    """
    path = folder / f"{run.name}.json"
    if path.exists():
        return json.loads(path.read_text())
    found = search(run.network, run.recipe, budget_seconds, folder)
    torch.set_num_threads(1)
    history, changes, spent = train(run, found["steps"], found["learning_rate"])
    test = regions()[2]
    x_h, x_m = (x[None] for x in history.model.degrade(test.cube))
    origin = provenance.facts(run.seed, spent["wall_seconds"])
    content = {
        **asdict(run),
        "preset": "lite",
        "changes": changes,
        "parameters": sum(p.numel() for p in history.model.network.parameters()),
        "config": asdict(history.config),
        "budget_cpu_seconds": budget_seconds,
        "cpu_seconds": round(spent["cpu_seconds"], 1),
        "validation": history.validation,
        "test": evaluation.score_model(history.model, test),
        "fusing_seconds": round(complexity.measure(history.model, x_h, x_m, runs=5).seconds, 4),
        "degradation": history.model.degrade.card(),
        "provenance": origin,
    }
    card = {
        "training": {"config": asdict(history.config), "validation": history.validation},
        "provenance": origin,
    }
    training.save_checkpoint(
        checkpoints / f"{run.name}.safetensors", history.model, "lite", card, changes
    )
    atomic.write_json(path, content)
    return content


def compare(
    names: list[str],
    recipes: list[str],
    msi_bands: int,
    seeds: int,
    budget_seconds: float,
    workers: int,
    folder: Path = FOLDER,
    checkpoints: Path = CHECKPOINTS,
) -> None:
    """All searches, then all runs that `folder` does not hold yet, `workers` at a time with one
    thread each.
    """
    runs = [
        Run(name, recipe_name, msi_bands, seed)
        for seed in range(seeds)
        for recipe_name in recipes
        for name in names
    ]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        searches = [
            pool.submit(search, name, recipe_name, budget_seconds, folder)
            for recipe_name in recipes
            for name in names
        ]
        wait(searches, "learning rates")
        wait(
            [pool.submit(train_and_test, run, budget_seconds, folder, checkpoints) for run in runs],
            "runs",
        )


def stored(folder: Path = FOLDER) -> list[dict]:
    """Every stored run, in the order of `registry.NAMES`."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*bands_*.json"))]
    return sorted(
        runs,
        key=lambda run: (
            registry.NAMES.index(run["network"]),
            run["recipe"],
            run["msi_bands"],
            run["seed"],
        ),
    )


def summarise(runs: list[dict], recipe_name: str, msi_bands: int) -> dict[str, dict]:
    """Network -> size, steps, learning rate, seconds of training and of fusing; for each of
    `METRICS` (mean, standard deviation).
    """
    rows = {}
    for name in registry.NAMES:
        own = [
            run
            for run in runs
            if (run["network"], run["recipe"], run["msi_bands"]) == (name, recipe_name, msi_bands)
        ]
        if own:
            rows[name] = {
                "parameters": own[0]["parameters"],
                "steps": own[0]["config"]["steps"],
                "learning_rate": own[0]["config"]["learning_rate"],
                "cpu_seconds": statistics.fmean(run["cpu_seconds"] for run in own),
                "seeds": len(own),
                "fusing_seconds": statistics.median(run["fusing_seconds"] for run in own),
                **{
                    metric: _mean_and_deviation([run["test"][metric] for run in own])
                    for metric in METRICS
                },
            }
    return rows


def table1() -> dict[str, dict]:
    """Table I as printed: network -> its title and numbers."""
    with open(DATA_FOLDER / "table1.csv", newline="") as file:
        rows = {row.pop("network"): row for row in csv.DictReader(file)}
    return {
        name: {key: value if key == "title" else float(value) for key, value in row.items()}
        for name, row in rows.items()
    }


def format_table(runs: list[dict], msi_bands: int) -> str:
    """Ours and Table I's side by side, as Markdown; best network first, by pooled PSNR with the
    common recipe.
    """
    common, published, printed = (*(summarise(runs, name, msi_bands) for name in RECIPES), table1())

    def cell(row: dict | None, metric: str, digits: int) -> str:
        if row is None:
            return "–"
        mean, deviation = row[metric]
        return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if row["seeds"] > 1 else "")

    lines = [
        f"| {msi_bands} MSI bands | parameters | steps | common recipe: PSNR | band-mean PSNR | "
        "SAM | ERGAS | as published: PSNR | SAM "
        "| Table I: PSNR | SAM |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in sorted(common, key=lambda name: -common[name]["psnr_pooled_scene_peak"][0]):
        row, own = common[name], published.get(name)
        lines.append(
            f"| {printed[name]['title'].split(' (')[0]} | {row['parameters']:,} | {row['steps']:,} "
            "| "
            + " | ".join(
                cell(row, metric, digits)
                for metric, digits in zip(METRICS, (2, 2, 3, 3), strict=True)
            )
            + f" | {cell(own, METRICS[0], 2)} | {cell(own, 'sam_degrees', 3)}"
            + f" | {printed[name][f'psnr_{msi_bands}bands']:.2f}"
            + f" | {printed[name][f'sam_{msi_bands}bands']:.3f} |"
        )
    return "\n".join(lines)


def _validation_score(run: Run, steps: int, learning_rate: float) -> dict:
    try:
        score = train(run, steps, learning_rate)[0].validation[-1]["psnr_pooled_scene_peak"]
    except FloatingPointError:
        score = math.nan
    return {"steps": steps, "psnr_pooled": score if math.isfinite(score) else None}


def _mean_and_deviation(values: list[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def wait(futures: list, what: str) -> None:
    """Show a bar until all are done; raise what one of them raised."""
    for future in tqdm(as_completed(futures), total=len(futures), desc=what):
        future.result()


@functools.cache
def regions() -> tuple[scenes.Scene, scenes.Scene, scenes.Scene]:
    """Train, validation and test regions of Indian Pines."""
    return scenes.split(scenes.indian_pines())
