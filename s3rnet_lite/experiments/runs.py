"""One runner for every campaign: trains what a `Run` says with equal compute, stores each result
once, and goes on where it was stopped.
"""

from __future__ import annotations

import functools
import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

from .. import training
from ..files import atomic, provenance
from ..network import s3rnet
from ..peers import registry
from ..sensing import scenes
from ..training import sources
from ..training.config import PAPER_FORM
from ..training.sources import INDIAN_PINES, Source

FOLDER = provenance.RESULTS_FOLDER / "comparison"
RECIPES = ("common", "published")
LEARNING_RATES = (1e-3, 3e-3)
SEARCH_SEED = 1000  # none of the reported ones
SEARCH_SHARE = 0.5  # the search's runs are half as long
RANGE_SCALED = ("s3rnet", "qrcode")  # published for data in [-1, 1]; the others for [0, 1]


@dataclass(frozen=True)
class Run:
    """One training: which network, how (see `recipe`), on how many MSI bands, with which seed."""

    network: str
    recipe: str
    msi_bands: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.recipe}_{self.msi_bands}bands_{self.network}_seed{self.seed}"


@dataclass(frozen=True)
class Campaign:
    """What the runs of a comparison share.

    budget_seconds: CPU time of each training on one thread.
    source: what networks learn from and are scored on.
    results, work: folders; what "comparison" finds lies in `results/comparison`, its models in
    `work/comparison`.
    """

    budget_seconds: float
    source: Source = INDIAN_PINES
    results: Path = provenance.RESULTS_FOLDER
    work: Path = provenance.REPOSITORY / "runs"

    def store_once(self, kind: str, name: str, measure: Callable[[], dict]) -> dict:
        """`store_once` of `results/kind/name.json`, whose provenance names the images, if they are
        not Indian Pines.

        Raises:
            ValueError: what lies there was measured on other images.
        """
        path, facts = self.results / kind / f"{name}.json", self.source.facts()

        def measure_and_name() -> dict:
            content = measure()
            named = {**content["provenance"], "source": facts} if facts else content["provenance"]
            return {**content, "provenance": named}

        found = store_once(path, measure_and_name)
        there = found["provenance"].get("source", {})
        if there != facts:
            expected, got = (one or "Indian Pines" for one in (facts, there))
            raise ValueError(f"{path}: expected a result of {expected}, got one of {got}")
        return found


@dataclass(frozen=True)
class Trained:
    """A training's history, what it changed of the network's preset, and its cost."""

    history: training.History
    changes: dict
    cpu_seconds: float
    wall_seconds: float

    def save(self, path: Path, seed: int) -> dict:
        """Write the checkpoint; returns its provenance."""
        config, validation = asdict(self.history.config), self.history.validation
        origin = provenance.facts(seed, self.wall_seconds)
        facts = {"training": {"config": config, "validation": validation}, "provenance": origin}
        training.save_checkpoint(path, self.history.model, "lite", facts, self.changes)
        return origin


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
        skip="injection",
        seed=seed,
    )
    ours = network == "s3rnet"
    if name == "common":
        config = replace(config, **changes)
        return registry.without_own_skip(network, config.skip), config
    config = replace(config, **PAPER_FORM, warmup_steps=0, gradient_clip=None)
    if network not in RANGE_SCALED:
        config = replace(config, scaling="none")
    if not ours:
        config = replace(config, sam_weight=0.0)
    return s3rnet.PAPER_FORM if ours else {}, replace(config, **changes)


def train(
    network: str,
    msi_bands: int,
    changes: dict,
    config: training.TrainingConfig,
    source: Source = INDIAN_PINES,
) -> Trained:
    """Train a network's lite preset, with `changes`, on the training images."""
    degrade, parts = source.degrade(msi_bands), sources.load(source)
    torch.manual_seed(config.seed)
    model = registry.build(network, "lite", degrade.srf.shape[1], msi_bands, **changes)
    cpu, wall = time.process_time(), time.perf_counter()
    history = training.fit(model, parts.train, parts.val, config, degrade, progress=False)
    return Trained(history, changes, time.process_time() - cpu, time.perf_counter() - wall)


def train_run(
    run: Run, steps: int, learning_rate: float, source: Source = INDIAN_PINES, **changes
) -> Trained:
    """Train as the run's recipe says; `changes` as for `recipe`."""
    how = recipe(run.network, run.recipe, steps, learning_rate, run.seed, **changes)
    return train(run.network, run.msi_bands, *how, source)


def search(network: str, recipe_name: str, campaign: Campaign) -> dict:
    """How many steps the budget buys, and which learning rate serves best in half of them on the
    validation images.

    The result, for 4 MSI bands, serves every number of bands; it is stored in
    `results/comparison`, and read from there if it exists.

    Raises:
        ValueError: a stored search for another budget, or on other images.
    """
    run, name = Run(network, recipe_name, 4, SEARCH_SEED), f"search_{recipe_name}_{network}"
    found = campaign.store_once("comparison", name, lambda: _search(run, campaign))
    if found["budget_cpu_seconds"] != campaign.budget_seconds:
        raise ValueError(
            f"budget: expected {found['budget_cpu_seconds']} CPU-seconds, as for {name} in "
            f"{campaign.results}, got {campaign.budget_seconds}"
        )
    return found


def store_once(path: Path, measure: Callable[[], dict]) -> dict:
    """The content of a JSON file, measured and written if it is not there; on one thread."""
    if (found := atomic.resume(path)) is not None:
        return found
    torch.set_num_threads(1)
    content = measure()
    atomic.write_sealed(path, content)
    return content


def run_all(function: Callable, jobs: Sequence[tuple], workers: int, what: str) -> None:
    """`function(*job)` for every job, `workers` at a time, each in a process of its own, with a
    bar; raises what one of them raised. Who is interrupted stops them at once.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(function, *job) for job in jobs]
        try:
            for future in tqdm(as_completed(futures), total=len(futures), desc=what):
                future.result()
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


@functools.cache
def regions() -> tuple[scenes.Scene, scenes.Scene, scenes.Scene]:
    """Train, validation and test regions of Indian Pines."""
    return scenes.split(scenes.indian_pines())


def _search(run: Run, campaign: Campaign) -> dict:
    began, slowest, source = time.perf_counter(), min(LEARNING_RATES), campaign.source
    train_run(run, 2, slowest, source)  # caches fill
    first, eleven = (train_run(run, count, slowest, source).cpu_seconds for count in (1, 11))
    steps = max(4, round(campaign.budget_seconds / max(1e-3, (eleven - first) / 10)))
    trials = [_trial(run, round(steps * SEARCH_SHARE), rate, source) for rate in LEARNING_RATES]
    scores = [trial["psnr_pooled"] or -math.inf for trial in trials]
    best = trials[scores.index(max(scores))]
    return {
        "network": run.network,
        "recipe": run.recipe,
        "budget_cpu_seconds": campaign.budget_seconds,
        "steps": steps,
        "learning_rate": best["learning_rate"],
        "validation_trials": trials,
        "provenance": provenance.facts(SEARCH_SEED, time.perf_counter() - began),
    }


def _trial(run: Run, steps: int, rate: float, source: Source) -> dict:
    """The score on the validation images, or None if the training diverged."""
    try:
        history = train_run(run, steps, rate, source).history
        score = history.validation[-1]["psnr_pooled_scene_peak"]
    except FloatingPointError:
        score = math.nan
    found = score if math.isfinite(score) else None
    return {"learning_rate": rate, "steps": steps, "psnr_pooled": found}
