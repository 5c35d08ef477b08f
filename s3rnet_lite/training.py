"""Training: aligned crops, the loop, exact resume, checkpoints; built in notebooks/06_training.ipynb."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn
from tqdm.auto import tqdm

from . import metrics, probes, sensors
from .checkpoints import load_checkpoint, save_checkpoint
from .degradation import Degradation, add_noise
from .files import read_tensors, write_tensors
from .fusion import FusionModel
from .losses import l1_sam_loss
from .scenes import Scene

__all__ = ["CONFIGS", "History", "TrainingConfig", "fit", "load_checkpoint", "save_checkpoint"]


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. The defaults are the paper's settings (Section III-A); `CONFIGS` has those of the other presets.

    steps: weight updates; 600 epochs of 1,678 images in batches of 4.
    crop: side of the square HR crops in pixels, divisible by the scale.
    learning_rate: of Adam; follows half a cosine down to 0 after `warmup_steps` of linear rise.
    gate_learning_rate_factor: the gates of SSAWB learn this much slower (1 = like everything else).
    gradient_clip: largest norm of the whole gradient, or None.
    sam_weight: of the spectral angle in the loss.
    standardised_l1: measure L1 in units of each band's `output_spread`, so dark bands count as much as bright ones.
    snr_db: noise added to each LR-HSI crop: None, decibels, or (lowest, highest) to draw from.
    scaling, skip, denoise: see `FusionModel`.
    validate_every: steps between validations; the last step is always validated.
    mixing: add up to this share of another crop to each; degradation is linear, so a mixture is one more possible scene
        (as in H. Zhang et al., "mixup", 2018).
    precision: as Lightning Fabric names it, for example "32-true" or "bf16-mixed".
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


CONFIGS = {
    "paper": TrainingConfig(),
    "lite": TrainingConfig(
        steps=1_500, batch_size=8, crop=32, learning_rate=3e-3, warmup_steps=100, gate_learning_rate_factor=0.005,
        gradient_clip=1.0, sam_weight=3.0, standardised_l1=True, mixing=0.5, scaling="band", skip="injection", validate_every=100,
    ),
}  # fmt: skip
CONFIGS["tiny"] = replace(CONFIGS["lite"], steps=300, validate_every=50)


@dataclass
class History:
    """What a run did. `model` works on [0, 1] data; `validation` has a row of metrics and gate means per validation.

    `complete` is False if the time limit came before the last step: call `fit` again with the same checkpoint to go on.
    """

    model: FusionModel
    config: TrainingConfig
    loss: list[float] = field(default_factory=list)
    validation: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    complete: bool = False


class CropSampler:
    """Random crops of reference scenes, flipped and rotated, each degraded by itself.

    A crop may begin at any HR pixel, so the LR grid takes all r * r positions relative to the scene. `mixing` is explained
    in `TrainingConfig`.
    """

    def __init__(self, references: list[torch.Tensor], degrade: Degradation, crop: int, mixing: float = 0.0):
        largest = min(min(y.shape[-2:]) for y in references)
        if crop % degrade.scale or not degrade.scale <= crop <= largest:
            raise ValueError(f"crop: expected a multiple of {degrade.scale} up to {largest} (the training scene), got {crop}")
        self.references, self.degrade, self.crop, self.mixing = references, degrade, crop, mixing

    def batch(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x_h (size, C, crop/r, crop/r), x_m (size, M, crop, crop), y (size, C, crop, crop)."""
        y = torch.stack([self._crop(generator) for _ in range(size)])
        if self.mixing:
            share = self.mixing * torch.rand(size, 1, 1, 1, generator=generator)
            y = y.lerp(y.roll(1, dims=0), share)
        return self.degrade.spatial(y), self.degrade.spectral(y), y

    def _crop(self, generator: torch.Generator) -> torch.Tensor:
        def draw(end: int) -> int:
            return int(torch.randint(end, (), generator=generator))

        y = self.references[draw(len(self.references))]
        top, left = draw(y.shape[1] - self.crop + 1), draw(y.shape[2] - self.crop + 1)
        y = y[:, top : top + self.crop, left : left + self.crop].rot90(draw(4), (1, 2))
        return y.flip(2) if draw(2) else y


def fit(model: nn.Module, train: Scene | list[Scene], val: Scene, config: TrainingConfig, degrade: Degradation | None = None,
        state_file: str | Path | None = None, minutes: float | None = None, progress: bool = True) -> History:  # fmt: skip
    """Train a fusion network (or a `FusionModel` that holds one) in place.

    Batch `n` depends on `config.seed` and `n` only, so a run continued from `state_file` ends with the same weights as an
    unbroken one.

    Args:
        model: a network with `hsi_bands`, `msi_bands` and `scale`, which is then wrapped as `config` says; or a
            `FusionModel`, whose own statistics stay.
        train: one scene or several.
        val: the scene to validate on; no weight ever depends on it.
        degrade: gives the inputs; Landsat TM with the model's number of bands if None.
        state_file: (safetensors) is written at each validation and read, if it exists, to go on from there.
        minutes: stop after the step in which this much time is over.
        progress: show a bar.

    Raises:
        ValueError: a crop that does not fit, or a state file of another run.
        FloatingPointError: the loss is not finite.
    """
    scenes = [train] if isinstance(train, Scene) else list(train)
    if not isinstance(model, FusionModel):
        model = wrap(model, scenes, config, degrade)
    sampler = CropSampler([scene.cube for scene in scenes], model.degrade, config.crop, config.mixing)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(_parameter_groups(model, config), lr=config.learning_rate)
    history = History(model, config)
    state_file = None if state_file is None else Path(state_file)
    if state_file is not None and state_file.exists():
        _load_state(state_file, history, optimizer)

    fabric = Fabric(accelerator="auto", devices=1, precision=config.precision)
    forward, optimizer = fabric.setup(model, optimizer)
    began, seconds_before = time.perf_counter(), history.seconds
    bar = tqdm(range(len(history.loss), config.steps), initial=len(history.loss), total=config.steps, disable=not progress, unit="step")
    model.train()
    for step in bar:
        generator = torch.Generator().manual_seed(config.seed * 10_000_019 + step)
        x_h, x_m, y = sampler.batch(config.batch_size, generator)
        if config.snr_db is not None:
            x_h = add_noise(x_h, _draw_snr(config.snr_db, generator), generator)
        x_h, x_m, y = (fabric.to_device(x) for x in (x_h, x_m, y))  # the network chooses its own layout
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * group["factor"] * _schedule(step, config)
        band_scale = model.output_spread.flatten() if config.standardised_l1 else None
        loss = l1_sam_loss(forward(x_h, x_m), y, config.sam_weight, band_scale)
        history.loss.append(loss.item())
        if not math.isfinite(history.loss[-1]):
            raise FloatingPointError(f"the loss is {history.loss[-1]} at step {step}; lower the learning rate or clip gradients")
        optimizer.zero_grad()
        fabric.backward(loss)
        if config.gradient_clip is not None:
            fabric.clip_gradients(forward, optimizer, max_norm=config.gradient_clip)
        optimizer.step()

        history.complete = step + 1 == config.steps
        history.seconds = seconds_before + time.perf_counter() - began
        out_of_time = minutes is not None and time.perf_counter() - began >= 60 * minutes
        if history.complete or (step + 1) % config.validate_every == 0:
            history.validation.append({"step": step + 1, **validate(model, val)})
            bar.set_postfix(psnr=f"{history.validation[-1]['psnr_pooled_scene_peak']:.2f} dB")
        if state_file is not None and (history.complete or out_of_time or (step + 1) % config.validate_every == 0):
            _save_state(state_file, history, optimizer)
        if out_of_time:
            break
    return history


def wrap(network: nn.Module, scenes: list[Scene], config: TrainingConfig, degrade: Degradation | None = None) -> FusionModel:
    """The `FusionModel` that `config` asks for, with the statistics of these training scenes; arguments as for `fit`."""
    if degrade is None:
        srf = sensors.landsat_tm(scenes[0].wavelengths_nm, network.msi_bands, scenes[0].fwhm_nm)
        degrade = Degradation(scale=network.scale, srf=srf)
    return FusionModel(network, degrade, config.scaling, config.skip, [scene.cube for scene in scenes], config.denoise)


def validate(model: FusionModel, scene: Scene) -> dict:
    """Metrics on a whole scene without noise, and the mean of each gate if the network has an SSAWB."""
    y_hat, gates = predict(model, scene)
    return {**metrics.evaluate(y_hat, scene.cube, model.degrade.scale, scene.scale), "gate_means": gates}


@torch.no_grad()
def predict(model: FusionModel, scene: Scene) -> tuple[torch.Tensor, list[float] | None]:
    """Fuse the degraded scene: y_hat (C, H, W) on the CPU, and the mean of each gate, or None without an SSAWB."""
    device, training = model.output_mean.device, model.training
    x_h, x_m = (x[None].to(device) for x in (model.degrade.spatial(scene.cube), model.degrade.spectral(scene.cube)))
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
    return 0.5 * (1 + math.cos(math.pi * (step - config.warmup_steps) / (config.steps - config.warmup_steps)))


def _draw_snr(snr_db: float | tuple[float, float], generator: torch.Generator) -> float:
    if isinstance(snr_db, (int, float)):
        return snr_db
    lowest, highest = snr_db
    return lowest + (highest - lowest) * float(torch.rand((), generator=generator))


def _parameter_groups(model: FusionModel, config: TrainingConfig) -> list[dict]:
    gates = list(model.network.ssawb.gates.parameters()) if hasattr(model.network, "ssawb") else []
    others = [p for p in model.parameters() if not any(p is gate for gate in gates)]
    groups = [{"params": others, "factor": 1.0}]
    if gates:
        groups.append({"params": gates, "factor": config.gate_learning_rate_factor})
    return groups


def _save_state(path: Path, history: History, optimizer: torch.optim.Optimizer) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in history.model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    run = {"config": asdict(history.config), "loss": history.loss, "validation": history.validation, "seconds": history.seconds}
    write_tensors(path, tensors, {"run": json.dumps(run)})


def _load_state(path: Path, history: History, optimizer: torch.optim.Optimizer) -> None:
    tensors, metadata = read_tensors(path)
    if "run" not in metadata:
        raise ValueError(f"{path}: not a training state written by training.fit")
    run = json.loads(metadata["run"])
    expected = json.loads(json.dumps(asdict(history.config)))
    changed = [name for name in expected if run["config"].get(name) != expected[name]]
    if changed:
        differences = ", ".join(f"{name} was {run['config'].get(name)!r}, is {expected[name]!r}" for name in changed)
        raise ValueError(f"{path}: a state of another run ({differences})")
    history.model.load_state_dict({name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")})
    optimizer_state = optimizer.state_dict()
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            optimizer_state["state"].setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(optimizer_state)
    history.loss, history.validation, history.seconds = run["loss"], run["validation"], run["seconds"]
    history.complete = len(history.loss) == history.config.steps
