"""Time, memory and exactness of fusion in tiles, for `python -m s3rnet_lite fuse-benchmark`; shown
in notebooks/10_gpu_training.ipynb.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from .. import training
from ..files.provenance import DATA_FOLDER
from ..inference import tiling
from ..network.s3rnet import S3RNet
from ..sensing import scenes, sensors
from ..sensing.degradation import Degradation
from ..training.fusion import FusionModel

BANDS = 172


def scaling(sizes: list[int]) -> list[dict]:
    """Run the command `fuse` (lite preset, 172 bands, untrained) on images of sizes x sizes pixels,
    each in a process of its own.

    The image is Indian Pines, mirrored to that size, with its last band thrice to make 172.

    Returns:
        one row a size: pixels, wall and CPU seconds, CPU seconds a megapixel, peak resident memory
            in MiB (the operating system's figure).
    """
    scene = scenes.indian_pines()
    bands = [*range(len(scene.cube)), *[len(scene.cube) - 1] * (BANDS - len(scene.cube))]
    cube, nm, fwhm = scene.cube[bands], scene.wavelengths_nm[bands], scene.fwhm_nm[bands]
    degrade = Degradation(srf=sensors.landsat_tm(nm, bands=6, fwhm_nm=fwhm))
    torch.manual_seed(0)
    model = FusionModel(S3RNet.from_preset("lite", BANDS, 6), degrade, "band", "injection", cube)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        hsi, msi, checkpoint, out = (
            Path(folder) / name for name in ("hsi.npy", "msi.npy", "lite.safetensors", "out.npy")
        )
        training.save_checkpoint(checkpoint, model, "lite", {})
        command = [
            sys.executable,
            "-m",
            "s3rnet_lite",
            "fuse",
            "--hsi",
            hsi,
            "--msi",
            msi,
            "--checkpoint",
            checkpoint,
            "--out",
            out,
        ]
        for size in sizes:
            for path, x, length in zip((hsi, msi), degrade(cube), (size // 4, size), strict=True):
                np.save(path, _mirror(x, length))
            began = time.perf_counter()
            _, status, usage = os.wait4(
                os.posix_spawn(sys.executable, [str(part) for part in command], os.environ), 0
            )
            if status:
                raise RuntimeError(f"{' '.join(map(str, command))}: exit status {status}")
            seconds, cpu_seconds = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
            rows.append(
                {
                    "pixels": f"{size} x {size}",
                    "seconds": round(seconds, 1),
                    "cpu_seconds": round(cpu_seconds, 1),
                    "cpu_seconds_per_megapixel": round(cpu_seconds / size**2 * 1e6, 1),
                    "peak_mib": round(usage.ru_maxrss / 1024),
                }
            )
            print(rows[-1], flush=True)
    return rows


def exactness() -> list[dict]:
    """Tiles against the whole image: the shipped lite model on 432 x 432 pixels (Indian Pines,
    mirrored), and the preset "paper", whose reach no overlap covers, untrained, on a strip of 64 x
    384.

    Returns:
        one row an overlap (the default, and none): largest and mean difference as shares of the
            whole image's standard deviation, and
        the share of CPU time that the first pass takes.
    """
    lite = training.load_checkpoint(DATA_FOLDER / "s3rnet_lite_6bands.safetensors")
    torch.manual_seed(0)
    paper = FusionModel(S3RNet.from_preset("paper", 170, 6), lite.degrade, "range", "none").eval()
    cube, rows = _mirror(scenes.indian_pines().cube, 432), []
    for name, model, height, width in (
        ("lite, trained", lite, 432, 432),
        ("paper, untrained", paper, 64, 384),
    ):
        x_h, x_m = model.degrade(torch.from_numpy(cube[:, :height, :width].copy()))
        with torch.inference_mode():
            whole = model(x_h[None], x_m[None])[0]
        for overlap in (tiling.default_overlap(model), 0):
            began = time.process_time()
            with torch.inference_mode():
                tiling.Job(model, x_h, x_m, 128, overlap).moments(tqdm(disable=True))
            first_pass, began = time.process_time() - began, time.process_time()
            difference = (tiling.fuse(model, x_h, x_m, 128, overlap) - whole).abs() / whole.std()
            rows.append(
                {
                    "model": name,
                    "pixels": f"{height} x {width}",
                    "tile": 128,
                    "overlap": overlap,
                    "reach": tiling.reach(model),
                    "largest_difference": float(difference.max()),
                    "mean_difference": float(difference.mean()),
                    "first_pass_share": round(first_pass / (time.process_time() - began), 2),
                }
            )
            print(rows[-1], flush=True)
    return rows


def _mirror(x: torch.Tensor, length: int) -> np.ndarray:
    """(C, h, w) -> (C, length, length), reflected again and again."""
    missing = [max(length - side, 0) for side in x.shape[1:]]
    return np.pad(x.numpy(), ((0, 0), (0, missing[0]), (0, missing[1])), mode="symmetric")[
        :, :length, :length
    ]
