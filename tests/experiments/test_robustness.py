"""Noise sweeps, controls and faults: hand-worked cases, known noise, and the stored runs' own
logic.
"""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite import baselines, metrics, robustness, training
from s3rnet_lite.experiments import runs
from s3rnet_lite.peers import registry
from s3rnet_lite.sensing.degradation import Degradation
from s3rnet_lite.training import sources
from s3rnet_lite.training.fusion import FusionModel

pytestmark = pytest.mark.slow  # not part of `make check`


@pytest.fixture(scope="module")
def pair(small_val, degrade6):
    return degrade6(small_val.cube)


def bicubic(degrade):
    return lambda x_h, x_m: baselines.bicubic(x_h, x_m, degrade)


def test_the_default_sweep_is_table_twos_and_has_a_row_for_each_case(small_val, degrade6):
    rows = robustness.sweep(
        {"bicubic": bicubic(degrade6), "nothing": lambda x_h, x_m: torch.ones(1, 170, 16, 16)},
        small_val,
    )
    assert [(row["network"], row["noise_on"], row["snr_db"], row["seed"]) for row in rows] == [
        (name, "lr_hsi", snr, seed)
        for name in ("bicubic", "nothing")
        for snr in (35, 15)
        for seed in range(3)
    ]
    of = {
        (row["network"], row["snr_db"], row["seed"]): row["psnr_pooled_scene_peak"] for row in rows
    }
    assert of["bicubic", 35, 0] > of["bicubic", 15, 0] + 3
    assert of["bicubic", 15, 0] != of["bicubic", 15, 1]  # another realisation
    assert (
        len({value for key, value in of.items() if key[0] == "nothing"}) == 1
    )  # what ignores its inputs cannot tell


def test_rows_hold_the_scores_of_the_noisy_inputs(small_val, degrade6, pair):
    [row] = robustness.sweep({"b": bicubic(degrade6)}, small_val, [20], 1, ["both"])
    x_h, x_m = robustness.noisy(*pair, 20, "both", 0)
    expected = metrics.evaluate(
        baselines.bicubic(x_h, x_m, degrade6), small_val.cube, 4, small_val.scale
    )
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_no_noise_is_scored_once_and_a_models_own_degradation_is_used(small_val):
    degrade = Degradation(srf=torch.full((2, 170), 1 / 170))
    model = FusionModel(registry.build("mssjfl", "lite", 170, 2), degrade, "none", "none")
    model.train()
    rows = robustness.sweep({"two bands": model}, small_val, [None], 3)
    assert (
        len(rows) == 1 and not model.training
    )  # in training mode, batch normalisation would learn from the test


@pytest.mark.parametrize(
    ("place", "changed"),
    [("lr_hsi", (True, False)), ("hr_msi", (False, True)), ("both", (True, True))],
)
def test_noise_is_where_it_should_be_and_as_strong(pair, place, changed):
    for x, noisy, touched in zip(pair, robustness.noisy(*pair, 20, place, 0), changed, strict=True):
        if touched:
            assert 10 * math.log10(
                x.square().mean() / (noisy - x).square().mean()
            ) == pytest.approx(20, abs=0.5)
        else:
            assert torch.equal(noisy, x)


def test_bad_arguments_are_named(small_val, pair):
    with pytest.raises(TypeError, match="networks: expected a mapping"):
        robustness.sweep([lambda x_h, x_m: x_m], small_val)
    with pytest.raises(ValueError, match="seeds"):
        robustness.sweep({}, small_val, seeds=0)
    with pytest.raises(ValueError, match="noise_on: expected one of"):
        robustness.noisy(*pair, 20, "everywhere", 0)


@given(st.floats(0.05, 0.9), st.integers(5, 40))
def test_the_two_definitions_of_snr_name_the_same_noise(level, snr_db):
    x = level * torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1))
    symmetric = 2 * x - 1
    sigma = (
        float((symmetric.square().mean() / 10 ** (snr_db / 10)).sqrt()) / 2
    )  # back on [0, 1] the noise is half as large
    ours = robustness.snr_on_unit_range(x, snr_db)
    assert float((x.square().mean() / 10 ** (ours / 10)).sqrt()) == pytest.approx(sigma, rel=1e-4)


def test_the_control_never_looks_at_the_lr_hsi(indian_pines_split, degrade6, pair):
    control = robustness.regression_control(degrade6, indian_pines_split[0])
    x_h, x_m = (x[None] for x in pair)
    assert torch.equal(control(x_h, x_m), control(torch.full_like(x_h, math.nan), x_m))
    pixels = indian_pines_split[0].cube.flatten(1).double().numpy()
    design = np.vstack([degrade6.srf.double().numpy() @ pixels, np.ones(pixels.shape[1])])
    weights = np.linalg.lstsq(design.T, pixels.T, rcond=None)[0].T
    expected = weights @ np.vstack([x_m[0].flatten(1).double().numpy(), np.ones(256)])
    np.testing.assert_allclose(control(x_h, x_m)[0].flatten(1), expected, atol=2e-4)


def test_crossing():
    assert robustness.crossing([40, 30, 20], [50, 45, 35], 40) == 25
    assert robustness.crossing([40, 30, 20], [50, 45, 41], 40) is None
    assert robustness.crossing([40, 30, 20], [39, 45, 41], 40) == math.inf


def test_shares_of_variance_by_hand():
    rows_only = np.array([[1.0, 1], [3, 3]])
    assert robustness.shares_of_variance(rows_only) == pytest.approx(
        {"network": 1, "training noise": 0, "both together": 0}
    )
    assert robustness.shares_of_variance(rows_only.T)["training noise"] == pytest.approx(1)
    # effects +-1 of rows, +-2 of columns, +-3 together: squares 1, 4, 9
    table = np.array([[1 + 2 + 3, 1 - 2 - 3], [-1 + 2 - 3, -1 - 2 + 3.0]])
    expected = {"network": 1 / 14, "training noise": 4 / 14, "both together": 9 / 14}
    assert robustness.shares_of_variance(table) == pytest.approx(expected)
    for bad in (np.zeros(4), np.zeros((1, 3)), np.ones((3, 3))):
        with pytest.raises(ValueError, match="scores: expected"):
            robustness.shares_of_variance(bad)


def test_faults_are_as_described(indian_pines_split, degrade6):
    scene = indian_pines_split[2]
    inputs = robustness.faulty(scene, degrade6)
    clean_h, clean_m = inputs["none"]
    assert all(torch.equal(x_m, clean_m) for _, x_m in inputs.values())
    dead = (inputs["dead bands"][0] == 0).all(dim=(1, 2))
    assert int(dead.sum()) == round(0.05 * 170) and torch.equal(
        inputs["dead bands"][0][~dead], clean_h[~dead]
    )
    stripes = inputs["stripes"][0] - clean_h
    torch.testing.assert_close(
        stripes, stripes[:, :1].expand_as(stripes), atol=1e-6, rtol=0
    )  # the same down each column
    assert float((stripes[:, 0] / clean_h.mean(dim=(1, 2))[:, None]).std()) == pytest.approx(
        0.02, rel=0.05
    )
    # half an LR pixel to the right twice is one LR pixel
    twice = robustness.faulty(scene.crop(slice(None), slice(2, 42), "moved"), degrade6)[
        "misregistration"
    ][0]
    torch.testing.assert_close(
        twice[..., 2:-3], degrade6.spatial(scene.cube)[..., 3:-3], atol=1e-5, rtol=0
    )
    assert (
        float(
            (inputs["wrong PSF"][0] - Degradation(4, 2.55, degrade6.srf).spatial(scene.cube))
            .abs()
            .max()
        )
        == 0
    )


def test_dependence_tells_deaf_from_attentive(indian_pines_split, degrade6):
    test = indian_pines_split[2]

    class Deaf(torch.nn.Module):
        def forward(self, x_h, x_m):
            return x_m.mean(1, keepdim=True).expand(-1, 170, -1, -1)

    deaf = robustness.dependence(FusionModel(Deaf(), degrade6, "none", "none"), test, 15)
    assert deaf["lr_hsi_mean"]["change"] == deaf["lr_hsi_elsewhere"]["change"] == 0
    assert deaf["hr_msi_elsewhere"]["change"] > 0.1 and deaf["gate_means"] is None
    attentive = robustness.dependence(FusionModel(Deaf(), degrade6, "none", "bilinear"), test, None)
    assert attentive["lr_hsi_elsewhere"]["change"] > 0.1


@pytest.fixture(scope="module")
def small_test(indian_pines_split):
    return indian_pines_split[2].crop(slice(0, 24), slice(0, 24), "small test")


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    folder = tmp_path_factory.mktemp("campaign")
    return runs.Campaign(1.0, results=folder, work=folder / "models")


@pytest.fixture(scope="module")
def folder(campaign, small_train, small_val, small_test):
    """One network, four steps, all it takes."""
    parts = sources.Parts([small_train], [small_val], [small_test])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "search", lambda *arguments: {"steps": 4, "learning_rate": 1e-3})
        patch.setattr(sources, "load", lambda source: parts)
        for recipe, noise in (("bare", "none"), ("bare", "random"), ("denoised", "random")):
            robustness.train_and_test(robustness.Run("dual_unet", recipe, noise, 0), campaign)
    return campaign.results / "robustness"


def test_a_run_is_stored_once_with_what_it_was(folder, campaign):
    rows = robustness.stored(folder)
    assert [(row["recipe"], row["noise"]) for row in rows] == [
        ("bare", "none"),
        ("bare", "random"),
        ("denoised", "random"),
    ]
    assert [row["config"]["snr_db"] for row in rows] == [None, [5.0, 40.0], [5.0, 40.0]]
    assert [(row["config"]["skip"], row["config"]["denoise"]) for row in rows] == [
        ("none", False),
        ("none", False),
        ("injection", True),
    ]
    before = {path: path.stat().st_mtime_ns for path in campaign.results.rglob("*.*")}
    robustness.train_and_test(robustness.Run("dual_unet", "bare", "none", 0), campaign)
    assert {path: path.stat().st_mtime_ns for path in campaign.results.rglob("*.*")} == before
    names, noises, scores = robustness.table(rows, "bare", 15)
    assert (names, noises) == (["dual_unet"], ["none", "35 dB", "random"])
    assert np.isnan(scores[0]).tolist() == [False, True, False]


def test_a_stored_curve_is_that_of_the_stored_model(folder, campaign, small_test):
    run = json.loads((folder / "bare_random_dual_unet_seed0.json").read_text())
    model = training.load_checkpoint(
        campaign.work / "robustness" / "bare_random_dual_unet_seed0.safetensors"
    )
    [row] = robustness.sweep({"": model}, small_test, [15], 1)
    for metric in robustness.METRICS:
        assert run["curves"]["lr_hsi"][metric][robustness.SNR_DB.index(15)] == pytest.approx(
            row[metric], abs=2e-3
        )
    assert set(run["curves"]) == set(robustness.NOISE_ON)


def test_a_network_keeps_its_own_skip_only_where_the_wrapper_has_none(folder, campaign):
    skips = {
        recipe: training.load_checkpoint(
            campaign.work / "robustness" / f"{recipe}_random_dual_unet_seed0.safetensors"
        ).network.global_skip
        for recipe in ("bare", "denoised")
    }
    assert skips == {"bare": True, "denoised": False}
