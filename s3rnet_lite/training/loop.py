"""Training: aligned crops, the loop, exact resume, on one device or many; built in
notebooks/06_training.ipynb and 10.
"""

from __future__ import annotations

import math
import statistics
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers import TensorBoardLogger
from torch import nn
from tqdm.auto import tqdm

from .. import metrics
from ..analysis import probes
from ..sensing import sensors
from ..sensing.degradation import Degradation
from ..sensing.scene import Scene
from .checkpoints import load_checkpoint, save_checkpoint
from .crops import CropSampler, sample
from .devices import changed_forward, peak_memory
from .fusion import FusionModel
from .losses import l1_sam_loss
from .state import load_state, save_state

__all__ = [
    "CONFIGS",
    "CropSampler",
    "History",
    "TrainingConfig",
    "fit",
    "load_checkpoint",
    "save_checkpoint",
]

READ_LOSS_EVERY = 20  # steps; reading a number from a graphics card makes the program wait for it


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


CONFIGS = {
    "paper": TrainingConfig(),
    "lite": TrainingConfig(
        steps=1_500,
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
        skip="injection",
        validate_every=100,
    ),
}
CONFIGS["tiny"] = replace(CONFIGS["lite"], steps=300, validate_every=50)


@dataclass
class History:
    """What a run did. `model` works on [0, 1] data; `validation` has a row of metrics and gate
    means per validation.

    `complete` is False if the time limit came before the last step: call `fit` again with the same
    state file to go on. Of several processes, only the one of `rank` 0 validates.
    """

    model: FusionModel
    config: TrainingConfig
    loss: list[float] = field(default_factory=list)
    validation: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    complete: bool = False
    rank: int = 0


def fit(
    model: nn.Module,
    train: Scene | list[Scene] | list[torch.Tensor],
    val: Scene | list[Scene],
    config: TrainingConfig,
    degrade: Degradation | None = None,
    state_file: str | Path | None = None,
    minutes: float | None = None,
    progress: bool = True,
    devices: int = 1,
    num_nodes: int = 1,
    save_minutes: float = 10.0,
    log: str | Path | None = None,
) -> History:
    """Train a fusion network (or a `FusionModel` that holds one) in place.

    Batch `n` depends on `config.seed` and `n` only, so a run continued from `state_file` ends with
    the same weights as an unbroken one, and one on several devices with the same, up to rounding,
    as one on a single device.

    With more than one device, the script that calls `fit` is started again for each (from a
    notebook, use one). Every process holds the whole network, takes its part of each batch, and
    gradients are averaged. To split the network itself (FSDP) would
    not pay: weights, gradients and Adam's two moments take 16 bytes a parameter, 0.43 GB for the
    26.8 million of the `paper` preset, while what the backward pass keeps of a single crop takes
    gigabytes (`complexity.peak_memory`). That memory falls with `config.accumulate`,
    `config.checkpoint_activations` and the number of devices.

    Args:
        model: a network with `hsi_bands`, `msi_bands` and `scale`, which is then wrapped as
            `config` says; or a `FusionModel`, whose own statistics stay.
        train: one scene, several, or the images (C, H, W) of a data set (`dataset.references`),
            which need `degrade`.
        val: the scene to validate on, or several, for the mean of their metrics; no weight ever
            depends on it.
        degrade: gives the inputs; Landsat TM with the model's number of bands if None.
        state_file: (safetensors) is written at each validation and every `save_minutes`, and read,
            if it exists, to go on from there; on a disk that all machines see.
        minutes: stop after the step in which this much time is over.
        progress: show a bar.
        devices, num_nodes: of this machine and machines; `config.batch_size` is that of all
            together.
        log: folder for TensorBoard: loss, learning rate, speed, memory and validations.

    Raises:
        ValueError: a crop that does not fit, a batch that cannot be shared out, or a state file of
            another run.
        FloatingPointError: the loss is not finite; found at most `READ_LOSS_EVERY` steps later.
    """
    if not 1 <= devices <= (torch.cuda.device_count() or devices):
        raise ValueError(
            f"devices: expected 1 to {torch.cuda.device_count()} (the graphics cards here), got {devices}"
        )
    parts = devices * num_nodes * config.accumulate
    if config.batch_size % parts:
        raise ValueError(
            f"batch_size: expected a multiple of devices * num_nodes * accumulate = {devices} * {num_nodes} * {config.accumulate}, "
            f"got {config.batch_size}"
        )
    train = [train] if isinstance(train, Scene) else list(train)
    if not isinstance(model, FusionModel):
        model = wrap(model, train, config, degrade)
    sampler = CropSampler(_cubes(train), model.degrade, config.crop, config.mixing, config.snr_db)
    logger = None if log is None else TensorBoardLogger(log, name="", version="")
    fabric = Fabric(
        accelerator="auto",
        devices=devices,
        num_nodes=num_nodes,
        precision=config.precision,
        loggers=logger,
    )
    fabric.launch()
    model.to(
        memory_format=torch.channels_last
    )  # of the weights; the images inside the network follow, and the loss is faster without
    forward, optimizer = fabric.setup(
        model, torch.optim.Adam(_parameter_groups(model, config), lr=config.learning_rate)
    )
    history = History(model, config, rank=fabric.global_rank)
    scaler = fabric.strategy.precision  # of the gradients in "16-mixed"
    state_file = None if state_file is None else Path(state_file)
    if state_file is not None and state_file.exists():
        run = load_state(state_file, model, optimizer, asdict(config))
        history.loss, history.validation, history.seconds = (
            run["loss"],
            run["validation"],
            run["seconds"],
        )
        if run.get("scaler"):
            scaler.load_state_dict(run["scaler"])
        history.complete = len(history.loss) == config.steps

    share = config.batch_size // fabric.world_size
    mine = slice(fabric.global_rank * share, (fabric.global_rank + 1) * share)

    def crops(step: int):
        return sampler.draw(
            config.batch_size, torch.Generator().manual_seed(config.seed * 10_000_019 + step), mine
        )

    # About the weights of 1x1 convolutions, whose memory order means nothing.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    first, seconds_before = len(history.loss), history.seconds
    bar = tqdm(
        range(first, config.steps),
        initial=first,
        total=config.steps,
        disable=not progress or history.rank > 0,
        unit="step",
    )
    model.train()
    with (
        changed_forward(model.network, config.checkpoint_activations, config.compile),
        ThreadPoolExecutor(1) as ahead,
    ):
        upcoming = ahead.submit(crops, first)
        began = saved = counted = time.perf_counter()
        unread = []
        for step in bar:
            batch = sampler.degraded(fabric.to_device(upcoming.result()))
            upcoming = ahead.submit(crops, step + 1)  # while the device works
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * group["factor"] * _schedule(step, config)
            optimizer.zero_grad()
            unread.append(_backward(fabric, forward, batch, config))
            if config.gradient_clip is not None:
                fabric.clip_gradients(
                    forward, optimizer, max_norm=config.gradient_clip, error_if_nonfinite=False
                )
            optimizer.step()

            history.complete = step + 1 == config.steps
            validating = history.complete or (step + 1) % config.validate_every == 0
            now = time.perf_counter()
            # A clock differs from process to process, so all of them have to hear of what it says.
            any_process = partial(fabric.strategy.reduce_boolean_decision, all=False)
            out_of_time = minutes is not None and any_process(now - began >= 60 * minutes)
            saving = state_file is not None and (
                validating or out_of_time or any_process(now - saved >= 60 * save_minutes)
            )
            if not (validating or saving or out_of_time or len(unread) == READ_LOSS_EVERY):
                continue
            _read_losses(fabric, history, unread)
            now = time.perf_counter()
            step_seconds = (now - counted) / len(unread)
            if logger is not None:
                speed = {
                    "step_seconds": step_seconds,
                    "samples_per_second": config.batch_size / step_seconds,
                }
                size = {
                    "peak_memory_mib": peak_memory(fabric.device) / 2**20,
                    "learning_rate": optimizer.param_groups[0]["lr"],
                }
                fabric.log_dict(
                    {"loss": statistics.fmean(history.loss[-len(unread) :]), **speed, **size},
                    step + 1,
                )
            unread.clear()
            history.seconds = seconds_before + now - began
            # The others wait for rank 0 where gradients are next averaged.
            if validating and fabric.is_global_zero:
                history.validation.append({"step": step + 1, **validate(model, val)})
                fabric.log_dict(_numbers(history.validation[-1]), step + 1)
                bar.set_postfix(psnr=f"{history.validation[-1]['psnr_pooled_scene_peak']:.2f} dB")
            if saving and fabric.is_global_zero:
                run = {
                    "config": asdict(config),
                    "loss": history.loss,
                    "validation": history.validation,
                    "seconds": history.seconds,
                    "scaler": scaler.state_dict(),
                }
                save_state(state_file, model, optimizer, run)
                saved = time.perf_counter()
            counted = time.perf_counter()
            if out_of_time:
                break
    if logger is not None:
        logger.finalize("success")
    return history


def wrap(
    network: nn.Module,
    train: list[Scene] | list[torch.Tensor],
    config: TrainingConfig,
    degrade: Degradation | None = None,
) -> FusionModel:
    """The `FusionModel` that `config` asks for; arguments as for `fit`.

    Its statistics are those of all training scenes, or, of a data set in uint16, of `crops.sample`.

    Raises:
        ValueError: images without wavelengths, and no `degrade`.
    """
    if degrade is None:
        if not isinstance(train[0], Scene):
            raise ValueError(
                "degrade: expected a Degradation, as the training images are tensors, which have no wavelengths"
            )
        srf = sensors.landsat_tm(train[0].wavelengths_nm, network.msi_bands, train[0].fwhm_nm)
        degrade = Degradation(scale=network.scale, srf=srf)
    return FusionModel(
        network, degrade, config.scaling, config.skip, sample(_cubes(train)), config.denoise
    )


def _cubes(train: list[Scene] | list[torch.Tensor]) -> list[torch.Tensor]:
    return [image.cube if isinstance(image, Scene) else image for image in train]


@torch.compiler.set_stance(
    "force_eager"
)  # other sizes, and hooks, which a compiled network would not see
def validate(model: FusionModel, scenes: Scene | list[Scene]) -> dict:
    """Metrics on whole scenes without noise, and the mean of each gate if the network has an SSAWB;
    means over the scenes.
    """
    rows = []
    for scene in [scenes] if isinstance(scenes, Scene) else scenes:
        y_hat, gates = predict(model, scene)
        rows.append(
            {
                **metrics.evaluate(y_hat, scene.cube, model.degrade.scale, scene.scale),
                "gate_means": gates,
            }
        )
    if len(rows) == 1:
        return rows[0]
    means = {
        name: statistics.fmean(row[name] for row in rows)
        for name in rows[0]
        if name != "gate_means"
    }
    gates = [row["gate_means"] for row in rows]
    return {
        **means,
        "gate_means": None
        if gates[0] is None
        else [statistics.fmean(gate) for gate in zip(*gates, strict=True)],
    }


@torch.no_grad()
def predict(model: FusionModel, scene: Scene) -> tuple[torch.Tensor, list[float] | None]:
    """Fuse the degraded scene: y_hat (C, H, W) on the CPU, and the mean of each gate, or None
    without an SSAWB.
    """
    device, training = model.output_mean.device, model.training
    x_h, x_m = (
        x[None].to(device)
        for x in (model.degrade.spatial(scene.cube), model.degrade.spectral(scene.cube))
    )
    model.eval()
    if hasattr(model.network, "ssawb"):
        with probes.record(model.network.ssawb.gates) as outputs:
            y_hat = model(x_h, x_m)
        gates = outputs[0].mean(dim=(0, 2, 3)).tolist()
    else:
        y_hat, gates = model(x_h, x_m), None
    model.train(training)
    return y_hat[0].cpu(), gates


def _schedule(step: int, config: TrainingConfig) -> float:
    """Linear rise, then half a cosine to 0."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    return 0.5 * (
        1 + math.cos(math.pi * (step - config.warmup_steps) / (config.steps - config.warmup_steps))
    )


def _parameter_groups(model: FusionModel, config: TrainingConfig) -> list[dict]:
    gates = list(model.network.ssawb.gates.parameters()) if hasattr(model.network, "ssawb") else []
    others = [p for p in model.parameters() if not any(p is gate for gate in gates)]
    groups = [{"params": others, "factor": 1.0}]
    if gates:
        groups.append({"params": gates, "factor": config.gate_learning_rate_factor})
    return groups


def _backward(
    fabric: Fabric, forward: nn.Module, batch: tuple[torch.Tensor, ...], config: TrainingConfig
) -> torch.Tensor:
    """Gradients of this process's share of the batch, averaged over processes; returns the share's
    loss, not read yet.
    """
    loss = torch.zeros((), device=fabric.device)
    for i, (x_h, x_m, y) in enumerate(
        zip(*(x.chunk(config.accumulate) for x in batch), strict=True)
    ):
        with fabric.no_backward_sync(forward, enabled=i + 1 < config.accumulate):
            band_scale = forward.output_spread.flatten() if config.standardised_l1 else None
            part = (
                l1_sam_loss(forward(x_h, x_m), y, config.sam_weight, band_scale) / config.accumulate
            )
            fabric.backward(part)
        loss += part.detach()
    return loss


def _read_losses(fabric: Fabric, history: History, unread: list[torch.Tensor]) -> None:
    """Append the losses of the last steps to the history: here the program waits for the device."""
    values = fabric.all_reduce(torch.stack(unread), reduce_op="mean").tolist()
    for i, value in enumerate(values):
        if not math.isfinite(value):
            step = len(history.loss) + i
            raise FloatingPointError(
                f"the loss is {value} at step {step}; lower the learning rate or clip gradients"
            )
    history.loss += values


def _numbers(row: dict) -> dict[str, float]:
    """A row of validation as curves."""
    gates = row["gate_means"] or []
    single = {
        f"validation/{name}": value for name, value in row.items() if isinstance(value, float)
    }
    return single | {
        f"validation/gate_{name}": gate for name, gate in zip("qkvz", gates, strict=True)
    }
