"""The command line: `python -m s3rnet_lite COMMAND`; `--help` lists the commands, and what each
takes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import commands
from .experiments import comparison, robustness
from .files import provenance
from .inference import adaptation, report, tiling
from .network.s3rnet import PRESETS
from .peers import registry
from .sensing import sensors


class OneOrRange(argparse.Action):
    """One number, or two as (lowest, highest)."""

    def __call__(self, parser, namespace, values, option_string=None):
        if len(values) > 2 or values != sorted(values):
            parser.error(
                f"{option_string}: expected one number, or the lowest and the highest, got {values}"
            )
        setattr(namespace, self.dest, values[0] if len(values) == 1 else tuple(values))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m s3rnet_lite",
        description="Hyperspectral and multispectral image fusion with S3RNet.",
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function) -> argparse.ArgumentParser:
        added = subparsers.add_parser(name, help=function.__doc__, description=function.__doc__)
        added.set_defaults(run=function)
        return added

    one = command("train", commands.train)
    one.add_argument(
        "--preset",
        choices=PRESETS,
        default="lite",
        help="size of the network and its training settings (default: lite)",
    )
    one.add_argument(
        "--data",
        type=Path,
        help=f"folder from prepare, instead of Indian Pines; {commands.VALIDATION_PATCHES} patches validate",
    )
    one.add_argument(
        "--msi-bands",
        type=int,
        choices=sensors.LANDSAT_TM_BANDS,
        default=6,
        help="Landsat TM bands (default: 6)",
    )
    one.add_argument(
        "--seed", type=int, default=0, help="of the weights and of every batch (default: 0)"
    )
    one.add_argument("--steps", type=int, help="weight updates, if not the preset's own number")
    one.add_argument(
        "--snr-db",
        type=float,
        nargs="+",
        action=OneOrRange,
        help="noise on the LR-HSI in training: decibels, or a range",
    )
    one.add_argument(
        "--denoise",
        action="store_true",
        help="a Wiener filter takes white noise out of the LR-HSI first",
    )
    one.add_argument(
        "--batch-size",
        type=int,
        help="crops in a batch, of all devices together, if not the preset's own number",
    )
    one.add_argument(
        "--crop", type=int, help="side of a crop in HR pixels, if not the preset's own"
    )
    one.add_argument(
        "--precision", choices=("32-true", "bf16-mixed", "16-mixed"), help="default: 32-true"
    )
    one.add_argument(
        "--accumulate",
        type=int,
        help="send a batch through the network in so many parts, for less memory",
    )
    one.add_argument(
        "--checkpoint-activations",
        action="store_true",
        default=None,
        help="compute more and keep less, for less memory",
    )
    one.add_argument(
        "--compile",
        action="store_true",
        default=None,
        help="let torch.compile fuse the network's operations",
    )
    one.add_argument(
        "--devices", type=int, default=1, help="graphics cards, or processes on a CPU (default: 1)"
    )
    one.add_argument(
        "--num-nodes", type=int, default=1, help="machines with so many devices each (default: 1)"
    )
    one.add_argument(
        "--minutes", type=float, help="stop after so many minutes; needs --state to go on later"
    )
    one.add_argument(
        "--state", type=Path, help="file to keep the run in, and to go on from if it exists"
    )
    one.add_argument(
        "--save-minutes", type=float, default=10, help="between writings of --state (default: 10)"
    )
    one.add_argument("--log", type=Path, help="folder for TensorBoard")
    one.add_argument(
        "--out",
        type=Path,
        required=True,
        help="checkpoint to write (.safetensors; a .json card goes beside it)",
    )

    one = command("gpu", commands.run_on_gpu)
    one.add_argument("--minutes", type=float, default=8, help="to stay inside of (default: 8)")
    one.add_argument(
        "--out",
        type=Path,
        default=provenance.RESULTS_FOLDER,
        help="folder for gpu_*.json of a GPU (default: data/results)",
    )

    one = command("evaluate", commands.evaluate)
    one.add_argument(
        "--checkpoint",
        type=Path,
        nargs="*",
        default=[],
        help=".safetensors files of equal degradation",
    )
    one.add_argument(
        "--msi-bands",
        type=int,
        choices=sensors.LANDSAT_TM_BANDS,
        default=6,
        help="without a checkpoint (default: 6)",
    )
    one.add_argument(
        "--data",
        type=Path,
        help="a folder made by prepare: its test patches (default: Indian Pines)",
    )
    one.add_argument("--out", type=Path, help="JSON file for the scores and where they come from")

    one = command("compare", commands.compare)
    one.add_argument(
        "--msi-bands",
        type=int,
        choices=sensors.LANDSAT_TM_BANDS,
        default=4,
        help="Landsat TM bands (default: 4)",
    )
    one.add_argument(
        "--seeds",
        type=int,
        default=3,
        help="trainings of each network, seeds 0, 1, ... (default: 3)",
    )
    one.add_argument(
        "--recipe",
        choices=comparison.RECIPES,
        nargs="+",
        default=comparison.RECIPES,
        help="default: both",
    )
    one.add_argument(
        "--seconds",
        type=float,
        default=60,
        help="CPU time of each training on one thread (default: 60)",
    )
    one.add_argument("--workers", type=int, default=2, help="trainings at a time (default: 2)")

    one = command("robustness", commands.robust)
    one.add_argument(
        "--recipe",
        choices=robustness.RECIPES,
        nargs="+",
        default=list(robustness.RECIPES),
        help="default: all",
    )
    one.add_argument(
        "--network",
        choices=registry.NAMES,
        nargs="+",
        default=registry.NAMES,
        help="default: all eleven",
    )
    one.add_argument(
        "--seeds",
        type=int,
        default=1,
        help="trainings of each network, seeds 0, 1, ... (default: 1)",
    )
    one.add_argument(
        "--seconds",
        type=float,
        default=60,
        help="CPU time of each training, as in the comparison (default: 60)",
    )
    one.add_argument("--workers", type=int, default=2, help="trainings at a time (default: 2)")

    one = command("ablate", commands.ablate)
    one.add_argument(
        "--msi-bands",
        type=int,
        choices=sensors.LANDSAT_TM_BANDS,
        default=6,
        help="Landsat TM bands (default: 6)",
    )
    one.add_argument(
        "--steps", type=int, default=300, help="weight updates of each variant (default: 300)"
    )
    one.add_argument(
        "--seed", type=int, default=0, help="of the weights and of every batch (default: 0)"
    )
    one.add_argument("--out", type=Path, required=True, help="JSON file for the results")

    one = command("adapt", commands.adapt)
    one.add_argument(
        "--hsi",
        type=Path,
        required=True,
        help="LR-HSI, any units: .hdr (ENVI), .tif, .mat, .h5, .npy",
    )
    one.add_argument("--msi", type=Path, required=True, help="HR-MSI of the same footprint")
    one.add_argument(
        "--out",
        type=Path,
        required=True,
        help="HR-HSI to write: .npy or .hdr; model, report and picture go beside it",
    )
    one.add_argument(
        "--srf", help=f"{' or '.join(report.SENSORS)}, or a .csv or .npy file (default: estimated)"
    )
    one.add_argument(
        "--psf-sigma",
        type=float,
        help="standard deviation of the HSI's PSF in HR pixels (default: estimated)",
    )
    one.add_argument(
        "--steps",
        type=int,
        default=adaptation.CONFIG.steps,
        help=f"weight updates (default: {adaptation.CONFIG.steps})",
    )
    one.add_argument(
        "--seed", type=int, default=0, help="of the weights and of every batch (default: 0)"
    )

    one = command("adapt-benchmark", commands.benchmark_adapt)
    one.add_argument("--out", type=Path, required=True, help="JSON file for the results")

    one = command("fuse", commands.fuse)
    one.add_argument(
        "--hsi",
        type=Path,
        required=True,
        help="LR-HSI: .npy (bands, height, width), .hdr (ENVI), .tif, .mat, .h5",
    )
    one.add_argument(
        "--msi", type=Path, required=True, help="HR-MSI: the same, scale times as high and wide"
    )
    one.add_argument("--checkpoint", type=Path, required=True, help="trained model (.safetensors)")
    one.add_argument(
        "--out", type=Path, required=True, help="HR-HSI to write: .npy, or .hdr (ENVI)"
    )
    one.add_argument(
        "--tile",
        type=int,
        default=tiling.TILE,
        help=f"HR pixels a side of a tile (default: {tiling.TILE})",
    )
    one.add_argument(
        "--overlap",
        type=int,
        help="HR pixels that a tile sees beyond its own (default: as the network needs, at most 64)",
    )
    one.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="values in the files = scale * [0, 1] data + offset (default: 1)",
    )
    one.add_argument("--offset", type=float, default=0.0, help="see --scale (default: 0)")

    one = command("fuse-benchmark", commands.benchmark_fuse)
    one.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[512, 1024, 2048],
        help="pixels a side (default: 512 1024 2048)",
    )
    one.add_argument("--out", type=Path, required=True, help="JSON file for the results")

    one = command("prepare", commands.prepare)
    one.add_argument(
        "files",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="flight lines: ENVI .hdr, .tif, .mat, .h5 or .npy",
    )
    one.add_argument(
        "--simulate",
        type=int,
        default=0,
        metavar="N",
        help="instead of files, N SIMULATED lines of 2 x 2 patches",
    )
    one.add_argument(
        "--out", type=Path, required=True, help="folder for patches, checksums and dataset.json"
    )
    one.add_argument(
        "--patch",
        type=int,
        default=256,
        help="height and width of a patch in pixels (default: 256)",
    )
    one.add_argument(
        "--keep-bands",
        choices=("paper", "all"),
        default="paper",
        help="AVIRIS's 172 as the paper, or all good ones (default: paper)",
    )
    one.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the assignment of lines to train, val and test (default: 0)",
    )
    one.add_argument("--workers", type=int, default=2, help="flight lines at a time (default: 2)")

    one = command("complexity", commands.count)
    one.add_argument("--network", choices=registry.NAMES, default="s3rnet", help="default: s3rnet")
    one.add_argument(
        "--preset", choices=PRESETS, default="paper", help="default: paper (tiny: s3rnet only)"
    )
    one.add_argument("--hsi-bands", type=int, default=172, help="default: 172")
    one.add_argument("--msi-bands", type=int, default=4, help="default: 4")
    one.add_argument(
        "--size",
        type=int,
        default=256,
        help="height and width of the HR-MSI in pixels (default: 256)",
    )

    one = command("benchmark", commands.compare_with_plain)
    one.add_argument(
        "--preset",
        choices=PRESETS,
        nargs="+",
        default=["paper", "lite"],
        help="default: paper lite",
    )
    one.add_argument(
        "--size",
        type=int,
        default=128,
        help="height and width of the HR-MSI of a forward pass in pixels (default: 128)",
    )
    one.add_argument("--runs", type=int, default=7, help="pairs of runs to time (default: 7)")
    one.add_argument("--out", type=Path, help="JSON file for the result")

    one = command("notebooks", commands.run_notebooks)
    one.add_argument(
        "--in-place", action="store_true", help="write the outputs into the chapters, for a commit"
    )

    command("labs", commands.write_labs)
    return parser


def main() -> int:
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except (TypeError, ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
