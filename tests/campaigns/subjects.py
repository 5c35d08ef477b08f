"""What the campaign attacks: commands that write, on tiny images, and the files that they read."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import image_files
import numpy as np
import small_fusion
import torch
from campaigns import children
from safetensors.torch import load_file

from s3rnet_lite import training
from s3rnet_lite.course import labs, notebooks
from s3rnet_lite.experiments import elsewhere
from s3rnet_lite.sensing.indian_pines import indian_pines

QUICK = ("train", "fuse", "adapt", "compare-scenes", "labs")  # about a second each
VOLATILE = {"provenance", "cpu_seconds", "seconds", "sha256_of_content"}
STALE = ("*.tmp", "*.partial", "*.part")


@dataclass(frozen=True)
class Subject:
    """A command that writes.

    run: what a child calls; it writes to its working folder.
    other: the same with other settings, whose output a later run replaces; None if it may not.
    outputs: names of the files that it writes, in groups of which all come from one run.
    resumable: names of files that hold an unfinished run.
    """

    name: str
    run: Callable[[], object]
    other: Callable[[], object] | None
    outputs: tuple[tuple[str, ...], ...]
    resumable: tuple[str, ...] = ()
    new: dict = field(default_factory=dict)  # what an undisturbed run writes, see `content`
    old: dict = field(default_factory=dict)  # what `other` writes
    seconds: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)

    def content(self, folder: Path) -> dict[str, str]:
        """Name -> checksum of those outputs that exist."""
        paths = {name: folder / name for group in self.outputs for name in group}
        return {name: checksum(path) for name, path in paths.items() if path.exists()}

    def learn(self, folder: Path) -> None:
        """Run undisturbed, once with each setting."""
        for run, found in ((self.other, self.old), (self.run, self.new)):
            if run is not None:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                ended = children.run(run, folder)
                if ended.code or not self.content(folder):
                    raise RuntimeError(f"{self.name}: {ended}")
                found.update(self.content(folder))
        self.seconds.append(ended.seconds)
        self.calls.append(ended.calls)


def checksum(path: Path) -> str:
    """Of what a file says, without times and commands."""
    if path.suffix in (".json", ".ipynb"):
        return json.dumps(lasting(json.loads(path.read_text())), sort_keys=True)
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        tensors = sorted(load_file(path).items())
        content = b"".join(name.encode() + x.numpy().tobytes() for name, x in tensors)
    return hashlib.sha256(content).hexdigest()


def lasting(content):
    """Without what differs between two equal runs."""
    if isinstance(content, dict):
        return {k: lasting(v) for k, v in content.items() if k not in VOLATILE}
    return [lasting(v) for v in content] if isinstance(content, list) else content


def make_inputs(folder: Path) -> None:
    """A model with its pair, a pair for `adapt`, and a prepared data set."""
    torch.manual_seed(0)
    x_h, x_m = small_fusion.pair(8, 12)
    np.save(folder / "h.npy", x_h)
    np.save(folder / "m.npy", x_m)
    facts = {"training": {"config": {"seed": 0}}, "provenance": {"wall_seconds": 0.0}}
    training.save_checkpoint(folder / "model.safetensors", small_fusion.build(), "tiny", facts)
    smooth = torch.rand(1, 12, 7, 7)
    y = torch.nn.functional.interpolate(smooth, (88, 88), mode="bicubic")[0].clamp(0, 1)
    x_h, x_m = small_fusion.Degradation(4, 1.7, torch.rand(3, 12).softmax(1))(y)
    np.save(folder / "own_h.npy", x_h)
    np.save(folder / "own_m.npy", x_m)
    shutil.copytree(
        notebooks.FOLDER, folder / "chapters", ignore=lambda _, names: sorted(names)[2:]
    )


def make_data_set(inputs: Path) -> Callable[[], object]:
    """Three simulated flight lines."""
    lines = ("--simulate", 3, "--patch", 32, "--workers", 1)
    return children.command("prepare", *lines, "--out", inputs / "set")


def subjects(inputs: Path) -> list[Subject]:
    """The commands that write."""
    command = children.command
    model, pair = inputs / "model.safetensors", ("--hsi", inputs / "h.npy", "--msi")
    fuse = ("fuse", *pair, inputs / "m.npy", "--no-guard", "--tile", 16, "--checkpoint", model)
    adapt = ("adapt", "--hsi", inputs / "own_h.npy", "--msi", inputs / "own_m.npy", "--steps", 2)
    adapt = (*adapt, "--out", "y.hdr", "--seed")
    train = ("train", "--data", inputs / "set", "--preset", "tiny", "--crop", 16, "--batch-size", 2)
    train = (*train, "--steps", 4, "--msi-bands", 4, "--save-minutes", 0, "--out", "a.safetensors")
    evaluate = ("evaluate", "--data", inputs / "set", "--out", "scores.json", "--msi-bands")
    lines = [f"lines/simulated000{i}" for i in range(3)]
    trained, fused = ("a.safetensors", "a.json"), ("y.hdr", "y.img")
    adapted = (*fused, "y.safetensors", "y.json", "y_report.json", "y_report.png")
    return [
        Subject(
            "train",
            command(*train, "--state", "state.safetensors"),
            command(*train, "--seed", 1),
            (trained,),
            ("state.safetensors",),
        ),
        Subject(
            "fuse",
            command(*fuse, "--out", "y.hdr"),
            command(*fuse, "--out", "y.hdr", "--scale", 2),
            (fused,),
            ("y.hdr.partial/progress.json",),
        ),
        Subject("adapt", command(*adapt, 0), command(*adapt, 1), (adapted,)),
        Subject(
            "prepare",
            command("prepare", "--simulate", 3, "--patch", 16, "--workers", 1, "--out", "."),
            None,
            (*((f"{line}.npy",) for line in lines), *((f"{x}.json",) for x in lines)),
        ),
        Subject("evaluate", command(*evaluate, 4), command(*evaluate, 6), (("scores.json",),)),
        Subject("compare-scenes", compare_scenes(), None, (("s.json",),), ("s.json",)),
        Subject("labs", write_labs(inputs), None, (("labs/00_start_here.ipynb",),)),
    ]


def compare_scenes() -> Callable[[], object]:
    """One method on both halves of a part of Indian Pines with few bands."""

    whole = indian_pines()
    bands = whole.wavelengths_nm.argsort()[::9]
    known = {"wavelengths_nm": whole.wavelengths_nm[bands], "fwhm_nm": whole.fwhm_nm[bands]}
    cube = whole.cube[bands, :50, :66]
    small = replace(whole, cube=cube, labels=None, name="small", **known)

    def run() -> int:
        elsewhere.find = lambda folder: ([small], {})
        method = ("--method", "bicubic", "detail_injection")
        return children.command("compare-scenes", "--folder", ".", *method, "--out", "s.json")()

    return run


def write_labs(inputs: Path) -> Callable[[], object]:
    """Labs in the working folder of the chapters among the inputs."""

    def run() -> int:
        notebooks.FOLDER, labs.LABS_FOLDER = inputs / "chapters", Path.cwd() / "labs"
        return children.command("labs")()

    return run


def image_writers() -> dict[str, Callable[[Path], Path]]:
    """Format -> what writes a small image of it into a folder, and returns the file to open."""
    cube, centres = image_files.CUBE, image_files.CENTRES
    named = {"cube": cube.transpose(1, 2, 0), "wavelengths": centres}

    def numpy(save: Callable, name: str) -> Callable[[Path], Path]:
        return lambda folder: save(folder / name, cube) or folder / name

    return {
        "npy": numpy(np.save, "i.npy"),
        "npz": numpy(np.savez, "i.npz"),
        "npz compressed": numpy(np.savez_compressed, "i.npz"),
        "mat": lambda folder: image_files.write_matlab5(folder / "i.mat", named),
        "mat 7.3": lambda folder: image_files.write_matlab73(folder / "i.mat", named),
        "h5": lambda folder: image_files.write_hdf5(folder / "i.h5", named),
        "tif": lambda folder: image_files.write_geotiff(folder / "i.tif"),
        "tif compressed": lambda folder: image_files.write_geotiff(
            folder / "i.tif", compress="deflate", tiled=True, blockxsize=16, blockysize=16
        ),
        "hdr": lambda folder: image_files.write_envi(
            folder, wavelength=image_files.braces(centres), bbl=image_files.braces([1] * 5)
        ),
    }
