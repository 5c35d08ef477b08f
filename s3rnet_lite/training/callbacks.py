"""What happens between the steps of a training: each is called with the `Run` after every step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm.auto import tqdm

from ..sensing.scene import Scene
from .fusion import FusionModel
from .run import Run
from .state import fingerprint, load_state, save_state
from .validation import validate

READ_LOSS_EVERY = 20  # steps


class Deadline:
    """Stop after the step in which `minutes` are over (None: never) or a signal has come."""

    def __init__(self, minutes: float | None, asked: list[int]):
        self.minutes, self.asked = math.inf if minutes is None else minutes, asked

    def __call__(self, run: Run) -> None:
        over = time.perf_counter() - run.began >= 60 * self.minutes
        run.stopping = run.any_process(over or bool(self.asked))


class Validation:
    """Score the model when the configuration says so, and show the score on the bar."""

    def __init__(
        self,
        scenes: Scene | list[Scene],
        bar: tqdm,
        watch: Callable[[FusionModel], dict] | None = None,
    ):
        self.scenes, self.bar, self.watch = scenes, bar, watch

    def __call__(self, run: Run) -> None:
        if not run.validating:
            return
        run.read_losses()
        if run.fabric.is_global_zero:  # the others wait where gradients are next averaged
            row = {"step": run.steps, **validate(run.model, self.scenes)}
            if self.watch is not None:
                row |= self.watch(run.model)
            run.history.validation.append(row)
            run.fabric.log_dict(curves(row), run.steps)
            self.bar.set_postfix(psnr=f"{row['psnr_pooled_scene_peak']:.2f} dB")


class StateFile:
    """Write what an interrupted training goes on from: at each validation, every `minutes`, and
    before it stops.
    """

    def __init__(self, path: str | Path | None, minutes: float, references: list[torch.Tensor]):
        self.path, self.minutes = None if path is None else Path(path), minutes
        self.data = None if path is None else fingerprint(references)
        self.saved = time.perf_counter()

    def resume(self, run: Run) -> None:
        """Go on from the file, if it exists."""
        if self.path is None or not self.path.exists():
            return
        state = load_state(self.path, run.model, run.optimizer, asdict(run.config), self.data)
        history = run.history
        history.loss, history.validation = state["loss"], state["validation"]
        history.seconds = state["seconds"]
        history.complete = run.steps == run.config.steps
        if state.get("scaler"):  # of the gradients in "16-mixed"
            run.fabric.strategy.precision.load_state_dict(state["scaler"])

    def __call__(self, run: Run) -> None:
        if self.path is None:
            return
        overdue = time.perf_counter() - self.saved >= 60 * self.minutes
        if not (run.validating or run.stopping or run.any_process(overdue)):
            return
        run.read_losses()
        if run.fabric.is_global_zero:
            state = {
                "config": asdict(run.config),
                "data": self.data,
                "loss": run.history.loss,
                "validation": run.history.validation,
                "seconds": run.history.seconds,
                "scaler": run.fabric.strategy.precision.state_dict(),
            }
            save_state(self.path, run.model, run.optimizer, state)
        self.saved = time.perf_counter()


def read_losses(run: Run) -> None:
    """Look at the losses now and then, and before the training stops."""
    if run.stopping or len(run.unread) >= READ_LOSS_EVERY:
        run.read_losses()


def curves(row: dict) -> dict[str, float]:
    """A row of validation as curves for a logger."""
    single = {f"validation/{name}": x for name, x in row.items() if isinstance(x, float)}
    gates = zip("qkvz", row["gate_means"] or [], strict=False)  # no gates, no curves of them
    return single | {f"validation/gate_{name}": gate for name, gate in gates}
