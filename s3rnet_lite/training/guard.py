"""How much of a model's image to use, decided on the pair itself; part of the
models of notebooks/06_training.ipynb.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .. import baselines
from ..sensing.degradation import Degradation
from .details import reduce_pair

# Before any evidence, and what that counts, in squared errors of the closed form. These settings
# and those of `details` were tried by `s3rnet-lite skip-search`, inside the left halves of scenes.
PRIOR_SHARE = 0.8
PRIOR_WEIGHT = 2.0
BLIND_SHARE = 0.2  # of a pair that is too small to give any evidence
FAMILIAR = 10.0  # misfit (`DetailRegression.learn_from`) up to which a pair is like the training
CLOSED_FORM = "sylvester"
ONE_BAND_FORM = "cnmf"  # the closed form for a single MSI band, unless one of the others is better
MARGIN_DB = 1.0  # by so much

Fuse = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@torch.no_grad()
def judge(
    x_h: torch.Tensor,
    x_m: torch.Tensor,
    degrade: Degradation,
    fuse: Fuse,
    misfit: float | None = None,
) -> tuple[float, str]:
    """How much of a model's image to blend with that of a closed form, which is fitted on the pair
    and which no training can mislead: the model's share, 0 to 1, and the closed form's name.

    On the pair degraded once more, whose truth is the LR-HSI, `fuse` (the model as trained) and the
    closed form are compared; the share is the one with the least squared error there, drawn towards
    `PRIOR_SHARE` as long as the two differ by no more than the closed form errs. The prior is less,
    the more `misfit` exceeds `FAMILIAR` or, where nothing is known of that, the model's error the
    closed form's. Too small a pair is not degraded again and gives `BLIND_SHARE`, or less of a
    model that shows another picture (`_blind`).

    The closed form is `baselines.sylvester`. Of a single MSI band it makes too much where the bands
    of the HSI differ in detail; then it is CNMF, unless Sylvester's or bicubic interpolation is
    clearly better.

    Shape: x_h (C, h, w), x_m (M, h*r, w*r); `fuse` maps such images to (C, h*r, w*r).
    """
    reduced = reduce_pair(x_h, x_m, degrade)
    if reduced is None:
        return _blind(x_h, x_m, degrade, fuse)
    small_h, small_m, y = reduced
    rivals = {name: baselines.run(name, small_h, small_m, degrade) for name in forms(len(x_m))}
    best = closed_form({name: rival - y for name, rival in rivals.items()}, len(x_m))
    model, rival = fuse(small_h, small_m) - y, rivals[best] - y
    if misfit is None:
        trust = float(rival.square().sum()) / max(float(model.square().sum()), 1e-20)
    else:
        trust = FAMILIAR / misfit
    return share_of(model, rival, PRIOR_SHARE * min(1.0, trust)), best


def _blind(
    x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation, fuse: Fuse
) -> tuple[float, str]:
    """`BLIND_SHARE`, or less if the model departs from the closed form by more than that adds to
    bicubic interpolation: then it shows another picture.
    """
    closed = forms(len(x_m))[0]
    rival, smooth = (baselines.run(name, x_h, x_m, degrade) for name in (closed, "bicubic"))
    apart = float((fuse(x_h, x_m) - rival).square().sum())
    return BLIND_SHARE * min(
        1.0, float((rival - smooth).square().sum()) / max(apart, 1e-20)
    ), closed


def forms(msi_bands: int) -> tuple[str, ...]:
    """The closed forms that may stand beside a model, the usual one first."""
    return (ONE_BAND_FORM, CLOSED_FORM, "bicubic") if msi_bands == 1 else (CLOSED_FORM,)


def closed_form(errors: dict[str, torch.Tensor], msi_bands: int) -> str:
    """Which closed form to trust, by their errors: the usual one, or another that is clearly
    better.
    """
    usual, *_ = names = forms(msi_bands)
    power = {name: float(errors[name].square().mean()) for name in names}
    best = min(power, key=lambda name: power[name])
    return best if power[best] * 10 ** (MARGIN_DB / 10) < power[usual] else usual


def share_of(model: torch.Tensor, rival: torch.Tensor, prior_share: float) -> float:
    """The share of a model's image in a blend, 0 to 1, with the least squared error, drawn towards
    `prior_share`; from the errors of both, (C, H, W).
    """
    gain = model - rival
    prior = PRIOR_WEIGHT * float(rival.square().sum()) + 1e-20
    share = prior * prior_share - float((gain * rival).sum())
    return min(max(share / (float(gain.square().sum()) + prior), 0.0), 1.0)
