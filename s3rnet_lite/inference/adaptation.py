"""Your own pair without any ground truth: learn on the pair degraded once more, fuse at full
resolution, report what can be known; used in notebooks/10_gpu_training.ipynb."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

import torch

from .. import baselines, metrics, training
from ..files import provenance
from ..network.s3rnet import S3RNet
from ..sensing.degradation import Degradation, add_noise, gaussian_psf
from ..sensing.scene import Scene
from ..training.fusion import FusionModel
from . import calibration, no_reference
from .calibration import Response

CONFIG = replace(training.CONFIGS["lite"], steps=1_000)
LARGEST_SHIFT = (
    0.5  # HR pixels, along an axis; already half a pixel costs more than any choice of method gains
)
LEAST_CORRELATION = 0.4  # squared; the tests have other places below 0.3, one place above 0.7
HELD_OUT_SHARE = 0.25
NETWORK, SKIP = "network", "skip_without_network"


@dataclass
class Adaptation:
    """What `adapt` gives.

    model: fuses other pairs of the same two sensors, in the units of the two images.
    y_hat: fused image (C, H, W) in the HSI's unit.
    report: what is known about it, ready for JSON.
    errors: root mean squared error over the bands, in the HSI's unit, at each pixel of the reduced
        problem (h, w): of the network and of the best method without.
    held_out: (rows, columns) of those pixels that no weight depends on.
    srf: (M, C), given or estimated.
    """

    model: FusionModel
    y_hat: torch.Tensor
    report: dict
    errors: dict[str, torch.Tensor]
    held_out: tuple[slice, slice]
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
    restore it, on the first three quarters of its longer side.
    The last quarter, behind a gap, is held out: there the network and the classical methods, which
    see the whole reduced pair as they would see the whole pair, are scored. (PSF, SRF, gains and
    noise, which all methods share, come from the whole pair.) The second blur would average the
    LR-HSI's noise away and so flatter methods that hand noise on; as much as is lost is added
    again, in training and in the scores, and a `WienerDenoiser` stands before network and skip.
    Then the model fuses the pair itself, at a resolution that it was not trained at. The report
    says what that costs where it can: consistency with both inputs, and QNR. What no held-out pixel
    can tell: the full-size image has finer detail, so close orders may change there.

    Args:
        scale: ratio of pixel sizes; from the sizes if None, and compared with them otherwise.
        srf: (M, C) spectral response, rows in proportion; estimated from the pair if None. Gains
            and offsets of the MSI are always estimated.
        psf_sigma: standard deviation of the HSI's PSF in HR pixels; estimated if None.
        config: of the training; the crop shrinks to what fits the reduced problem; `snr_db` and
            `denoise` come from the pair.

    Raises:
        TypeError, ValueError: inputs that are no finite images of one footprint, show different
            places or are shifted by more than `LARGEST_SHIFT` (the message tells the shift), or are
            too small to be degraded once more.
    """
    began = time.perf_counter()
    scale = calibration.find_scale(x_h, x_m, scale)
    train, held_out = split(x_h.shape[1], x_h.shape[2], scale)
    alignment = calibration.align(x_h, x_m, scale, psf_sigma)
    check_alignment(alignment)
    low = Degradation(scale, alignment.psf_sigma, torch.ones(1, 1)).spatial(x_m)
    response = (
        calibration.estimate_response(x_h, low)
        if srf is None
        else calibration.fit_gains(srf, x_h, low)
    )
    degrade = Degradation(scale, alignment.psf_sigma, response.srf)
    offset, unit = float(x_h.min()), float(x_h.max() - x_h.min())
    x_h, x_m = (
        (x_h - offset) / unit,
        (response.to_hsi_unit(x_m) - offset) / unit,
    )  # now srf @ y is the MSI, and all is in [0, 1]

    rows, columns = (length // scale * scale for length in x_h.shape[1:])
    reference, reduced_m = x_h[:, :rows, :columns], degrade.spatial(x_m)[:, :rows, :columns]
    reduced_h = degrade.spatial(reference)
    snr_db = lost_noise(reference, reduced_h, degrade)
    # The filter looks at the training part at all positions of its grid, so a PSF's reach must fit
    # into one LR pixel less.
    reach = (len(gaussian_psf(degrade.psf_sigma, scale)) - scale) // 2
    room = min(reference[0, *train].shape) - scale > reach
    config = replace(config, snr_db=snr_db, denoise=snr_db is not None and room)
    if snr_db is not None:
        reduced_h = add_noise(reduced_h, snr_db, torch.Generator().manual_seed(config.seed))
    model = _train(reference[:, *train], reduced_m[:, *train], degrade, config, preset, progress)
    reduced = {
        name: y_hat - reference for name, y_hat in _fuse(model, reduced_h, reduced_m).items()
    }
    scores = {
        name: metrics.evaluate(
            (reference + error)[:, *held_out], reference[:, *held_out], scale, unit
        )
        for name, error in reduced.items()
    }
    ranking = sorted(scores, key=lambda name: scores[name]["psnr_pooled_scene_peak"], reverse=True)
    rival = next(name for name in ranking if name != NETWORK)

    fused = _fuse(model, x_h, x_m, (rival, "bicubic"))
    report = {
        "pair": {"scale": scale, "lr_hsi": list(x_h.shape), "hr_msi": list(x_m.shape)},
        "alignment": asdict(alignment)
        | {"psf_sigma_estimated": psf_sigma is None, "largest_shift": LARGEST_SHIFT},
        "msi": {
            "srf_estimated": srf is None,
            "gain": response.gain.flatten().tolist(),
            "offset": response.offset.flatten().tolist(),
            "explained_variance": response.explained.tolist(),
        },
        "held_out": {
            "lr_rows": _ends(held_out[0]),
            "lr_columns": _ends(held_out[1]),
            "scores": scores,
        },
        "ranking": ranking,
        "recommendation": _recommend(ranking, scores),
        "full_resolution": {
            name: {"consistency": _consistency(y_hat, x_h, x_m, degrade)}
            | no_reference.qnr(y_hat, x_h, x_m, degrade)
            for name, y_hat in fused.items()
        },
        "training": {
            "preset": preset,
            "lr_rows": _ends(train[0]),
            "lr_columns": _ends(train[1]),
            "config": asdict(config),
        },
        "degradation": degrade.card(),
        "provenance": provenance.facts(config.seed, time.perf_counter() - began),
    }
    errors = {name: unit * reduced[name].square().mean(0).sqrt() for name in (NETWORK, rival)}
    y_hat = fused[NETWORK] * unit + offset
    return Adaptation(
        in_units(model, offset, unit, response), y_hat, report, errors, held_out, response.srf
    )


def split(height: int, width: int, scale: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where an LR-HSI is learnt from and where it is held out: two times (rows, columns), along its
    longer side.

    All edges lie on the grid of the reduced problem. Between the two lies one of its pixels, and
    the training part is degraded by itself, so that no held-out pixel enters the training, neither
    as input nor as target.

    Raises:
        ValueError: fewer than 6 times 3 pixels in the reduced problem, or fewer than 8 on a side of
            the LR-HSI (QNR's windows).
    """
    shorter, longer = sorted((height // scale, width // scale))
    if shorter < 3 or longer < 6 or min(height, width) < 8:
        raise ValueError(
            f"x_h: {height} x {width} pixels are too few to be degraded {scale} times once more "
            "and divided into training and held-out "
            f"pixels; at least {max(3 * scale, 8)} x {6 * scale} are needed"
        )
    held_out = round(HELD_OUT_SHARE * longer)
    along = (
        slice(0, (longer - held_out - 1) * scale),
        slice((longer - held_out) * scale, longer * scale),
    )
    across = slice(0, shorter * scale)
    return tuple((across, part) if width >= height else (part, across) for part in along)


def lost_noise(x_h: torch.Tensor, reduced_h: torch.Tensor, degrade: Degradation) -> float | None:
    """The SNR in dB at which noise has to be added to a degraded LR-HSI for it to be as noisy as
    the LR-HSI itself.

    White noise, as strong in every band as `metrics.estimate_noise` finds in the mean over bands,
    minus what the blur leaves of it.
    None where noise cannot be told from signal: too few pixels for so many bands, or bands that
    depend on each other exactly.
    """
    try:
        variance = metrics.estimate_noise(x_h).square().mean()
    except ValueError:
        return None
    kept = gaussian_psf(degrade.psf_sigma, degrade.scale) @ gaussian_psf(
        degrade.psf_sigma, degrade.scale
    )
    return float(10 * torch.log10(reduced_h.double().square().mean() / (variance * (1 - kept**2))))


def check_alignment(alignment: calibration.Alignment) -> None:
    """Refuse a pair of which a fused image would be wrong.

    Raises:
        ValueError: the two are not correlated at any shift, or shifted by more than
            `LARGEST_SHIFT`.
    """
    if alignment.correlation < LEAST_CORRELATION:
        raise ValueError(
            "x_h, x_m: expected images of the same place, but they hardly correlate at any shift "
            "(squared correlation "
            f"{alignment.correlation:.2f}, at least {LEAST_CORRELATION} expected); is one of them "
            "flipped, turned or of another footprint?"
        )
    if max(abs(alignment.rows), abs(alignment.columns)) > LARGEST_SHIFT:
        raise ValueError(
            f"x_m: expected to be aligned with x_h to {LARGEST_SHIFT} HR pixels, but its content "
            f"lies {alignment.rows:+.2f} rows (down) "
            f"and {alignment.columns:+.2f} columns (right) of HR pixels away from where x_h has "
            "it; register the pair first"
        )


def in_units(model: FusionModel, offset: float, unit: float, response: Response) -> FusionModel:
    """The model for a pair as measured instead of in [0, 1], in place: everything before and after
    the network is affine.

    Args:
        offset, unit: x_h = unit * (x_h in [0, 1]) + offset.
        response: takes an HR-MSI to the HSI's unit.
    """
    gain, shift = (
        response.gain * unit,
        response.gain * offset + response.offset,
    )  # x_m = gain * (x_m in [0, 1]) + shift
    for regression in [part.regression for part in (model, model.denoiser) if part is not None]:
        weights, constant = regression[:, :-1] / gain.flatten(), regression[:, -1]
        constant = unit * (constant - weights @ shift.flatten()) + offset
        regression.copy_(torch.cat([unit * weights, constant[:, None]], dim=1))
    if model.denoiser is not None:
        model.denoiser.variance.mul_(unit**2)
    for name, slope, intercept in (
        ("hsi", unit, offset),
        ("msi", gain, shift),
        ("output", unit, 0),
    ):
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


def _train(
    y: torch.Tensor,
    x_m: torch.Tensor,
    degrade: Degradation,
    config: training.TrainingConfig,
    preset: str,
    progress: bool,
) -> FusionModel:
    """A network that has learnt from an HSI and the MSI measured with it, (C, h, w) and (M, h,
    w).
    """
    crop = min(config.crop, *(length // degrade.scale * degrade.scale for length in y.shape[1:]))
    config = replace(config, crop=crop, validate_every=config.steps)
    torch.manual_seed(config.seed)
    network = S3RNet.from_preset(preset, len(y), len(x_m), scale=degrade.scale)
    model = FusionModel(network, degrade, "band", "injection", y, config.denoise, [x_m])
    with_msi, alone = (
        Scene(cube, torch.zeros(len(cube)), torch.zeros(len(cube)), None, "training part", 1.0, 0.0)
        for cube in (torch.cat([y, x_m]), y)
    )
    training.fit(model, with_msi, alone, config, progress=progress)
    return model.eval()


@torch.no_grad()
def _fuse(
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


def _consistency(
    y_hat: torch.Tensor, x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation
) -> dict:
    """How well the fused image, degraded, gives the inputs back: necessary, not sufficient, since
    some methods enforce it.
    """
    pairs = {"lr_hsi": (degrade.spatial(y_hat), x_h), "hr_msi": (degrade.spectral(y_hat), x_m)}
    return {
        name: {
            "psnr_pooled_scene_peak": metrics.pooled_psnr(found, given),
            "sam_degrees": metrics.sam(found, given),
        }
        for name, (found, given) in pairs.items()
    }


def _recommend(ranking: list[str], scores: dict) -> str:
    psnr = {name: scores[name]["psnr_pooled_scene_peak"] for name in ranking}
    best, second = ranking[:2]
    if best == NETWORK:
        verdict = (
            f"On the held-out pixels the network is best: {psnr[best]:.2f} dB, next {second} with "
            f"{psnr[second]:.2f} dB."
        )
    else:
        verdict = (
            f"On the held-out pixels {best} is better than the network: {psnr[best]:.2f} against "
            f"{psnr[NETWORK]:.2f} dB. Prefer it to the fused image, which is the network's."
        )
    return (
        f"{verdict} They are pixels of the pair degraded once more: the finer detail of full "
        "resolution can change a close order."
    )


def _ends(part: slice) -> list[int]:
    return [part.start, part.stop]
