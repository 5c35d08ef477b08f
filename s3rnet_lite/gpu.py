"""One resumable command for a machine with a CUDA GPU: the paper's network at full size, timed and trained; notebooks/10_gpu_training.ipynb.

Without a GPU the same lines run at tiny size, to show that they run; what they measure then is worth nothing and is kept apart.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from . import complexity, evaluation, files, results, robustness, scenes, sensors, training
from .degradation import Degradation
from .devices import changed_forward, synchronise
from .fusion import FusionModel
from .losses import l1_sam_loss
from .s3rnet import S3RNet

WORK = results.REPOSITORY / "runs" / "gpu"
MSI_BANDS, HSI_BANDS, SCALE, SEED = 4, 172, 4, 0
PRECISIONS = ("fp32", "tf32", "bf16")
PASSES = ("forward", "training step")
COMPILE_SECONDS = 180  # what compiling the paper's network may take; without that much time left it is not begun

# What is trained, apart from the network and the settings of the paper: changes of either, and simulated scenes to add.
VARIANTS: dict[str, dict] = {
    "paper": {},
    "paper, 35 dB noise on the LR-HSI": dict(config=dict(snr_db=35.0)),
    "paper, open gates and injection skip": dict(
        network=dict(gate_bias=2.0), config=dict(scaling="band", skip="injection", gate_learning_rate_factor=0.005)
    ),
    "paper, eight simulated scenes more": dict(simulated=8),
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """What to run: a preset of S3RNet, crops and batches to train on, at most so many steps, and image sizes to time."""

    preset: str
    crop: int
    batch_size: int
    most_steps: int
    image_sizes: tuple[int, ...]
    simulated_size: int


# 16 crops of 64 x 64 are as many pixels as the paper's 4 of 128 x 128, which the training region has no room for.
FULL = Size("paper", crop=64, batch_size=16, most_steps=252_000, image_sizes=(128, 256), simulated_size=256)
TINY = Size("tiny", crop=16, batch_size=2, most_steps=4, image_sizes=(16, 32), simulated_size=32)


def run(minutes: float, out: Path = results.RESULTS_FOLDER, work: Path = WORK) -> list[Path]:
    """Time, train, evaluate; go on where the last call stopped; stay inside `minutes`, apart from one step or evaluation.

    The number of steps is chosen in the first call, so that the variants take about 60 % of its minutes, and stays: a learning rate
    that follows half a cosine needs to know its end. States and checkpoints lie in `work`.

    Returns:
        The files with results, `gpu_timing.json` and `gpu_training.json`: in `out`, or without a GPU in `work`/cpu.

    Raises:
        ValueError: `minutes` is not positive, or `work` holds what another device began.
    """
    if not minutes > 0:
        raise ValueError(f"minutes: expected a positive number, got {minutes}")
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = FULL if device.type == "cuda" else TINY
    if device.type == "cpu":
        out = work = Path(work) / "cpu"
        print(f"No CUDA GPU here: the same path at tiny size. Its results are worth nothing and go to {out}.")
    out, work, about = Path(out), Path(work), describe(device)
    print(", ".join(f"{name} {value}" for name, value in about.items()))

    def seconds_left(share: float = 1.0) -> float:
        return began + share * 60 * minutes - time.perf_counter()

    def provenance() -> dict:
        return results.provenance(SEED, time.perf_counter() - began, device.type)

    timing, trained = out / "gpu_timing.json", out / "gpu_training.json"
    _time_all(size, device, timing, about, provenance, lambda: seconds_left(0.25), compiled=False)
    plan = _plan(size, work / "plan.json", about, minutes)
    for name, variant in VARIANTS.items():
        _train(name, variant, size, plan["steps"], device, trained, work, about, provenance, lambda: seconds_left(0.9))
    for compiled in (False, True):
        _time_all(size, device, timing, about, provenance, seconds_left, compiled)
    missing = [name for name in VARIANTS if name not in _stored(trained).get("variants", {})]
    print(f"Not trained yet: {'; '.join(missing)}. The same command goes on." if missing else "All variants are trained.")
    return [path for path in (timing, trained) if path.exists()]


def describe(device: torch.device) -> dict:
    """Name, memory, compute capability and versions."""
    if device.type == "cpu":
        return {"name": "CPU", "torch": torch.__version__}
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1),
        "compute_capability": f"{properties.major}.{properties.minor}", "torch": torch.__version__, "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }  # fmt: skip


def time_runs(work: Callable[[], object], device: torch.device, runs: int = 7) -> dict[str, float]:
    """Medians of `runs` after two more for warming up: "seconds" of the work, and "launch_seconds" that a clock sees which does
    not wait for the device: only the time to tell it what to do.
    """
    launched, finished = [], []
    for _ in range(2 + runs):
        synchronise(device)
        began = time.perf_counter()
        work()
        launched.append(time.perf_counter() - began)
        synchronise(device)
        finished.append(time.perf_counter() - began)
    return {"seconds": statistics.median(finished[2:]), "launch_seconds": statistics.median(launched[2:])}


def time_network(preset: str, image_size: int, which: str, precision: str, channels_last: bool, compiled: bool,
                 device: torch.device) -> dict:  # fmt: skip
    """Time one forward pass without gradients, or one training step, of one image, and find the peak memory with all in it."""
    torch.manual_seed(SEED)
    network = S3RNet.from_preset(preset, HSI_BANDS, MSI_BANDS).to(device)
    x_h, x_m, y = (
        torch.rand(1, bands, length, length, device=device)
        for bands, length in ((HSI_BANDS, image_size // SCALE), (MSI_BANDS, image_size), (HSI_BANDS, image_size))
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

    row = {"image_size": image_size, "pass": which, "precision": precision, "channels_last": channels_last, "compiled": compiled}
    with _tensor_float_32(precision == "tf32"), changed_forward(network, compiled=compiled):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        if which == "forward":
            with torch.no_grad():
                row |= time_runs(forward, device)
        else:
            row |= time_runs(step, device)
    row["peak_memory_mib"] = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return row


@contextmanager
def _tensor_float_32(allowed: bool) -> Iterator[None]:
    """These two switches, though old, are the ones that `torch.compile` can read in torch 2.11 to 2.13."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _time_all(size: Size, device: torch.device, path: Path, about: dict, provenance: Callable[[], dict],
              seconds_left: Callable[[], float], compiled: bool) -> None:  # fmt: skip
    """All rows of the table of times that are not stored yet, while there is time."""
    stored = _stored(path, about)
    rows = stored.get("rows", [])
    done = {tuple(row[key] for key in ("image_size", "pass", "precision", "channels_last", "compiled")) for row in rows}
    wanted = itertools.product(size.image_sizes, PASSES, PRECISIONS, (True,) if compiled else (False, True), (compiled,))
    for case in wanted:
        if case in done or seconds_left() < (COMPILE_SECONDS if compiled else 5):
            continue
        torch.compiler.reset()
        try:
            row = time_network(size.preset, *case, device)
        except torch.OutOfMemoryError:
            row = dict(zip(("image_size", "pass", "precision", "channels_last", "compiled"), case), error="out of memory")
        print(row)
        rows.append(row)
        content = {"device": about, "preset": size.preset, "counted": _counted(size), "rows": rows, "provenance": provenance()}
        files.write_json(path, content)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _counted(size: Size) -> list[dict]:
    """MACs of one image and, for float32, the memory of its activations, counted from shapes."""
    rows = []
    with torch.device("meta"):
        network = S3RNet.from_preset(size.preset, HSI_BANDS, MSI_BANDS)
        for length in size.image_sizes:
            x_h, x_m = torch.empty(1, HSI_BANDS, length // SCALE, length // SCALE), torch.empty(1, MSI_BANDS, length, length)
            mib = {which: complexity.peak_memory(network, x_h, x_m, which != "forward") / 2**20 for which in PASSES}
            rows.append({"image_size": length, "macs": complexity.count(network, x_h, x_m).macs, "activations_mib": mib})
    return rows


def _plan(size: Size, path: Path, about: dict, minutes: float) -> dict:
    """The number of steps of each variant, from the time of a few; fixed in the first call."""
    if path.exists():
        return _stored(path, about)
    region, val, _ = scenes.split(scenes.indian_pines())
    config = _config(size, min(20, size.most_steps), {})
    model = training.wrap(S3RNet.from_preset(size.preset, len(region.cube), MSI_BANDS), [region], config)
    training.fit(model, region, val, config, progress=False)  # for warming up
    step_seconds = training.fit(model, region, val, config, progress=False).seconds / config.steps
    steps = min(max(10, int(0.6 * 60 * minutes / len(VARIANTS) / step_seconds)), size.most_steps)
    plan = {"device": about, "size": asdict(size), "step_seconds": step_seconds, "minutes": minutes, "steps": steps}
    files.write_json(path, plan)
    print(f"A step takes {step_seconds:.3f} s: {steps} steps for each of {len(VARIANTS)} variants.")
    return plan


def _config(size: Size, steps: int, changes: dict) -> training.TrainingConfig:
    return replace(
        training.CONFIGS["paper"], steps=steps, crop=size.crop, batch_size=size.batch_size, precision="bf16-mixed",
        validate_every=max(1, steps // 10), seed=SEED, **changes,
    )  # fmt: skip


def _train(name: str, variant: dict, size: Size, steps: int, device: torch.device, path: Path, work: Path, about: dict,
           provenance: Callable[[], dict], seconds_left: Callable[[], float]) -> None:  # fmt: skip
    """Train one variant, or go on with it; if it gets to its last step, keep the model in `work` and its scores in `path`."""
    stored = _stored(path, about)
    if name in stored.get("variants", {}) or seconds_left() < 1:
        return
    region, val, test = scenes.split(scenes.indian_pines())
    more = [
        scenes.simulate(seed, size.simulated_size, region.wavelengths_nm, region.fwhm_nm) for seed in range(variant.get("simulated", 0))
    ]
    config, changes = _config(size, steps, variant.get("config", {})), variant.get("network", {})
    torch.manual_seed(SEED)
    network = S3RNet.from_preset(size.preset, len(region.cube), MSI_BANDS, **changes)
    slug = "_".join(name.replace(",", "").lower().split())
    state, checkpoint = work / f"{slug}.state.safetensors", work / f"{slug}.safetensors"
    print(name)
    history = training.fit(network, [region, *more], val, config, state_file=state, minutes=max(seconds_left(), 0) / 60)
    if not history.complete:
        return
    facts = {"config": asdict(config), "scenes": [scene.name for scene in (region, *more)], "validation": history.validation}
    training.save_checkpoint(checkpoint, history.model, size.preset, {"training": facts, "provenance": provenance()}, changes)
    variants = stored.get("variants", {}) | {name: {**facts, "seconds": history.seconds, **_scores(history.model, test, device)}}
    files.write_json(path, {"device": about, "preset": size.preset, "variants": variants, "provenance": provenance()})
    state.unlink()


def _scores(model: FusionModel, test: scenes.Scene, device: torch.device) -> dict:
    """How good the model is on unseen pixels, and what it owes to either input, without noise and with; computed on `device`."""
    model.to(device)
    handles = [
        model.register_forward_pre_hook(lambda _model, inputs: tuple(x.to(device) for x in inputs)),
        model.register_forward_hook(lambda _model, _inputs, output: output.cpu()),
    ]
    try:
        with _tensor_float_32(False):
            dependence = [robustness.dependence(model, test, snr_db) for snr_db in (None, 35.0, 15.0)]
            return {"scores": evaluation.score_model(model, test), "dependence": dependence}
    finally:
        for handle in handles:
            handle.remove()


def _stored(path: Path, about: dict | None = None) -> dict:
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    if about is not None and content["device"]["name"] != about["name"]:
        raise ValueError(f"{path}: begun on {content['device']['name']}, this is {about['name']}; move it away to begin anew")
    return content
