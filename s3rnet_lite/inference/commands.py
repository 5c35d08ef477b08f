"""The commands for files of one's own, a pair or flight lines, each beside its options."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from ..files.command_line import (
    LEAST,
    MOST_PIXELS,
    SEED,
    command,
    limited,
    maybe,
    number,
    option,
    path,
)

ARRAYS = (
    option("--hsi-variable", help="of a .mat, .h5 or .npz file with several images"),
    option("--msi-variable", help="the same of the HR-MSI"),
    option("--order", help="of the axes in .npy, .npz, .mat and .h5 files, HWC say"),
)


@command(
    "fuse",
    path("--hsi", "LR-HSI: .npy (bands, height, width), .hdr (ENVI), .tif, .mat, .h5"),
    path("--msi", "HR-MSI: the same, scale times as large"),
    option(
        "--checkpoint",
        required=True,
        help="trained model (.safetensors), or the name of a shipped one: lite-6bands, ...",
    ),
    path("--out", "HR-HSI to write: .npy, or .hdr (ENVI)"),
    number("--tile", 256, "HR pixels a side of a tile", 4, MOST_PIXELS),
    maybe(
        "--overlap",
        int,
        "HR pixels that a tile sees beyond its own (default: as the network needs, at most 64)",
        0,
        MOST_PIXELS,
    ),
    number("--scale", 1.0, "values in the files = scale * [0, 1] data + offset", LEAST),
    number("--offset", 0.0, "see --scale", -math.inf),
    option(
        "--no-guard",
        action="store_true",
        help="the model alone, whatever the pair degraded once more says of it",
    ),
    *ARRAYS,
    example="--hsi lr.hdr --msi hr.tif --checkpoint lite-6bands --out fused.hdr",
)
def fuse(arguments: argparse.Namespace) -> None:
    """Fuse one LR-HSI and one HR-MSI of any size, tile by tile. A killed run goes on with the same
    command.
    """
    from .. import training
    from . import tiled_files

    model = training.load_checkpoint(arguments.checkpoint)
    pair = _open(arguments)
    tiles, units = (arguments.tile, arguments.overlap), (arguments.scale, arguments.offset)
    guard = not arguments.no_guard
    shape, known = tiled_files.fuse(model, *pair, arguments.out, *tiles, *units, guard=guard)
    if known is not None:
        print(f"Of the image, {known.share:.0%} is the model's and the rest {known.rival}'s.")
        if known.share < 0.5:
            print("The pair is unlike what the model was trained on; adapt learns from the pair.")
    elif guard:
        print(
            "The HR-MSI is not what the model's sensor would see, so no closed form can guard it."
        )
    print(f"Wrote {arguments.out}: {' x '.join(map(str, shape))} (bands x height x width)")


@command(
    "adapt",
    path("--hsi", "LR-HSI, any units: .hdr (ENVI), .tif, .mat, .h5, .npy"),
    path("--msi", "HR-MSI of the same footprint"),
    path("--out", "HR-HSI to write: .npy or .hdr; model, report and picture go beside it"),
    option("--srf", help="landsat_tm, sentinel2a, or a .csv or .npy file (default: estimated)"),
    maybe(
        "--psf-sigma",
        float,
        "standard deviation of the HSI's PSF in HR pixels (default: estimated)",
        0.1,
        100,
    ),
    number("--steps", 600, "weight updates"),
    SEED,
    *ARRAYS,
    example="--hsi lr.hdr --msi hr.tif --out fused.hdr",
)
def adapt(arguments: argparse.Namespace) -> None:
    """Fuse one pair of your own without ground truth: learn on the pair degraded once more, and
    report what can be known.
    """
    from dataclasses import replace

    from .. import metrics
    from . import adaptation, report

    config = replace(adaptation.CONFIG, seed=arguments.seed, steps=arguments.steps)
    pair = _open(arguments)
    known = arguments.srf, arguments.psf_sigma
    found, written = report.run(*pair, arguments.out, *known, config)
    if found.model is not None:
        print(metrics.format_rows(found.report["held_out"]["scores"]))
    print(found.report["recommendation"], *(f"Wrote {path}" for path in written), sep="\n")


def _open(arguments: argparse.Namespace) -> tuple:
    """The two images of a pair."""
    from ..files import formats

    return (
        formats.open_cube(arguments.hsi, arguments.hsi_variable, order=arguments.order),
        formats.open_cube(arguments.msi, arguments.msi_variable, order=arguments.order),
    )


@command(
    "prepare",
    option(
        "files",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="flight lines: ENVI .hdr, .tif, .mat, .h5 or .npy",
    ),
    option(
        "--simulate",
        type=limited(int, 0),
        default=0,
        metavar="N",
        help="instead of files, N SIMULATED lines of 2 x 2 patches",
    ),
    path("--out", "folder for patches, checksums and dataset.json"),
    number("--patch", 256, "height and width of a patch in pixels", 16, MOST_PIXELS),
    option(
        "--keep-bands",
        choices=("paper", "all"),
        default="paper",
        help="AVIRIS's 172 as the paper, or all good ones (default: paper)",
    ),
    option(
        "--scaling",
        choices=("minmax", "percentile"),
        default="minmax",
        help="what becomes 0 and 1 of each line: its least and largest number, as the paper, or "
        "its percentiles 0.1 and 99.9, what is beyond being clipped (default: minmax)",
    ),
    number("--seed", 0, "of the assignment of lines to train, val and test", 0),
    number("--workers", 2, "flight lines at a time"),
    example="line1.hdr line2.hdr --out patches",
)
def prepare(arguments: argparse.Namespace) -> None:
    """Cut AVIRIS flight lines into the paper's data set; run again, it checks what is there and
    makes what is missing.

    Take orthocorrected scenes of AVIRIS-Classic, 224 bands, as ENVI files, from NASA's portal
    (aviris.jpl.nasa.gov/dataportal) or its archive, the ORNL DAAC: radiance (*rdn*ort_img) or
    surface reflectance (*rfl*), but one kind in a data set. The paper does not say which it used.
    """
    from ..training import dataset

    out, sources = arguments.out, (arguments.files, arguments.simulate)
    finished = (out / dataset.CARD).exists()
    settings = (arguments.patch, arguments.keep_bands, arguments.seed, arguments.workers)
    made = dataset.prepare(out, *sources, *settings, scaling=arguments.scaling)
    for part, lines in made.parts.items():
        flights = len({line["flight_line"] for line in lines})
        patches = sum(line["patches"] for line in lines)
        print(f"{part:6}{patches:6} patches of {flights} flight lines")
    print(f"{'Verified all checksums of' if finished else 'Wrote'} {out}")
