"""The README's picture: a band that the sharp camera never saw, and the spectrum of one pixel."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from .. import baselines, metrics, training
from ..sensing import scenes
from ..sensing.indian_pines import RADIANCE_UNIT
from ..sensing.scene import Scene
from ..training.fusion import FusionModel
from . import plots

BAND_NM = 1100.0
COLOURS = {"truth": "black", "bicubic": "#D55E00", "fused": "#56B4E9"}  # Okabe and Ito's


@torch.no_grad()
def views(model: FusionModel, scene: Scene) -> dict[str, torch.Tensor]:
    """The scene as it is (C, H, W), as the LR-HSI (C, H/r, W/r), interpolated and fused
    (C, H, W), in [0, 1].
    """
    x_h, x_m = model.degrade(scene.cube)
    return {
        "truth": scene.cube,
        "LR-HSI": x_h,
        "bicubic": baselines.run("bicubic", x_h, x_m, model.degrade),
        "fused": model(x_h[None], x_m[None])[0],
    }


def worst_pixel(truth: torch.Tensor, image: torch.Tensor, rim: int = 4) -> tuple[int, int]:
    """Row and column where two images (H, W) differ most, `rim` pixels or more from the border."""
    inside = (image - truth).abs()[rim:-rim, rim:-rim]
    row, column = divmod(int(inside.argmax()), inside.shape[1])
    return row + rim, column + rim


def draw(checkpoint: str = "lite-6bands") -> Figure:
    """Draw the test region of Indian Pines, which the model never saw."""
    model, scene = training.load_checkpoint(checkpoint), scenes.split(scenes.indian_pines())[2]
    shown = {name: cube * scene.scale + scene.offset for name, cube in views(model, scene).items()}
    band = int((scene.wavelengths_nm - BAND_NM).abs().argmin())
    pixel = worst_pixel(shown["truth"][band], shown["bicubic"][band])
    with plt.rc_context({"font.size": 9, "axes.titlesize": 9}):
        figure, axes = plt.subplots(
            1, 5, figsize=(8, 3.4), layout="constrained", width_ratios=(1, 1, 1, 1, 3.6)
        )
        _images(axes[:4], {name: cube[band] for name, cube in shown.items()}, pixel)
        _spectra(axes[4], scene, {name: shown[name][:, *pixel] for name in COLOURS}, model)
    return figure


def _images(axes: list[plt.Axes], images: dict[str, torch.Tensor], pixel: tuple[int, int]) -> None:
    truth = images["truth"]
    low, high = torch.quantile(truth.flatten(), torch.tensor([0.01, 0.99])).tolist()
    height, width = truth.shape
    for axis, (name, image) in zip(axes, images.items(), strict=True):
        axis.imshow(
            image.numpy(), cmap="cividis", vmin=low, vmax=high, extent=(0, width, height, 0)
        )
        axis.plot(pixel[1] + 0.5, pixel[0] + 0.5, "o", ms=10, mfc="none", mec="white", mew=1.5)
        axis.set(title=name, xticks=[], yticks=[])
        if name in ("bicubic", "fused"):
            axis.set_xlabel(f"{metrics.psnr(image[None], truth[None], peak='band'):.1f} dB")
    axes[0].set_ylabel(f"the band at {BAND_NM:.0f} nm")


def _spectra(
    axis: plt.Axes, scene: Scene, spectra: dict[str, torch.Tensor], model: FusionModel
) -> None:
    axis.set_prop_cycle(color=list(COLOURS.values()), linestyle=["-", "--", "-"])
    plots.spectra_axes(axis, scene.wavelengths_nm, spectra, f"radiance [{RADIANCE_UNIT}]")
    axis.lines[0].set_linewidth(3)  # the truth, to be seen under the fused spectrum
    for response in model.degrade.srf:
        seen = scene.wavelengths_nm[response > response.max() / 2]
        span = axis.axvspan(float(seen.min()), float(seen.max()), color="0.88", zorder=0)
    span.set_label("HR-MSI bands")
    axis.axvline(BAND_NM, color="0.4", linestyle=":", label=f"{BAND_NM:.0f} nm")
    axis.set_title("the spectrum of the circled pixel")
    axis.legend(loc="upper right", handlelength=1.4, borderaxespad=0.2)
