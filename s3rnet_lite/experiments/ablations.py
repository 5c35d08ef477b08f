"""The lite recipe taken apart, one change at a time: what keeps the gates open, and what each part
is worth; for notebooks/06.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from .. import training
from ..analysis import probes
from ..network import s3rnet
from ..network.s3rnet import S3RNet
from ..sensing.scene import Scene
from ..training.config import PAPER_FORM
from ..training.fusion import FusionModel
from .runs import regions, train

PAPER_GATES = dict(network=dict(gate_bias=None), config=dict(gate_learning_rate_factor=1.0))

# name -> what differs from the lite preset: arguments of the network and of the training
# configuration
VARIANTS: dict[str, dict[str, dict]] = {
    "lite": {},
    "gates as in the paper": PAPER_GATES,
    "gates start open, learn at full speed": dict(config=dict(gate_learning_rate_factor=1.0)),
    "attention not normalised": dict(network=dict(normalise_attention=False)),
    "nearest upsampling": dict(network=dict(upsampling="nearest")),
    "3x3 entries": dict(network=dict(entry_kernel_size=3)),
    "damped residuals": dict(network=dict(damped=True)),
    "injection skip": dict(config=dict(skip="injection")),
    "bilinear skip": dict(config=dict(skip="bilinear")),
    "no skip": dict(config=dict(skip="none")),
    "bilinear skip, gates as in the paper": dict(
        network=dict(gate_bias=None), config=dict(skip="bilinear", gate_learning_rate_factor=1.0)
    ),
    "plain L1, SAM weight 0.1": dict(config=dict(standardised_l1=False, sam_weight=0.1)),
    "no mixing": dict(config=dict(mixing=0.0)),
    "the paper's form": dict(network=s3rnet.PAPER_FORM, config=PAPER_FORM),
}


def run(name: str, msi_bands: int, steps: int, seed: int) -> dict:
    """Train one variant for `steps` steps and validate it; the test region is not touched.

    Returns:
        The variant's name and changes, its validation rows (metrics and gate means over the steps),
        its seconds, and the mean absolute attention logit before and after training over the whole
        validation region.
    """
    region, val, _ = regions()
    changes = VARIANTS[name]
    often = max(1, steps // 10)
    config = replace(training.CONFIGS["lite"], steps=steps, validate_every=often, seed=seed)
    config = replace(config, **changes.get("config", {}))
    network_changes = changes.get("network", {})
    torch.manual_seed(seed)
    untrained = S3RNet.from_preset("lite", len(region.cube), msi_bands, **network_changes)
    before = mean_attention_logit(training.wrap(untrained, [region], config), val)
    history = train("s3rnet", msi_bands, network_changes, config).history
    after = mean_attention_logit(history.model, val)
    return {
        "name": name,
        "changes": changes,
        "seconds": round(history.seconds, 1),
        "validation": history.validation,
        "mean_attention_logit": {"before": before, "after": after},
    }


@torch.no_grad()
def mean_attention_logit(model: FusionModel, scene: Scene) -> float:
    """Mean |logit| of the channel attention over a whole scene, before its softmax."""
    attention = model.network.ssawb.attention
    with probes.record(attention.to_q) as q, probes.record(attention.to_k) as k:
        training.predict(model, scene)
    return float(attention.logits(q[0], k[0]).abs().mean())
