"""Noise and other faults at the inputs: Table II, with its missing controls; built in
notebooks/11_robustness_table2.ipynb.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .. import baselines, metrics, training
from ..analysis import probes
from ..files import atomic, provenance
from ..peers import registry
from ..sensing import sensors
from ..sensing.degradation import Degradation, add_noise
from ..sensing.scene import Scene
from ..training.fusion import FusionModel
from . import comparison, evaluation

FOLDER = provenance.RESULTS_FOLDER / "robustness"
CHECKPOINTS = provenance.REPOSITORY / "runs" / "robustness"
MSI_BANDS = 6  # Table II's
SNR_DB = (None, 40, 35, 30, 25, 20, 15, 10, 5)  # None: no noise
NOISE_ON = ("lr_hsi", "hr_msi", "both")
TRAINING_NOISE = {"none": None, "35 dB": 35.0, "random": (5.0, 40.0)}
# How each network is trained (see `comparison.recipe`), and with which noises. "bare" is "common"
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
METRICS = comparison.METRICS

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
        operator = degrade or getattr(network, "degrade", None) or _landsat(scene)
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
    return snr_db + 10 * math.log10(
        4 * float(x.square().mean()) / float((2 * x - 1).square().mean())
    )


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
    gates = None
    if hasattr(model.network, "ssawb"):
        with probes.record(model.network.ssawb.gates) as recorded:
            y_hat = fuse(model, x_h, x_m)
        gates = [round(gate, 4) for gate in recorded[0].mean(dim=(0, 2, 3)).tolist()]
    else:
        y_hat = fuse(model, x_h, x_m)
    rows = {"snr_db": snr_db, "psnr": metrics.pooled_psnr(y_hat, y), "gate_means": gates}
    for way, change in (
        ("mean", evaluation.spatial_mean),
        ("elsewhere", lambda x: x.roll(x.shape[-2] // 2, dims=-2)),
    ):
        for name, other in (
            ("lr_hsi", fuse(model, change(x_h), x_m)),
            ("hr_msi", fuse(model, x_h, change(x_m))),
        ):
            difference = float((other - y_hat).square().mean().sqrt() / y.std())
            rows[f"{name}_{way}"] = {
                "psnr": round(metrics.pooled_psnr(other, y), 3),
                "change": round(difference, 4),
            }
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
    offsets = (
        0.02
        * x_h.mean(dim=(1, 2), keepdim=True)
        * torch.randn(bands, 1, x_h.shape[2], generator=generator)
    )
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


def train_and_test(
    run: Run, budget_seconds: float, folder: Path = FOLDER, checkpoints: Path = CHECKPOINTS
) -> dict:
    """Train one network (if no checkpoint is there) and measure all of this module on it; stored in
    `folder`, read if there.

    Steps and learning rate are those of the comparison's search, made without noise; a network
    trained without noise is the comparison's own, from its folder of checkpoints if it is there,
    else trained again, with the same result.
    """
    path = folder / f"{run.name}.json"
    if path.exists():
        return json.loads(path.read_text())
    torch.set_num_threads(1)
    began = time.perf_counter()
    checkpoint = _train(run, budget_seconds, checkpoints)
    model, card = (
        training.load_checkpoint(checkpoint),
        json.loads(checkpoint.with_suffix(".json").read_text()),
    )
    test = comparison.regions()[2]
    content = {
        **asdict(run),
        "msi_bands": MSI_BANDS,
        "config": card["training"]["config"],
        **measure(model, test),
        "dependence": [dependence(model, test, snr) for snr in (None, 35, 15)],
        "degradation": model.degrade.card(),
        "provenance": provenance.facts(run.seed, time.perf_counter() - began),
    }
    atomic.write_json(path, content)
    return content


def measure(network: Fuse, test: Scene) -> dict:
    """The whole sweep (one realisation of the noise) as {"curves": {noisy input: {metric: values at
    `SNR_DB`}}}, and "faults".
    """
    degrade = getattr(network, "degrade", None) or _landsat(test)
    rows = sweep({"": network}, test, SNR_DB, 1, NOISE_ON, degrade)
    curves = {
        place: {
            metric: [round(row[metric], 4) for row in rows if row["noise_on"] == place]
            for metric in METRICS
        }
        for place in NOISE_ON
    }
    return {"snr_db": SNR_DB, "curves": curves, "faults": faults(network, test, degrade)}


def measure_others(folder: Path = FOLDER) -> None:
    """The same for the classical methods, the control, and the S3RNet-lite models in `data/`;
    stored in "others.json", unless there.
    """
    path = folder / "others.json"
    if path.exists():
        return
    began = time.perf_counter()
    region, _, test = comparison.regions()
    degrade = _landsat(test)
    methods: dict[str, Fuse] = {name: _classical(name, degrade) for name in baselines.NAMES}
    methods[CONTROL] = regression_control(degrade, region)
    rows = {name: measure(method, test) for name, method in methods.items()}
    for path_of_model in sorted(sensors.DATA_FOLDER.glob("s3rnet_lite_6bands*.safetensors")):
        model = training.load_checkpoint(path_of_model)
        rows[path_of_model.stem] = {
            **measure(model, test),
            "dependence": [dependence(model, test, snr) for snr in SNR_DB],
        }
    content = {
        "methods": rows,
        "degradation": degrade.card(),
        "provenance": provenance.facts(0, time.perf_counter() - began),
    }
    atomic.write_json(path, content)


def run_all(
    names: Sequence[str],
    recipes: Sequence[str],
    seeds: int,
    budget_seconds: float,
    workers: int,
    folder: Path = FOLDER,
    checkpoints: Path = CHECKPOINTS,
) -> None:
    """All runs that `folder` does not hold yet, `workers` at a time with one thread each; then the
    methods that need no training.
    """
    runs = [
        Run(name, recipe, noise, seed)
        for seed in range(seeds)
        for recipe in recipes
        for noise in RECIPES[recipe]
        for name in names
    ]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        comparison.wait(
            [pool.submit(train_and_test, run, budget_seconds, folder, checkpoints) for run in runs],
            "runs",
        )
        comparison.wait([pool.submit(measure_others, folder)], "methods without training")


def stored(folder: Path = FOLDER) -> list[dict]:
    """Every stored run, in the order of `registry.NAMES`."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("*_seed*.json"))]
    noises = list(TRAINING_NOISE)
    return sorted(
        runs,
        key=lambda run: (
            registry.NAMES.index(run["network"]),
            run["recipe"],
            noises.index(run["noise"]),
            run["seed"],
        ),
    )


def table(
    runs: list[dict], recipe: str, snr_db: float | None, metric: str = METRICS[0]
) -> tuple[list[str], list[str], np.ndarray]:
    """Network names, training noises, and the score of each pair at this SNR on the LR-HSI,
    averaged over seeds; NaN where none is.
    """
    scores: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        if run["recipe"] == recipe:
            scores.setdefault((run["network"], run["noise"]), []).append(
                run["curves"]["lr_hsi"][metric][SNR_DB.index(snr_db)]
            )
    names = [name for name in registry.NAMES if any(name == key[0] for key in scores)]
    noises = RECIPES[recipe]
    return (
        names,
        list(noises),
        np.array(
            [
                [statistics.fmean(scores.get((name, noise), [math.nan])) for noise in noises]
                for name in names
            ]
        ),
    )


def _train(run: Run, budget_seconds: float, checkpoints: Path) -> Path:
    """The checkpoint of this run, made if it is not there."""
    base = run.recipe if run.recipe in comparison.RECIPES else "common"
    clean = comparison.Run(run.network, base, MSI_BANDS, run.seed)
    path, theirs = (
        checkpoints / f"{run.name}.safetensors",
        comparison.CHECKPOINTS / f"{clean.name}.safetensors",
    )
    if not path.exists() and run.noise == "none" and run.recipe == base and theirs.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".json", ".safetensors"):
            shutil.copy(theirs.with_suffix(suffix), path.with_suffix(suffix))
    if path.exists():
        return path
    found = comparison.search(run.network, base, budget_seconds)
    changes = {"snr_db": TRAINING_NOISE[run.noise], **CHANGES[run.recipe]}
    history, network_changes, spent = comparison.train(
        clean, found["steps"], found["learning_rate"], **changes
    )
    card = {
        "training": {"config": asdict(history.config), "validation": history.validation},
        "provenance": provenance.facts(run.seed, spent["wall_seconds"]),
    }
    training.save_checkpoint(path, history.model, "lite", card, network_changes)
    return path


def _classical(name: str, degrade: Degradation) -> Fuse:
    return lambda x_h, x_m: baselines.run(name, x_h, x_m, degrade)


def _landsat(scene: Scene) -> Degradation:
    return Degradation(srf=sensors.landsat_tm(scene.wavelengths_nm, MSI_BANDS, scene.fwhm_nm))
