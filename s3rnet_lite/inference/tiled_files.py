"""Fuse from file to file, tile by tile, so that a killed run can go on; used in
notebooks/10_gpu_training.ipynb.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ..files.atomic import publish, read_json, write_array, write_sealed
from ..files.formats import CubeFile, create_cube, reopen_cube
from ..files.outputs import Output
from ..files.reading import naming, naming_pair
from ..training.fusion import FusionModel, Known
from . import tiling
from .tiling import Span

OUTPUT = Output((".npy", ".hdr"))


def fuse(
    model: FusionModel,
    hsi: CubeFile,
    msi: CubeFile,
    path: str | Path,
    tile: int = tiling.TILE,
    overlap: int | None = None,
    scale: float = 1.0,
    offset: float = 0.0,
    progress: bool = True,
    guard: bool = False,
) -> tuple[tuple[int, int, int], Known | None]:
    """As `tiling.fuse`, from file to file, in memory that does not grow with the image. Returns the
    shape (C, H, W) of what it wrote, and what was known of the pair.

    Bands that a header calls bad are left out. Wavelengths come from the HSI, the georeference from
    the MSI.

    The image grows in the folder `path` + ".partial" and moves to `path` at the end. After a kill,
    the same call goes on: the pixels of a tile are first stored in full (renamed into place), then
    copied into the image, so that a copy broken off is done again, and none is added twice. The
    name of a stored tile has its checksum, and the sum of all that the image then holds.

    Args:
        path: .npy, or .hdr for ENVI.
        scale, offset: physical value = x * scale + offset, of both inputs and the output, where x
            is the model's [0, 1].

    Raises:
        TypeError, ValueError: as `tiling.fuse` and `formats.create_cube`, or the folder holds a
            fusion with other inputs or settings.
    """
    path, folder = Path(path), Path(f"{path}.partial")
    OUTPUT.check(path, (hsi.path, msi.path))
    if (
        path.suffix == ".hdr" and path.with_suffix("").is_file()
    ):  # ENVI readers would take that for the data
        raise ValueError(
            f"{path}: its name belongs to the data file {path.with_suffix('')}; choose another"
        )
    image, notes = folder / f"image{path.suffix}", folder / "progress.json"
    x_h, x_m = _PhysicalCube(hsi, scale, offset), _PhysicalCube(msi, scale, offset)
    with torch.inference_mode(), tiling.evaluating(model):
        with naming_pair(hsi.path, msi.path):
            job = tiling.Job(model, x_h, x_m, tile, overlap, guard)
        settings = {**job.settings, "scale": scale, "offset": offset}
        bar = tqdm(total=job.steps, disable=not progress, unit="tile")
        with alone(folder), bar:
            if notes.exists():
                moments = _read_notes(notes, settings, folder)
                done, total = _resume(folder, image, job.tiles)
                bar.update(job.steps - len(job.tiles) + done)
            else:
                for part in (*images(folder), *folder.glob("tile_*.npy")):
                    part.unlink()
                create_cube(
                    image,
                    job.shape,
                    x_h.good(hsi.wavelengths_nm),
                    x_h.good(hsi.fwhm_nm),
                    msi.georeference,
                )
                moments, done, total = job.moments(bar), 0, 0
                write_sealed(
                    notes,
                    {
                        "settings": settings,
                        "moments": None if moments is None else moments.tolist(),
                    },
                )
            for index, rows, columns, y in _named(job.parts(moments, done, bar), hsi, msi):
                weight = rows.weight[:, None] * columns.weight
                y = (y * (scale * weight) + offset * weight).numpy()
                before = _planes(image, rows.written, columns.written)
                for plane, old in zip(y, before, strict=True):
                    plane += old
                    total += _sum(plane) - _sum(old)
                name = f"tile_{index}_{zlib.crc32(y):08x}_{total % 2**64:016x}.npy"
                write_array(folder / name, y)
                _copy(y, image, rows, columns)
                del y
                for copied in folder.glob(f"tile_{index - 1}_*.npy"):
                    copied.unlink(missing_ok=True)
            notes.unlink()  # from here on, who is killed begins anew
            publish({part: path.with_suffix(part.suffix) for part in images(folder)})
            shutil.rmtree(folder)
    return job.shape, job.known


def images(folder: Path) -> list[Path]:
    """The growing image, with its data file if it is ENVI's."""
    return sorted(folder.glob("image.*"))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else fuses into this folder meanwhile.

    Raises:
        ValueError: somebody does, or the folder holds something else than an unfinished fusion.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours = ("image.*", "tile_*.npy", "progress.json", ".*")
    others = [f.name for f in folder.iterdir() if not any(f.match(one) for one in ours)]
    if others:
        raise ValueError(
            f"{folder}: expected a free name or an unfinished fusion, got a folder that holds "
            f"{others[0]}; move it away"
        )
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise ValueError(f"{folder}: another fusion is at work there") from error


@dataclass(frozen=True)
class _PhysicalCube:
    """The good bands of a file as [0, 1] data: (value - offset) / scale."""

    file: CubeFile
    scale: float
    offset: float

    @property
    def shape(self) -> tuple[int, int, int]:
        return int(self.file.good_bands.sum()), *self.file.shape[1:]

    def __getitem__(self, window: tuple[slice, slice, slice]) -> np.ndarray:
        return (self.file.read(*window[1:], bands=self.file.good_bands) - self.offset) / self.scale

    def good(self, values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[self.file.good_bands]


def _named(parts: Iterator, hsi: CubeFile, msi: CubeFile) -> Iterator:
    """`parts`, whose errors name the files."""
    with naming_pair(hsi.path, msi.path):
        yield from parts


def _sum(numbers: np.ndarray) -> int:
    """Of float32 numbers taken as integers: one flipped bit changes it."""
    return int(np.ascontiguousarray(numbers).view(np.uint32).sum(dtype=np.uint64))


def _read_notes(notes: Path, settings: dict, folder: Path) -> torch.Tensor | None:
    """The attention's sums of a run with the same settings."""
    stored = read_json(notes)
    before, moments = stored["settings"], stored["moments"]
    changed = ", ".join(
        f"{name} was {before.get(name)}, is {value}"
        for name, value in settings.items()
        if before.get(name) != value
    )
    if changed:
        raise ValueError(
            f"{folder}: holds an unfinished fusion of another kind ({changed}); repeat its "
            "command, or delete the folder"
        )
    return None if moments is None else torch.tensor(moments, dtype=torch.float64)


def _resume(folder: Path, image: Path, tiles: list) -> tuple[int, int]:
    """How many tiles are done once the last one stored is copied again, and the sum of the image
    then.
    """
    stored = {int(file.stem.split("_")[1]): file for file in folder.glob("tile_*.npy")}
    done, expected = 0, f"{0:016x}"
    if stored:
        last = max(stored)
        with naming(stored[last]):
            y = np.load(stored[last])
            _, _, checksum, expected = stored[last].stem.split("_")
            found = f"{zlib.crc32(y):08x}"
        if y.dtype != np.float32 or found != checksum:
            raise ValueError(f"{stored[last]}: damaged; delete the folder to begin anew")
        _copy(y, image, *tiles[last])
        done = last + 1
    total = sum(_sum(plane) for plane in _planes(image, slice(None), slice(None)))
    if f"{total % 2**64:016x}" != expected:
        raise ValueError(f"{image}: damaged; delete the folder to begin anew")
    return done, total


def _copy(y: np.ndarray, image: Path, rows: Span, columns: Span) -> None:
    for new, plane in zip(y, _planes(image, rows.written, columns.written), strict=True):
        plane[:] = new


def _planes(image: Path, rows: slice, columns: slice) -> Iterator[np.ndarray]:
    """A window of the file, band by band, each mapped for itself: what is mapped counts as
    memory, and more than is touched.
    """
    cube = reopen_cube(image)
    count, height, width = cube.shape
    for band in range(count):
        start = cube.offset + band * height * width * cube.itemsize
        yield np.memmap(cube.filename, cube.dtype, "r+", start, (height, width))[rows, columns]
