"""Quality of a fused image when no reference exists: the QNR family, with its blind spots; used in
notebooks/10_gpu_training.ipynb.
"""

from __future__ import annotations

import torch
from torchmetrics.functional.image import spatial_distortion_index, spectral_distortion_index

from ..baselines import followed_band
from ..files.checks import check_cube, check_pair
from ..sensing.degradation import Degradation

# of the HSI, evenly spread: D_lambda compares every pair of bands, so all 172 would cost a hundred
# times as much
BANDS = 16


def qnr(
    y_hat: torch.Tensor,
    x_h: torch.Tensor,
    x_m: torch.Tensor,
    degrade: Degradation,
    bands: int = BANDS,
) -> dict[str, float]:
    """Quality with no reference, (1 - D_lambda)(1 - D_s), and its two parts (L. Alparone et al.,
    2008), for HSI and MSI.

    Q is the universal image quality index (Z. Wang and A. Bovik, 2002): correlation times equality
    of mean and of contrast, in windows. D_lambda, spectral: how much Q between two HSI bands
    changes from the LR-HSI to the fused image, mean over all pairs of `bands` evenly spread bands.
    D_s, spatial: how much Q between an HSI band and the MSI band that it correlates with best
    changes from low resolution (the MSI seen through the PSF) to high, mean over the same bands.
    All on [0, 1] data.

    Both ask for *equal* Q at two resolutions. A true image does not reach 0 in either, and an image
    can come nearer to it than
    the truth: rank methods by held-out pixels of the reduced problem and use this as a warning
    only. `adapt-benchmark` measures both.

    Returns:
        "d_lambda" and "d_s", 0 at best, and "qnr", 1 at best.

    Raises:
        TypeError, ValueError: images that do not belong together, or an LR-HSI of less than 8
            pixels a side.
    """
    check_pair(x_h, x_m, degrade.scale, degrade.srf.shape[1], degrade.srf.shape[0])
    if check_cube("y_hat", y_hat).shape != (len(x_h), *x_m.shape[1:]):
        raise ValueError(
            f"y_hat: expected shape {(len(x_h), *x_m.shape[1:])}, got {tuple(y_hat.shape)}"
        )
    if min(x_h.shape[1:]) < 8:
        raise ValueError(
            f"x_h: the quality index needs at least 8 pixels a side, got {tuple(x_h.shape[1:])}"
        )
    chosen = torch.linspace(0, len(x_h) - 1, min(bands, len(x_h))).round().long()
    followed, low = followed_band(x_h, x_m, degrade)
    followed = followed[chosen]
    fused, hsi = y_hat[None, chosen].float(), x_h[None, chosen].float()
    d_lambda = float(spectral_distortion_index(fused, hsi))
    d_s = float(
        spatial_distortion_index(
            fused, hsi, x_m[None, followed].float(), low[None, followed].float()
        )
    )
    return {"d_lambda": d_lambda, "d_s": d_s, "qnr": (1 - d_lambda) * (1 - d_s)}
