"""Adaptation to one pair without ground truth: simulated pairs of another sensor, whose truth only
the tests know.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_fusion import TINY

from s3rnet_lite import Degradation, baselines, metrics, sensors, training
from s3rnet_lite.inference import adaptation, report, tiling
from s3rnet_lite.training.fusion import FusionModel

pytestmark = pytest.mark.slow  # not part of `make check`


@pytest.fixture(scope="module")
def adapted(other_sensor):
    _, x_h, x_m, *_ = other_sensor
    return adaptation.adapt(x_h, x_m, config=TINY, preset="tiny", progress=False)


def test_the_fused_image_is_in_the_units_of_the_hsi_and_near_the_truth(other_sensor, adapted):
    y, x_h, *_ = other_sensor
    assert adapted.y_hat.shape == y.shape
    bicubic = metrics.rmse(baselines.upsample(x_h, 4, "bicubic"), y)
    assert metrics.rmse(adapted.y_hat, y) < bicubic / 3
    torch.testing.assert_close(adapted.y_hat.mean((1, 2)), y.mean((1, 2)), rtol=0.01, atol=0)


def test_the_model_takes_the_pair_as_measured(other_sensor, adapted):
    _, x_h, x_m, *_ = other_sensor
    with torch.no_grad():
        torch.testing.assert_close(
            adapted.model(x_h[None], x_m[None])[0], adapted.y_network, rtol=0, atol=0.01
        )  # of about 1000


@pytest.mark.parametrize("steps", [1, 3])
def test_a_training_that_diverges_is_refused_and_nothing_written(other_sensor, tmp_path, steps):
    for name, x in zip("hm", other_sensor[1:3], strict=True):
        np.save(tmp_path / f"{name}.npy", x)
    config = replace(TINY, steps=steps, learning_rate=1e8, gradient_clip=None, warmup_steps=0)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        report.run(
            tmp_path / "h.npy",
            tmp_path / "m.npy",
            tmp_path / "y.hdr",
            config=config,
            progress=False,
        )
    assert sorted(file.name for file in tmp_path.iterdir()) == ["h.npy", "m.npy"]


def test_the_report_is_json_and_says_what_was_found(adapted):
    said = json.loads(json.dumps(adapted.report))
    assert said["pair"] == {"scale": 4, "lr_hsi": [120, 24, 24], "hr_msi": [4, 96, 96]}
    assert abs(said["alignment"]["rows"]) < 0.02 and abs(said["alignment"]["columns"]) < 0.02
    assert said["alignment"]["psf_sigma"] == pytest.approx(1.7, rel=0.02)
    assert min(said["msi"]["explained_variance"]) > 0.999
    scores = said["held_out"]["scores"]
    assert set(scores) == {"network", "blend", adaptation.SKIP, *baselines.NAMES}
    psnr = {name: row["psnr_pooled_scene_peak"] for name, row in scores.items()}
    assert said["ranking"] == sorted(psnr, key=psnr.get, reverse=True)
    share = said["written"]["network"]
    assert said["written"] == {"method": "blend", "network": share, "sylvester": 1 - share}
    for part in (f"{share:.0%} network", f"{psnr['network']:.2f}", f"{psnr['blend']:.2f} dB"):
        assert part in said["recommendation"]
    assert psnr["blend"] > min(psnr["network"], psnr["sylvester"])
    for row in said["full_resolution"].values():
        assert 0 < row["qnr"] < 1
    network, bicubic = (
        said["full_resolution"][name]["consistency"]["hr_msi"] for name in ("network", "bicubic")
    )
    assert network["psnr_pooled_scene_peak"] > bicubic["psnr_pooled_scene_peak"] + 10


def test_the_reduced_scores_are_those_of_the_pair_degraded_once_more(other_sensor, adapted):
    """A classical method's row, worked from the images alone; errors are in the HSI's unit."""
    _, x_h, x_m, *_ = other_sensor
    degrade = Degradation.from_card(adapted.report["degradation"])
    rows, columns = (slice(*adapted.report["held_out"][name]) for name in ("lr_rows", "lr_columns"))
    detail = baselines.run("detail_injection", degrade.spatial(x_h), degrade.spatial(x_m), degrade)
    expected = metrics.rmse(detail[:, rows, columns], x_h[:, rows, columns])
    assert adapted.report["held_out"]["scores"]["detail_injection"]["rmse"] == pytest.approx(
        expected, rel=1e-2
    )
    error = adapted.errors["network"][rows, columns].square().mean().sqrt()
    assert float(error) == pytest.approx(
        adapted.report["held_out"]["scores"]["network"]["rmse"], rel=1e-4
    )


def test_no_held_out_pixel_is_trained_on(other_sensor, monkeypatch):
    """Every image that `fit` and the wrapper's statistics get is the training part, which shares no
    pixel with the held-out part.
    """
    _, x_h, x_m, *_ = other_sensor
    seen, fit, wrap = [], training.fit, FusionModel.__init__

    def watched_fit(model, train, val, *rest, **more):
        seen.extend([train.cube, val.cube])
        return fit(model, train, val, *rest, **more)

    def watched_wrap(self, network, degrade, scaling, skip, y, *more):
        seen.append(y)
        wrap(self, network, degrade, scaling, skip, y, *more)

    monkeypatch.setattr(training, "fit", watched_fit)
    monkeypatch.setattr(FusionModel, "__init__", watched_wrap)
    found = adaptation.adapt(x_h, x_m, config=replace(TINY, steps=1), preset="tiny", progress=False)
    train = tuple(slice(*found.report["training"][name]) for name in ("lr_rows", "lr_columns"))
    band = (x_h[7] - x_h.min()) / (x_h.max() - x_h.min())
    assert len(seen) == 3
    for cube in seen:
        torch.testing.assert_close(cube[7], band[train])
    used = torch.zeros(24, 24)
    used[train] += 1
    used[found.held_out] += 1
    assert used.max() == 1 and used[found.held_out].numel() > 100


def test_a_measured_msi_is_trained_on_as_it_is():
    """Statistics and batches hold the measured numbers, not what the SRF computes."""
    torch.manual_seed(3)
    y, x_m = torch.rand(5, 24, 24), torch.rand(2, 24, 24) + 3
    degrade = Degradation(4, 1.7, torch.full((2, 5), 0.2))
    sampler = training.CropSampler([torch.cat([y, x_m])], degrade, 24)
    low, high, target = sampler.batch(3, torch.Generator().manual_seed(0))
    assert low.shape == (3, 5, 6, 6)
    assert (high.shape, target.shape) == ((3, 2, 24, 24), (3, 5, 24, 24))
    for found, image in ((high, x_m), (target, y)):
        torch.testing.assert_close(
            found.flatten(2).sort(-1).values, image.flatten(1).sort(-1).values.expand(3, -1, -1)
        )
    model = FusionModel(torch.nn.Identity(), degrade, "band", "injection", y, x_m=[x_m])
    torch.testing.assert_close(model.msi_mean.flatten(), x_m.mean((1, 2)))
    pixels = np.concatenate([x_m.flatten(1), np.ones((1, 576))]).T.astype(float)
    expected = np.linalg.lstsq(pixels, y.flatten(1).T.double(), rcond=None)[0].T
    np.testing.assert_allclose(model.regression, expected, atol=1e-4)


@pytest.mark.parametrize("psf_sigma", [1.7, 3.5])
def test_the_smallest_pairs_are_taken_whatever_their_psf(psf_sigma, indian_pines):
    y = indian_pines.cube[::9, :96, :48]
    x_h, x_m = Degradation(4, psf_sigma, torch.rand(4, len(y)).softmax(1))(y)
    found = adaptation.adapt(x_h, x_m, config=TINY, preset="tiny", progress=False)
    assert found.y_hat.shape == y.shape
    assert (found.model.denoiser is None) == (psf_sigma > 2)


def test_the_model_fuses_in_tiles_what_it_was_adapted_to(other_sensor, adapted):
    """In the pair's own units, which are far from [0, 1]."""
    _, x_h, x_m, *_ = other_sensor
    y_hat = tiling.fuse(adapted.model, x_h, x_m, tile=48)
    torch.testing.assert_close(y_hat, adapted.y_network, rtol=0, atol=0.02)  # of about 1000
    message = "x_m: expected floating-point values as the model was trained on"
    with pytest.raises(ValueError, match=message):
        tiling.fuse(adapted.model, x_h, 1000 * x_m)


def test_the_written_image_is_the_blend_that_the_report_names(other_sensor, adapted):
    _, x_h, x_m, *_ = other_sensor
    degrade = Degradation.from_card(adapted.report["degradation"])
    gain, offset = (
        torch.tensor(adapted.report["msi"][k])[:, None, None] for k in ("gain", "offset")
    )
    low, unit = x_h.min(), x_h.max() - x_h.min()
    inputs = (x_h - low) / unit, ((x_m - offset) / gain - low) / unit
    closed = baselines.sylvester(*inputs, degrade) * unit + low
    share = adapted.report["written"]["network"]
    expected = torch.lerp(closed, adapted.y_network, share)
    torch.testing.assert_close(adapted.y_hat, expected, rtol=0, atol=0.1)  # of about 1000


@pytest.mark.parametrize(("network_error", "least", "most"), [(0.0, 0.6, 1.0), (10.0, 0.0, 0.1)])
def test_a_network_has_the_share_that_its_held_out_errors_deserve(
    network_error, least, most, other_sensor
):
    _, x_h, x_m, *_ = other_sensor
    pair = adaptation.calibrate(x_h, x_m)
    noise = torch.randn(5, *x_h.shape[1:], generator=torch.Generator().manual_seed(0))
    errors = {"network": network_error * noise, "sylvester": noise.flip(0)}
    share, closed = adaptation.weigh(errors, pair)
    assert closed == "sylvester" and least <= share <= most


def test_a_panchromatic_pair_of_scale_three_is_fused(indian_pines):
    bands = indian_pines.wavelengths_nm.argsort()[::10]
    y = indian_pines.cube[bands, :72, :99]
    srf = sensors.pan(indian_pines.wavelengths_nm[bands], indian_pines.fwhm_nm[bands])
    x_h, x_m = Degradation(3, 1.3, srf)(y)
    found = adaptation.adapt(x_h, x_m, config=TINY, preset="tiny", progress=False)
    assert found.report["pair"]["scale"] == 3 and found.y_hat.shape == y.shape
    bicubic = metrics.rmse(baselines.upsample(x_h, 3, "bicubic"), y)
    assert metrics.rmse(found.y_hat, y) < bicubic
