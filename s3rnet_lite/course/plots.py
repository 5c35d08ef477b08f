"""Pictures of cubes and results, shared by the chapters. Colour maps are readable with colour-blind
eyes.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from ..files.provenance import course_folder
from ..sensing.scene import rgb

__all__ = ["rgb", "save", "spectra_axes"]


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
    figure.savefig(path, dpi=110, metadata={"Software": None})
