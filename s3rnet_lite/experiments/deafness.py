"""Does S3RNet in the paper's form learn to use the LR-HSI? Trainings at several learning rates and
lengths, watched on the way, and one of the full-size network; for notebooks/11 and 12.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from .. import training
from ..files import atomic, provenance
from ..network import s3rnet
from ..training.config import PAPER_FORM, TrainingConfig
from ..training.fusion import FusionModel
from . import evaluation
from .disturbances import dependence
from .inside import inside
from .runs import regions

FOLDER = provenance.RESULTS_FOLDER / "deafness"
WORK = provenance.REPOSITORY / "runs" / "deafness"
MSI_BANDS = 6
LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3)  # the first is the paper's
STEPS = {"small": 377, "long": 3_770}  # about one and ten CPU-minutes
LEG_MINUTES = 10.0  # between two writings of what is known so far


@dataclass(frozen=True)
class Trajectory:
    """One training: "small" and "long" are the paper's form at the size of "lite", without noise,
    in `STEPS` steps down half a cosine; "full" is the first steps of the paper's own recipe with
    its full-size network, on two crops of 64 x 64 where the paper has four of 128 x 128.
    """

    size: str
    learning_rate: float = 1e-4
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.size}_{self.learning_rate:.0e}_seed{self.seed}"

    @property
    def config(self) -> TrainingConfig:
        own = dict(learning_rate=self.learning_rate, seed=self.seed)
        if self.size == "full":
            paper = training.CONFIGS["paper"]
            return replace(paper, crop=64, batch_size=2, validate_every=50, **own)
        steps = STEPS[self.size]
        form = dict(PAPER_FORM, warmup_steps=0, gradient_clip=None)
        often = max(1, steps // 10)
        return replace(training.CONFIGS["lite"], steps=steps, validate_every=often, **form, **own)

    def build(self) -> s3rnet.S3RNet:
        bands = len(regions()[0].cube), MSI_BANDS
        if self.size == "full":
            return s3rnet.S3RNet.from_preset("paper", *bands)
        return s3rnet.S3RNet.from_preset("lite", *bands, **s3rnet.PAPER_FORM)


def run(
    trajectory: Trajectory, minutes: float | None = None, folder: Path = FOLDER, work: Path = WORK
) -> dict:
    """Train, or go on where the last call stopped, on one thread; what is known so far is stored
    every `LEG_MINUTES`, scores on the test region when it stops.

    Args:
        minutes: stop after so much time, all calls together; None: after the last step.
    """
    path = folder / f"{trajectory.name}.json"
    content = atomic.resume(path) or {}
    if content.get("complete"):
        return content
    torch.set_num_threads(1)
    region, val, test = regions()
    config = trajectory.config
    torch.manual_seed(config.seed)
    model = training.wrap(trajectory.build(), [region], config)
    work.mkdir(parents=True, exist_ok=True)
    state = work / f"{trajectory.name}.state.safetensors"

    def watch(model: FusionModel) -> dict:
        return {"dependence": dependence(model, val, None)}

    while True:
        spent = content.get("training_seconds", 0.0) if state.exists() else 0.0
        left = LEG_MINUTES if minutes is None else min(LEG_MINUTES, minutes - spent / 60)
        began = time.perf_counter()
        how = dict(state_file=state, minutes=max(left, 0.0), progress=False, watch=watch)
        history = training.fit(model, region, val, config, **how)
        over = history.complete or (minutes is not None and history.seconds >= 60 * minutes)
        content = {
            **asdict(trajectory),
            "msi_bands": MSI_BANDS,
            "complete": over,
            "steps": len(history.loss),
            "config": asdict(config),
            "training_seconds": round(history.seconds, 1),
            "validation": history.validation,
        }
        if over:
            content |= {
                "scores": evaluation.score_model(history.model, test),
                "dependence": [dependence(history.model, test, snr) for snr in (None, 35.0, 15.0)],
                "inside": inside(history.model, test),
                "degradation": history.model.degrade.card(),
            }
        seconds = time.perf_counter() - began
        content["provenance"] = provenance.facts(trajectory.seed, seconds)
        atomic.write_sealed(path, content)
        print(trajectory.name, content["steps"], f"{history.seconds:.0f} s", flush=True)
        if over:
            return content


def all_small(seeds: int = 3, size: str = "small") -> list[Trajectory]:
    """Every learning rate with so many seeds."""
    return [Trajectory(size, rate, seed) for seed in range(seeds) for rate in LEARNING_RATES]
