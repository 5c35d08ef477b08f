"""How much of a model's image to use, decided on the pair itself; built in
notebooks/06_training.ipynb.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .. import baselines
from ..sensing.degradation import Degradation
from .details import reduce_pair

# Before any evidence, and what that counts, in squared errors of the closed form; chosen as
# `details.PAIR_SHARE`.
PRIOR_SHARE = 0.8
PRIOR_WEIGHT = 2.0
FAMILIAR = 10.0  # misfit (`DetailRegression.learn_from`) up to which a pair is like the training
CLOSED_FORM = "sylvester"
ONE_BAND_RIVALS = ("bicubic", "cnmf")
MARGIN_DB = 1.0  # by which another than `CLOSED_FORM` has to be better

Fuse = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def judge(
    x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation, fuse: Fuse, misfit: float = 1.0
) -> tuple[float, str]:
    """How much of a model's image to blend with that of a closed form, which is fitted on the pair
    and which no training can mislead: the model's share, 0 to 1, and the closed form's name.

    On the pair degraded once more, whose truth is the LR-HSI, `fuse` (the model as trained) and the
    closed form are compared; the share is the one with the least squared error there, drawn towards
    `PRIOR_SHARE` (less, the more `misfit` exceeds `FAMILIAR`) as long as the two differ by no more
    than the closed form errs. Too small a pair is not degraded again and gives `PRIOR_SHARE`.

    The closed form is `baselines.sylvester`. Of a single MSI band it makes too much where the bands
    of the HSI differ in detail; then bicubic and CNMF compete with it.

    Shape: x_h (C, h, w), x_m (M, h*r, w*r); `fuse` maps such images to (C, h*r, w*r).
    """
    reduced = reduce_pair(x_h, x_m, degrade)
    if reduced is None:
        return PRIOR_SHARE, CLOSED_FORM
    small_h, small_m, y = reduced
    names = (CLOSED_FORM, *(ONE_BAND_RIVALS if len(x_m) == 1 else ()))
    rivals = {name: baselines.run(name, small_h, small_m, degrade) for name in names}
    errors = {name: float((rival - y).square().mean()) for name, rival in rivals.items()}
    best = min(errors, key=lambda name: errors[name])
    if errors[best] * 10 ** (MARGIN_DB / 10) > errors[CLOSED_FORM]:
        best = CLOSED_FORM
    gain, missing = fuse(small_h, small_m) - rivals[best], y - rivals[best]
    prior = PRIOR_WEIGHT * float(missing.square().sum()) + 1e-20
    share = float((gain * missing).sum()) + prior * PRIOR_SHARE * min(1.0, FAMILIAR / misfit)
    share /= float(gain.square().sum()) + prior
    return min(max(share, 0.0), 1.0), best
