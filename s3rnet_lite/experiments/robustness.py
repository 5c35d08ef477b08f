"""Table II, with its missing controls: networks trained with and without noise, scored under noise
and other faults; read in notebooks/11_robustness_table2.ipynb.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .. import baselines, training
from ..files import atomic, provenance
from ..peers import registry
from ..sensing.degradation import Degradation, landsat_tm
from ..sensing.scene import Scene
from ..training import sources
from ..training.fusion import FusionModel
from ..training.sources import Source
from . import evaluation, runs
from .comparison import METRICS
from .disturbances import (
    MSI_BANDS,
    NOISE_ON,
    Fuse,
    crossing,
    dependence,
    faults,
    faulty,
    fuse,
    noisy,
    regression_control,
    shares_of_variance,
    snr_on_unit_range,
    sweep,
)

__all__ = [
    "METRICS",
    "MSI_BANDS",
    "NOISE_ON",
    "crossing",
    "dependence",
    "faults",
    "faulty",
    "fuse",
    "noisy",
    "regression_control",
    "shares_of_variance",
    "snr_on_unit_range",
    "stored",
    "sweep",
    "table",
]

FOLDER = provenance.RESULTS_FOLDER / "robustness"
SNR_DB = (None, 40, 35, 30, 25, 20, 15, 10, 5)  # None: no noise
TRAINING_NOISE = {"none": None, "35 dB": 35.0, "random": (5.0, 40.0)}
# How each network is trained (see `runs.recipe`), and with which noises. "bare" is "common"
# without the wrapper's skip: networks that have a skip of their own keep it. "denoised" is "common"
# behind a `WienerDenoiser`.
RECIPES = {
    "bare": tuple(TRAINING_NOISE),
    "published": tuple(TRAINING_NOISE),
    "denoised": ("random",),
    "common": tuple(TRAINING_NOISE),
}
CHANGES: dict[str, dict] = {
    "bare": {"skip": "none"},
    "published": {},
    "denoised": {"denoise": True},
    "common": {},
}
CONTROL = "regression on the HR-MSI alone"


@dataclass(frozen=True)
class Run:
    """One trained network: which, how (`RECIPES`), with which noise in training (`TRAINING_NOISE`),
    with which seed.
    """

    network: str
    recipe: str
    noise: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.recipe}_{self.noise.replace(' ', '')}_{self.network}_seed{self.seed}"


def train_and_test(run: Run, campaign: runs.Campaign) -> dict:
    """Train one network (if no checkpoint is there) and measure all of this module on it; stored in
    `results/robustness`, read if there.

    Steps and learning rate are those of the comparison's search, made without noise; a network
    trained without noise is the comparison's own, from its folder of checkpoints if it is there,
    else trained again, with the same result.
    """

    def measure_run() -> dict:
        began = time.perf_counter()
        checkpoint = _train(run, campaign)
        model, test = training.load_checkpoint(checkpoint), sources.load(campaign.source).test
        metadata = atomic.read_json(checkpoint.with_suffix(".json"))
        return {
            **asdict(run),
            "msi_bands": MSI_BANDS,
            "config": metadata["training"]["config"],
            **evaluation.mean([{**measure(model, one), **_owed(model, one)} for one in test]),
            "degradation": model.degrade.card(),
            "provenance": provenance.facts(run.seed, time.perf_counter() - began),
        }

    return campaign.store_once("robustness", run.name, measure_run)


def _owed(model: FusionModel, test: Scene, levels: Sequence = (None, 35, 15)) -> dict:
    return {"dependence": [dependence(model, test, snr) for snr in levels]}


def measure(network: Fuse, test: Scene, degrade: Degradation | None = None) -> dict:
    """The whole sweep (one realisation of the noise) as {"curves": {noisy input: {metric: values at
    `SNR_DB`}}}, and "faults".
    """
    degrade = degrade or getattr(network, "degrade", None) or landsat_tm(test, MSI_BANDS)
    rows = sweep({"": network}, test, SNR_DB, 1, NOISE_ON, degrade)
    curves = {
        place: {
            metric: [round(row[metric], 4) for row in rows if row["noise_on"] == place]
            for metric in METRICS
        }
        for place in NOISE_ON
    }
    return {"snr_db": SNR_DB, "curves": curves, "faults": faults(network, test, degrade)}


def measure_others(campaign: runs.Campaign) -> None:
    """The same for the classical methods, the control, and, on Indian Pines, the S3RNet-lite models
    in `data/`; stored in "others.json", unless there.
    """
    campaign.store_once("robustness", "others", lambda: _measure_others(campaign.source))


def _measure_others(source: Source) -> dict:
    began = time.perf_counter()
    parts, degrade = sources.load(source), source.degrade(MSI_BANDS)
    methods: dict[str, Fuse] = {name: _classical(name, degrade) for name in baselines.NAMES}
    methods[CONTROL] = regression_control(degrade, parts.training_pixels())
    rows = {
        name: evaluation.mean([measure(method, test, degrade) for test in parts.test])
        for name, method in methods.items()
    }
    shipped = (
        [] if source.facts() else provenance.DATA_FOLDER.glob("s3rnet_lite_6bands*.safetensors")
    )
    for path in sorted(shipped):
        model, [test] = training.load_checkpoint(path), parts.test
        rows[path.stem] = {**measure(model, test), **_owed(model, test, SNR_DB)}
    origin = provenance.facts(0, time.perf_counter() - began)
    return {"methods": rows, "degradation": degrade.card(), "provenance": origin}


def run_all(
    names: Sequence[str], recipes: Sequence[str], seeds: int, workers: int, campaign: runs.Campaign
) -> None:
    """All runs that are not stored yet, `workers` at a time with one thread each; then the methods
    that need no training.
    """
    sources.load(campaign.source)  # bad files are named before any process starts
    kinds = [
        (name, recipe, noise) for recipe in recipes for noise in RECIPES[recipe] for name in names
    ]
    planned = [Run(*kind, seed) for seed in range(seeds) for kind in kinds]
    runs.run_all(train_and_test, [(run, campaign) for run in planned], workers, "runs")
    runs.run_all(measure_others, [(campaign,)], workers, "methods without training")


def stored(folder: Path = FOLDER) -> list[dict]:
    """Every stored run, in the order of `registry.NAMES`."""
    rows = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*_seed*.json"))
    ]
    noises = list(TRAINING_NOISE)

    def place(row: dict) -> tuple:
        number, noise = registry.NAMES.index(row["network"]), noises.index(row["noise"])
        return number, row["recipe"], noise, row["seed"]

    return sorted(rows, key=place)


def table(
    rows: list[dict], recipe: str, snr_db: float | None, metric: str = METRICS[0]
) -> tuple[list[str], list[str], np.ndarray]:
    """Network names, training noises, and the score of each pair at this SNR on the LR-HSI,
    averaged over seeds; NaN where none is.
    """
    scores: dict[tuple[str, str], list[float]] = {}
    at, noises = SNR_DB.index(snr_db), RECIPES[recipe]
    for row in rows:
        if row["recipe"] == recipe:
            own = scores.setdefault((row["network"], row["noise"]), [])
            own.append(row["curves"]["lr_hsi"][metric][at])
    names = [name for name in registry.NAMES if any(name == key[0] for key in scores)]
    means = [
        [statistics.fmean(scores.get((name, noise), [math.nan])) for noise in noises]
        for name in names
    ]
    return names, list(noises), np.array(means)


def _train(run: Run, campaign: runs.Campaign) -> Path:
    """The checkpoint of this run, made if it is not there."""
    base = run.recipe if run.recipe in runs.RECIPES else "common"
    clean = runs.Run(run.network, base, MSI_BANDS, run.seed)
    path = campaign.work / "robustness" / f"{run.name}.safetensors"
    theirs = campaign.work / "comparison" / f"{clean.name}.safetensors"
    if not path.exists() and run.noise == "none" and run.recipe == base and theirs.exists():
        with atomic.together(path.parent) as folder:
            for suffix in (".json", ".safetensors"):
                shutil.copy(theirs.with_suffix(suffix), folder / f"{run.name}{suffix}")
    if not path.exists():
        found = runs.search(run.network, base, campaign)
        changes = {"snr_db": TRAINING_NOISE[run.noise], **CHANGES[run.recipe]}
        how = (found["steps"], found["learning_rate"], campaign.source)
        runs.train_run(clean, *how, **changes).save(path, run.seed)
    return path


def _classical(name: str, degrade: Degradation) -> Fuse:
    return lambda x_h, x_m: baselines.run(name, x_h, x_m, degrade)
