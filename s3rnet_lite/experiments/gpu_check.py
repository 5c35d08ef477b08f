"""One training step before thousands: what is expected, counted from shapes, beside what is found;
used in notebooks/10_gpu_training.ipynb.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import torch
from torch import nn

from .. import training
from ..analysis import complexity
from ..network.s3rnet import S3RNet
from ..sensing.indian_pines import paper_bands
from ..sensing.scene import Scene
from ..training.devices import peak_memory, tensor_float_32
from ..training.losses import l1_sam_loss
from .comparison import table1
from .gpu_timing import HSI_BANDS, MSI_BANDS, SCALE, SEED

# of the output's largest number; two orders of summing the same float32 products differ by 1e-5
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    what: str
    expected: str
    found: str
    good: bool


class Step(nn.Module):
    """A forward and a backward pass as one call, for `complexity.peak_memory`."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> None:
        y_hat = self.network(x_h, x_m)
        l1_sam_loss(y_hat, torch.zeros_like(y_hat)).backward()


def smoke(preset: str, config: training.TrainingConfig, device: torch.device) -> list[Check]:
    """Train S3RNet's preset for one step on random numbers, through the same loop as ever, and
    print what was expected and what came.

    Raises:
        ValueError: something else came, or the card has too little memory; the message names it.
    """
    torch.manual_seed(SEED)
    network = S3RNet.from_preset(preset, HSI_BANDS, MSI_BANDS)
    cube = torch.rand(HSI_BANDS, config.crop, config.crop)
    scene = Scene(cube, *paper_bands(), None, "random numbers", 1.0, 0.0)
    bytes_counted = counted_bytes(network, config)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    one_step = replace(config, steps=1, warmup_steps=0, validate_every=1)
    try:
        history = training.fit(network, scene, scene, one_step, progress=False)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"smoke check: a step of {config.batch_size} crops of {config.crop}² needs about "
            f"{bytes_counted / 2**20:,.0f} MiB in float32, more than this card has free ({error})"
        ) from error
    checks = [
        _parameters(preset, network),
        *_outputs(network, config.crop, device),
        _loss(history.loss[0]),
        _gradients(network),
        _memory(bytes_counted, device),
    ]
    print(f"One step of {preset}: {config.batch_size} crops of {config.crop}², {config.precision}")
    for check in checks:
        verdict = "ok" if check.good else "NOT AS EXPECTED"
        print(f"  {check.what:<24}{check.expected:>34}{check.found:>24}  {verdict}")
    wrong = [f"{one.what}: expected {one.expected}, got {one.found}" for one in checks]
    wrong = [text for text, one in zip(wrong, checks, strict=True) if not one.good]
    if wrong:
        raise ValueError(f"smoke check: {'; '.join(wrong)}")
    return checks


def counted_bytes(network: nn.Module, config: training.TrainingConfig) -> int:
    """Weights, their gradients, Adam's two averages, and what a step in float32 keeps."""
    pair = meta_pair(config.crop, config.batch_size // config.accumulate)
    kept = complexity.peak_memory(Step(network), *pair, keep_for_backward=True)
    return 16 * sum(p.numel() for p in network.parameters()) + kept


def meta_pair(side: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """LR-HSI and HR-MSI as shapes without numbers; `side` of the HR-MSI in pixels."""
    small = side // SCALE
    return (
        torch.empty(batch, HSI_BANDS, small, small, device="meta"),
        torch.empty(batch, MSI_BANDS, side, side, device="meta"),
    )


def _parameters(preset: str, network: nn.Module) -> Check:
    with torch.device("meta"):
        shapes = S3RNet.from_preset(preset, HSI_BANDS, MSI_BANDS)
    counted = complexity.count(shapes, *meta_pair(64, 1)).parameters
    found, expected = sum(p.numel() for p in network.parameters()), f"{counted:,}"
    good = found == counted
    if preset == "paper":
        printed = table1()["s3rnet"]["parameters_millions"]
        expected += f" (Table I: {printed:.2f} M)"
        good &= round(found / 1e6, 2) == printed
    return Check("parameters", expected, f"{found:,}", good)


@torch.no_grad()
def _outputs(network: nn.Module, side: int, device: torch.device) -> list[Check]:
    """Of one pair: the shape, and the distance to what the processor computes."""
    x_h, x_m = (torch.rand(x.shape) for x in meta_pair(side, 1))
    with tensor_float_32(False):
        here = network(x_h.to(device), x_m.to(device)).cpu()
    there = copy.deepcopy(network).cpu()(x_h, x_m)
    shape = (1, HSI_BANDS, side, side)
    if here.shape != shape:
        return [Check("output", str(shape), str(tuple(here.shape)), False)]
    distance = float((here - there).abs().max() / there.abs().max())
    return [
        Check("output", str(shape), str(shape), True),
        Check(
            "apart from a processor's",
            f"at most {TOLERANCE:g}",
            f"{distance:.1e}",
            distance <= TOLERANCE,
        ),
    ]


def _loss(loss: float) -> Check:
    return Check("loss", "a finite number", f"{loss:.4f}", math.isfinite(loss))


def _gradients(network: nn.Module) -> Check:
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    found, whole = sum(bool(x.isfinite().all()) for x in gradients), len([*network.parameters()])
    return Check("finite gradients", f"of {whole} tensors", f"of {found}", found == whole)


def _memory(counted: int, device: torch.device) -> Check:
    """That the step has ended says that it fits."""
    expected = f"about {counted / 2**20:,.0f} MiB in float32"
    if device.type != "cuda":
        return Check("peak memory", expected, "not measured", True)
    return Check("peak memory", expected, f"{peak_memory(device) / 2**20:,.0f} MiB", True)
