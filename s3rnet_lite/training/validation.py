"""What a model makes of whole scenes: the fused image, its metrics and its gates; used in
notebooks/06_training.ipynb.
"""

from __future__ import annotations

import statistics

import torch

from .. import metrics
from ..analysis import probes
from ..sensing.scene import Scene
from .fusion import FusionModel


@torch.compiler.set_stance("force_eager")  # other sizes, and hooks that a compiled network ignores
def validate(model: FusionModel, scenes: Scene | list[Scene]) -> dict:
    """Metrics on whole scenes without noise, and the mean of each gate if the network has an SSAWB
    (else None); means over the scenes.

    Raises:
        FloatingPointError: an image is not finite.
    """
    rows = []
    for scene in [scenes] if isinstance(scenes, Scene) else scenes:
        y_hat, gates = predict(model, scene)
        if not y_hat.isfinite().all():  # after the last loss, which was
            raise FloatingPointError(
                f"the image of {scene.name} is not finite: the training diverged; lower the "
                "learning rate or clip gradients"
            )
        scores = metrics.evaluate(y_hat, scene.cube, model.degrade.scale, scene.scale)
        rows.append((scores, gates))
    if len(rows) == 1:
        return {**rows[0][0], "gate_means": rows[0][1]}
    scores, gates = zip(*rows, strict=True)
    means = {name: statistics.fmean(row[name] for row in scores) for name in scores[0]}
    by_gate = None if gates[0] is None else list(map(statistics.fmean, zip(*gates, strict=True)))
    return {**means, "gate_means": by_gate}


@torch.no_grad()
def predict(model: FusionModel, scene: Scene) -> tuple[torch.Tensor, list[float] | None]:
    """Fuse the degraded scene: y_hat (C, H, W) on the CPU, and the mean of each gate, or None
    without an SSAWB.
    """
    device, training = model.output_mean.device, model.training
    degraded = model.degrade.spatial(scene.cube), model.degrade.spectral(scene.cube)
    x_h, x_m = (x[None].to(device) for x in degraded)
    model.eval()
    y_hat, gates = call_and_watch(model, x_h, x_m)
    model.train(training)
    return y_hat[0].cpu(), gates


def call_and_watch(
    model: FusionModel, x_h: torch.Tensor, x_m: torch.Tensor
) -> tuple[torch.Tensor, list[float] | None]:
    """`model(x_h, x_m)`, and the mean of each gate, or None without an SSAWB."""
    if not hasattr(model.network, "ssawb"):
        return model(x_h, x_m), None
    with probes.record(model.network.ssawb.gates) as outputs:
        y_hat = model(x_h, x_m)
    return y_hat, outputs[0].mean(dim=(0, 2, 3)).tolist()
