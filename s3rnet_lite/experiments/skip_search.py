"""How the settings of the skip "details" and of the guard were chosen: one at a time, without a
network, inside the left halves of real scenes, for `python -m s3rnet_lite skip-search`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import torch
from tqdm.auto import tqdm

from .. import baselines, metrics, training
from ..network import s3rnet
from ..sensing.scene import Scene
from ..training import details, guard
from ..training.fusion import FusionModel
from .elsewhere import Case, both_ways, find, halves

# name in the module -> what was tried
CHOICES = {
    (details, "RIDGE"): (1e-5, 1e-4, 1e-3),
    (details, "PAIR_SHARE"): (0.25, 0.5, 1.0),
    (guard, "PRIOR_SHARE"): (0.6, 0.8, 1.0),
    (guard, "PRIOR_WEIGHT"): (1.0, 2.0, 4.0),
    (guard, "FAMILIAR"): (3.0, 10.0, 30.0),
    (guard, "BLIND_SHARE"): (0.0, 0.2, 0.4),
    (guard, "ONE_BAND_FORM"): ("bicubic", "cnmf", "sylvester"),
    (guard, "MARGIN_DB"): (0.5, 1.0, 2.0),
}


def settings() -> Iterator[dict]:
    """The present values, then every other value of `CHOICES`, one changed at a time."""
    now = {name: getattr(module, name) for module, name in CHOICES}
    yield now
    for (_, name), values in CHOICES.items():
        yield from (now | {name: value} for value in values if value != now[name])


def inner_cases(folder: Path) -> Iterator[Case]:
    """Two quarters of the left half of every scene, side by side and one above the other, each to
    be tested after the other is learnt. Most of those side by side are too small to be degraded
    again.
    """
    for scene in find(folder)[0]:
        left = halves(scene)[0]
        yield from both_ways(*halves(left))
        yield from both_ways(*_upper_and_lower(left))


def _upper_and_lower(scene: Scene, scale: int = 4) -> tuple[Scene, Scene]:
    middle = scene.cube.shape[1] // 2 // scale * scale
    rows = {"upper half": slice(0, middle), "lower half": slice(middle, 2 * middle)}
    upper, lower = (scene.crop(r, slice(None), f"{scene.name}/{n}") for n, r in rows.items())
    return upper, lower


def skip_alone(case: Case) -> torch.Tensor:
    """The image (C, H, W) of a lite model whose network says nothing."""
    network = s3rnet.S3RNet.from_preset("tiny", len(case.learn.cube), case.msi_bands)
    model = FusionModel(network, case.degrade, "band", "details", case.learn.cube)
    model.output_spread.zero_()
    return training.predict(model.eval(), case.test)[0]


def search(folder: Path, progress: bool = True) -> dict:
    """Lead of the skip alone over the best classical method of each quarter in dB of pooled PSNR,
    mean and worst, for each of `settings`.
    """
    torch.set_num_threads(1)
    tested, rows = list(inner_cases(folder)), []
    best = [
        max(metrics.pooled_psnr(y, case.test.cube) for y in _classical(case)) for case in tested
    ]
    for setting in tqdm(list(settings()), disable=not progress, unit="setting"):
        with ExitStack() as changed:
            for module, name in CHOICES:
                changed.enter_context(patch.object(module, name, setting[name]))
            psnr = [metrics.pooled_psnr(skip_alone(case), case.test.cube) for case in tested]
        leads = [own - other for own, other in zip(psnr, best, strict=True)]
        rows.append({**setting, "mean_lead": sum(leads) / len(leads), "worst_lead": min(leads)})
    names = sorted({f"{case.test.name}, {case.msi_bands} bands" for case in tested})
    return {"tested": names, "rows": rows}


def _classical(case: Case) -> Iterator[torch.Tensor]:
    pair = case.degrade(case.test.cube)
    yield from (baselines.run(name, *pair, case.degrade) for name in baselines.NAMES)
