"""One pair of your own without any ground truth: learn on the pair degraded once more, fuse at full resolution, and report what
can be known about the result; used in notebooks/10_gpu_training.ipynb."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace

import torch

from . import baselines, calibration, evaluation, metrics, no_reference, results, training
from .degradation import Degradation, blur_and_decimate_matrix
from .fusion import FusionModel
from .s3rnet import S3RNet
from .scenes import Scene

CONFIG = replace(training.CONFIGS["lite"], steps=1_000)
NETWORK = "s3rnet"
LARGEST_SHIFT = 0.5  # HR pixels
LEAST_CORRELATION = 0.4  # squared; unrelated places stayed below 0.35, noisy pairs of one place above 0.5
HELD_OUT_SHARE = 0.25


@dataclass(frozen=True)
class Units:
    """Takes a pair to [0, 1], where `srf @ y` is the MSI, and a fused image back to the HSI's unit.

    offset, scale: of the HSI; gain, msi_offset: (M, 1, 1), see `calibration.Response`.
    """

    offset: float
    scale: float
    gain: torch.Tensor
    msi_offset: torch.Tensor

    def hsi_in(self, x_h: torch.Tensor) -> torch.Tensor:
        return (x_h - self.offset) / self.scale

    def msi_in(self, x_m: torch.Tensor) -> torch.Tensor:
        return ((x_m - self.msi_offset) / self.gain - self.offset) / self.scale

    def out(self, y_hat: torch.Tensor) -> torch.Tensor:
        return y_hat * self.scale + self.offset


@dataclass(frozen=True)
class Split:
    """Where the LR-HSI is learnt from and where it is held out: (rows, columns) in LR pixels, on the scale's grid."""

    train: tuple[slice, slice]
    held_out: tuple[slice, slice]


@dataclass
class Adaptation:
    """What `adapt` gives.

    model: works on [0, 1] data; `units` takes a pair there and its output back.
    y_hat: fused image (C, H, W) in the HSI's unit.
    report: everything known about it, ready for JSON.
    errors: root mean squared error over the bands at each pixel of the reduced problem, (h, w) in the HSI's unit, of the network
        and of the classical method that did best.
    """

    model: FusionModel
    units: Units
    y_hat: torch.Tensor
    report: dict
    errors: dict[str, torch.Tensor]
    split: Split


def split(height: int, width: int, scale: int, psf_sigma: float) -> Split:
    """Cut an LR image along its longer side: learn on the first part, hold out the last quarter, leave a gap between them.

    All edges lie on the grid of the reduced problem. The gap of one of its pixels, and degrading the first part by itself, keep
    every held-out pixel out of the training's inputs and targets.

    Raises:
        ValueError: an image too small for the reduced problem.
    """
    rows, columns = height // scale, width // scale
    longer, shorter = max(rows, columns), min(rows, columns)
    held_out = max(1, round(HELD_OUT_SHARE * longer))
    train = longer - held_out - 1
    least = max(2, (len_of_reflection := _reflection(scale, psf_sigma)) // scale + 1)
    if min(train, shorter) < least or shorter < 3:
        needed = scale * max(3, least)
        raise ValueError(
            f"x_h: {height} x {width} pixels are too few to be degraded {scale} times once more and split; at least "
            f"{needed} x {scale * math.ceil((least + 1) / (1 - HELD_OUT_SHARE))} are needed (reflection {len_of_reflection})"
        )
    along = slice(0, train * scale), slice((longer - held_out) * scale, longer * scale)
    across = slice(0, shorter * scale)
    if columns >= rows:
        return Split((across, along[0]), (across, along[1]))
    return Split((along[0], across), (along[1], across))


def _reflection(scale, sigma):
    from .degradation import gaussian_psf
    return (len(gaussian_psf(sigma, scale)) - scale) // 2


def adapt(x_h, x_m, scale=None, srf=None, psf_sigma=None, config=CONFIG, preset="lite", train_all=False, progress=False):
    scale = calibration.find_scale(x_h, x_m, scale)
    alignment = calibration.align(x_h, x_m, scale, psf_sigma)
    sigma = alignment.psf_sigma
    low = Degradation(scale, sigma, torch.ones(1, 1)).spatial(x_m)
    response = calibration.estimate_response(x_h, low) if srf is None else calibration.fit_gains(srf, x_h, low)
    degrade = Degradation(scale, sigma, response.srf)
    offset = float(x_h.min())
    units = Units(offset, float(x_h.max()) - offset, response.gain, response.offset)
    h, m = units.hsi_in(x_h), units.msi_in(x_m)
    parts = split(*h.shape[1:], scale, sigma)
    crop = min(config.crop, *(min(s.stop - s.start for s in parts.train) // scale * scale,))
    config = replace(config, crop=crop, validate_every=config.steps)
    band = torch.zeros(len(h))
    scene = lambda cube, name: Scene(cube, band, band, None, name, units.scale, units.offset)
    network = S3RNet.from_preset(preset, len(h), len(m), scale=scale)
    region = h if train_all else h[:, *parts.train]
    began = time.process_time()
    history = training.fit(network, scene(region, "train"), scene(h[:, *parts.held_out], "val"), config, degrade, progress=progress)
    seconds = time.process_time() - began
    model = history.model.eval()
    # reduced
    grid = [length // scale * scale for length in h.shape[1:]]
    ref = h[:, :grid[0], :grid[1]]
    m_low = degrade.spatial(m)[:, :grid[0], :grid[1]]
    h_low = degrade.spatial(ref)
    def fuse_all(a, b):
        with torch.no_grad():
            out = {"network": model(a[None], b[None])[0], "skip": baselines.inject(a, baselines.apply_regression(model.regression, b), degrade, passes=2)}
        for name in baselines.NAMES:
            out[name] = baselines.run(name, a, b, degrade)
        return out
    reduced = fuse_all(h_low, m_low)
    red = {n: metrics.evaluate(y[:, *parts.held_out], ref[:, *parts.held_out], scale, 1.0) for n, y in reduced.items()}
    full = fuse_all(h, m)
    return dict(model=model, units=units, degrade=degrade, reduced=red, full=full, seconds=seconds, alignment=alignment, response=response, h=h, m=m, crop=crop, loss=history.loss)
