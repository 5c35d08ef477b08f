"""One training in progress: devices, optimizer, a step, and what became of it; built in
notebooks/06_training.ipynb and 10.
"""

from __future__ import annotations

import math
import statistics
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..network.fast import speed_up
from .config import TrainingConfig
from .devices import peak_memory
from .fusion import FusionModel
from .losses import fast_spectral_angle, l1_sam_loss


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


class Run:
    """The model on its devices with its optimizer, and the losses so far.

    `step` updates the weights once. The losses wait on the device in `unread` until somebody calls
    `read_losses`: reading a number from a graphics card makes the program wait for it.
    """

    def __init__(
        self,
        model: FusionModel,
        config: TrainingConfig,
        devices: int = 1,
        num_nodes: int = 1,
        log: str | Path | None = None,
    ):
        from lightning_fabric import Fabric  # here, because importing it takes a second
        from lightning_fabric.loggers import TensorBoardLogger

        logger = None if log is None else TensorBoardLogger(log, name="", version="")
        self.fabric = Fabric(
            devices=devices, num_nodes=num_nodes, precision=config.precision, loggers=logger
        )
        self.fabric.launch()
        if self.fabric.device.type == "cpu":
            model = speed_up(model)
        # of the weights; the images inside the network follow, and the loss is faster without
        model.to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(parameter_groups(model, config), lr=config.learning_rate)
        self.forward, self.optimizer = self.fabric.setup(model, optimizer)
        self.model, self.config = model, config
        self.history = History(model, config, rank=self.fabric.global_rank)
        self.unread: list[torch.Tensor] = []
        self.stopping = False
        # about the weights of 1x1 convolutions, whose memory order means nothing
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")

    def start(self) -> None:
        """Start the clock."""
        self.began = time.perf_counter()
        self.seconds_before = self.history.seconds
        self.model.train()

    @property
    def steps(self) -> int:
        """Weight updates so far."""
        return len(self.history.loss) + len(self.unread)

    @property
    def validating(self) -> bool:
        """Whether this step ends with a validation."""
        return self.history.complete or self.steps % self.config.validate_every == 0

    def step(self, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
        """One update of the weights from this process's share of the batch: x_h, x_m, y."""
        if not self.unread:
            self.counted = time.perf_counter()
        for group in self.optimizer.param_groups:
            rate = self.config.learning_rate * group["factor"]
            group["lr"] = rate * schedule(self.steps, self.config)
        self.optimizer.zero_grad()
        self.unread.append(self._backward(batch))
        if self.config.gradient_clip is not None:
            self.fabric.clip_gradients(
                self.forward,
                self.optimizer,
                max_norm=self.config.gradient_clip,
                error_if_nonfinite=False,
            )
        self.optimizer.step()
        self.history.complete = self.steps == self.config.steps

    def any_process(self, decision: bool) -> bool:
        """Whether any of the processes decides so: their clocks differ."""
        return self.fabric.strategy.reduce_boolean_decision(decision, all=False)

    def read_losses(self) -> None:
        """Move the losses of the last steps to the history: here the program waits for the device.

        Raises:
            FloatingPointError: one of them is not finite.
        """
        if not self.unread:
            return
        values = self.fabric.all_reduce(torch.stack(self.unread), reduce_op="mean").tolist()
        for i, value in enumerate(values):
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"the loss is {value} at step {len(self.history.loss) + i}; "
                    "lower the learning rate or clip gradients"
                )
        self.history.loss += values
        self.unread.clear()
        now = time.perf_counter()
        self.history.seconds = self.seconds_before + now - self.began
        if self.fabric.loggers:
            seconds = (now - self.counted) / len(values)
            curves = {
                "loss": statistics.fmean(values),
                "step_seconds": seconds,
                "samples_per_second": self.config.batch_size / seconds,
                "peak_memory_mib": peak_memory(self.fabric.device) / 2**20,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
            }
            self.fabric.log_dict(curves, self.steps)

    def _backward(self, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Gradients, averaged over processes; returns this process's loss."""
        config, loss = self.config, torch.zeros((), device=self.fabric.device)
        band_scale = self.model.output_spread.flatten() if config.standardised_l1 else None
        parts = zip(*(x.chunk(config.accumulate) for x in batch), strict=True)
        for i, (x_h, x_m, y) in enumerate(parts, start=1):
            with self.fabric.no_backward_sync(self.forward, enabled=i < config.accumulate):
                y_hat = self.forward(x_h, x_m)
                part = l1_sam_loss(y_hat, y, config.sam_weight, band_scale, fast_spectral_angle)
                part = part / config.accumulate
                self.fabric.backward(part)
            loss += part.detach()
        return loss


def schedule(step: int, config: TrainingConfig) -> float:
    """What the learning rate is multiplied by: a linear rise, then half a cosine down to 0."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * share))


def parameter_groups(model: FusionModel, config: TrainingConfig) -> list[dict]:
    """The gates of an SSAWB learn at a rate of their own."""
    gates = list(model.network.ssawb.gates.parameters()) if hasattr(model.network, "ssawb") else []
    others = [p for p in model.parameters() if not any(p is gate for gate in gates)]
    groups = [{"params": others, "factor": 1.0}]
    if gates:
        groups.append({"params": gates, "factor": config.gate_learning_rate_factor})
    return groups
