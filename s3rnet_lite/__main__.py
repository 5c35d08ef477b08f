"""The command line: `s3rnet-lite COMMAND`, or `python -m s3rnet_lite COMMAND`; `--help` lists the
commands, and what each takes. All but `train` stand in the rooms whose work they call.
"""

from __future__ import annotations

import argparse
import io
import sys
import warnings
from pathlib import Path

from .course import commands as _course  # noqa: F401 (adds notebooks and labs)
from .experiments import benchmark_commands as _benchmarks  # noqa: F401 (adds gpu and others)
from .experiments import commands as _experiments  # noqa: F401 (adds compare and others)
from .files import interrupts
from .files.command_line import (
    DATA,
    LEAST,
    MOST_PIXELS,
    NETWORKS,
    PRESETS,
    SCENE,
    SCENE_FILE,
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
    simulated_bands,
)
from .inference import commands as _inference  # noqa: F401 (adds fuse and others)
from .sensing import commands as _sensing  # noqa: F401 (adds scenes and check-scene)


@command(
    "train",
    option("--network", choices=NETWORKS, default="s3rnet", help="default: s3rnet"),
    option(
        "--preset",
        choices=PRESETS,
        default="lite",
        help="size of the network and its training settings (default: lite; tiny: s3rnet only)",
    ),
    DATA,
    SCENE,
    SCENE_FILE,
    simulated_bands(6),
    SEED,
    maybe("--steps", int, "weight updates, if not the preset's own number"),
    maybe("--epochs", int, "instead of --steps: each takes as many crops as --data has patches"),
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
    """Train S3RNet or one of its peers on the Indian Pines training region, another scene, or a
    prepared data set, and store it with its metadata.

    The settings are the preset's for every network; `compare` has the recipes of the peers' own
    papers. The paper's 600 epochs of 1,678 images in batches of 4 are 252,000 steps: an epoch takes
    as many random crops as there are training patches. Of a data set, 8 patches validate.
    """
    import statistics
    from dataclasses import asdict

    import torch

    from . import training
    from .files import provenance
    from .peers import registry
    from .training import sources

    name, preset = arguments.network, arguments.preset
    source = sources.Source(arguments.data, arguments.scene, arguments.file)
    check_training(arguments)
    degrade, parts = source.degrade(arguments.msi_bands), sources.load(source)
    config = training_config(arguments, len(parts.train))
    changes = registry.without_own_skip(name, config.skip)
    torch.manual_seed(config.seed)
    msi_bands, hsi_bands = degrade.srf.shape
    network = registry.build(name, preset, hsi_bands, msi_bands, **changes)
    names = ("minutes", "save_minutes", "devices", "num_nodes", "log")
    settings = {name: getattr(arguments, name) for name in names}
    history = training.fit(
        network, parts.train, parts.val, config, degrade, state_file=arguments.state, **settings
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
    seen = sources.names(source)
    facts = {
        "training": {**seen, "config": asdict(config), "validation": history.validation},
        "loss_every_20_steps": [round(loss, 5) for loss in losses],
        "provenance": provenance.facts(config.seed, history.seconds, device),
    }
    training.save_checkpoint(arguments.out, history.model, preset, facts, changes)
    print(f"Wrote {arguments.out}")


def check_training(arguments: argparse.Namespace) -> None:
    """Refuse options of `train` that contradict one another, before anything is read.

    Raises:
        ValueError: names them.
    """
    if arguments.minutes is not None and arguments.state is None:
        raise ValueError("--minutes: expected --state too, or what is trained would be lost")
    if arguments.preset == "tiny" and arguments.network != "s3rnet":
        raise ValueError(f"--preset: expected paper or lite for {arguments.network}, got tiny")
    if arguments.epochs is not None and arguments.steps is not None:
        raise ValueError(
            f"--steps, --epochs: expected one of them, got {arguments.steps} and {arguments.epochs}"
        )
    if arguments.epochs is not None and arguments.data is None:
        raise ValueError(
            "--epochs: expected --data too, as an epoch goes once through its training patches"
        )


def training_config(arguments: argparse.Namespace, images: int):
    """The preset's `TrainingConfig`, changed as the options of `train` say.

    Args:
        images: for training, which an epoch goes through.
    """
    from dataclasses import asdict, replace

    from .training.config import CONFIGS, steps_of

    config = CONFIGS[arguments.preset]
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    config = replace(config, **{name: given[name] for name in asdict(config) if name in given})
    if arguments.epochs is not None:
        steps = steps_of(arguments.epochs, images, config.batch_size)
        config = replace(config, steps=steps)
    return config


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
