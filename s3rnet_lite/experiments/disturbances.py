"""Noise and other faults at the inputs, and what they do to a fused image; built in
notebooks/11_robustness_table2.ipynb.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .. import baselines, metrics
from ..sensing.degradation import Degradation, add_noise, landsat_tm
from ..sensing.scene import Scene
from ..training.fusion import FusionModel
from ..training.validation import call_and_watch
from .comparison import METRICS
from .evaluation import spatial_mean

MSI_BANDS = 6  # Table II's
NOISE_ON = ("lr_hsi", "hr_msi", "both")

Fuse = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def sweep(
    networks: Mapping[str, Fuse],
    scene: Scene,
    snr_db: Sequence[float | None] = (35, 15),
    seeds: int = 3,
    noise_on: Sequence[str] = ("lr_hsi",),
    degrade: Degradation | None = None,
) -> list[dict]:
    """Score networks on a scene whose inputs carry white Gaussian noise, defined on [0, 1] data as
    in `add_noise`.

    Args:
        networks: name -> network, anything called as (x_h (1, C, h, w), x_m (1, M, h*r, w*r)) ->
            (1, C, h*r, w*r).
        snr_db: decibels; None is no noise, which is scored once.
        seeds: realisations of the noise, the same for every network.
        noise_on: "lr_hsi", "hr_msi" or "both".
        degrade: gives the inputs; if None, the network's own `degrade` (a `FusionModel` has one),
            else six Landsat TM bands.

    Returns:
        A row for each network, noisy input, SNR and seed: these four and `metrics.evaluate`.

    Raises:
        TypeError: `networks` is no mapping.
        ValueError: no seed, or an unknown place for the noise.
    """
    if not isinstance(networks, Mapping):
        raise TypeError(
            f"networks: expected a mapping of names to networks, got {type(networks).__name__}"
        )
    if seeds < 1:
        raise ValueError(f"seeds: expected at least 1, got {seeds}")
    rows = []
    for name, network in networks.items():
        operator = degrade or getattr(network, "degrade", None) or landsat_tm(scene, MSI_BANDS)
        x_h, x_m = operator.spatial(scene.cube), operator.spectral(scene.cube)
        for place in noise_on:
            for snr in snr_db:
                for seed in range(1 if snr is None else seeds):
                    y_hat = fuse(network, *noisy(x_h, x_m, snr, place, seed))
                    scores = metrics.evaluate(y_hat, scene.cube, operator.scale, scene.scale)
                    rows.append(
                        {"network": name, "noise_on": place, "snr_db": snr, "seed": seed, **scores}
                    )
    return rows


def noisy(
    x_h: torch.Tensor, x_m: torch.Tensor, snr_db: float | None, noise_on: str, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two inputs (C, h, w) and (M, H, W) with noise of this SNR on one of them, or on both.

    Raises:
        ValueError: an unknown place for the noise.
    """
    if noise_on not in NOISE_ON:
        raise ValueError(f"noise_on: expected one of {NOISE_ON}, got {noise_on!r}")
    if snr_db is None:
        return x_h, x_m
    generator = torch.Generator().manual_seed(seed)
    if noise_on != "hr_msi":
        x_h = add_noise(x_h, snr_db, generator)
    return x_h, (x_m if noise_on == "lr_hsi" else add_noise(x_m, snr_db, generator))


@torch.no_grad()
def fuse(network: Fuse, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
    """One unbatched pair through a network in evaluation mode: (C, h, w), (M, H, W) -> (C, H,
    W).
    """
    if isinstance(network, nn.Module):
        network.eval()
    return network(x_h[None], x_m[None])[0]


def snr_on_unit_range(x: torch.Tensor, snr_db: float) -> float:
    """The SNR on [0, 1] data of noise whose SNR was defined on the same data taken to [-1, 1], as
    S3RNet's authors do.

    sigma^2 = mean((2x - 1)^2) / 10^(SNR / 10) there is a quarter of that here, so the two differ by
    a constant of the image.
    """
    here, there = float(x.square().mean()), float((2 * x - 1).square().mean())
    return snr_db + 10 * math.log10(4 * here / there)


def regression_control(degrade: Degradation, train: Scene) -> Fuse:
    """The control: a per-pixel regression on the HR-MSI, fitted on training pixels; it never looks
    at the LR-HSI.
    """
    regression = baselines.fit_regression(degrade.spectral(train.cube), train.cube)
    return lambda _x_h, x_m: baselines.apply_regression(regression, x_m)


def crossing(snr_db: Sequence[float], scores: Sequence[float], control: float) -> float | None:
    """The SNR at which `scores` fall to `control`, by linear interpolation; None if they never do,
    inf if they start below.

    Args:
        snr_db: falling; scores: PSNR at each.
    """
    if scores[0] < control:
        return math.inf
    for i in range(1, len(snr_db)):
        if scores[i] < control:
            share = (control - scores[i]) / (scores[i - 1] - scores[i])
            return snr_db[i] + share * (snr_db[i - 1] - snr_db[i])
    return None


def shares_of_variance(scores: np.ndarray) -> dict[str, float]:
    """Two-way analysis of variance of a full table (networks, training noises): shares of the sum
    of squares, which add to 1.

    Raises:
        ValueError: no table of at least 2 x 2, or all scores equal.
    """
    if scores.ndim != 2 or min(scores.shape) < 2:
        raise ValueError(f"scores: expected a table of at least 2 x 2, got shape {scores.shape}")
    centred = scores - scores.mean()
    total = float((centred**2).sum())
    if total == 0:
        raise ValueError("scores: expected scores that differ, all are equal")
    networks_share = float((centred.mean(1) ** 2).sum() * scores.shape[1]) / total
    noise_share = float((centred.mean(0) ** 2).sum() * scores.shape[0]) / total
    return {
        "network": networks_share,
        "training noise": noise_share,
        "both together": 1 - networks_share - noise_share,
    }


def dependence(model: FusionModel, scene: Scene, snr_db: float | None, seed: int = 0) -> dict:
    """What the fused image owes to each input, at this noise on the LR-HSI, and S3RNet's gates
    there.

    For each input, `mean` replaces it by its mean spectrum, `elsewhere` by itself from half the
    scene away: real, but of another place. `psnr` is pooled; `change` is the root mean square
    difference of the output over the standard deviation of the scene.
    """
    y = scene.cube
    x_h, x_m = noisy(model.degrade.spatial(y), model.degrade.spectral(y), snr_db, "lr_hsi", seed)
    with torch.no_grad():
        y_hat, gates = call_and_watch(model.eval(), x_h[None], x_m[None])
    y_hat, gates = y_hat[0], gates and [round(gate, 4) for gate in gates]
    rows = {"snr_db": snr_db, "psnr": metrics.pooled_psnr(y_hat, y), "gate_means": gates}
    ways = {"mean": spatial_mean, "elsewhere": lambda x: x.roll(x.shape[-2] // 2, dims=-2)}
    for way, change in ways.items():
        others = {"lr_hsi": fuse(model, change(x_h), x_m), "hr_msi": fuse(model, x_h, change(x_m))}
        for name, other in others.items():
            difference = float((other - y_hat).square().mean().sqrt() / y.std())
            psnr = round(metrics.pooled_psnr(other, y), 3)
            rows[f"{name}_{way}"] = {"psnr": psnr, "change": round(difference, 4)}
    return rows


def faulty(
    scene: Scene, degrade: Degradation, seed: int = 0
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Inputs as flawed instruments would give them: fault -> (LR-HSI, HR-MSI).

    dead bands: 5 % of the LR-HSI's bands are 0. stripes: each column of each LR-HSI band has its
    own offset, 2 % of the band's mean (standard deviation). misregistration: the LR-HSI looks half
    of its pixels' width (scale / 2 HR pixels) to the right. wrong PSF: the LR-HSI was blurred with
    1.5 times the PSF that the methods assume.
    """
    generator = torch.Generator().manual_seed(seed)
    y, shift = scene.cube, degrade.scale // 2
    x_h, x_m = degrade.spatial(y), degrade.spectral(y)
    bands = len(x_h)
    dead = x_h.clone()
    dead[torch.randperm(bands, generator=generator)[: round(0.05 * bands)]] = 0
    random = torch.randn(bands, 1, x_h.shape[2], generator=generator)
    offsets = 0.02 * x_h.mean(dim=(1, 2), keepdim=True) * random
    moved = F.pad(y[..., shift:], (0, shift, 0, 0), mode="replicate")
    wider = Degradation(degrade.scale, 1.5 * degrade.psf_sigma, degrade.srf)
    return {
        "none": (x_h, x_m),
        "dead bands": (dead, x_m),
        "stripes": (x_h + offsets, x_m),
        "misregistration": (degrade.spatial(moved), x_m),
        "wrong PSF": (wider.spatial(y), x_m),
    }


def faults(network: Fuse, scene: Scene, degrade: Degradation) -> dict[str, dict[str, float]]:
    """Fault -> `METRICS` of the fused image."""
    rows = {}
    for name, inputs in faulty(scene, degrade).items():
        scores = metrics.evaluate(fuse(network, *inputs), scene.cube, degrade.scale, scene.scale)
        rows[name] = {metric: round(scores[metric], 4) for metric in METRICS}
    return rows
