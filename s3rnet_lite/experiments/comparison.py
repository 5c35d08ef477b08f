"""All eleven networks on the same data with equal compute: our Table I; read in
notebooks/09_peers_table1.ipynb.
"""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..analysis import complexity
from ..files.provenance import DATA_FOLDER
from ..peers import registry
from ..training import sources
from . import evaluation
from .runs import FOLDER, RECIPES, Campaign, Run, run_all, search, train_run
from .runs import regions as regions  # for chapter 11

METRICS = ("psnr_pooled_scene_peak", "psnr_band_mean_band_peak", "sam_degrees", "ergas")


def train_and_test(run: Run, campaign: Campaign) -> dict:
    """One run: trained as the search says, then, and only then, scored on the test images; stored
    in `results/comparison`, read if there.
    """

    def measure() -> dict:
        found = search(run.network, run.recipe, campaign)
        trained = train_run(run, found["steps"], found["learning_rate"], campaign.source)
        checkpoint = campaign.work / "comparison" / f"{run.name}.safetensors"
        origin = trained.save(checkpoint, run.seed)
        model, test = trained.history.model, sources.load(campaign.source).test
        pair = (x[None] for x in model.degrade(test[0].cube))
        return {
            **asdict(run),
            "preset": "lite",
            "changes": trained.changes,
            "parameters": sum(p.numel() for p in model.network.parameters()),
            "config": asdict(trained.history.config),
            "budget_cpu_seconds": campaign.budget_seconds,
            "cpu_seconds": round(trained.cpu_seconds, 1),
            "validation": trained.history.validation,
            "test": evaluation.mean([evaluation.score_model(model, scene) for scene in test]),
            "fusing_seconds": round(complexity.measure(model, *pair, runs=5).seconds, 4),
            "degradation": model.degrade.card(),
            "provenance": origin,
        }

    return campaign.store_once("comparison", run.name, measure)


def compare(
    names: Sequence[str],
    recipes: Sequence[str],
    msi_bands: int,
    seeds: int,
    workers: int,
    campaign: Campaign,
) -> None:
    """All searches, then all runs that are not stored yet, `workers` at a time with one thread
    each.
    """
    sources.load(campaign.source)  # bad files are named before any process starts
    kinds = [(name, recipe) for recipe in recipes for name in names]
    run_all(search, [(*kind, campaign) for kind in kinds], workers, "learning rates")
    runs = [Run(*kind, msi_bands, seed) for seed in range(seeds) for kind in kinds]
    run_all(train_and_test, [(run, campaign) for run in runs], workers, "runs")


def stored(folder: Path = FOLDER) -> list[dict]:
    """Every stored run, in the order of `registry.NAMES`."""
    runs = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*bands_*.json"))
    ]

    def place(run: dict) -> tuple:
        number = registry.NAMES.index(run["network"])
        return number, run["recipe"], run["msi_bands"], run["seed"]

    return sorted(runs, key=place)


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
    with open(DATA_FOLDER / "table1.csv", newline="", encoding="utf-8") as file:
        rows = {row.pop("network"): row for row in csv.DictReader(file)}
    return {
        name: {key: value if key == "title" else float(value) for key, value in row.items()}
        for name, row in rows.items()
    }


def format_table(runs: list[dict], msi_bands: int) -> str:
    """Ours and Table I's side by side, as Markdown; best network first, by pooled PSNR with the
    common recipe, then those that have only the other.
    """
    common, published, printed = (*(summarise(runs, name, msi_bands) for name in RECIPES), table1())

    def cell(row: dict | None, metric: str, digits: int) -> str:
        if row is None:
            return "–"
        mean, deviation = row[metric]
        return f"{mean:.{digits}f}" + (f" ± {deviation:.{digits}f}" if row["seeds"] > 1 else "")

    def as_printed(name: str, metric: str, digits: int) -> str:
        number = printed[name].get(f"{metric}_{msi_bands}bands")  # of 4 and 6 bands
        return "–" if number is None else f"{number:.{digits}f}"

    lines = [
        f"| {msi_bands} MSI bands | parameters | steps | common recipe: PSNR | band-mean PSNR | "
        "SAM | ERGAS | as published: PSNR | SAM "
        "| Table I: PSNR | SAM |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    best_first = sorted(common, key=lambda name: -common[name][METRICS[0]][0])
    for name in (*best_first, *(name for name in published if name not in common)):
        row, own = common.get(name), published.get(name)
        known = common.get(name, published.get(name, {}))
        cells = [printed[name]["title"].split(" (")[0]]
        cells += [f"{known['parameters']:,}", f"{known['steps']:,}"]
        pairs = zip(METRICS, (2, 2, 3, 3), strict=True)
        cells += [cell(row, metric, digits) for metric, digits in pairs]
        cells += [cell(own, METRICS[0], 2), cell(own, "sam_degrees", 3)]
        cells += [as_printed(name, "psnr", 2), as_printed(name, "sam", 3)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean_and_deviation(values: list[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
