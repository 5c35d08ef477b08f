"""The benchmark of adaptation: its numbers, worked from the images alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from s3rnet_lite import Degradation, baselines, metrics
from s3rnet_lite.experiments import adaptation_truth
from s3rnet_lite.inference import adaptation

pytestmark = pytest.mark.slow  # not part of `make check`


def test_a_case_sets_the_verdict_of_held_out_pixels_beside_the_truths_own(indian_pines):
    y, srf = indian_pines.cube[::6, :48, 40:136], torch.zeros(4, 29)
    srf[range(4), (3, 8, 14, 22)] = 1
    row = adaptation_truth.measure(
        y, srf, 35.0, replace(adaptation.CONFIG, steps=2, batch_size=2), "tiny"
    )
    scores = json.loads(json.dumps(row))["scores"]
    assert set(scores) == {"network", "blend", adaptation.SKIP, *baselines.NAMES}
    x_h, x_m = Degradation(4, 1.7, srf, 35.0)(y)
    for name, tolerance in (
        ("bicubic", 1e-3),
        ("detail_injection", 0.1),
    ):  # the second depends on the PSF, which `adapt` estimates
        expected = metrics.pooled_psnr(
            baselines.run(name, x_h, x_m, Degradation(4, 1.7, srf)), y, float(y.max() - x_h.min())
        )
        assert scores[name]["full_size_psnr"] == pytest.approx(expected, abs=tolerance)
    assert scores["network"]["full_size_psnr"] > scores["bicubic"]["full_size_psnr"] + 3
    assert (
        scores[adaptation.SKIP]["full_size_psnr"]
        > scores["detail_injection"]["full_size_psnr"] + 0.5
    )  # it takes noise out first
    assert row["qnr_of_the_truth"] > scores["bicubic"]["qnr"]
    assert row["estimates"]["psf_sigma"] == pytest.approx(1.7, rel=0.05)
    ranks = np.argsort(
        np.argsort(
            [[one[name] for one in scores.values()] for name in ("held_out_psnr", "full_size_psnr")]
        )
    )
    count = len(scores)
    assert row["rank_correlation"] == pytest.approx(
        1 - 6 * np.square(ranks[0] - ranks[1]).sum() / (count * (count**2 - 1))
    )
