"""`adapt` measured against truth, for `python -m s3rnet_lite adapt-benchmark`; shown in
notebooks/10_gpu_training.ipynb.

Pairs are made from images, so the full-size truth, which a user does not have, tells what the
held-out pixels' verdict is worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import torch
from scipy.stats import spearmanr

from .. import baselines, metrics
from ..inference import adaptation, no_reference
from ..sensing import scenes, sensors
from ..sensing.degradation import Degradation
from ..training import TrainingConfig

BANDS, SCALE, PSF_SIGMA = 120, 4, 1.7
MSI_BANDS = ("2", "3", "4", "8")  # of Sentinel-2A, those of 10 m
SNR_DB = (None, 40.0)  # of the LR-HSI
SIMULATED_SIZE = 256


def cases() -> Iterator[tuple[str, torch.Tensor, torch.Tensor, float | None]]:
    """Name, HR-HSI (C, H, W) in [0, 1], SRF (M, C) and SNR of the LR-HSI in dB."""
    real = scenes.indian_pines()
    chosen = real.wavelengths_nm.argsort()[
        torch.linspace(0, len(real.cube) - 1, BANDS).round().long()
    ]
    simulated = scenes.simulate(3, SIMULATED_SIZE, torch.linspace(410, 2450, BANDS))
    for name, cube, wavelengths_nm, fwhm_nm in (
        ("Indian Pines", real.cube[chosen], real.wavelengths_nm[chosen], real.fwhm_nm[chosen]),
        ("simulated", simulated.cube, simulated.wavelengths_nm, simulated.fwhm_nm),
    ):
        srf = sensors.sentinel2a(wavelengths_nm, MSI_BANDS, fwhm_nm)
        yield from ((name, cube, srf, snr_db) for snr_db in SNR_DB)


def measure(
    y: torch.Tensor,
    srf: torch.Tensor,
    snr_db: float | None = None,
    config: TrainingConfig = adaptation.CONFIG,
    preset: str = "lite",
) -> dict:
    """What `adapt` says of a pair that it knows nothing else about, beside what the truth y (C, H,
    W) says.

    Returns:
        scores, by method: pooled PSNR in dB of the held-out pixels of the reduced problem and of
            the whole full-size image, and QNR.
        rank_correlation: of the two PSNR over the methods (Spearman). estimates: what `adapt` found
            of shift, PSF, SRF and noise.
    """
    x_h, x_m = Degradation(SCALE, PSF_SIGMA, srf, snr_db)(y)
    lowest, span = x_h.min(), x_h.max() - x_h.min()
    y, x_h, x_m = ((x - lowest) / span for x in (y, x_h, x_m))
    found = adaptation.adapt(x_h, x_m, config=config, preset=preset, progress=False)

    degrade = Degradation.from_card(found.report["degradation"])
    gain, offset = (
        torch.tensor(found.report["msi"][name])[:, None, None] for name in ("gain", "offset")
    )
    fused = {
        adaptation.BLEND: found.y_hat,
        adaptation.NETWORK: found.y_network,
        adaptation.SKIP: adaptation.skip_alone(found.model, x_h, x_m),
    }
    x_m = (x_m - offset) / gain
    fused |= {name: baselines.run(name, x_h, x_m, degrade) for name in baselines.NAMES}
    held_out = found.report["held_out"]["scores"]
    scores = {
        name: {
            "held_out_psnr": held_out[name]["psnr_pooled_scene_peak"],
            "full_size_psnr": metrics.pooled_psnr(y_hat, y),
            "qnr": no_reference.qnr(y_hat, x_h, x_m, degrade)["qnr"],
        }
        for name, y_hat in fused.items()
    }
    psnr = ([row[name] for row in scores.values()] for name in ("held_out_psnr", "full_size_psnr"))
    return {
        "pixels": list(y.shape[1:]),
        "snr_db": snr_db,
        "scores": scores,
        "qnr_of_the_truth": no_reference.qnr(y, x_h, x_m, degrade)["qnr"],
        "rank_correlation": float(spearmanr(*psnr).statistic),
        "estimates": {
            **found.report["alignment"],
            "true_psf_sigma": PSF_SIGMA,
            "msi_psnr": metrics.pooled_psnr(degrade.spectral(y), x_m),
            "srf_weight_misplaced": float((found.srf - srf).abs().sum(1).mean() / 2),
            "snr_db_of_added_noise": found.report["training"]["config"]["snr_db"],
        },
    }


def run(config: TrainingConfig = adaptation.CONFIG) -> dict:
    """`measure` in every case, ready for JSON."""
    rows = []
    for name, y, srf, snr_db in cases():
        rows.append({"scene": name, **measure(y, srf, snr_db, config)})
        print(format_row(rows[-1]), flush=True)
    return {"config": asdict(config), "cases": rows}


def format_row(row: dict) -> str:
    lines = [
        f"\n{row['scene']}, LR-HSI with {row['snr_db'] or 'no'} dB of noise: rank correlation "
        f"{row['rank_correlation']:.2f}"
    ]
    lines += [
        f"{name:22}" + "".join(f"{value:10.3f}" for value in scores.values())
        for name, scores in row["scores"].items()
    ]
    return "\n".join(lines)
