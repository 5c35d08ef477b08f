"""Your own pair without any ground truth: learn on the pair degraded once more, fuse at full
resolution, report what can be known; used in notebooks/10_gpu_training.ipynb.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

import torch

from .. import baselines, metrics, training
from ..files import provenance
from ..network.s3rnet import S3RNet
from ..sensing.degradation import gaussian_psf
from ..sensing.scene import Scene
from ..training import guard
from ..training.details import reduce_pair
from ..training.fusion import FusionModel
from . import no_reference
from .calibration import Response
from .pair import LARGEST_SHIFT, Pair, Reduced, Window, calibrate

CONFIG = replace(training.CONFIGS["lite"], steps=600, skip="injection")
NETWORK, SKIP, BLEND = "network", "skip_without_network", "blend"
PRIOR_SHARE = 0.5  # of the network in the blend, before the held-out pixels speak


@dataclass
class Adaptation:
    """What `adapt` gives.

    model: the network, to fuse other pairs of the same two sensors, in the units of both images;
        like all that follows from it None for a pair too small to learn from.
    y_hat: fused image (C, H, W) in the HSI's unit, by the method that the report names: a blend of
        network and closed form.
    y_network: what the network alone gives.
    report: what is known about it, ready for JSON.
    errors: root mean squared error over the bands, in the HSI's unit, at each pixel of the reduced
        problem (h, w): of the network and of the best method without.
    held_out: (rows, columns) of those pixels that no weight depends on.
    srf: (M, C), given or estimated.
    """

    model: FusionModel | None
    y_hat: torch.Tensor
    y_network: torch.Tensor | None
    report: dict
    errors: dict[str, torch.Tensor]
    held_out: tuple[slice, slice] | None
    srf: torch.Tensor


def adapt(
    x_h: torch.Tensor,
    x_m: torch.Tensor,
    scale: int | None = None,
    srf: torch.Tensor | None = None,
    psf_sigma: float | None = None,
    config: training.TrainingConfig = CONFIG,
    preset: str = "lite",
    progress: bool = True,
) -> Adaptation:
    """Fuse one LR-HSI (C, h, w) with one HR-MSI (M, h * scale, w * scale), float, in any units,
    without a reference.

    Wald's protocol: the two are blurred and decimated once more; then the LR-HSI is the reference
    of the reduced pair, and S3RNet (`preset`, in a `FusionModel` with skip "injection") learns to
    restore it, on the first three quarters of its longer side. The last quarter, behind a gap, is
    held out: there the network and the classical methods, which see the whole reduced pair as they
    would see the whole pair, are scored, and it is decided how much of the network's image to blend
    with that of a closed form (`training.guard`). (PSF, SRF, gains and noise, which all methods
    share, come from the whole pair.) The second blur would average the LR-HSI's noise away and so
    flatter methods that hand noise on; as much as is lost is added again, in training and in the
    scores, and a `WienerDenoiser` stands before network and skip. Then the model fuses the pair
    itself, at a resolution that it was not trained at. The report says what that costs where it
    can: consistency with both inputs, and QNR. What no held-out pixel can tell: the full-size image
    has finer detail, so close orders may change there.

    Args:
        scale: ratio of pixel sizes; from the sizes if None, and compared with them otherwise.
        srf: (M, C) spectral response, rows in proportion; estimated from the pair if None. Gains
            and offsets of the MSI are always estimated.
        psf_sigma: standard deviation of the HSI's PSF in HR pixels; estimated if None.
        config: of the training; the crop shrinks to what fits the reduced problem; `snr_db` and
            `denoise` come from the pair.

    Raises:
        TypeError, ValueError: inputs that are no finite images of one footprint, show different
            places, are shifted by more than `LARGEST_SHIFT`, or hold an outlier (`files.outliers`).
        FloatingPointError: the training diverged.
    """
    began = time.perf_counter()
    pair = calibrate(x_h, x_m, scale, srf, psf_sigma)
    known = _known(pair, srf is None, psf_sigma is None)
    if pair.too_small:
        return _without_network(pair, known, began)
    reduced = pair.reduced(config.seed)
    config = replace(config, snr_db=reduced.snr_db, denoise=can_denoise(pair, reduced))
    model = learn(pair, reduced, config, preset, progress)
    guesses = fuse(model, reduced.x_h, reduced.x_m)
    errors = {name: y_hat - reduced.y for name, y_hat in guesses.items()}
    share, closed = weigh(errors, pair)
    errors[BLEND] = torch.lerp(errors[closed], errors[NETWORK], share)
    scores = score(errors, pair, reduced)
    ranking = sorted(scores, key=lambda name: scores[name]["psnr_pooled_scene_peak"], reverse=True)
    rival = next(name for name in ranking if name not in (NETWORK, BLEND))
    fused = fuse(model, pair.x_h, pair.x_m, dict.fromkeys((closed, rival, "bicubic")))
    fused[BLEND] = torch.lerp(fused[closed], fused[NETWORK], share)
    written = {"method": BLEND, "network": share, closed: 1 - share}
    report = {
        **known,
        "held_out": {**_ends(pair.held_out), "scores": scores},
        "ranking": ranking,
        "written": written,
        "recommendation": _recommend(ranking, scores, written),
        "full_resolution": {name: _quality(y_hat, pair) for name, y_hat in fused.items()},
        "training": {"preset": preset, **_ends(pair.train), "config": asdict(config)},
        "degradation": pair.degrade.card(),
        "provenance": provenance.facts(config.seed, time.perf_counter() - began),
    }
    root = {name: pair.unit * errors[name].square().mean(0).sqrt() for name in (NETWORK, rival)}
    model = in_units(model, pair.offset, pair.unit, pair.response)
    images = (fused[name] * pair.unit + pair.offset for name in (BLEND, NETWORK))
    return Adaptation(model, *images, report, root, pair.held_out, pair.response.srf)


def _without_network(pair: Pair, known: dict, began: float) -> Adaptation:
    """A pair that is too small to be divided: the closed form that serves it, and why."""
    reduced, forms = reduce_pair(pair.x_h, pair.x_m, pair.degrade), guard.forms(len(pair.x_m))
    closed = guard.CLOSED_FORM if len(pair.x_m) > 1 else "bicubic"
    if reduced is not None:
        small, y = reduced[:2], reduced[2]
        errors = {name: baselines.run(name, *small, pair.degrade) - y for name in forms}
        closed = guard.closed_form(errors, len(pair.x_m))
    y_hat = baselines.run(closed, pair.x_h, pair.x_m, pair.degrade)
    report = {
        **known,
        "written": {"method": closed, closed: 1.0},
        "recommendation": f"Written is {closed}, without a network. {pair.too_small}.",
        "degradation": pair.degrade.card(),
        "provenance": provenance.facts(0, time.perf_counter() - began),
    }
    y_hat = y_hat * pair.unit + pair.offset
    return Adaptation(None, y_hat, None, report, {}, None, pair.response.srf)


def can_denoise(pair: Pair, reduced: Reduced) -> bool:
    """Whether the noise is known, and a `WienerDenoiser` has room: it looks at the training part at
    all positions of its grid, so a PSF's reach must fit into one LR pixel less.
    """
    scale = pair.degrade.scale
    reach = (len(gaussian_psf(pair.degrade.psf_sigma, scale)) - scale) // 2
    room = min(reduced.y[0, *pair.train].shape) - scale > reach
    return reduced.snr_db is not None and room


def learn(
    pair: Pair, reduced: Reduced, config: training.TrainingConfig, preset: str, progress: bool
) -> FusionModel:
    """A network that has learnt from the training part of the reduced pair."""
    degrade = pair.degrade
    y, x_m = reduced.y[:, *pair.train], reduced.x_m[:, *pair.train]
    crop = min(config.crop, *y.shape[1:]) // degrade.scale * degrade.scale
    config = replace(config, crop=crop, validate_every=config.steps)
    torch.manual_seed(config.seed)
    network = S3RNet.from_preset(preset, len(y), len(x_m), scale=degrade.scale)
    model = FusionModel(network, degrade, "band", "injection", y, config.denoise, [x_m])
    with_msi, alone = (
        Scene(cube, torch.zeros(len(cube)), torch.zeros(len(cube)), None, "training part", 1.0, 0.0)
        for cube in (torch.cat([y, x_m]), y)
    )
    return training.fit(model, with_msi, alone, config, progress=progress).model.eval()


@torch.no_grad()
def fuse(
    model: FusionModel,
    x_h: torch.Tensor,
    x_m: torch.Tensor,
    names: Iterable[str] = (SKIP, *baselines.NAMES),
) -> dict:
    """One pair in [0, 1] by the network and by methods without."""
    fused = {NETWORK: model(x_h[None], x_m[None])[0]}
    for name in names:
        if name == SKIP:
            fused[name] = skip_alone(model, x_h, x_m)
        else:
            fused[name] = baselines.run(name, x_h, x_m, model.degrade)
    return fused


def weigh(errors: dict[str, torch.Tensor], pair: Pair) -> tuple[float, str]:
    """The network's share of the image, and the closed form that has the rest, from the errors on
    the held-out pixels.
    """
    own = {name: error[:, *pair.held_out] for name, error in errors.items()}
    closed = guard.closed_form(own, len(pair.x_m))
    return guard.share_of(own[NETWORK], own[closed], PRIOR_SHARE), closed


def score(errors: dict[str, torch.Tensor], pair: Pair, reduced: Reduced) -> dict[str, dict]:
    """`metrics.evaluate` and `metrics.similarity` of each method on the held-out pixels, from its
    errors on all.
    """
    own, scale = (slice(None), *pair.held_out), pair.degrade.scale
    y, rows = reduced.y[own], {}
    for name, error in errors.items():
        y_hat = y + error[own]
        rows[name] = metrics.evaluate(y_hat, y, scale, pair.unit) | metrics.similarity(y_hat, y)
    return rows


def in_units(model: FusionModel, offset: float, unit: float, response: Response) -> FusionModel:
    """The model for a pair as measured instead of in [0, 1], in place: everything before and after
    the network is affine.

    Args:
        offset, unit: x_h = unit * (x_h in [0, 1]) + offset.
        response: takes an HR-MSI to the HSI's unit.
    """
    # x_m = gain * (x_m in [0, 1]) + shift
    gain, shift = response.gain * unit, response.gain * offset + response.offset
    for regression in [part.regression for part in (model, model.denoiser) if part is not None]:
        weights, constant = regression[:, :-1] / gain.flatten(), regression[:, -1]
        constant = unit * (constant - weights @ shift.flatten()) + offset
        regression.copy_(torch.cat([unit * weights, constant[:, None]], dim=1))
    if model.denoiser is not None:
        model.denoiser.variance.mul_(unit**2)
    changes = ("hsi", unit, offset), ("msi", gain, shift), ("output", unit, 0)
    for name, slope, intercept in changes:
        mean, spread = getattr(model, f"{name}_mean"), getattr(model, f"{name}_spread")
        mean.mul_(slope).add_(intercept)
        spread.mul_(slope)
    return model


def skip_alone(model: FusionModel, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
    """What the model would answer if its network said nothing: x_h (C, h, w), x_m (M, h * r, w * r)
    -> (C, h * r, w * r).
    """
    if model.denoiser is not None:
        x_h = model.denoiser(x_h, x_m)
    return baselines.inject(
        x_h, baselines.apply_regression(model.regression, x_m), model.degrade, passes=2
    )


def _known(pair: Pair, srf_estimated: bool, psf_estimated: bool) -> dict:
    """What calibration found, for the report."""
    alignment = {"psf_sigma_estimated": psf_estimated, "largest_shift": LARGEST_SHIFT}
    sizes = {"lr_hsi": list(pair.x_h.shape), "hr_msi": list(pair.x_m.shape)}
    return {
        "pair": {"scale": pair.degrade.scale, **sizes},
        "alignment": asdict(pair.alignment) | alignment,
        "msi": {
            "srf_estimated": srf_estimated,
            "gain": pair.response.gain.flatten().tolist(),
            "offset": pair.response.offset.flatten().tolist(),
            "explained_variance": pair.response.explained.tolist(),
        },
    }


def _quality(y_hat: torch.Tensor, pair: Pair) -> dict:
    """Without a reference: how well the fused image, degraded, gives the inputs back (necessary,
    not sufficient, since some methods enforce it), and QNR.
    """
    spatial, spectral = pair.degrade.spatial(y_hat), pair.degrade.spectral(y_hat)
    consistency = {
        name: {
            "psnr_pooled_scene_peak": metrics.pooled_psnr(found, given),
            "sam_degrees": metrics.sam(found, given),
        }
        for name, found, given in (("lr_hsi", spatial, pair.x_h), ("hr_msi", spectral, pair.x_m))
    }
    return {"consistency": consistency} | no_reference.qnr(y_hat, pair.x_h, pair.x_m, pair.degrade)


def _recommend(ranking: list[str], scores: dict, written: dict) -> str:
    psnr = {name: scores[name]["psnr_pooled_scene_peak"] for name in ranking}
    closed = next(name for name in written if name not in ("method", NETWORK))
    share, best = written[NETWORK], next(name for name in ranking if name != BLEND)
    text = (
        f"Written is a blend, {share:.0%} {NETWORK} and {1 - share:.0%} {closed}. On the held-out "
        f"pixels it has {psnr[BLEND]:.2f} dB, the {NETWORK} {psnr[NETWORK]:.2f}, {closed} "
        f"{psnr[closed]:.2f}"
    )
    if best not in (NETWORK, closed):
        text += f", and best is {best} with {psnr[best]:.2f}"
    return (
        f"{text}. They are pixels of the pair degraded once more: the finer detail of full "
        "resolution can change a close order."
    )


def _ends(window: Window) -> dict[str, list[int]]:
    rows, columns = ([part.start, part.stop] for part in window)
    return {"lr_rows": rows, "lr_columns": columns}
