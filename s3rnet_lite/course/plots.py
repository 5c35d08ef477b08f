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

__all__ = ["rgb", "save", "show_row", "spectra_axes", "start"]

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
    """Set style, seed and one thread (results differ in the last digits between thread counts), and
    print what ran.
    """
    plt.rcParams |= STYLE
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    print(f"torch {torch.__version__.split('+')[0]}, 1 thread, seed {seed}")


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
