"""How every chapter starts, and pictures of cubes and results. Colours are Okabe and Ito's, which
colour-blind eyes tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from ..files import atomic
from ..files.provenance import course_folder
from ..sensing.scene import rgb

__all__ = ["describe", "rgb", "save", "show_row", "spectra_axes", "start"]

BLACK, ORANGE, SKY, GREEN, YELLOW = "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, RED, PINK, GREY = "#0072B2", "#D55E00", "#CC79A7", "0.45"
BRANCHES = {"Q": BLUE, "K": ORANGE, "V": GREEN, "Z": PINK}
STYLE = {
    "figure.dpi": 110,
    "figure.figsize": (8, 3),
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "image.interpolation": "nearest",  # show pixels as they are
    "image.cmap": "viridis",
}


def start(seed: int = 0) -> None:
    """Set style, seed and one thread (results differ in the last digits between thread counts),
    give the figures of a notebook their alt text, and print what ran.
    """
    from IPython import get_ipython  # which the command line does not need

    plt.rcParams |= STYLE
    if shell := get_ipython():
        plt.switch_backend(plt.get_backend())  # which sets its own way to show a figure
        shell.display_formatter.formatters["image/png"].for_type(Figure, _png_with_alt)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    print(f"torch {torch.__version__.split('+')[0]}, 1 thread, seed {seed}")


def describe(figure: Figure) -> str:
    """The words on a figure, for those who do not see it: titles, axes, curves, notes."""
    words = [figure.get_suptitle()]
    for axis in figure.axes:
        names = (axis.get_ylabel(), axis.get_xlabel())
        words += [axis.get_title(), " over ".join(filter(None, names))]
        words += axis.get_legend_handles_labels()[1] + [text.get_text() for text in axis.texts]
    told = dict.fromkeys(" ".join(one.split()) for one in words if any(map(str.isalpha, one)))
    return "; ".join(told) or "figure"


def _png_with_alt(figure: Figure) -> tuple[str, dict]:
    from IPython.core.pylabtools import print_figure

    png = print_figure(figure, "png", base64=True, bbox_inches="tight")
    return png, {"alt": describe(figure)}


def show_row(images: Mapping[str, np.ndarray], width: float = 8.0, **how) -> Figure:
    """Images (H, W) or (H, W, 3) side by side under their names, without axes; `how` goes to
    `imshow`.
    """
    images = {name: np.asarray(image) for name, image in images.items()}
    shares = [image.shape[1] / image.shape[0] for image in images.values()]
    height = width / sum(shares) + 0.35  # and a line of title
    figure, axes = plt.subplots(
        1, len(images), figsize=(width, height), width_ratios=shares, squeeze=False
    )
    for axis, (name, image) in zip(axes[0], images.items(), strict=True):
        axis.imshow(image, **how)
        axis.set_title(name, fontsize=9)
        axis.set_axis_off()
    return figure


def spectra_axes(
    axis: plt.Axes, wavelengths_nm: torch.Tensor, spectra: Mapping[str, torch.Tensor], unit: str
) -> None:
    """Draw spectra (C,) over wavelength, sorted, with a gap where the grid leaves out the water
    bands.
    """
    order = torch.argsort(wavelengths_nm)
    nanometres = wavelengths_nm[order].double().numpy().copy()
    gaps = np.flatnonzero(np.diff(nanometres) > 50) + 1
    for name, spectrum in spectra.items():
        values = np.insert(spectrum[order].double().numpy(), gaps, np.nan)
        axis.plot(np.insert(nanometres, gaps, np.nan), values, label=name, linewidth=1.2)
    axis.set_xlabel("wavelength [nm]")
    axis.set_ylabel(unit)


def save(figure: Figure, name: str) -> None:
    """Write `name.png`, the same bytes for the same picture: to `figures/` while `make notebooks`
    runs, otherwise to `runs/figures/` in the working folder.
    """
    path = course_folder("figures") / f"{name}.png"
    metadata = {"Software": None}
    atomic.write_file(path, lambda name: figure.savefig(name, dpi=110, metadata=metadata))
