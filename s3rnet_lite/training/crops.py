"""Training batches: random crops of reference images, each degraded by itself; built in
notebooks/06_training.ipynb.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..sensing.degradation import Degradation, noise_deviation

UINT16_MAX = 65535  # stands for 1.0 in references stored as whole numbers


class Crops(NamedTuple):
    """What a processor cuts and draws before a graphics card degrades it.

    y: (B, C, crop, crop) in [0, 1]. noise: standard normal, (B, C, crop/r, crop/r), to be added at
    `snr_db` decibels, or None.
    """

    y: torch.Tensor
    noise: torch.Tensor | None
    snr_db: float | None


def as_float(y: torch.Tensor) -> torch.Tensor:
    """float32 in [0, 1] from a reference that may be stored in uint16."""
    return y.float() / UINT16_MAX if y.dtype == torch.uint16 else y


def sample(references: list[torch.Tensor], images: int = 64, side: int = 128) -> list[torch.Tensor]:
    """Enough of a data set in uint16 for its statistics: corners of evenly spaced images.
    References in float32 stay whole.
    """
    if references[0].dtype != torch.uint16:
        return references
    step = max(1, len(references) // images)
    return [as_float(y[:, :side, :side]) for y in references[::step][:images]]


class CropSampler:
    """Random crops of reference images, flipped and rotated, each degraded by itself.

    A crop may begin at any HR pixel, so the LR grid takes all r * r positions relative to the
    scene.

    Args:
        references: images (C, H, W), float32 in [0, 1], or uint16 that stand for [0, 1] (views of
            memory maps, say: only what a crop needs is read). M more bands than the SRF's C are a
                measured HR-MSI; without them the SRF computes it.
        degrade: gives the inputs.
        crop, mixing, snr_db: as explained in `training.TrainingConfig`.

    Raises:
        TypeError: a reference of another type. ValueError: a crop that does not fit.
    """

    def __init__(
        self,
        references: list[torch.Tensor],
        degrade: Degradation,
        crop: int,
        mixing: float = 0.0,
        snr_db: float | tuple[float, float] | None = None,
    ):
        unknown = {y.dtype for y in references} - {torch.float32, torch.uint16}
        if unknown:
            raise TypeError(
                "references: expected float32 in [0, 1], or uint16, got "
                f"{', '.join(map(str, unknown))}"
            )
        largest = min(min(y.shape[-2:]) for y in references)
        if crop % degrade.scale or not degrade.scale <= crop <= largest:
            raise ValueError(
                f"crop: expected a multiple of {degrade.scale} up to {largest} (the training "
                f"scene), got {crop}"
            )
        self.references, self.degrade, self.crop, self.mixing, self.snr_db = (
            references,
            degrade,
            crop,
            mixing,
            snr_db,
        )

    def batch(
        self, size: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x_h (size, C, crop/r, crop/r), x_m (size, M, crop, crop), y (size, C, crop, crop)."""
        return self.degraded(self.draw(size, generator))

    def draw(self, size: int, generator: torch.Generator, part: slice = slice(None)) -> Crops:
        """The crops of `part` of a batch. All of the batch is drawn, so its parts do not depend on
        how it was cut into parts.
        """
        windows = [self._window(generator) for _ in range(size)]
        chosen = range(size)[part]
        y = torch.stack([self._cut(windows[i]) for i in chosen])
        if self.mixing:
            share = self.mixing * torch.rand(size, 1, 1, 1, generator=generator)
            y = y.lerp(torch.stack([self._cut(windows[i - 1]) for i in chosen]), share[part])
        if self.snr_db is None:
            return Crops(y, None, None)
        snr_db = _one_of(self.snr_db, generator)
        small = self.crop // self.degrade.scale
        return Crops(
            y,
            torch.empty(size, self.degrade.srf.shape[1], small, small).normal_(generator=generator)[
                part
            ],
            snr_db,
        )

    def degraded(self, crops: Crops) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x_h, x_m and y of these crops, on the device they are on."""
        y, measured = crops.y.tensor_split([self.degrade.srf.shape[1]], dim=1)
        x_h = self.degrade.spatial(y)
        if crops.noise is not None:
            x_h = x_h + noise_deviation(x_h, crops.snr_db) * crops.noise
        return x_h, measured if measured.shape[1] else self.degrade.spectral(y), y

    def _window(self, generator: torch.Generator) -> tuple[int, int, int, int, int]:
        """Which reference, top, left, quarter turns, and whether it is flipped."""

        def draw(end: int) -> int:
            return int(torch.randint(end, (), generator=generator))

        index = draw(len(self.references))
        height, width = self.references[index].shape[1:]
        return index, draw(height - self.crop + 1), draw(width - self.crop + 1), draw(4), draw(2)

    def _cut(self, window: tuple[int, int, int, int, int]) -> torch.Tensor:
        index, top, left, turns, flipped = window
        y = as_float(
            self.references[index][:, top : top + self.crop, left : left + self.crop]
        ).rot90(turns, (1, 2))
        return y.flip(2) if flipped else y


def _one_of(snr_db: float | tuple[float, float], generator: torch.Generator) -> float:
    if isinstance(snr_db, (int, float)):
        return snr_db
    lowest, highest = snr_db
    return lowest + (highest - lowest) * float(torch.rand((), generator=generator))
