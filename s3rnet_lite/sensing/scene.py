"""One hyperspectral image, and its split in space; built in notebooks/01_degradation.ipynb."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..files.checks import check_cube

RED_GREEN_BLUE_NM = (650.0, 560.0, 480.0)


@dataclass(frozen=True)
class Scene:
    """One unbatched hyperspectral image.

    cube: (C, H, W) float32 in [0, 1]; `cube * scale + offset` is in the sensor's unit again.
    wavelengths_nm, fwhm_nm: (C,) float64, band centres and full widths at half maximum in
    nanometres.
    labels: (H, W) int64 land-cover classes with 0 = unlabelled, or None.
    valid: (H, W) bool, False where the sensor has no data (the cube is 0 there), or None: every
    pixel is valid.
    """

    cube: torch.Tensor
    wavelengths_nm: torch.Tensor
    fwhm_nm: torch.Tensor
    labels: torch.Tensor | None
    name: str
    scale: float
    offset: float
    valid: torch.Tensor | None = None

    def __post_init__(self):
        check_cube("cube", self.cube)
        if self.cube.ndim != 3:
            raise ValueError(
                f"cube: expected an unbatched image (C, H, W), got shape {tuple(self.cube.shape)}"
            )
        for name in ("wavelengths_nm", "fwhm_nm"):
            if tuple(getattr(self, name).shape) != (self.cube.shape[0],):
                raise ValueError(
                    f"{name}: expected shape ({self.cube.shape[0]},), one value a band, got "
                    f"{tuple(getattr(self, name).shape)}"
                )
        if self.valid is not None and (
            self.valid.shape != self.cube.shape[1:] or self.valid.dtype != torch.bool
        ):
            raise ValueError(
                f"valid: expected shape {tuple(self.cube.shape[1:])} of bool, got "
                f"{tuple(self.valid.shape)} of {self.valid.dtype}"
            )

    def crop(self, rows: slice, columns: slice, name: str) -> Scene:
        """The same bands over a part of the image, as a view."""
        labels, valid = (
            None if map is None else map[rows, columns] for map in (self.labels, self.valid)
        )
        return replace(
            self, cube=self.cube[:, rows, columns], labels=labels, valid=valid, name=name
        )


def split(scene: Scene, gap: int = 16, multiple: int = 4) -> tuple[Scene, Scene, Scene]:
    """Cut a scene in space into train, validation and test regions that share no pixel and do not
    touch.

    Test is the right-hand 30 % of the columns, validation the lower sixth of the rest, train what
    remains; strips of `gap` pixels between them belong to nobody. Degrade each region by itself:
    then no pixel of one region can reach an input or a target of another, and the gap, wider than
    the PSF's support (12 pixels by default), keeps it so even for someone who degrades the whole
    scene first and crops afterwards.

    >>> from .indian_pines import indian_pines
    >>> [tuple(part.cube.shape) for part in split(indian_pines())]
    [(170, 104, 84), (170, 24, 84), (170, 144, 44)]

    Args:
        gap: pixels between regions.
        multiple: heights and widths are made divisible by this (the fusion scale).

    Raises:
        ValueError: a negative gap, or a scene too small for three non-empty regions.
    """
    height, width = scene.cube.shape[-2:]
    if gap < 0 or multiple < 1:
        raise ValueError(
            f"gap, multiple: expected at least 0 and 1 pixels, got {gap} and {multiple}"
        )

    def part(length: int, share: float) -> int:
        return round(length * share / multiple) * multiple

    test_width, val_height = part(width, 0.3), part(height, 1 / 6)
    train_width = (width - test_width - gap) // multiple * multiple
    train_height = (height - val_height - gap) // multiple * multiple
    if min(test_width, val_height, train_width, train_height) < multiple:
        raise ValueError(
            f"scene: {height}x{width} pixels are too few for three regions with gaps of {gap}"
        )
    used_height = height // multiple * multiple
    left, bottom = slice(0, train_width), slice(height - val_height, height)
    return (
        scene.crop(slice(0, train_height), left, f"{scene.name}/train"),
        scene.crop(bottom, left, f"{scene.name}/val"),
        scene.crop(slice(0, used_height), slice(width - test_width, width), f"{scene.name}/test"),
    )


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
