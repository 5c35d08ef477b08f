"""Scores on a region that nothing was fitted on, and what each input is worth; used in notebooks/00
and 06.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from .. import baselines, metrics, training
from ..files import atomic
from ..sensing import scenes
from ..sensing.degradation import Degradation, simulated
from ..sensing.scene import Scene
from ..training import dataset
from ..training.fusion import FusionModel

TRAINED_CLOSED_FORM = "detail injection, regression of the training region"
QUICK_BASELINES = ("bicubic", "detail_injection", "sylvester")
SKIP_ALONE = "the same, injected twice: the skip of the compared networks"


def measure(y_hat: torch.Tensor, scene: Scene, degrade: Degradation) -> dict[str, float]:
    """`metrics.evaluate` and `metrics.similarity` of a fused image (C, H, W) of this scene."""
    scores = metrics.evaluate(y_hat, scene.cube, degrade.scale, scene.scale)
    return scores | metrics.similarity(y_hat, scene.cube)


def score_baselines(degrade: Degradation, train: Scene, test: Scene) -> dict[str, dict[str, float]]:
    """`measure` of every classical method on `test`, and of two closed forms whose
    regression `train` gave.

    The classical methods' rows also hold `seconds`, the second of two runs: the first fills caches.
    """
    x_h, x_m = degrade(test.cube)
    fused, seconds = {}, {}
    for name in baselines.NAMES:
        baselines.run(name, x_h, x_m, degrade)
        began = time.perf_counter()
        fused[name] = baselines.run(name, x_h, x_m, degrade)
        seconds[name] = {"seconds": round(time.perf_counter() - began, 4)}
    regression = baselines.fit_regression(degrade.spectral(train.cube), train.cube)
    fused["regression of the training region"] = baselines.apply_regression(regression, x_m)
    for name, passes in ((TRAINED_CLOSED_FORM, 1), (SKIP_ALONE, 2)):
        fused[name] = baselines.inject(
            x_h, fused["regression of the training region"], degrade, passes
        )
    return {
        name: measure(y_hat, test, degrade) | seconds.get(name, {}) for name, y_hat in fused.items()
    }


@torch.no_grad()
def score_model(model: FusionModel, test: Scene) -> dict:
    """`measure` of a trained model on `test`, its gate means, and the pooled PSNR without
    either input.

    "Without" replaces an input by its mean spectrum everywhere: `psnr_pooled_without` for the whole
    model, skip included, `psnr_pooled_network_without` for the network alone, so that the skip
    cannot hide a network that ignores an input. `skip_alone` are the scores of the same model with
    a zero-output network. The model is left in evaluation mode: in training mode, batch
    normalisation would learn from the test region.
    """
    model.eval()
    y_hat, gate_means = training.predict(model, test)
    x_h, x_m = (x[None] for x in model.degrade(test.cube))

    def network_sees(replace_h: bool, replace_m: bool) -> float:
        def hook(_network, inputs):
            return (
                spatial_mean(inputs[0]) if replace_h else inputs[0],
                spatial_mean(inputs[1]) if replace_m else inputs[1],
            )

        handle = model.network.register_forward_pre_hook(hook)
        try:
            return metrics.pooled_psnr(model(x_h, x_m)[0], test.cube)
        finally:
            handle.remove()

    return {
        **measure(y_hat, test, model.degrade),
        **_score_of_skip(model, test),
        "gate_means": gate_means,
        "psnr_pooled_without": {
            "lr_hsi": metrics.pooled_psnr(model(spatial_mean(x_h), x_m)[0], test.cube),
            "hr_msi": metrics.pooled_psnr(model(x_h, spatial_mean(x_m))[0], test.cube),
        },
        "psnr_pooled_network_without": {
            "lr_hsi": network_sees(True, False),
            "hr_msi": network_sees(False, True),
        },
    }


def mean(rows: Sequence) -> Any:
    """Of results of the same form, one with the means of their numbers; what is no number stays the
    first one's. A single result stays as it is.

    >>> mean([{"psnr": 40.0, "gates": [0.1, 0.3]}, {"psnr": 42.0, "gates": [0.3, 0.3]}])
    {'psnr': 41.0, 'gates': [0.2, 0.3]}
    """
    first = rows[0]
    if len(rows) == 1 or first is None or isinstance(first, str):
        return first
    if isinstance(first, dict):
        return {key: mean([row[key] for row in rows]) for key in first}
    if isinstance(first, (list, tuple)):
        return [mean(column) for column in zip(*rows, strict=True)]
    return statistics.fmean(rows)


def _score_of_skip(model: FusionModel, test: Scene) -> dict:
    """{"skip_alone": `measure` of the model with a zero-output network}; {} without a skip."""
    if model.skip == "none":
        return {}
    handle = model.network.register_forward_hook(lambda _m, _in, said: torch.zeros_like(said))
    try:
        return {"skip_alone": measure(training.predict(model, test)[0], test, model.degrade)}
    finally:
        handle.remove()


def score_many(
    degrade: Degradation, models: dict[str, FusionModel], scenes: Iterable[Scene]
) -> dict[str, dict[str, float]]:
    """Mean over the scenes of `measure`, for three quick classical methods and each model;
    one scene in memory at a time.

    Raises:
        ValueError: no scene.
    """
    rows: dict[str, list[dict]] = {}
    for scene in scenes:
        x_h, x_m = degrade(scene.cube)
        fused = {name: baselines.run(name, x_h, x_m, degrade) for name in QUICK_BASELINES}
        fused |= {name: training.predict(model, scene)[0] for name, model in models.items()}
        for name, y_hat in fused.items():
            rows.setdefault(name, []).append(measure(y_hat, scene, degrade))
    if not rows:
        raise ValueError("scenes: expected at least one scene, got none")
    return {name: mean(own) for name, own in rows.items()}


def spatial_mean(x: torch.Tensor) -> torch.Tensor:
    """The same spectrum everywhere: an input (..., C, H, W) that tells nothing about place."""
    return x.mean(dim=(-2, -1), keepdim=True).expand_as(x)


def on_scene(scene: Scene, checkpoints: list[Path], msi_bands: int) -> dict:
    """Scores on the test region of the classical methods and of each checkpoint, the noise ceiling,
    and mean and standard deviation over the checkpoints.

    Args:
        msi_bands: of `sensors.simulated_msi`, where there is no checkpoint to say so.

    Raises:
        ValueError: checkpoints of different degradations, or of other bands than the scene's.
    """
    region, _, test = scenes.split(scene)
    models = load_comparable(checkpoints)
    degrade = models[0].degrade if models else simulated(test, msi_bands)
    if degrade.srf.shape[1] != len(scene.cube):
        raise ValueError(
            f"--checkpoint: trained on {degrade.srf.shape[1]} bands, {scene.name} has "
            f"{len(scene.cube)}"
        )
    networks = [_row_of(path, model, test) for path, model in zip(checkpoints, models, strict=True)]
    summaries = {
        "summary": networks,
        "summary_of_skip": [row["skip_alone"] for row in networks if "skip_alone" in row],
    }
    return {
        "scene": test.name,
        "rmse_unit": scenes.RADIANCE_UNIT if scene.name == "indian_pines" else "as stored",
        "networks": networks,
        "baselines": score_baselines(degrade, region, test),
        **noise_ceiling(test, degrade.scale),
        **{
            title: {
                name: _mean_and_deviation([row[name] for row in rows])
                for name in metrics.MAIN
                if rows
            }
            for title, rows in summaries.items()
        },
        "degradation": degrade.card(),
    }


def noise_ceiling(test: Scene, scale: int) -> dict:
    """`metrics.noise_ceiling` by that name, nothing where noise cannot be told from signal."""
    try:
        return {"noise_ceiling": metrics.noise_ceiling(test.cube, scale, test.scale)}
    except ValueError:  # too few pixels for so many bands
        return {}


def on_data_set(checkpoints: list[Path], msi_bands: int, folder: Path) -> dict:
    """Mean scores over the test patches of a prepared data set. Arguments as `on_scene`."""
    models = load_comparable(checkpoints)
    data, patches = dataset.load(folder), len(dataset.references(folder, "test"))
    degrade = models[0].degrade if models else data.degradation(msi_bands)
    found = (dataset.scene(folder, "test", i) for i in tqdm(range(patches), unit="patch"))
    named = {path.name: model for path, model in zip(checkpoints, models, strict=True)}
    return {
        "data": folder.name,
        "patches": patches,
        "mean_scores": score_many(degrade, named, found),
        "degradation": degrade.card(),
    }


def load_comparable(checkpoints: list[Path]) -> list[FusionModel]:
    """Models of one degradation.

    Raises:
        ValueError: they were trained with different ones, or two have one name, by which their
            scores are told apart.
    """
    names = [path.name for path in checkpoints]
    if len(set(names)) < len(names):
        raise ValueError(f"--checkpoint: expected files of different names, got {names}")
    models = [training.load_checkpoint(path) for path in checkpoints]
    if any(model.degrade.card() != models[0].degrade.card() for model in models):
        raise ValueError(
            "--checkpoint: the checkpoints were trained with different degradations; "
            "their scores cannot be compared"
        )
    return models


def _row_of(path: Path, model: FusionModel, test: Scene) -> dict:
    metadata = atomic.read_json(path.with_suffix(".json"))
    training_facts, origin = (metadata.get(name) or {} for name in ("training", "provenance"))
    return {
        "checkpoint": path.name,
        "preset": metadata["network"]["preset"],
        "seed": training_facts.get("config", {}).get("seed"),  # not all that is stored says so
        **score_model(model, test),
        "trained_seconds": origin.get("wall_seconds"),
    }


def _mean_and_deviation(values: list[float]) -> dict[str, float]:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "standard_deviation": deviation}
