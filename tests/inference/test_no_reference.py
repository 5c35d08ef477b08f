"""QNR: what it rewards by definition, its library part against a loop by hand, and its blind
spot.
"""

import pytest
import torch
from torchmetrics.functional.image import universal_image_quality_index

from s3rnet_lite import Degradation, baselines, metrics
from s3rnet_lite.inference import no_reference


@pytest.fixture(scope="module")
def pair(indian_pines, tm4):
    y, degrade = indian_pines.cube[:, :96, :96], Degradation(srf=tm4)
    return y, *degrade(y), degrade


def test_it_is_the_definition_worked_band_by_band(pair):
    y, x_h, x_m, degrade = pair
    bands, low = [0, 84, 169], degrade.spatial(x_m)

    def quality(a, b):
        return float(universal_image_quality_index(a[None, None], b[None, None]))

    pairs = [(i, j) for i in bands for j in bands if i != j]
    d_lambda = sum(abs(quality(y[i], y[j]) - quality(x_h[i], x_h[j])) for i, j in pairs) / len(
        pairs
    )
    correlations = torch.corrcoef(torch.cat([x_h, low]).flatten(1).double())[: len(x_h), len(x_h) :]
    d_s = (
        sum(
            abs(quality(y[i], x_m[b]) - quality(x_h[i], low[b]))
            for i in bands
            for b in [int(correlations[i].argmax())]
        )
        / 3
    )
    found = no_reference.qnr(y, x_h, x_m, degrade, bands=3)
    assert found["d_lambda"] == pytest.approx(d_lambda, abs=1e-5)
    assert found["d_s"] == pytest.approx(d_s, abs=1e-5)
    assert found["qnr"] == pytest.approx((1 - d_lambda) * (1 - d_s), abs=1e-5)


def test_noise_and_missing_detail_cost(pair):
    y, x_h, x_m, degrade = pair
    truth = no_reference.qnr(y, x_h, x_m, degrade)["qnr"]
    noisy = no_reference.qnr(y + 0.05 * torch.randn_like(y), x_h, x_m, degrade)["qnr"]
    blurred = no_reference.qnr(baselines.run("bicubic", x_h, x_m, degrade), x_h, x_m, degrade)[
        "qnr"
    ]
    assert max(noisy, blurred) < truth - 0.1


def test_it_prefers_a_worse_image_to_the_truth(pair):
    """Why the report does not rank by it."""
    y, x_h, x_m, degrade = pair
    worse = baselines.run("gsa", x_h, x_m, degrade)
    assert metrics.sam(worse, y) > 0.5
    assert (
        no_reference.qnr(worse, x_h, x_m, degrade)["qnr"]
        > no_reference.qnr(y, x_h, x_m, degrade)["qnr"]
    )


def test_bad_input_is_named(pair):
    y, x_h, x_m, degrade = pair
    with pytest.raises(ValueError, match="y_hat: expected shape"):
        no_reference.qnr(y[:, :92], x_h, x_m, degrade)
    with pytest.raises(ValueError, match="x_h: the quality index needs at least 8 pixels"):
        no_reference.qnr(y[:, :28, :28], x_h[:, :7, :7], x_m[:, :28, :28], degrade)
