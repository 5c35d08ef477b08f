"""One resumable command that times and trains the paper's network on a CUDA GPU; used in
notebooks/10_gpu_training.ipynb.

Without a GPU the same lines run at tiny size, to show that they run; what they measure then is
worth nothing and is kept apart.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from .. import training
from ..files import provenance
from ..network.s3rnet import S3RNet
from ..sensing import scenes
from ..sensing.degradation import Degradation
from ..training import sources
from ..training.config import steps_of
from ..training.devices import tensor_float_32
from ..training.fusion import FusionModel
from ..training.sources import INDIAN_PINES, Source
from . import evaluation, robustness
from .gpu_check import smoke
from .gpu_timing import MSI_BANDS, SEED, Call, Size, describe, slug, stored, time_all
from .inside import inside

WORK = provenance.REPOSITORY / "runs" / "gpu"
PAPER_EPOCHS = 600
TEST_PATCHES = 8  # of a data set, scored in full detail; `evaluate` scores all

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


# 16 crops of 64 x 64 are as many pixels as the paper's 4 of 128 x 128, which the training region
# has no room for.
FULL = Size(
    "paper", crop=64, batch_size=16, most_steps=252_000, image_sizes=(128, 256), simulated_size=256
)
TINY = Size("tiny", crop=16, batch_size=2, most_steps=4, image_sizes=(16, 32), simulated_size=32)


def run(
    minutes: float,
    out: Path | None = None,
    work: Path = WORK,
    data: Path | None = None,
    epochs: int | None = None,
) -> Call:
    """Check one step (`gpu_check.smoke`), time, train, evaluate; go on where the last call stopped;
    stay inside `minutes`, apart from one step, evaluation or compilation.

    The number of steps is chosen in the first call, so that the variants take about 60 % of its
    minutes, and stays: a learning rate that follows half a cosine needs to know its end. Each kind
    of GPU has results of its own, `gpu_timing_KIND.json` and `gpu_training_KIND.json`, in `out`
    (`data/results`); without a GPU they go to `work`, like states and checkpoints.

    Args:
        data: a prepared data set, to train on it alone, by the paper's own recipe: its network,
            crops, batches, learning rate and number of epochs. Nothing else is timed or trained,
            and the result, `gpu_data_NAME_KIND.json`, goes to `work` unless `out` says otherwise.
        epochs: on `data`; `PAPER_EPOCHS` if None.

    Raises:
        ValueError: `minutes` is not positive; `epochs` without `data`; `gpu_check.smoke` has found
            something; a finished training on other data of that name.
    """
    if not minutes > 0:
        raise ValueError(f"minutes: expected a positive number, got {minutes}")
    if epochs is not None and data is None:
        raise ValueError(f"epochs: expected data too, got {epochs} epochs of nothing")
    source = None if data is None else Source(Path(data), test_patches=TEST_PATCHES)
    parts = None if source is None else sources.load(source)  # bad files are named first
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = slug(describe(device)["name"])
    work = Path(work) / kind
    out = out or (provenance.RESULTS_FOLDER if data is None else work)
    size, out = (FULL, Path(out)) if device.type == "cuda" else (TINY, work)
    if device.type == "cpu":
        text = "No CUDA GPU here: the same path at tiny size. Its results are worth nothing and go"
        print(f"{text} to {out}.")
    print(", ".join(f"{name} {value}" for name, value in describe(device).items()))
    trained = "training" if source is None else f"data_{slug(source.name)}"
    files = (out / f"gpu_{what}_{kind}.json" for what in ("timing", trained))
    call = Call(device, size, minutes, time.perf_counter(), work, *files)
    if source is None or parts is None:
        smoke(size.preset, _config(size, 1, {}), device)
        _time_and_train(call)
    else:
        config = _paper_config(size, len(parts.train), epochs or PAPER_EPOCHS)
        smoke(size.preset, config, device)
        _train_on(call, source, config)
    return call


def _time_and_train(call: Call) -> None:
    time_all(call, share=0.25)
    steps = _planned_steps(call)
    for name in VARIANTS:
        _train_variant(call, name, steps)
    time_all(call)
    if call.device.type == "cuda":  # for a processor, to generate code takes minutes, gains little
        time_all(call, compiled=True)
    missing = [name for name in VARIANTS if name not in stored(call.training).get("variants", {})]
    if missing:
        print(f"Not trained yet: {'; '.join(missing)}. The same command goes on.")
    else:
        print(f"All is trained: {call.training}")


def _train_on(call: Call, source: Source, config: training.TrainingConfig) -> None:
    """The paper's recipe on a prepared data set."""
    name = f"paper on {source.name}"
    there = stored(call.training).get("variants", {}).get(name, {}).get("source", source.facts())
    if there != source.facts():
        raise ValueError(
            f"{call.training}: expected a training on {source.facts()}, got one on {there}"
        )
    parts, degrade = sources.load(source), source.degrade(MSI_BANDS)
    _train(call, name, config, {}, parts, degrade, {"source": source.facts()})
    if name in stored(call.training).get("variants", {}):
        print(f"Trained and scored on {len(parts.test)} test patches: {call.training}")
        model = call.work / f"{slug(name)}.safetensors"
        print(f"All patches: s3rnet-lite evaluate --data {source.data} --checkpoint {model}")


def _paper_config(size: Size, images: int, epochs: int) -> training.TrainingConfig:
    """The paper's settings, of which a processor keeps the form only."""
    config = training.CONFIGS["paper"]
    if size.preset != "paper":
        return replace(config, crop=size.crop, batch_size=size.batch_size, steps=size.most_steps)
    return replace(config, steps=steps_of(epochs, images, config.batch_size))


def _planned_steps(call: Call) -> int:
    """The number of steps of each variant, from the time of a few; fixed in the first call."""
    path = call.work / "plan.json"
    if plan := stored(path):
        return plan["steps"]
    region, val, _ = scenes.split(scenes.indian_pines())
    config = _config(call.size, min(20, call.size.most_steps), {})
    network = S3RNet.from_preset(call.size.preset, len(region.cube), MSI_BANDS)
    model = training.wrap(network, [region], config)
    training.fit(model, region, val, config, progress=False)  # for warming up
    step_seconds = training.fit(model, region, val, config, progress=False).seconds / config.steps
    affordable = int(0.6 * 60 * call.minutes / len(VARIANTS) / step_seconds)
    steps = min(max(10, affordable), call.size.most_steps)
    plan = {"size": asdict(call.size), "minutes": call.minutes, "step_seconds": step_seconds}
    call.store(path, {**plan, "steps": steps})
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


def _train_variant(call: Call, name: str, steps: int) -> None:
    """One of `VARIANTS`, on Indian Pines and what it adds."""
    variant, size = VARIANTS[name], call.size
    region, val, test = scenes.split(scenes.indian_pines())
    try:
        more = [
            scenes.simulate(seed, size.simulated_size, region.wavelengths_nm, region.fwhm_nm)
            for seed in range(variant.get("simulated", 0))
        ]
    except FileNotFoundError as error:
        print(f"{name}: left out: {error}")
        return
    config, changes = _config(size, steps, variant.get("config", {})), variant.get("network", {})
    parts = sources.Parts([region, *more], [val], [test])
    seen = {"scenes": [scene.name for scene in (region, *more)]}
    _train(call, name, config, changes, parts, INDIAN_PINES.degrade(MSI_BANDS), seen)


def _train(
    call: Call,
    name: str,
    config: training.TrainingConfig,
    changes: dict,
    parts: sources.Parts,
    degrade: Degradation,
    seen: dict,
) -> None:
    """Train, or go on. After the last step the model goes to `work`, and its scores, with what it
    has `seen`, to the results.
    """
    variants = stored(call.training).get("variants", {})
    if name in variants or call.seconds_left(0.9) < 1:
        return
    print(name)
    torch.manual_seed(SEED)
    hsi_bands = degrade.srf.shape[1]
    network = S3RNet.from_preset(call.size.preset, hsi_bands, MSI_BANDS, **changes)
    stem = call.work / slug(name)
    state, left = stem.with_suffix(".state.safetensors"), max(call.seconds_left(0.9), 0) / 60
    how = dict(state_file=state, minutes=left)
    history = training.fit(network, parts.train, parts.val, config, degrade, **how)
    done = len(history.loss)
    if not history.complete:
        hours = history.seconds / done * (config.steps - done) / 3600
        print(f"{done:,} of {config.steps:,} steps; {hours:.1f} hours more at this pace.")
        return
    facts = {"config": asdict(config), **seen, "validation": history.validation}
    checkpoint = stem.with_suffix(".safetensors")
    training.save_checkpoint(
        checkpoint, history.model, call.size.preset, {"training": facts}, changes
    )
    spent = {"training_seconds": history.seconds, "loss": history.loss[-1]}
    scores = evaluation.mean([_scores(history.model, test, call.device) for test in parts.test])
    content = {
        "degradation": degrade.card(),
        "variants": {**variants, name: facts | spent | scores},
    }
    call.store(call.training, content)
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
        with tensor_float_32(False):
            dependence = [robustness.dependence(model, test, snr) for snr in (None, 35.0, 15.0)]
            scores = evaluation.score_model(model, test)
            return {"scores": scores, "dependence": dependence, "inside": inside(model, test)}
    finally:
        for handle in handles:
            handle.remove()
