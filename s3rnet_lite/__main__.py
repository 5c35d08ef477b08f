"""The command line: `s3rnet-lite COMMAND`, or `python -m s3rnet_lite COMMAND`; `--help` lists the
commands, and what each takes. More commands stand in `inference`, `experiments` and `course`.
"""

from __future__ import annotations

import argparse
import io
import sys
import warnings
from pathlib import Path

from .course import commands as _course  # noqa: F401 (adds notebooks and labs)
from .experiments import commands as _experiments  # noqa: F401 (adds compare and others)
from .files import interrupts
from .files.command_line import (
    LEAST,
    MOST_PIXELS,
    PRESETS,
    SEED,
    SKIPS,
    SNR_DB,
    OneOrRange,
    check_outputs,
    command,
    flag,
    limited,
    maybe,
    number,
    option,
    output,
    parser,
    path,
    result_file,
    simulated_bands,
)
from .inference import commands as _inference  # noqa: F401 (adds fuse and others)
from .sensing import commands as _sensing  # noqa: F401 (adds scenes and check-scene)

SCENE = option("--scene", help="a name of `s3rnet-lite scenes` (default: Indian Pines)")
SCENE_FILE = path("--file", "the scene's file or folder", required=False)
VALIDATION_PATCHES = 8  # of a prepared data set, in training


@command(
    "train",
    option(
        "--preset",
        choices=PRESETS,
        default="lite",
        help="size of the network and its training settings (default: lite)",
    ),
    path(
        "--data",
        "folder from prepare, instead of Indian Pines; "
        f"{VALIDATION_PATCHES} of its patches validate",
        required=False,
    ),
    SCENE,
    SCENE_FILE,
    simulated_bands(6),
    SEED,
    maybe("--steps", int, "weight updates, if not the preset's own number"),
    option(
        "--snr-db",
        type=limited(float, *SNR_DB),
        nargs="+",
        action=OneOrRange,
        help="noise on the LR-HSI in training: decibels, or a range",
    ),
    flag("--denoise", "a Wiener filter takes white noise out of the LR-HSI first"),
    maybe(
        "--batch-size",
        int,
        "crops in a batch, of all devices together, if not the preset's own number",
    ),
    maybe("--crop", int, "side of a crop in HR pixels, if not the preset's own", 4, MOST_PIXELS),
    option("--precision", choices=("32-true", "bf16-mixed", "16-mixed"), help="default: 32-true"),
    maybe(
        "--accumulate", int, "send a batch through the network in so many parts, for less memory"
    ),
    option("--skip", choices=SKIPS, help="what the network corrects (default: the preset's)"),
    flag("--checkpoint-activations", "compute more and keep less, for less memory"),
    flag("--compile", "let torch.compile fuse the network's operations"),
    number("--devices", 1, "graphics cards, or processes on a CPU"),
    number("--num-nodes", 1, "machines with so many devices each"),
    maybe("--minutes", float, "stop after so many minutes; needs --state to go on later", LEAST),
    output(
        "--state",
        "file (.safetensors) to keep the run in, and to go on from if it exists",
        (".safetensors",),
        required=False,
    ),
    number("--save-minutes", 10.0, "between writings of --state", 0),
    path("--log", "folder for TensorBoard", required=False),
    output(
        "--out",
        "checkpoint to write (.safetensors; .json metadata goes beside it)",
        (".safetensors",),
        (".json",),
    ),
    example="--msi-bands 6 --out model.safetensors",
)
def train(arguments: argparse.Namespace) -> None:
    """Train one network on the Indian Pines training region, or on a prepared data set, and store
    it with its metadata.
    """
    import statistics
    from dataclasses import asdict, replace

    import torch

    from . import training
    from .files import provenance
    from .network.s3rnet import S3RNet

    if arguments.minutes is not None and arguments.state is None:
        raise ValueError("--minutes: expected --state too, or what is trained would be lost")
    config = training.CONFIGS[arguments.preset]
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    config = replace(config, **{name: given[name] for name in asdict(config) if name in given})
    regions, degrade, sources = _regions(arguments)
    torch.manual_seed(config.seed)
    network = S3RNet.from_preset(arguments.preset, degrade.srf.shape[1], arguments.msi_bands)
    names = ("minutes", "save_minutes", "devices", "num_nodes", "log")
    settings = {name: getattr(arguments, name) for name in names}
    history = training.fit(
        network, *regions, config, degrade, state_file=arguments.state, **settings
    )
    done = len(history.loss)
    if history.rank > 0:
        return
    if not history.complete:
        where = f"the same command goes on from {arguments.state}."
        print(f"Stopped after {done} of {config.steps} steps; {where}")
        return
    losses = [statistics.fmean(history.loss[i : i + 20]) for i in range(0, done, 20)]
    device = history.model.output_mean.device.type
    facts = {
        "training": {**sources, "config": asdict(config), "validation": history.validation},
        "loss_every_20_steps": [round(loss, 5) for loss in losses],
        "provenance": provenance.facts(config.seed, history.seconds, device),
    }
    training.save_checkpoint(arguments.out, history.model, arguments.preset, facts)
    print(f"Wrote {arguments.out}")


def _scene(name: str | None, file: Path | None):
    """The public scene of that name from its file; Indian Pines if neither is given."""
    from .sensing import scenes

    if (name is None) != (file is None):
        raise ValueError("--scene, --file: expected both or neither; see s3rnet-lite scenes")
    return scenes.indian_pines() if name is None or file is None else scenes.public(name, file)


def _regions(arguments: argparse.Namespace) -> tuple[tuple, object, dict]:
    """Training and validation images, the degradation, and what the metadata says of them."""
    folder, msi_bands = arguments.data, arguments.msi_bands
    if folder is None:
        from .sensing import degradation, scenes

        region, val, _ = scenes.split(_scene(arguments.scene, arguments.file))
        sources = {"scene": region.name, "validation_scene": val.name}
        return (region, val), degradation.simulated(region, msi_bands), sources
    from .training import dataset

    data, references = dataset.load(folder), dataset.references(folder, "train")
    patches = min(VALIDATION_PATCHES, len(dataset.references(folder, "val")))
    val = [dataset.scene(folder, "val", i) for i in range(patches)]
    sources = {
        "data": data.folder.name,
        "flight_lines": {
            part: [line["name"] for line in data.parts[part]] for part in ("train", "val")
        },
        "validation_scene": [scene.name for scene in val],
    }
    return (references, val), data.degradation(msi_bands), sources


@command(
    "evaluate",
    option(
        "--checkpoint",
        type=Path,
        nargs="*",
        default=[],
        help=".safetensors files of equal degradation",
    ),
    simulated_bands(6),
    path(
        "--data",
        "a folder made by prepare: its test patches (default: Indian Pines)",
        required=False,
    ),
    SCENE,
    SCENE_FILE,
    result_file(required=False),
    example="--checkpoint model.safetensors --out scores.json",
)
def evaluate(arguments: argparse.Namespace) -> None:
    """Score checkpoints, if any, and classical methods on the Indian Pines test region, or on the
    test patches of a data set.
    """
    import time

    from . import metrics
    from .experiments import evaluation
    from .files import atomic, provenance

    began, checkpoints, bands = time.perf_counter(), arguments.checkpoint, arguments.msi_bands
    if arguments.data is None:
        scene = _scene(arguments.scene, arguments.file)
        content = evaluation.on_scene(scene, checkpoints, bands)
        rows = content["baselines"] | {row["checkpoint"]: row for row in content["networks"]}
        if "noise_ceiling" in content:
            rows["noise ceiling (about 2 dB)"] = content["noise_ceiling"]
        seeds = [row["seed"] for row in content["networks"]]
    else:
        content = evaluation.on_data_set(checkpoints, bands, arguments.data)
        rows, seeds = content["mean_scores"], 0
    print(metrics.format_rows(rows))
    if arguments.out:
        origin = provenance.facts(seeds, time.perf_counter() - began)
        atomic.write_json(arguments.out, content | {"provenance": origin})
        print(f"Wrote {arguments.out}")


def main() -> int:
    """Run the command of `sys.argv`; 0, or 2 after an error, whose text goes to stderr, or 130
    after Ctrl-C and 143 after SIGTERM. Without a command, list the commands.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: never fail on a letter
    whole = whole_parser()
    arguments = whole.parse_args()
    if "run" not in arguments:
        whole.print_help()
        return 0
    interrupts.hear_sigterm()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            check_outputs(arguments)
            arguments.run(arguments)
        except (TypeError, ValueError, OSError, FloatingPointError, ImportError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt as stop:
            state = getattr(arguments, "state", None)
            more = f"; the same command goes on from {state}" if state and state.exists() else ""
            print(f"stopped{more}", file=sys.stderr)
            return 143 if isinstance(stop, interrupts.Terminated) else 130
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """The parser of every command; `shtab` makes a shell's completions of it."""
    name = Path(sys.argv[0]).stem
    program = name if name == "s3rnet-lite" else "python -m s3rnet_lite"
    return parser(program, "Hyperspectral and multispectral image fusion with S3RNet.")


def _show_warning(message, *_where) -> None:
    print(f"warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
