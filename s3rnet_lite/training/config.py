"""How to train: the settings of a run, and those of each preset."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. The defaults are the paper's settings (Section III-A); `CONFIGS` has those of
    the other presets.

    steps: weight updates; 600 epochs of 1,678 images in batches of 4.
    crop: side of the square HR crops in pixels, divisible by the scale.
    learning_rate: of Adam; follows half a cosine down to 0 after `warmup_steps` of linear rise.
    gate_learning_rate_factor: the gates of SSAWB learn this much slower (1 = like everything else).
    gradient_clip: largest norm of the whole gradient, or None.
    sam_weight: of the spectral angle in the loss.
    standardised_l1: measure L1 in units of each band's `output_spread`, so dark bands count as much
        as bright ones.
    snr_db: noise added to each LR-HSI crop: None, decibels, or (lowest, highest) to draw from.
    scaling, skip, denoise: see `FusionModel`.
    validate_every: steps between validations; the last step is always validated.
    mixing: add up to this share of another crop to each; degradation is linear, so a mixture is one
        more possible scene (as in H. Zhang et al., "mixup", 2018).
    precision: as Lightning Fabric names it: "32-true", "bf16-mixed" or "16-mixed".
    accumulate: a batch goes through the network in this many parts; memory falls with it, the
        gradient is the same.
    checkpoint_activations: keep only what enters each residual group, and compute what is inside
        again in the backward pass.
    compile: let `torch.compile` fuse the network's operations.
    """

    steps: int = 252_000
    batch_size: int = 4
    crop: int = 128
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    gate_learning_rate_factor: float = 1.0
    gradient_clip: float | None = None
    sam_weight: float = 0.1
    standardised_l1: bool = False
    snr_db: float | tuple[float, float] | None = None
    mixing: float = 0.0
    scaling: str = "range"
    skip: str = "none"
    denoise: bool = False
    validate_every: int = 2_000
    precision: str = "32-true"
    seed: int = 0
    accumulate: int = 1
    checkpoint_activations: bool = False
    compile: bool = False


_LITE = TrainingConfig(
    steps=600,
    batch_size=8,
    crop=32,
    learning_rate=3e-3,
    warmup_steps=100,
    gate_learning_rate_factor=0.005,
    gradient_clip=1.0,
    sam_weight=3.0,
    standardised_l1=True,
    mixing=0.5,
    scaling="band",
    skip="details",
    validate_every=100,
)
# What of "lite" goes back to the paper's form in ablations and published recipes.
PAPER_FORM = dict(
    scaling="range",
    skip="none",
    standardised_l1=False,
    sam_weight=0.1,
    gate_learning_rate_factor=1.0,
    mixing=0.0,
)
CONFIGS = {
    "paper": TrainingConfig(),
    "lite": _LITE,
    "tiny": replace(_LITE, steps=300, skip="injection", validate_every=50),
}


def steps_of(epochs: int, images: int, batch_size: int) -> int:
    """Weight updates in so many epochs, the paper's unit: in each, as many crops are drawn as there
    are training images, in whole batches. They are drawn at random, so an epoch sees every image
    once on average, not exactly.

    >>> steps_of(600, images=1678, batch_size=4)
    252000
    """
    return epochs * math.ceil(images / batch_size)
