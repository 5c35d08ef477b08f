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

RED_GREEN_BLUE_NM = (650.0, 560.0, 480.0)


def rgb(
    cube: torch.Tensor, wavelengths_nm: torch.Tensor, reference: torch.Tensor | None = None
) -> np.ndarray:
    """Natural colours of a cube (C, H, W): its bands nearest 650, 560 and 480 nm, (H, W, 3) in [0,
    1].

    Each colour is stretched between the 1st and 99th percentile of `reference` (the cube itself if
    None), so pictures that share a reference can be compared.
    """
    bands = [int((wavelengths_nm - target).abs().argmin()) for target in RED_GREEN_BLUE_NM]
    image = cube[bands].permute(1, 2, 0).double().numpy()
    base = (cube if reference is None else reference)[bands].double().flatten(1).numpy()
    low, high = np.percentile(base, [1, 99], axis=1)
    return np.clip((image - low) / (high - low), 0, 1)


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
