"""Metrics: a hand-worked case each, torchmetrics where definitions agree, invariances, and the
awkward pixels.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.image import (
    error_relative_global_dimensionless_synthesis,
    peak_signal_noise_ratio,
    spectral_angle_mapper,
)

from s3rnet_lite import metrics

# Band 0 has mean 2, maximum 3 and an error of 0.3 everywhere; band 1 has mean 1, maximum 1 and an
# error of 0.01.
Y = torch.tensor([[[3.0, 1.0], [1.0, 3.0]], [[1.0, 1.0], [1.0, 1.0]]], dtype=torch.float64)
Y_HAT = Y + torch.tensor(
    [[[0.3, -0.3], [0.3, -0.3]], [[0.01, 0.01], [-0.01, -0.01]]], dtype=torch.float64
)
MSE = (0.3**2 + 0.01**2) / 2

# Spectra of two bands, pixel by pixel: 45, 90, 0 and 60 degrees apart.
ANGLES_Y = torch.tensor(
    [[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 3**0.5]], dtype=torch.float64
).reshape(2, 2, 2)
ANGLES_Y_HAT = torch.tensor(
    [[1.0, 0.0, 2.0, 1.0], [1.0, 1.0, 2.0, 0.0]], dtype=torch.float64
).reshape(2, 2, 2)


def random_pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.rand(*shape, dtype=torch.float64) + 0.05
    return (y + 0.1 * torch.randn_like(y)).clamp(0.01), y


def test_psnr_by_hand_for_every_peak():
    assert metrics.psnr(Y_HAT, Y, "band") == pytest.approx((20 + 40) / 2)
    assert metrics.psnr(Y_HAT, Y, "band", per_band=True).tolist() == pytest.approx([20, 40])
    assert metrics.psnr(Y_HAT, Y, "max") == pytest.approx((20 + 10 * math.log10(9 / 0.0001)) / 2)
    assert metrics.psnr(Y_HAT, Y, 1.0) == pytest.approx((10 * math.log10(1 / 0.09) + 40) / 2)


def test_pooled_psnr_by_hand():
    assert metrics.pooled_psnr(Y_HAT, Y) == pytest.approx(10 * math.log10(9 / MSE))
    assert metrics.pooled_psnr(Y_HAT, Y, 2.0) == pytest.approx(10 * math.log10(4 / MSE))


def test_rmse_by_hand_in_another_unit():
    assert metrics.rmse(Y_HAT, Y, unit=500) == pytest.approx(500 * math.sqrt(MSE))


def test_ergas_by_hand():
    expected = math.sqrt(((0.3 / 2) ** 2 + (0.01 / 1) ** 2) / 2)
    assert metrics.ergas(Y_HAT, Y, scale=4) == pytest.approx(25 * expected)
    assert metrics.ergas(Y_HAT, Y, scale=8) == pytest.approx(12.5 * expected)


def test_sam_by_hand():
    np.testing.assert_allclose(
        metrics.sam_map(ANGLES_Y_HAT, ANGLES_Y).numpy(), [[45, 90], [0, 60]], atol=1e-12
    )
    assert metrics.sam(ANGLES_Y_HAT, ANGLES_Y) == pytest.approx(48.75)


def test_evaluate_puts_each_definition_under_its_name():
    angle_0 = math.degrees(math.atan2(1, 3) - math.atan2(1.01, 3.3))
    angle_1 = math.degrees(math.atan2(1.01, 0.7) - math.atan2(1, 1))
    angle_2 = math.degrees(math.atan2(1, 1) - math.atan2(0.99, 1.3))
    angle_3 = math.degrees(math.atan2(0.99, 2.7) - math.atan2(1, 3))
    assert metrics.evaluate(Y_HAT, Y, scale=2, unit=10) == pytest.approx(
        {
            "psnr_pooled_scene_peak": 10 * math.log10(9 / MSE),
            "psnr_band_mean_band_peak": 30,
            "psnr_band_mean_scene_peak": (20 + 10 * math.log10(90_000)) / 2,
            "sam_degrees": (angle_0 + angle_1 + angle_2 + angle_3) / 4,
            "ergas": 50 * math.sqrt((0.15**2 + 0.01**2) / 2),
            "rmse": 10 * math.sqrt(MSE),
            "zero_pixels": 0,
        }
    )


def test_sam_is_that_of_torchmetrics_in_degrees():
    y_hat, y = random_pair(2, 7, 9, 8)
    assert metrics.sam(y_hat, y) == pytest.approx(
        math.degrees(float(spectral_angle_mapper(y_hat, y)))
    )


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_ergas_is_that_of_torchmetrics_which_divides_by_the_ratio_too(scale):
    y_hat, y = random_pair(2, 7, 9, 8)
    assert metrics.ergas(y_hat, y, scale) == pytest.approx(
        float(error_relative_global_dimensionless_synthesis(y_hat, y, ratio=scale))
    )


def test_psnr_is_that_of_torchmetrics_given_its_peak():
    y_hat, y = random_pair(1, 7, 9, 8)
    pooled = float(peak_signal_noise_ratio(y_hat, y, data_range=float(y.max())))
    assert metrics.pooled_psnr(y_hat, y) == pytest.approx(pooled)
    for name, peaks in (
        ("band", y.amax((0, 2, 3))),
        ("max", y.max().expand(7)),
        (1.5, torch.full((7,), 1.5)),
    ):
        bands = [
            float(peak_signal_noise_ratio(y_hat[:, c], y[:, c], data_range=float(peaks[c])))
            for c in range(7)
        ]
        assert metrics.psnr(y_hat, y, name) == pytest.approx(np.mean(bands))


def test_a_batch_gives_the_mean_over_its_images():
    y_hat, y = random_pair(3, 5, 6, 7)
    y_hat[1] = y[1] + 0.5
    for metric in (metrics.psnr, metrics.pooled_psnr, metrics.rmse, metrics.ergas, metrics.sam):
        assert metric(y_hat, y) == pytest.approx(
            np.mean([metric(y_hat[i], y[i]) for i in range(3)])
        )


@given(seed=st.integers(0, 999), factor=st.floats(0.1, 10))
def test_parallel_spectra_of_float32_numbers_have_no_angle(seed, factor):
    y = torch.rand(9, 6, 6, generator=torch.Generator().manual_seed(seed)) + 1e-3
    assert metrics.sam(y.double() * factor, y.double()) < 1e-10
    assert metrics.sam(y * 4, y) == 0  # a power of two scales float32 without rounding
    assert metrics.sam(y * factor, y) < 1e-5  # the rounding of y * factor itself


@pytest.mark.parametrize("slope", [1e-10, 1e-6, 1e-2, 1.0, 1e3])
def test_angles_of_any_size_are_resolved(slope):
    y = torch.tensor([1.0, 0.0], dtype=torch.float64)[:, None, None].expand(2, 3, 3)
    y_hat = torch.tensor([1.0, slope], dtype=torch.float64)[:, None, None].expand(2, 3, 3)
    assert metrics.sam(y_hat, y) == pytest.approx(math.degrees(math.atan(slope)), rel=1e-9)


def test_opposite_spectra_are_180_degrees_apart():
    assert metrics.sam(-Y, Y) == pytest.approx(180)


def test_all_zero_spectra_are_left_out_and_counted():
    y_hat, y = ANGLES_Y_HAT.clone(), ANGLES_Y.clone()
    y_hat[:, 0, 1] = 0
    y[:, 1, 0] = 0
    assert metrics.sam(y_hat, y) == pytest.approx((45 + 60) / 2)
    assert metrics.evaluate(y_hat, y)["zero_pixels"] == 2


def test_identical_images_are_perfect():
    result = metrics.evaluate(Y, Y)
    assert (
        result["psnr_pooled_scene_peak"]
        == result["psnr_band_mean_band_peak"]
        == result["psnr_band_mean_scene_peak"]
        == math.inf
    )
    assert result["sam_degrees"] == result["ergas"] == result["rmse"] == 0


def test_sam_ignores_the_brightness_of_each_pixel():
    y_hat, y = random_pair(7, 9, 8)
    assert metrics.sam(y_hat * (torch.rand(9, 8, dtype=torch.float64) + 0.1), y) == pytest.approx(
        metrics.sam(y_hat, y)
    )


@given(factor=st.floats(0.01, 100))
def test_a_common_unit_changes_rmse_only(factor):
    for name, value in metrics.evaluate(Y_HAT, Y).items():
        expected = value * factor if name == "rmse" else value
        assert metrics.evaluate(Y_HAT * factor, Y * factor)[name] == pytest.approx(expected)


def test_ergas_ignores_the_unit_of_a_single_band_and_pooled_psnr_does_not():
    units = torch.tensor([1.0, 50.0], dtype=torch.float64)[:, None, None]
    assert metrics.ergas(Y_HAT * units, Y * units) == pytest.approx(metrics.ergas(Y_HAT, Y))
    assert metrics.pooled_psnr(Y_HAT * units, Y * units) != pytest.approx(
        metrics.pooled_psnr(Y_HAT, Y), abs=1
    )


def test_float32_images_are_measured_in_float64():
    y = torch.ones(1, 512, 512)
    error = np.float32(1 + 1e-3) - np.float32(1)
    assert metrics.rmse(y + 1e-3, y) == pytest.approx(float(error), rel=1e-12)


def test_the_noise_ceiling_finds_the_noise_that_was_added_to_a_low_rank_scene():
    signal = torch.einsum("ck,khw->chw", torch.rand(40, 3), torch.rand(3, 64, 64)) / 3
    sigma = torch.linspace(0.005, 0.02, 40)[:, None, None]
    noisy = signal + sigma * torch.randn_like(signal)
    ceiling, truth = (
        metrics.noise_ceiling(noisy, scale=4, unit=3),
        metrics.evaluate(signal, noisy, scale=4, unit=3),
    )
    for name, tolerance in (
        ("psnr_pooled_scene_peak", 0.5),
        ("psnr_band_mean_band_peak", 0.5),
        ("psnr_band_mean_scene_peak", 0.5),
    ):
        assert ceiling[name] == pytest.approx(truth[name], abs=tolerance)
    for name in ("sam_degrees", "ergas", "rmse"):
        assert ceiling[name] == pytest.approx(truth[name], rel=0.06)


def test_the_noise_ceiling_is_what_least_squares_on_the_other_bands_leaves():
    y = torch.rand(6, 20, 20, dtype=torch.float64)
    pixels = y.flatten(1).numpy()
    residuals = []
    for b in range(6):
        others = np.vstack([np.delete(pixels, b, axis=0), np.ones(400)]).T
        residuals.append(pixels[b] - others @ np.linalg.lstsq(others, pixels[b], rcond=None)[0])
    expected = math.sqrt(np.mean(np.square(residuals)) * 400 / (400 - 6))
    assert metrics.noise_ceiling(y)["rmse"] == pytest.approx(expected)


INDEPENDENT = torch.rand(6, 40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "band", [torch.ones(40, 40), INDEPENDENT[1], INDEPENDENT[1] + INDEPENDENT[2]]
)
def test_noise_cannot_be_told_where_bands_depend_on_each_other(band):
    with pytest.raises(ValueError, match="a band is constant or an exact mixture of others"):
        metrics.estimate_noise(torch.cat([INDEPENDENT, band[None]]))


def test_a_noise_ceiling_needs_many_more_pixels_than_bands():
    with pytest.raises(ValueError, match="more pixels than its 8 bands to regress on, got 16"):
        metrics.noise_ceiling(torch.rand(8, 4, 4))


@pytest.mark.parametrize(
    "metric",
    [metrics.psnr, metrics.pooled_psnr, metrics.rmse, metrics.ergas, metrics.sam, metrics.evaluate],
)
@pytest.mark.parametrize(
    ("y_hat", "error", "message"),
    [
        (
            torch.rand(2, 2, 3),
            ValueError,
            r"expected the reference's shape \(2, 2, 2\), got \(2, 2, 3\)",
        ),
        (torch.rand(1, 2, 2, 2), ValueError, "reference's shape"),
        (torch.full((2, 2, 2), torch.nan), ValueError, "y_hat: expected finite"),
        (torch.ones(2, 2, 2, dtype=torch.int32), TypeError, "y_hat: expected floating-point"),
        (np.ones((2, 2, 2)), TypeError, "y_hat: expected a torch.Tensor"),
    ],
)
def test_a_prediction_that_cannot_be_compared_is_refused(metric, y_hat, error, message):
    with pytest.raises(error, match=message):
        metric(y_hat, Y)


@pytest.mark.parametrize("peak", ["scene", 0, -1.0, float("nan"), float("inf"), None])
def test_an_unusable_peak_is_refused(peak):
    with pytest.raises(ValueError, match="peak"):
        metrics.psnr(Y_HAT, Y, peak)


def test_a_pooled_psnr_has_no_peak_for_each_band():
    with pytest.raises(ValueError, match="one value for the whole cube"):
        metrics.pooled_psnr(Y_HAT, Y, "band")


def test_references_without_signal_are_refused_where_a_metric_divides_by_it():
    dark = torch.stack([Y[0], torch.zeros(2, 2)])
    with pytest.raises(ValueError, match="1 bands have none"):
        metrics.psnr(Y_HAT, dark)
    with pytest.raises(ValueError, match="1 bands have mean 0"):
        metrics.ergas(Y_HAT, dark)
    with pytest.raises(ValueError, match="every pixel"):
        metrics.sam(Y_HAT, torch.zeros_like(Y))
