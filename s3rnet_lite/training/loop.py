"""Training: the loop, on one device or many, stopped and continued exactly; built in
notebooks/06_training.ipynb and 10.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from ..files import interrupts
from ..sensing.degradation import Degradation, simulated
from ..sensing.scene import Scene
from .callbacks import Deadline, StateFile, Validation, read_losses
from .config import TrainingConfig
from .crops import CropSampler, sample
from .devices import changed_forward
from .fusion import FusionModel
from .run import History, Run


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
    watch: Callable[[FusionModel], dict] | None = None,
) -> History:
    """Train a fusion network (or a `FusionModel` that holds one) in place.

    Batch `n` depends on `config.seed` and `n` only, so a run continued from `state_file` ends with
    the same weights as an unbroken one, and one on several devices with the same, up to rounding,
    as one on a single device. On a CPU the network computes with fewer copies
    (`network.fast.speed_up`).

    With more than one device, the script that calls `fit` is started again for each (from a
    notebook, use one). Every process holds the whole network, takes its part of each batch, and
    gradients are averaged. To split the network itself (FSDP) would not pay: weights, gradients and
    Adam's two moments take 16 bytes a parameter, 0.43 GB for the 26.8 million of the `paper`
    preset, while what the backward pass keeps of a single crop takes gigabytes
    (`complexity.peak_memory`). That memory falls with `config.accumulate`,
    `config.checkpoint_activations` and the number of devices.

    Args:
        model: a network with `hsi_bands`, `msi_bands` and `scale`, which is then wrapped as
            `config` says; or a `FusionModel`, whose own statistics stay.
        train: one scene, several, or the images (C, H, W) of a data set (`dataset.references`),
            which need `degrade`.
        val: the scene to validate on, or several, for the mean of their metrics; no weight ever
            depends on it.
        degrade: gives the inputs; `degradation.simulated` with the model's number of bands if None.
        state_file: (safetensors) is written at each validation and every `save_minutes`, and read,
            if it exists, to go on from there; on a disk that all machines see.
        minutes: stop after the step in which this much time is over.
        progress: show a bar.
        devices, num_nodes: of this machine and machines; `config.batch_size` is that of all
            together.
        log: folder for TensorBoard: loss, learning rate, speed, memory and validations.
        watch: called with the model at each validation; what it returns joins the row.

    Raises:
        ValueError: a crop that does not fit, a batch that cannot be shared out, or a state file of
            another run.
        FloatingPointError: the loss is not finite; found at most `callbacks.READ_LOSS_EVERY` steps
            later. Or a validated image is not.
        KeyboardInterrupt: Ctrl-C, or SIGTERM, after the step at hand and after the state file.
    """
    check_devices(config, devices, num_nodes)
    train = [train] if isinstance(train, Scene) else list(train)
    if not isinstance(model, FusionModel):
        model = wrap(model, train, config, degrade)
    sampler = CropSampler(cubes(train), model.degrade, config.crop, config.mixing, config.snr_db)
    run = Run(model, config, devices, num_nodes, log)
    state = StateFile(state_file, save_minutes, cubes(train))
    state.resume(run)
    share = config.batch_size // run.fabric.world_size
    mine = slice(run.history.rank * share, (run.history.rank + 1) * share)

    def crops(step: int):
        generator = torch.Generator().manual_seed(config.seed * 10_000_019 + step)
        return sampler.draw(config.batch_size, generator, mine)

    steps = range(run.steps, config.steps)
    quiet = not progress or run.history.rank > 0
    bar = tqdm(steps, initial=run.steps, total=config.steps, disable=quiet, unit="step")
    with (
        interrupts.after_the_step() as asked,
        changed_forward(run.model.network, config.checkpoint_activations, config.compile),
        ThreadPoolExecutor(1) as ahead,
    ):
        callbacks = [Deadline(minutes, asked), Validation(val, bar, watch), state, read_losses]
        upcoming = ahead.submit(crops, run.steps)
        run.start()
        for step in bar:
            batch = sampler.degraded(run.fabric.to_device(upcoming.result()))
            upcoming = ahead.submit(crops, step + 1)  # while the device works
            run.step(batch)
            for callback in callbacks:
                callback(run)
            if run.stopping:
                break
    for logger in run.fabric.loggers:
        logger.finalize("success")
    return run.history


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
                "degrade: expected a Degradation, as the training images are tensors, which have "
                "no wavelengths"
            )
        degrade = simulated(train[0], network.msi_bands, network.scale)
    references = sample(cubes(train))
    return FusionModel(network, degrade, config.scaling, config.skip, references, config.denoise)


def cubes(train: list[Scene] | list[torch.Tensor]) -> list[torch.Tensor]:
    """The images of scenes; images stay as they are."""
    return [image.cube if isinstance(image, Scene) else image for image in train]


def check_devices(config: TrainingConfig, devices: int, num_nodes: int) -> None:
    """Refuse devices that are not there, and batches that they cannot share.

    Raises:
        ValueError: see above.
    """
    present = torch.cuda.device_count()
    if not 1 <= devices <= (present or devices):
        raise ValueError(
            f"devices: expected 1 to {present} (the graphics cards here), got {devices}"
        )
    if config.batch_size % (devices * num_nodes * config.accumulate):
        raise ValueError(
            f"batch_size: expected a multiple of devices * num_nodes * accumulate = "
            f"{devices} * {num_nodes} * {config.accumulate}, got {config.batch_size}"
        )
