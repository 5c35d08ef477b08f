"""Variants differ from the bare network in what their names say, and a killed run goes on."""

import pytest
import torch

from s3rnet_lite.analysis import energy
from s3rnet_lite.experiments import demands
from s3rnet_lite.network.s3rnet import S3RNet


def features(network):
    generator = torch.Generator().manual_seed(0)
    pair = (
        torch.rand(1, 9, 4, 4, generator=generator),
        torch.rand(1, 3, 16, 16, generator=generator),
    )
    return network.ssawb(*network.mbfn(*pair))


def network(**changes):
    torch.manual_seed(0)
    return S3RNet.from_preset("lite", 9, 3, **changes)


def test_a_silent_branch_says_nothing_whatever_it_sees():
    quiet = network()
    demands.silence("q", "k", "v")(quiet)
    x_m = torch.rand(1, 3, 16, 16)
    q, k, v, z = quiet.mbfn(torch.rand(1, 9, 4, 4), x_m)
    assert not any(x.any() for x in (q, k, v)) and z.any()


def test_gates_with_a_softmax_share_one():
    soft = network()
    demands.softmax_gates(soft)
    maps = soft.ssawb.gates(torch.rand(1, 4 * 24, 3, 3))
    torch.testing.assert_close(maps.sum(1), torch.ones(1, 3, 3))


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_push_is_the_gradient_of_hoyers_measure(sign):
    """Against a difference quotient of `energy.hoyer`, which knows nothing of gradients."""
    pushed = network()
    demands.push_hoyer(sign * 0.5)(pushed)
    pushed.train()
    bias = pushed.mbfn.z[0].bias
    (features(pushed).sum() * 0).backward()
    step = torch.randn(bias.shape, generator=torch.Generator().manual_seed(1))
    scores = []
    for size in (-1e-2, 1e-2):
        other = network()
        with torch.no_grad():
            other.mbfn.z[0].bias += size * step
        scores.append(energy.hoyer(energy.channel_energy(features(other))))
    slope = sign * 0.5 * (scores[1] - scores[0]) / 2e-2
    assert float((bias.grad * step).sum()) == pytest.approx(slope, rel=0.05)


@pytest.mark.parametrize("name", ["K alone", "energy spread", "published, injection skip"])
def test_a_variant_trains(name):
    row = demands.run_one(name, 0, 1)
    assert len(row["psnr_under_noise"]) == len(demands.SNR_DB)
    assert row["psnr_under_noise"][0] == pytest.approx(
        row["validation"]["psnr_pooled_scene_peak"], abs=1e-3
    )


def test_a_stored_row_is_not_repeated(tmp_path, monkeypatch):
    out, seen = tmp_path / "demands.json", []
    monkeypatch.setattr(demands, "VARIANTS", dict(list(demands.VARIANTS.items())[:2]))

    def fake(name, seed):
        seen.append((name, seed))
        score = {"psnr_pooled_scene_peak": 40.0 + seed}
        return {"name": name, "seed": seed, "validation": score, "psnr_under_noise": [40.0]}

    monkeypatch.setattr(demands, "run_one", fake)
    demands.run(1, out)
    rows = demands.run(2, out)["rows"]
    assert seen == [("bare", 0), ("Q in groups", 0), ("bare", 1), ("Q in groups", 1)]
    found = demands.summary(rows)["bare"]
    assert found["mean"] == 40.5 and found["seeds"] == 2
    assert found["standard_deviation"] == pytest.approx(0.5**0.5)
