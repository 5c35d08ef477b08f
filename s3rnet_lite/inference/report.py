"""`adapt` from files to files: reads a pair, checks its footprints, writes cube, model, report and
picture; used in notebooks/10_gpu_training.ipynb."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .. import training
from ..files import atomic, formats, reading
from ..files.outputs import Output
from ..sensing import sensors
from ..sensing.scene import rgb
from . import adaptation, pair
from .adaptation import NETWORK, Adaptation

SHOWN = (".safetensors", "_report.json", "_report.png")
OUTPUT = Output((".npy", ".hdr"), (".img", ".safetensors", ".json", "_report.json", "_report.png"))
FALSE_COLOUR_NM = (480.0, 650.0)  # first and last band, where nobody says; a picture needs some


def run(
    hsi: str | Path | formats.CubeFile,
    msi: str | Path | formats.CubeFile,
    out: str | Path,
    srf: str | None = None,
    psf_sigma: float | None = None,
    config: training.TrainingConfig = adaptation.CONFIG,
    progress: bool = True,
) -> tuple[Adaptation, list[Path]]:
    """Fuse a pair of files, of any format that `formats.open_cube` reads, or opened already, as
    `adaptation.adapt` does; bad bands are left out.

    Written beside `out` (.npy, or .hdr with wavelengths and the HR-MSI's georeference):
    NAME.safetensors and NAME.json, the model, which `fuse` applies to other pairs of these sensors
    in the same units, however large; NAME_report.json; NAME_report.png. A pair that is too small to
    learn from has no model and no picture.

    Args:
        srf: a .csv or .npy file with (M, C) numbers, or the sensor's name, `landsat_tm` (4 or 6
            bands) or `sentinel2a` (10 bands,
            or 4: those of 10 m), which needs wavelengths in the HSI file; estimated if None.
        psf_sigma, config, progress: see `adaptation.adapt`.

    Returns:
        what `adapt` gave, and the files written.

    Raises:
        FileNotFoundError, TypeError, ValueError: see `formats.open_cube` and `adaptation.adapt`;
            georeferences of different footprints; an SRF that does not fit; another ending of
            `out`. Nothing is written then.
    """
    out = Path(out)
    read = [file.path if isinstance(file, formats.CubeFile) else file for file in (hsi, msi)]
    OUTPUT.check(out, [*read, *([] if srf is None else [srf])])
    hsi_file, msi_file = (
        file if isinstance(file, formats.CubeFile) else formats.open_cube(file)
        for file in (hsi, msi)
    )
    check_footprints(hsi_file, msi_file)
    good = hsi_file.good_bands
    wavelengths, fwhm = (
        None if x is None else x[good] for x in (hsi_file.wavelengths_nm, hsi_file.fwhm_nm)
    )
    x_h, x_m = (torch.from_numpy(file.read(bands=file.good_bands)) for file in (hsi_file, msi_file))
    response = None if srf is None else sensors.read_srf(srf, len(x_m), len(x_h), wavelengths, fwhm)
    with reading.naming_pair(hsi_file.path, msi_file.path):
        found = adaptation.adapt(
            x_h, x_m, srf=response, psf_sigma=psf_sigma, config=config, progress=progress
        )

    names = {"hsi": str(hsi_file.path), "msi": str(msi_file.path)}
    with atomic.together(out.parent) as folder:
        cube = formats.create_cube(
            folder / out.name, found.y_hat.shape, wavelengths, fwhm, msi_file.georeference
        )
        cube[:] = found.y_hat.numpy()
        cube.flush()
        atomic.write_json(folder / f"{out.stem}_report.json", names | found.report)
        if found.model is not None:  # else too small a pair
            write_model(found, folder / f"{out.stem}.safetensors")
            figure = draw(found, x_h, x_m, wavelengths)
            figure.savefig(folder / f"{out.stem}_report.png", dpi=110, metadata={"Software": None})
            plt.close(figure)
        written = {file.name for file in folder.iterdir()}
    shown = [out.name, *(out.stem + ending for ending in SHOWN)]
    return found, [out.with_name(name) for name in shown if name in written]


def write_model(found: Adaptation, path: Path) -> None:
    """The model of `adapt`, with where it comes from."""
    facts = {
        "units": "those of the pair it was trained on",
        "training": found.report["training"],
        "provenance": found.report["provenance"],
    }
    training.save_checkpoint(path, found.model, found.report["training"]["preset"], facts)


def check_footprints(hsi: formats.CubeFile, msi: formats.CubeFile) -> None:
    """Compare the corners, where both files say where they lie.

    Raises:
        ValueError: two corners differ by more than `pair.LARGEST_SHIFT` HR pixels along an
            axis.
    """
    ours, theirs = formats.bounds(hsi), formats.bounds(msi)
    if ours is None or theirs is None:
        return
    size = np.array([theirs[2] - theirs[0], theirs[1] - theirs[3]] * 2)
    pixel = size / np.array([msi.shape[2], msi.shape[1]] * 2)
    apart = (np.array(ours) - np.array(theirs)) / pixel
    if (abs(apart) > pair.LARGEST_SHIFT).any():
        raise ValueError(
            f"{hsi.path} and {msi.path}: expected one footprint, but by their georeferences left, "
            "top, right and bottom edges lie "
            f"{', '.join(f'{value:+.2f}' for value in apart)} HR pixels apart; crop or resample "
            "both to the same area"
        )


def draw(found: Adaptation, x_h: torch.Tensor, x_m: torch.Tensor, wavelengths_nm=None) -> Figure:
    """The pair, the fused image, the errors of the reduced problem, where pixels were held out, and
    the scores there.
    """
    if wavelengths_nm is None:
        wavelengths_nm = np.linspace(*FALSE_COLOUR_NM, len(x_h))
    wavelengths = torch.as_tensor(wavelengths_nm, dtype=torch.float64)
    figure, axes = plt.subplots(2, 3, figsize=(12, 8), layout="constrained")
    images = {
        "LR-HSI": rgb(x_h, wavelengths),
        "HR-MSI": rgb(x_m, found.srf.double() @ wavelengths),
        "fused": rgb(found.y_hat, wavelengths, x_h),
    }
    for axis, (title, image) in zip(axes[0], images.items(), strict=True):
        axis.imshow(image, interpolation="nearest")
        axis.set(title=title, xticks=[], yticks=[])
    largest = max(float(error.quantile(0.99)) for error in found.errors.values())
    rows, columns = found.held_out
    for axis, (name, error) in zip(axes[1], found.errors.items(), strict=False):
        shown = axis.imshow(
            error.numpy(), cmap="cividis", vmin=0, vmax=largest, interpolation="nearest"
        )
        corner, width, height = (
            (columns.start - 0.5, rows.start - 0.5),
            columns.stop - columns.start,
            rows.stop - rows.start,
        )
        axis.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="white", linewidth=2))
        axis.set(title=f"error of {name}", xticks=[], yticks=[])
    label = "reduced pair: RMSE over bands, unit of the HSI; white frame: held out"
    figure.colorbar(shown, ax=axes[1, :2], label=label, location="bottom", shrink=0.8)
    names = found.report["ranking"][::-1]
    values = [found.report["held_out"]["scores"][name]["psnr_pooled_scene_peak"] for name in names]
    axes[1, 2].barh(
        names, values, color=["#d55e00" if name == NETWORK else "#0072b2" for name in names]
    )
    axes[1, 2].set(
        title="reduced pair, held-out pixels",
        xlabel="pooled PSNR [dB]",
        xlim=(min(values) - 2, max(values) + 1),
    )
    return figure
