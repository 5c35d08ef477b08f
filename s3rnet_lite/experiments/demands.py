"""What the paper's text asks for beside its equations, each trained from scratch: grouped
convolutions, a softmax over the gates, the SAM loss, four branches, sparse channels; and the
recipes taken apart. For notebooks/12, `python -m s3rnet_lite demands`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from .. import training
from ..files import atomic, provenance
from ..network import s3rnet
from ..network.s3rnet import S3RNet
from ..training.config import PAPER_FORM
from .disturbances import MSI_BANDS, sweep
from .inside import inside
from .runs import regions

FILE = provenance.RESULTS_FOLDER / "demands.json"
SNR_DB = (None, 35.0, 25.0, 15.0)
STEPS = 300
HOYER_WEIGHT = 0.1
BARE = dict(skip="none", warmup_steps=STEPS // 15, validate_every=STEPS)
PUBLISHED = dict(PAPER_FORM, warmup_steps=0, gradient_clip=None, validate_every=STEPS)


def silence(*branches: str) -> Callable[[S3RNet], None]:
    """Branches of MBFN say 0, in training and after."""

    def change(network: S3RNet) -> None:
        for name in branches:
            branch = getattr(network.mbfn, name)
            branch.register_forward_hook(lambda _module, _inputs, output: 0 * output)

    return change


def softmax_gates(network: S3RNet) -> None:
    """The four gates of a pixel share 1 (Section II-D: a softmax can "over-emphasize")."""
    network.ssawb.gates[1] = nn.Softmax(dim=1)


def push_hoyer(weight: float) -> Callable[[S3RNet], None]:
    """Add `weight * hoyer(energies of the fused channels)` to the training loss: a positive weight
    spreads energy over channels, a negative one concentrates it.
    """

    def push(module: nn.Module, _inputs: tuple, fused: torch.Tensor) -> None:
        if not (module.training and fused.requires_grad):
            return
        leaf = fused.detach().requires_grad_()
        energy = leaf.square().mean((0, 2, 3))
        root = len(energy) ** 0.5
        hoyer = (root - energy.sum() / energy.norm()) / (root - 1)  # as `energy.hoyer`
        (gradient,) = torch.autograd.grad(weight * hoyer, leaf)
        fused.register_hook(lambda upstream: upstream + gradient)

    def change(network: S3RNet) -> None:
        network.ssawb.register_forward_hook(push)

    return change


@dataclass(frozen=True)
class Variant:
    """What differs from the lite preset: fields of the network and of the training configuration,
    and what is done to the network that is built.
    """

    network: dict = field(default_factory=dict)
    config: dict = field(default_factory=lambda: BARE)
    change: Callable[[S3RNet], None] | None = None


# without a skip, so that the network has to do the whole work, unless the name says otherwise
VARIANTS = {
    "bare": Variant(),
    "Q in groups": Variant(network=dict(q_groups=12)),
    "softmax over the gates": Variant(change=softmax_gates),
    "plain L1": Variant(config=dict(BARE, standardised_l1=False, sam_weight=0.0)),
    "plain L1 + 0.1 SAM": Variant(config=dict(BARE, standardised_l1=False, sam_weight=0.1)),
    "K and Z": Variant(change=silence("q", "v")),
    "Z alone": Variant(change=silence("q", "k", "v")),
    "K alone": Variant(change=silence("q", "v", "z")),
    "energy concentrated": Variant(change=push_hoyer(-HOYER_WEIGHT)),
    "energy spread": Variant(change=push_hoyer(HOYER_WEIGHT)),
    "bilinear skip": Variant(config=dict(BARE, skip="bilinear")),
    "injection skip": Variant(config=dict(BARE, skip="injection")),
    "published": Variant(network=s3rnet.PAPER_FORM, config=PUBLISHED),
    "published, injection skip": Variant(
        network=s3rnet.PAPER_FORM, config=dict(PUBLISHED, skip="injection")
    ),
}


def run_one(name: str, seed: int, steps: int = STEPS) -> dict:
    """Train one variant and look at it on the validation region; the test region is not touched."""
    region, val, _ = regions()
    variant = VARIANTS[name]
    config = replace(training.CONFIGS["lite"], steps=steps, seed=seed, **variant.config)
    config = replace(config, warmup_steps=min(config.warmup_steps, steps // 15))
    torch.manual_seed(seed)
    network = S3RNet.from_preset("lite", len(region.cube), MSI_BANDS, **variant.network)
    if variant.change is not None:
        variant.change(network)
    history = training.fit(network, region, val, config, progress=False)
    model = history.model.eval()
    noise = sweep({"": model}, val, SNR_DB, 1)
    return {
        "name": name,
        "seed": seed,
        "steps": steps,
        "validation": history.validation[-1],
        "psnr_under_noise": [round(row["psnr_pooled_scene_peak"], 3) for row in noise],
        "energy": inside(model, val)["energy"],
        "seconds": round(history.seconds, 1),
    }


def run(seeds: int, out: Path = FILE) -> dict:
    """Every variant with so many seeds, seed after seed, on one thread; a killed run goes on."""
    torch.set_num_threads(1)
    content = atomic.resume(out) or {"msi_bands": MSI_BANDS, "snr_db": SNR_DB, "rows": []}
    done = {(row["name"], row["seed"]) for row in content["rows"]}
    for seed in range(seeds):
        for name in VARIANTS:
            if (name, seed) in done:
                continue
            began = time.perf_counter()
            content["rows"].append(run_one(name, seed))
            seconds = time.perf_counter() - began
            content["provenance"] = provenance.facts(list(range(seeds)), seconds)
            atomic.write_sealed(out, content)
            print(name, seed, content["rows"][-1]["psnr_under_noise"], flush=True)
    return content


def summary(rows: list[dict], metric: str = "psnr_pooled_scene_peak") -> dict[str, dict]:
    """Mean, spread and seeds of a validation metric, variant by variant."""
    found = {}
    for name in VARIANTS:
        values = [row["validation"][metric] for row in rows if row["name"] == name]
        if values:
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            found[name] = {
                "mean": statistics.fmean(values),
                "standard_deviation": spread,
                "seeds": len(values),
            }
    return found
