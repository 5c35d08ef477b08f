"""One resumable command that times and trains the paper's network on a CUDA GPU; used in
notebooks/10_gpu_training.ipynb.

Without a GPU the same lines run at tiny size, to show that they run; what they measure then is
worth nothing and is kept apart.
"""

from __future__ import annotations

import itertools
import json
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import torch

from .. import training
from ..analysis import complexity
from ..files import atomic, provenance
from ..network.s3rnet import S3RNet
from ..sensing import scenes
from ..training.devices import changed_forward, synchronise
from ..training.fusion import FusionModel
from ..training.losses import l1_sam_loss
from . import evaluation, robustness

WORK = provenance.REPOSITORY / "runs" / "gpu"
MSI_BANDS, HSI_BANDS, SCALE, SEED = 4, 172, 4, 0
PRECISIONS = ("fp32", "tf32", "bf16")
PASSES = ("forward", "training step")
CASE = ("image_size", "pass", "precision", "channels_last", "compiled")  # of a row of times
COMPILE_SECONDS = (
    180  # what compiling the paper's network may take; without that much time left it is not begun
)

# What is trained, apart from the network and the settings of the paper: changes of either, and
# simulated scenes to add.
VARIANTS: dict[str, dict] = {
    "paper": {},
    "paper, 35 dB noise on the LR-HSI": dict(config=dict(snr_db=35.0)),
    "paper, open gates and injection skip": dict(
        network=dict(gate_bias=2.0),
        config=dict(scaling="band", skip="injection", gate_learning_rate_factor=0.005),
    ),
    "paper, eight simulated scenes more": dict(simulated=8),
}


@dataclass(frozen=True)
class Size:
    """What to run: a preset of S3RNet, crops and batches to train on, at most so many steps, and
    image sizes to time.
    """

    preset: str
    crop: int
    batch_size: int
    most_steps: int
    image_sizes: tuple[int, ...]
    simulated_size: int


# 16 crops of 64 x 64 are as many pixels as the paper's 4 of 128 x 128, which the training region
# has no room for.
FULL = Size(
    "paper", crop=64, batch_size=16, most_steps=252_000, image_sizes=(128, 256), simulated_size=256
)
TINY = Size("tiny", crop=16, batch_size=2, most_steps=4, image_sizes=(16, 32), simulated_size=32)


@dataclass(frozen=True)
class Call:
    """One call of the command: where it runs, what at, how long it may take, and where things
    lie.
    """

    device: torch.device
    size: Size
    minutes: float
    began: float
    work: Path
    timing: Path
    training: Path

    def seconds_left(self, share: float = 1.0) -> float:
        """Until this share of the minutes is over."""
        return self.began + share * 60 * self.minutes - time.perf_counter()

    def store(self, path: Path, content: dict) -> None:
        """Write it with where it comes from."""
        origin = provenance.facts(SEED, time.perf_counter() - self.began, self.device.type)
        atomic.write_json(
            path,
            {
                "device": describe(self.device),
                "preset": self.size.preset,
                **content,
                "provenance": origin,
            },
        )


def run(minutes: float, out: Path = provenance.RESULTS_FOLDER, work: Path = WORK) -> Call:
    """Time, train, evaluate; go on where the last call stopped; stay inside `minutes`, apart from
    one step, evaluation or compilation.

    The number of steps is chosen in the first call, so that the variants take about 60 % of its
    minutes, and stays: a learning rate that follows half a cosine needs to know its end. Each kind
    of GPU has results of its own, `gpu_timing_KIND.json` and `gpu_training_KIND.json`; without a
    GPU they go to `work`, like states and checkpoints.

    Raises:
        ValueError: `minutes` is not positive.
    """
    if not minutes > 0:
        raise ValueError(f"minutes: expected a positive number, got {minutes}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = _slug(describe(device)["name"])
    work = Path(work) / kind
    size, out = (FULL, Path(out)) if device.type == "cuda" else (TINY, work)
    if device.type == "cpu":
        print(
            "No CUDA GPU here: the same path at tiny size. Its results are worth nothing and go "
            f"to {out}."
        )
    print(", ".join(f"{name} {value}" for name, value in describe(device).items()))
    call = Call(
        device,
        size,
        minutes,
        time.perf_counter(),
        work,
        out / f"gpu_timing_{kind}.json",
        out / f"gpu_training_{kind}.json",
    )
    _time_all(call, share=0.25)
    steps = _planned_steps(call)
    for name in VARIANTS:
        _train(call, name, steps)
    _time_all(call)
    if device.type == "cuda":  # for a processor, to generate code takes minutes and gains little
        _time_all(call, compiled=True)
    missing = [name for name in VARIANTS if name not in _stored(call.training).get("variants", {})]
    print(
        f"Not trained yet: {'; '.join(missing)}. The same command goes on."
        if missing
        else f"All is trained: {call.training}"
    )
    return call


def describe(device: torch.device) -> dict:
    """Name, memory, compute capability and versions."""
    if device.type == "cpu":
        return {"name": "CPU", "torch": torch.__version__}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def time_runs(work: Callable[[], object], device: torch.device, runs: int = 7) -> dict[str, float]:
    """Medians of `runs` after two more for warming up: "seconds" of the work, and "launch_seconds"
    that a clock sees which does not wait for the device: only the time to tell it what to do.
    """
    launched, finished = [], []
    for _ in range(2 + runs):
        synchronise(device)
        began = time.perf_counter()
        work()
        launched.append(time.perf_counter() - began)
        synchronise(device)
        finished.append(time.perf_counter() - began)
    return {
        "seconds": statistics.median(finished[2:]),
        "launch_seconds": statistics.median(launched[2:]),
    }


def time_network(
    preset: str,
    image_size: int,
    which: str,
    precision: str,
    channels_last: bool,
    compiled: bool,
    device: torch.device,
) -> dict:
    """Time one forward pass without gradients, or one training step, of one image, and find the
    peak memory with all in it.
    """
    torch.manual_seed(SEED)
    network = S3RNet.from_preset(preset, HSI_BANDS, MSI_BANDS).to(device)
    x_h, x_m, y = (
        torch.rand(1, bands, length, length, device=device)
        for bands, length in (
            (HSI_BANDS, image_size // SCALE),
            (MSI_BANDS, image_size),
            (HSI_BANDS, image_size),
        )
    )
    if channels_last:
        network.to(memory_format=torch.channels_last)
        x_h, x_m, y = (x.contiguous(memory_format=torch.channels_last) for x in (x_h, x_m, y))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def forward() -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            return network(x_h, x_m)

    def step() -> None:
        optimizer.zero_grad()
        l1_sam_loss(forward().float(), y).backward()
        optimizer.step()

    row = dict(zip(CASE, (image_size, which, precision, channels_last, compiled), strict=True))
    if compiled:
        torch.compiler.reset()
    with _tensor_float_32(precision == "tf32"), changed_forward(network, compiled=compiled):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        if which == "forward":
            with torch.no_grad():
                row |= time_runs(forward, device)
        else:
            row |= time_runs(step, device)
    row["peak_memory_mib"] = (
        torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    )
    return row


@contextmanager
def _tensor_float_32(allowed: bool) -> Iterator[None]:
    """These two switches, though old, are the ones that `torch.compile` can read in torch 2.11 to
    2.13.
    """
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _time_all(call: Call, share: float = 1.0, compiled: bool = False) -> None:
    """All rows of the table of times that are not stored yet, until this share of the minutes is
    over.

    Compiling is slow, so that only channels_last at the largest size is timed compiled.
    """
    rows = _stored(call.timing).get("rows", [])
    done = {tuple(row[key] for key in CASE) for row in rows}
    sizes, formats = (
        (call.size.image_sizes[-1:], (True,))
        if compiled
        else (call.size.image_sizes, (False, True))
    )
    for case in itertools.product(sizes, PASSES, PRECISIONS, formats, (compiled,)):
        if case in done or call.seconds_left(share) < (COMPILE_SECONDS if compiled else 5):
            continue
        try:
            row = time_network(call.size.preset, *case, call.device)
        except RuntimeError as error:  # too little memory, or no compiler
            row = dict(
                zip(CASE, case, strict=True),
                error=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            )
        print(
            ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in row.items()
            )
        )
        rows.append(row)
        call.store(
            call.timing,
            {"counted": _counted(call.size.preset, call.size.image_sizes), "rows": rows},
        )
        if call.device.type == "cuda":
            torch.cuda.empty_cache()


@cache
def _counted(preset: str, image_sizes: tuple[int, ...]) -> list[dict]:
    """MACs of one image and, for float32, the memory of its activations, counted from shapes."""
    rows = []
    with torch.device("meta"):
        network = S3RNet.from_preset(preset, HSI_BANDS, MSI_BANDS)
        for length in image_sizes:
            x_h, x_m = (
                torch.empty(1, HSI_BANDS, length // SCALE, length // SCALE),
                torch.empty(1, MSI_BANDS, length, length),
            )
            mib = {
                which: complexity.peak_memory(network, x_h, x_m, which != "forward") / 2**20
                for which in PASSES
            }
            rows.append(
                {
                    "image_size": length,
                    "macs": complexity.count(network, x_h, x_m).macs,
                    "activations_mib": mib,
                }
            )
    return rows


def _planned_steps(call: Call) -> int:
    """The number of steps of each variant, from the time of a few; fixed in the first call."""
    path = call.work / "plan.json"
    if plan := _stored(path):
        return plan["steps"]
    region, val, _ = scenes.split(scenes.indian_pines())
    config = _config(call.size, min(20, call.size.most_steps), {})
    model = training.wrap(
        S3RNet.from_preset(call.size.preset, len(region.cube), MSI_BANDS), [region], config
    )
    training.fit(model, region, val, config, progress=False)  # for warming up
    step_seconds = training.fit(model, region, val, config, progress=False).seconds / config.steps
    steps = min(
        max(10, int(0.6 * 60 * call.minutes / len(VARIANTS) / step_seconds)), call.size.most_steps
    )
    call.store(
        path,
        {
            "size": asdict(call.size),
            "minutes": call.minutes,
            "step_seconds": step_seconds,
            "steps": steps,
        },
    )
    print(f"A step takes {step_seconds:.3f} s: {steps} steps for each of {len(VARIANTS)} variants.")
    return steps


def _config(size: Size, steps: int, changes: dict) -> training.TrainingConfig:
    return replace(
        training.CONFIGS["paper"],
        steps=steps,
        crop=size.crop,
        batch_size=size.batch_size,
        precision="bf16-mixed",
        validate_every=max(1, steps // 10),
        seed=SEED,
        **changes,
    )


def _train(call: Call, name: str, steps: int) -> None:
    """Train one variant, or go on with it. After its last step the model goes to `work`, and its
    scores to the results.
    """
    variants = _stored(call.training).get("variants", {})
    if name in variants or call.seconds_left(0.9) < 1:
        return
    print(name)
    variant, size = VARIANTS[name], call.size
    region, val, test = scenes.split(scenes.indian_pines())
    try:
        seeds = range(variant.get("simulated", 0))
        more = [
            scenes.simulate(seed, size.simulated_size, region.wavelengths_nm, region.fwhm_nm)
            for seed in seeds
        ]
    except FileNotFoundError as error:
        print(f"left out: {error}")
        return
    config, changes = _config(size, steps, variant.get("config", {})), variant.get("network", {})
    torch.manual_seed(SEED)
    network = S3RNet.from_preset(size.preset, len(region.cube), MSI_BANDS, **changes)
    state, checkpoint = (
        call.work / f"{_slug(name)}.state.safetensors",
        call.work / f"{_slug(name)}.safetensors",
    )
    history = training.fit(
        network,
        [region, *more],
        val,
        config,
        state_file=state,
        minutes=max(call.seconds_left(0.9), 0) / 60,
    )
    if not history.complete:
        return
    facts = {
        "config": asdict(config),
        "scenes": [scene.name for scene in (region, *more)],
        "validation": history.validation,
    }
    training.save_checkpoint(checkpoint, history.model, size.preset, {"training": facts}, changes)
    row = {
        **facts,
        "training_seconds": history.seconds,
        "loss": history.loss[-1],
        **_scores(history.model, test, call.device),
    }
    call.store(
        call.training,
        {"degradation": history.model.degrade.card(), "variants": {**variants, name: row}},
    )
    state.unlink()


def _scores(model: FusionModel, test: scenes.Scene, device: torch.device) -> dict:
    """How good the model is on unseen pixels, and what it owes to either input, without noise and
    with; computed on `device`.
    """
    model.to(device)
    handles = [
        model.register_forward_pre_hook(lambda _model, inputs: tuple(x.to(device) for x in inputs)),
        model.register_forward_hook(lambda _model, _inputs, output: output.cpu()),
    ]
    try:
        with _tensor_float_32(False):
            dependence = [
                robustness.dependence(model, test, snr_db) for snr_db in (None, 35.0, 15.0)
            ]
            return {"scores": evaluation.score_model(model, test), "dependence": dependence}
    finally:
        for handle in handles:
            handle.remove()


def _stored(path: Path) -> dict:
    """What earlier calls wrote there."""
    return json.loads(path.read_text()) if path.exists() else {}


def _slug(name: str) -> str:
    return "_".join(re.findall("[a-z0-9]+", name.lower()))
