"""Scores on a region that nothing was fitted on, and what each input is worth; used in notebooks/00
and 06.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable

import torch

from .. import baselines, metrics, training
from ..sensing.degradation import Degradation
from ..sensing.scene import Scene
from ..training.fusion import FusionModel

TRAINED_CLOSED_FORM = "detail injection, regression of the training region"
QUICK_BASELINES = ("bicubic", "detail_injection", "sylvester")
SKIP_ALONE = "the same, injected twice: a lite model's own skip"


def score_baselines(degrade: Degradation, train: Scene, test: Scene) -> dict[str, dict[str, float]]:
    """`metrics.evaluate` of every classical method on `test`, and of two closed forms whose
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
        name: metrics.evaluate(y_hat, test.cube, degrade.scale, test.scale) | seconds.get(name, {})
        for name, y_hat in fused.items()
    }


@torch.no_grad()
def score_model(model: FusionModel, test: Scene) -> dict:
    """`metrics.evaluate` of a trained model on `test`, its gate means, and the pooled PSNR without
    either input.

    "Without" replaces an input by its mean spectrum everywhere: `psnr_pooled_without` for the whole
    model, skip included, `psnr_pooled_network_without` for the network alone, so that the skip
    cannot hide a network that ignores an input. The
    model is left in evaluation mode: in training mode, batch normalisation would learn from the
    test region.
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
        **metrics.evaluate(y_hat, test.cube, model.degrade.scale, test.scale),
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


def score_many(
    degrade: Degradation, models: dict[str, FusionModel], scenes: Iterable[Scene]
) -> dict[str, dict[str, float]]:
    """Mean over the scenes of `metrics.evaluate`, for three quick classical methods and each model;
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
            rows.setdefault(name, []).append(
                metrics.evaluate(y_hat, scene.cube, degrade.scale, scene.scale)
            )
    if not rows:
        raise ValueError("scenes: expected at least one scene, got none")
    return {
        name: {metric: statistics.fmean(row[metric] for row in own) for metric in own[0]}
        for name, own in rows.items()
    }


def spatial_mean(x: torch.Tensor) -> torch.Tensor:
    """The same spectrum everywhere: an input (..., C, H, W) that tells nothing about place."""
    return x.mean(dim=(-2, -1), keepdim=True).expand_as(x)
