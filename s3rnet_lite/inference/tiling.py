"""Fuse an image of any size, tile by tile, in constant memory; used in
notebooks/10_gpu_training.ipynb.

A network is local but for its attention, so a tile that sees enough beyond its own border (`reach`)
gives what the whole image would. The channel attention of S3RNet looks at the whole image, but only
through sums over pixels (second moments of q and k), and sums over tiles add up. So there are two
passes: the first adds up the moments of all tiles, in float64; in the second every tile uses the
attention that follows from them. A `WienerDenoiser` needs the whole LR-HSI at once: it runs once,
before the tiles, and memory grows with the LR-HSI. Any other network sees one tile at a time, with
what it does globally (the peers' attention) left to the tile.

Neighbouring tiles are blended: on a strip of a quarter of the overlap, one fades into the next.
Where the overlap covers the reach, both are right already; where it does not (the preset "paper"
reaches 400 pixels), no seam shows.
"""

from __future__ import annotations

import itertools
import json
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from tqdm.auto import tqdm

from ..files.checks import check_pair
from ..network.fast import sharing_copy, speed_up
from ..network.s3rnet import S3RNet
from ..network.ssawb import ChannelAttention
from ..training.fusion import FusionModel, Known
from .tiles import Span, attention_reach, default_overlap, reach, scan, spans, window_of

__all__ = ["TILE", "Job", "Span", "default_overlap", "evaluating", "fuse", "reach", "spans"]

TILE = 256
LOOKED_AT = 512
LARGEST_MISMATCH = 0.1  # of the HR-MSI at low resolution, of a pair that belongs to the model


def fuse(
    model: FusionModel,
    x_h,
    x_m,
    tile: int = TILE,
    overlap: int | None = None,
    progress: bool = False,
    guard: bool = False,
) -> torch.Tensor:
    """`model(x_h, x_m)` in tiles, on the device of `model`; the images stay where they are.

    Pixels with NaN in any band have no data: they are computed with the mean of the training data
    in place of NaN, which their surroundings feel, and come out as NaN.

    Shape: x_h (C, h, w), x_m (M, h*r, w*r) in [0, 1] -> (C, h*r, w*r) float32 on the CPU.

    Args:
        x_h, x_m: tensors, arrays or anything with a shape that gives windows by `x[:, rows,
            columns]`.
        tile, overlap: see `spans`; None takes `default_overlap`.
        progress: show a bar.
        guard: blend the image with a closed form as far as the pair degraded once more speaks
            against the model (`training.guard`); models with the skip "details" do so anyway.

    Raises:
        TypeError, ValueError: inputs that do not belong together, infinite or far from [0, 1], or
            without any pixel with data; a tile or an overlap that is no multiple of the scale; an
            image that comes out infinite or NaN where there are data.
    """
    with torch.inference_mode(), evaluating(model):
        job = Job(model, x_h, x_m, tile, overlap, guard)
        with tqdm(total=job.steps, disable=not progress, unit="tile") as bar:
            moments = job.moments(bar)
            y_hat = torch.zeros(job.shape)
            for _, rows, columns, y in job.parts(moments, 0, bar):
                weight = rows.weight[:, None] * columns.weight
                y_hat[:, rows.written, columns.written] += y * weight
    return y_hat


class Job:
    """One pair, checked and cut into tiles; `settings` is what a run must have in common with the
    one that it continues.
    """

    def __init__(
        self, model: FusionModel, x_h, x_m, tile: int, overlap: int | None, guard: bool = False
    ):
        on_cpu = model.output_mean.device.type == "cpu"
        self.model, self.x_h, self.x_m = speed_up(model) if on_cpu else model, x_h, x_m
        scale, (msi_bands, hsi_bands) = model.degrade.scale, model.degrade.srf.shape
        for name, x in (("x_h", x_h), ("x_m", x_m)):
            if len(x.shape) != 3:
                raise ValueError(
                    f"{name}: expected one image (bands, height, width), got shape {tuple(x.shape)}"
                )
        shapes = (torch.empty(tuple(x.shape), device="meta") for x in (x_h, x_m))
        check_pair(*shapes, scale, hsi_bands, msi_bands)
        self.shape, self.known = (hsi_bands, *x_m.shape[1:]), None
        self.guard = guard or model.skip == "details"
        self.measured = x_h
        overlap = default_overlap(model) if overlap is None else overlap
        self.tiles = self._grid(tile, overlap)
        self.first_pass = []
        if isinstance(model.network, S3RNet) and len(self.tiles) > 1:  # one tile is the whole image
            needed = scale * math.ceil(attention_reach(model.network) / scale)
            self.first_pass = self._grid(tile, min(overlap, needed))
        self.steps = len(self.first_pass) + len(self.tiles)
        windows = [(rows.own, columns.own) for rows, columns in self.tiles]
        means_and_spreads = {
            "hsi": (model.hsi_mean, model.hsi_spread),
            "msi": (model.msi_mean, model.msi_spread),
        }
        usual = {
            name: max(1.0, float((mean.abs() + spread).max()))
            for name, (mean, spread) in means_and_spreads.items()
        }
        self.settings = {
            "x_h": scan(
                "x_h", x_h, usual["hsi"], [tuple(map(self._low, window)) for window in windows]
            ),
            "x_m": scan("x_m", x_m, usual["msi"], windows),
            "model": _checksum(model),
            "tile": tile,
            "overlap": overlap,
            "guard": self.guard,
        }
        if model.denoiser is not None:
            everything = slice(0, self.shape[1]), slice(0, self.shape[2])
            missing = window_of(x_h, *map(self._low, everything)).isnan()
            self.x_h = (
                model.denoiser(*self._inputs(*everything)[:2])[0]
                .cpu()
                .masked_fill(missing, math.nan)
            )

    def _grid(self, tile: int, overlap: int) -> list[tuple[Span, Span]]:
        return list(
            itertools.product(
                *(
                    spans(length, tile, overlap, self.model.degrade.scale)
                    for length in self.shape[1:]
                )
            )
        )

    def look(self) -> Known | None:
        """What the middle of the pair says of the model; None if its HR-MSI is not what the model's
        degradation makes of the scene, so that no closed form can be fitted.
        """
        x_h, x_m = (x[0] for x in self._inputs(*self._middle(), measured=True)[:2])
        seen, expected = self.model.degrade.spatial(x_m), self.model.degrade.spectral(x_h)
        off = float((seen - expected).norm() / expected.norm().clamp_min(1e-12))
        if off > LARGEST_MISMATCH and self.model.skip != "details":  # which needs what it finds
            return None
        return self.model.look_at(x_h, x_m)

    def _middle(self) -> tuple[slice, slice]:
        """At most `LOOKED_AT` pixels a side, from which the model gets to know the pair."""
        scale, window = self.model.degrade.scale, []
        for length in self.shape[1:]:
            first = max(0, length - LOOKED_AT) // 2 // scale * scale
            window.append(slice(first, min(first + LOOKED_AT // scale * scale, length)))
        return window[0], window[1]

    def _low(self, pixels: slice) -> slice:
        return slice(
            pixels.start // self.model.degrade.scale, pixels.stop // self.model.degrade.scale
        )

    def _inputs(
        self, rows: slice, columns: slice, measured: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x_h (1, C, h, w), or that as `measured` before any denoiser, and x_m (1, M, H, W) of a
        window, without NaN, on the model's device, and (H, W), where there was any.
        """
        model, scale = self.model, self.model.degrade.scale
        x_h, x_m = (
            window_of(self.measured if measured else self.x_h, self._low(rows), self._low(columns)),
            window_of(self.x_m, rows, columns),
        )
        missing_h, missing_m = x_h.isnan(), x_m.isnan()
        missing = missing_m.any(0) | missing_h.any(0).repeat_interleave(scale, 0).repeat_interleave(
            scale, 1
        )
        device = model.output_mean.device
        x_h, x_m = (
            torch.where(where.to(device), mean, x.to(device))[None]
            for where, mean, x in (
                (missing_h, model.hsi_mean, x_h),
                (missing_m, model.msi_mean, x_m),
            )
        )
        return x_h, x_m, missing

    def moments(self, bar: tqdm) -> torch.Tensor | None:
        """First pass: sums over all pixels of the products of all q and k of a head, (heads, 2d,
        2d) float64; None if not needed.
        """
        total = None
        for rows, columns in self.first_pass:
            x_h, x_m, _ = self._inputs(rows.seen, columns.seen)
            x_h, x_m = self.model.standardise(x_h, x_m)
            branches, attention = self.model.network.mbfn, self.model.network.ssawb.attention
            q, k = (
                attention.to_q(branches.to_high_resolution(branches.q(x_h))),
                attention.to_k(branches.k(x_m)),
            )
            own = (..., _within(rows.own, rows.seen), _within(columns.own, columns.seen))
            q, k = (
                x[0][own].flatten(1).unflatten(0, (attention.heads, -1)).double() for x in (q, k)
            )
            both = torch.cat([q, k], dim=1)  # (heads, 2d, pixels)
            total = both @ both.mT + (0 if total is None else total)
            bar.update()
        return None if total is None else total.cpu()

    def parts(
        self, moments: torch.Tensor | None, start: int, bar: tqdm
    ) -> Iterator[tuple[int, Span, Span, torch.Tensor]]:
        """Second pass: number, rows, columns and result (C, H, W) of each tile from number `start`
        on, over the pixels that it writes.
        """
        model = self.model
        if moments is not None:
            attention = model.network.ssawb.attention
            moments = moments.to(attention.to_q.weight.device)
            model = with_attention(model, _attention_weights(moments, attention))
        self.known = self.look() if self.guard else None
        for index, (rows, columns) in enumerate(self.tiles[start:], start):
            yield index, rows, columns, self._result(model, rows, columns)
            bar.update()

    def _result(self, model: FusionModel, rows: Span, columns: Span) -> torch.Tensor:
        x_h, x_m, missing = self._inputs(rows.seen, columns.seen)
        written = (..., _within(rows.written, rows.seen), _within(columns.written, columns.seen))
        measured = None
        if self.known is not None and model.denoiser is not None:
            measured = self._inputs(rows.seen, columns.seen, measured=True)[0]
        y = model.fuse_clean(x_h, x_m, self.known, measured)[0][written].cpu()
        if not y.isfinite().all():
            raise ValueError(
                "expected a finite fused image, got other numbers in the tile of rows "
                f"{rows.written.start}:{rows.written.stop}, columns "
                f"{columns.written.start}:{columns.written.stop}"
            )
        return y.masked_fill(missing[written], math.nan) if missing.any() else y


@contextmanager
def evaluating(model: FusionModel) -> Iterator[None]:
    """Evaluation mode, and afterwards the mode that it was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def with_attention(model: FusionModel, weights: torch.Tensor) -> FusionModel:
    """A model that shares all parameters and takes these maps (1, heads, d, d) for its own."""
    other = sharing_copy(model)
    other.network.ssawb.attention.attention_map = lambda _f_q, _f_k: weights
    return other


def _attention_weights(moments: torch.Tensor, attention: ChannelAttention) -> torch.Tensor:
    """The softmax of `ChannelAttention` from the sums over its pixels: (1, heads, d, d)."""
    d = moments.shape[-1] // 2
    logits = moments[:, :d, d:]  # q k^T
    if attention.normalise:
        norms = moments.diagonal(dim1=1, dim2=2).sqrt().clamp_min(1e-12)
        logits = logits / norms[:, :d, None] / norms[:, None, d:] * attention.temperature
    else:
        logits = logits / d**0.5
    return logits.softmax(dim=-1).to(attention.to_q.weight.dtype)[None]


def _within(part: slice, whole: slice) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)


def _checksum(model: FusionModel) -> int:
    checksum = zlib.crc32(json.dumps([model.degrade.card(), model.scaling, model.skip]).encode())
    for tensor in model.state_dict().values():
        checksum = zlib.crc32(np.ascontiguousarray(tensor.cpu().numpy()), checksum)
    return checksum
