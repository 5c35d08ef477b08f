"""What each command of `python -m s3rnet_lite` does; `__main__` reads their arguments."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, replace

import torch
from tqdm import tqdm

from . import metrics, training
from .analysis import complexity
from .experiments import (
    ablations,
    adaptation_truth,
    comparison,
    evaluation,
    robustness,
    tiling_speed,
)
from .files import atomic, formats, provenance
from .inference import adaptation, report, tiled_files
from .network.s3rnet import S3RNet
from .peers import registry
from .sensing import scenes, sensors
from .sensing.degradation import Degradation

VALIDATION_PATCHES = 8  # of a prepared data set, in training
METRIC_NAMES = (
    "psnr_pooled_scene_peak",
    "psnr_band_mean_band_peak",
    "sam_degrees",
    "ergas",
    "rmse",
)


def train(arguments: argparse.Namespace) -> None:
    """Train one network on the Indian Pines training region, or on a prepared data set, and store
    it with its card.
    """
    if arguments.data is None:
        region, val, _ = scenes.split(scenes.indian_pines())
        degrade, sources = None, {"scene": region.name, "validation_scene": val.name}
    else:
        from .training import dataset

        data, region = dataset.load(arguments.data), dataset.references(arguments.data, "train")
        patches = min(VALIDATION_PATCHES, len(dataset.references(arguments.data, "val")))
        val = [dataset.scene(arguments.data, "val", i) for i in range(patches)]
        degrade = data.degradation(arguments.msi_bands)
        lines = {part: [line["name"] for line in data.parts[part]] for part in ("train", "val")}
        sources = {
            "data": data.folder.name,
            "flight_lines": lines,
            "validation_scene": [scene.name for scene in val],
        }
    names = (
        "steps",
        "snr_db",
        "batch_size",
        "crop",
        "precision",
        "accumulate",
        "checkpoint_activations",
        "compile",
    )
    changes = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    config = replace(
        training.CONFIGS[arguments.preset],
        seed=arguments.seed,
        denoise=arguments.denoise,
        **changes,
    )
    torch.manual_seed(arguments.seed)
    network = S3RNet.from_preset(
        arguments.preset,
        len(region.cube) if degrade is None else degrade.srf.shape[1],
        arguments.msi_bands,
    )
    history = training.fit(
        network,
        region,
        val,
        config,
        degrade,
        state_file=arguments.state,
        minutes=arguments.minutes,
        save_minutes=arguments.save_minutes,
        devices=arguments.devices,
        num_nodes=arguments.num_nodes,
        log=arguments.log,
    )
    if history.rank > 0:
        return
    if not history.complete:
        print(
            f"Stopped after {len(history.loss)} of {config.steps} steps; the same command goes on from {arguments.state}."
        )
        return
    facts = {
        "training": {**sources, "config": asdict(config), "validation": history.validation},
        "loss_every_20_steps": [
            round(statistics.fmean(history.loss[i : i + 20]), 5)
            for i in range(0, len(history.loss), 20)
        ],
        "provenance": provenance.facts(
            arguments.seed, history.seconds, history.model.output_mean.device.type
        ),
    }
    training.save_checkpoint(arguments.out, history.model, arguments.preset, facts)
    print(f"Wrote {arguments.out}")


def run_on_gpu(arguments: argparse.Namespace) -> None:
    """Time and train the paper's network on this machine's GPU; the same command goes on where it
    stopped. Tiny without a GPU.
    """
    from .experiments import gpu

    gpu.run(arguments.minutes, arguments.out)


def evaluate(arguments: argparse.Namespace) -> None:
    """Score checkpoints, if any, and classical methods on the Indian Pines test region, or on the
    test patches of a data set.
    """
    began = time.perf_counter()
    models = [training.load_checkpoint(path) for path in arguments.checkpoint]
    cards = [json.loads(path.with_suffix(".json").read_text()) for path in arguments.checkpoint]
    if arguments.data is None:
        region, _, test = scenes.split(scenes.indian_pines())
        degrade = Degradation(
            srf=sensors.landsat_tm(test.wavelengths_nm, arguments.msi_bands, test.fwhm_nm)
        )
    else:
        from .training import dataset

        degrade = dataset.load(arguments.data).degradation(arguments.msi_bands)
    if models:
        degrade = models[0].degrade
    if any(model.degrade.card() != degrade.card() for model in models):
        raise ValueError(
            "--checkpoint: the checkpoints were trained with different degradations; their scores cannot be compared"
        )
    if arguments.data is not None:
        patches = len(dataset.references(arguments.data, "test"))
        found = (
            dataset.scene(arguments.data, "test", index)
            for index in tqdm(range(patches), unit="patch")
        )
        rows = evaluation.score_many(
            degrade,
            {path.name: model for path, model in zip(arguments.checkpoint, models, strict=True)},
            found,
        )
        _print_table(rows)
        if arguments.out:
            origin = provenance.facts(0, time.perf_counter() - began)
            content = {
                "data": arguments.data.name,
                "patches": patches,
                "mean_scores": rows,
                "degradation": degrade.card(),
            }
            atomic.write_json(arguments.out, content | {"provenance": origin})
            print(f"Wrote {arguments.out}")
        return

    rows = evaluation.score_baselines(degrade, region, test)
    networks = [
        {
            "checkpoint": path.name,
            "preset": card["network"]["preset"],
            "seed": card["training"]["config"]["seed"],
            **evaluation.score_model(model, test),
            "trained_seconds": card["provenance"]["wall_seconds"],
        }
        for path, model, card in zip(arguments.checkpoint, models, cards, strict=True)
    ]
    ceiling = metrics.noise_ceiling(test.cube, degrade.scale, test.scale)
    _print_table(
        {
            **rows,
            **{row["checkpoint"]: row for row in networks},
            "noise ceiling (about 2 dB)": ceiling,
        }
    )
    if arguments.out:
        content = {
            "scene": test.name,
            "rmse_unit": scenes.RADIANCE_UNIT,
            "networks": networks,
            "baselines": rows,
            "noise_ceiling": ceiling,
            "summary": {
                name: _mean_and_spread([row[name] for row in networks]) for name in METRIC_NAMES
            }
            if networks
            else {},
            "degradation": degrade.card(),
            "provenance": provenance.facts(
                [n["seed"] for n in networks], time.perf_counter() - began
            ),
        }
        atomic.write_json(arguments.out, content)
        print(f"Wrote {arguments.out}")


def compare(arguments: argparse.Namespace) -> None:
    """Train S3RNet and its ten peers (lite presets) with equal CPU time on the same data, score
    them, and print our Table I.

    Runs that are stored already are not repeated: the same command goes on where it was stopped.
    """
    comparison.compare(
        registry.NAMES,
        arguments.recipe,
        arguments.msi_bands,
        arguments.seeds,
        arguments.seconds,
        arguments.workers,
    )
    print(comparison.format_table(comparison.stored(), arguments.msi_bands))


def robust(arguments: argparse.Namespace) -> None:
    """Train the eleven networks without noise, with 35 dB and with random noise on the LR-HSI, and
    score all under noise and faults.

    Runs that are stored already are not repeated: the same command goes on where it was stopped.
    """
    robustness.run_all(
        arguments.network, arguments.recipe, arguments.seeds, arguments.seconds, arguments.workers
    )
    for recipe in arguments.recipe:
        for snr in (None, 35, 15):
            names, noises, scores = robustness.table(robustness.stored(), recipe, snr)
            print(
                f"\n{recipe} recipe, {'no noise' if snr is None else f'{snr} dB'} on the LR-HSI: pooled PSNR, by training noise"
            )
            print(f"{'':18}" + "".join(f"{noise:>10}" for noise in noises))
            for name, row in zip(names, scores, strict=True):
                print(f"{name:18}" + "".join(f"{score:10.2f}" for score in row))


def ablate(arguments: argparse.Namespace) -> None:
    """Train the lite preset with one part changed at a time, and validate each variant (never on
    the test region).
    """
    began = time.perf_counter()
    rows = [
        ablations.run(name, arguments.msi_bands, arguments.steps, arguments.seed)
        for name in ablations.VARIANTS
    ]
    content = {
        "msi_bands": arguments.msi_bands,
        "steps": arguments.steps,
        "variants": rows,
        "provenance": provenance.facts(arguments.seed, time.perf_counter() - began),
    }
    atomic.write_json(arguments.out, content)
    print(f"Wrote {arguments.out}")


def adapt(arguments: argparse.Namespace) -> None:
    """Fuse one pair of your own without ground truth: learn on the pair degraded once more, and
    report what can be known.
    """
    config = replace(adaptation.CONFIG, seed=arguments.seed, steps=arguments.steps)
    found, written = report.run(
        arguments.hsi, arguments.msi, arguments.out, arguments.srf, arguments.psf_sigma, config
    )
    _print_table(found.report["held_out"]["scores"])
    print(found.report["recommendation"], *(f"Wrote {path}" for path in written), sep="\n")


def benchmark_adapt(arguments: argparse.Namespace) -> None:
    """Measure `adapt` on pairs made from images, where the truth is known."""
    began = time.perf_counter()
    content = adaptation_truth.run()
    atomic.write_json(
        arguments.out,
        {
            **content,
            "provenance": provenance.facts(adaptation.CONFIG.seed, time.perf_counter() - began),
        },
    )
    print(f"Wrote {arguments.out}")


def fuse(arguments: argparse.Namespace) -> None:
    """Fuse one LR-HSI and one HR-MSI of any size, tile by tile. A killed run goes on with the same
    command.
    """
    model = training.load_checkpoint(arguments.checkpoint)
    hsi, msi = formats.open_cube(arguments.hsi), formats.open_cube(arguments.msi)
    shape = tiled_files.fuse(
        model,
        hsi,
        msi,
        arguments.out,
        arguments.tile,
        arguments.overlap,
        arguments.scale,
        arguments.offset,
    )
    print(f"Wrote {arguments.out}: {' x '.join(map(str, shape))} (bands x height x width)")


def benchmark_fuse(arguments: argparse.Namespace) -> None:
    """Measure time, peak memory and exactness of `fuse`."""
    began = time.perf_counter()
    content = {
        "scaling": tiling_speed.scaling(arguments.sizes),
        "exactness": tiling_speed.exactness(),
    }
    atomic.write_json(
        arguments.out, {**content, "provenance": provenance.facts(0, time.perf_counter() - began)}
    )
    print(f"Wrote {arguments.out}")


def prepare(arguments: argparse.Namespace) -> None:
    """Cut AVIRIS flight lines into the paper's data set; run again, it checks what is there and
    makes what is missing.
    """
    from .training import dataset

    finished = (arguments.out / dataset.CARD).exists()
    prepared = dataset.prepare(
        arguments.out,
        arguments.files,
        arguments.simulate,
        arguments.patch,
        arguments.keep_bands,
        arguments.seed,
        arguments.workers,
    )
    for part, lines in prepared.parts.items():
        flights = len({line["flight_line"] for line in lines})
        print(
            f"{part:6}{sum(line['patches'] for line in lines):6} patches of {flights} flight lines"
        )
    print(f"{'Verified all checksums of' if finished else 'Wrote'} {arguments.out}")


def count(arguments: argparse.Namespace) -> None:
    """Count parameters, multiply-accumulates (MACs), FLOPs and memory without running the
    network.
    """
    with torch.device("meta"):
        network = registry.build(
            arguments.network, arguments.preset, arguments.hsi_bands, arguments.msi_bands
        )
        x_h = torch.empty(
            1, arguments.hsi_bands, arguments.size // network.scale, arguments.size // network.scale
        )
        x_m = torch.empty(1, arguments.msi_bands, arguments.size, arguments.size)
    counted = complexity.count(network, x_h, x_m)
    memory = complexity.peak_memory(network, x_h, x_m) / 2**20
    print(
        f"parameters {counted.parameters:>14,}\nGMACs      {counted.macs / 1e9:>14,.2f}\nGFLOPs     {counted.flops / 1e9:>14,.2f}"
    )
    print(f"peak MiB   {memory:>14,.0f}  (activations of one forward pass without gradients)")


def compare_with_plain(arguments: argparse.Namespace) -> None:
    """Time S3RNet's forward pass and training step against a plain implementation of the same
    equations, and the machine's ceiling.
    """
    from .experiments import speed

    content = speed.run(arguments.preset, arguments.size, arguments.runs)
    print(f"{content['cpu']}, {content['threads']} threads\n{speed.format_rows(content['rows'])}")
    if arguments.out:
        atomic.write_json(arguments.out, content)
        print(f"Wrote {arguments.out}")


def run_notebooks(arguments: argparse.Namespace) -> None:
    """Execute every chapter; the executed copies go to runs/notebooks/, or into the chapters
    themselves.
    """
    from .course import (
        notebooks,
        # here, because importing nbformat takes seconds that the other commands need not wait
        readme,
    )

    notebooks.execute(arguments.in_place)
    if arguments.in_place:
        readme.write()
    where = notebooks.FOLDER if arguments.in_place else notebooks.EXECUTED_COPIES
    print(f"Executed chapters: {where}\nFigures: {notebooks.REPOSITORY / 'figures'}")


def write_labs(arguments: argparse.Namespace) -> None:
    """Write the student versions of the chapters, with stubs for solutions, to notebooks/labs/."""
    from .course import labs

    for path in labs.write():
        print(f"Wrote {path}")


def _mean_and_spread(values: list[float]) -> dict[str, float]:
    return {
        "mean": statistics.fmean(values),
        "standard_deviation": statistics.stdev(values) if len(values) > 1 else 0.0,
    }


def _print_table(rows: dict[str, dict]) -> None:
    headings = ("pooled PSNR", "band PSNR", "SAM [deg]", "ERGAS", "RMSE")
    print(" " * 54 + "".join(f"{heading:>13}" for heading in headings))
    for name, row in rows.items():
        print(f"{name:54}" + "".join(f"{row[metric]:13.3f}" for metric in METRIC_NAMES))
