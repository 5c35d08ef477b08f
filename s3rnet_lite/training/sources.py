"""Where the images of a training come from: Indian Pines, another scene, or a prepared data set;
used in notebooks/10_gpu_training.ipynb.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..files import atomic
from ..sensing import scenes
from ..sensing.degradation import Degradation, simulated
from ..sensing.scene import Scene
from . import dataset
from .crops import sample
from .flight_lines import data_files

VALIDATION_PATCHES = 8  # of a prepared data set, in training


@dataclass(frozen=True)
class Source:
    """Indian Pines, unless it names something else.

    data: a folder from `dataset.prepare`.
    scene, file: a name of `scenes.PUBLIC` and its file or folder.
    test_patches: of a data set, to score: so many of its test part, evenly spaced; None: all.

    Raises:
        ValueError: a scene without its file, or the reverse; a data set and a scene.
    """

    data: Path | None = None
    scene: str | None = None
    file: Path | None = None
    test_patches: int | None = None

    def __post_init__(self):
        if (self.scene is None) != (self.file is None):
            raise ValueError("--scene, --file: expected both or neither; see s3rnet-lite scenes")
        if self.data is not None and self.scene is not None:
            raise ValueError(
                f"--data, --scene: expected one of them, got {self.data} and {self.scene}"
            )

    @property
    def name(self) -> str:
        """Of the data set's folder, or of the scene."""
        return self.data.resolve().name if self.data else self.scene or "indian_pines"

    def facts(self) -> dict:
        """What results say of their images: a name and a checksum; nothing for Indian Pines.

        The checksum of a data set is that of `dataset.json`, which has those of all its patches.
        """
        if self.data is not None:
            sha256 = atomic.seal(dataset.load(self.data).card)
            return {"data": self.name, "sha256": sha256, "test_patches": self.test_patches}
        if self.file is not None:
            return {"scene": self.scene, "sha256": _checksum(self.file)}
        return {}

    def degrade(self, msi_bands: int) -> Degradation:
        """The operator that makes the inputs.

        Raises:
            ValueError: the wavelengths do not support so many bands.
        """
        if self.data is not None:
            return dataset.load(self.data).degradation(msi_bands)
        return simulated(load(self).test[0], msi_bands)


INDIAN_PINES = Source()


@dataclass(frozen=True)
class Parts:
    """What a `Source` gives to learn from, to choose by, and to be scored on.

    train: scenes, or patches (C, P, P) in uint16 (`dataset.references`).
    val: scenes, few of a data set.
    test: scenes; those of a data set are read when they are asked for.
    """

    train: list[Scene] | list[torch.Tensor]
    val: list[Scene]
    test: Sequence[Scene]

    def training_pixels(self) -> Scene:
        """All of a training scene, or corners of a data set's patches (`crops.sample`) side by side
        as one scene.
        """
        if isinstance(self.train[0], Scene):
            return self.train[0]
        pixels, like = torch.cat(sample(self.train), dim=2), self.val[0]
        return Scene(pixels, like.wavelengths_nm, like.fwhm_nm, None, "training pixels", 1.0, 0.0)


class Patches(Sequence):
    """Patches of a part of a data set as scenes, evenly spaced, each read when it is asked for."""

    def __init__(self, folder: Path, part: str, most: int | None = None):
        there = len(dataset.references(folder, part))
        count = there if most is None else min(most, there)
        self.folder, self.part = folder, part
        self.numbers = [number * there // count for number in range(count)]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Scene:  # type: ignore[override]
        return dataset.scene(self.folder, self.part, self.numbers[index])


def whole_scene(source: Source) -> Scene:
    """The scene before it is split; Indian Pines if the source names none."""
    if source.scene is None or source.file is None:
        return scenes.indian_pines()
    return scenes.public(source.scene, source.file)


@functools.lru_cache(maxsize=1)
def load(source: Source) -> Parts:
    """The images; the last source asked for stays in memory.

    Raises:
        FileNotFoundError, ValueError: as `dataset.load`, `dataset.references`, `scenes.public` and
            `scenes.split`.
    """
    if source.data is None:
        train, val, test = scenes.split(whole_scene(source))
        return Parts([train], [val], [test])
    train = dataset.references(source.data, "train")
    val = list(Patches(source.data, "val", VALIDATION_PATCHES))
    return Parts(train, val, Patches(source.data, "test", source.test_patches))


def names(source: Source) -> dict:
    """The training and validation images, for the metadata of a model."""
    parts, facts = load(source), source.facts()
    facts.pop("test_patches", None)
    if source.data is None:
        return {**facts, "scene": parts.train[0].name, "validation_scene": parts.val[0].name}
    lines = dataset.load(source.data).parts
    return {
        **facts,
        "flight_lines": {part: [line["name"] for line in lines[part]] for part in ("train", "val")},
        "validation_scene": [scene.name for scene in parts.val],
    }


@functools.cache
def _checksum(path: Path) -> str:
    """SHA-256 of the files that a scene consists of."""
    found = hashlib.sha256()
    files = sorted(path.iterdir()) if path.is_dir() else data_files(path)
    for file in files:
        if file.is_file():
            with open(file, "rb") as opened:
                found.update(hashlib.file_digest(opened, "sha256").digest())
    return found.hexdigest()
