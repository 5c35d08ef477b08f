"""Losses: closed-form angles, a float64 loop, and gradients where an arc cosine would fail."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite.training.losses import fast_spectral_angle, l1_sam_loss, spectral_angle


def arccos_loop(y_hat: torch.Tensor, y: torch.Tensor) -> float:
    """Mean angle in radians of (B, C, H, W), one pixel after the other."""
    angles = []
    a, b = y_hat.double().numpy(), y.double().numpy()
    for i in np.ndindex(a.shape[0], *a.shape[2:]):
        u, v = a[i[0], :, i[1], i[2]], b[i[0], :, i[1], i[2]]
        angles.append(np.arccos(u @ v / np.sqrt((u @ u) * (v @ v))))
    return float(np.mean(angles))


@given(seed=st.integers(0, 999), bands=st.integers(2, 9), size=st.integers(1, 5))
def test_angle_equals_an_arc_cosine_taken_pixel_by_pixel(seed, bands, size):
    torch.manual_seed(seed)
    for dtype, tolerance in (
        (torch.float64, 4e-6),
        (torch.float32, 1e-5),
    ):  # |d| is smoothed by 1e-6
        y_hat, y = torch.rand(2, 2, bands, size, size + 1, dtype=dtype) + 0.01
        assert float(spectral_angle(y_hat, y)) == pytest.approx(
            arccos_loop(y_hat, y), abs=tolerance
        )


@pytest.mark.parametrize("angle", [1e-3, 0.1, 1.0, math.pi / 2, 3.0])
def test_turning_every_spectrum_costs_the_angle_turned(angle):
    y = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)[:, None, None].expand(3, 4, 5)
    y_hat = torch.tensor([math.cos(angle), math.sin(angle), 0.0], dtype=torch.float64)[
        :, None, None
    ].expand(3, 4, 5)
    assert float(spectral_angle(y_hat, y)) == pytest.approx(angle, abs=4e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_change_of_brightness_costs_nothing(dtype):
    y = torch.rand(2, 20, 8, 8, dtype=dtype) + 0.01
    brightness = torch.rand(2, 1, 8, 8, dtype=dtype) + 0.5
    assert float(spectral_angle(y * brightness, y)) < 1e-6


def test_spectra_and_not_rows_of_memory_are_compared():
    y = torch.rand(1, 4, 6, 6, dtype=torch.float64) + 0.1
    y_hat = y * torch.tensor([1.5, 1.0, 0.5, 1.0])[:, None, None]
    angle = float(spectral_angle(y_hat, y))

    flattened = torch.nn.functional.cosine_similarity(
        y_hat.reshape(-1, 4), y.reshape(-1, 4)
    )  # bands left in place
    assert float(flattened.clamp(-1, 1).acos().mean()) < 0.1 < 0.2 < angle

    order = torch.randperm(36)
    shuffled = (x.flatten(2)[..., order].reshape(x.shape) for x in (y_hat, y))
    assert float(spectral_angle(*shuffled)) == pytest.approx(angle)
    in_other_memory = (x.to(memory_format=torch.channels_last) for x in (y_hat, y))
    assert float(spectral_angle(*in_other_memory)) == pytest.approx(angle)


def test_loss_by_hand():
    y = torch.tensor([1.0, 0.0])[:, None, None].expand(2, 3, 3)
    y_hat = torch.tensor([1.0, 1.0])[:, None, None].expand(2, 3, 3)
    assert float(l1_sam_loss(y_hat, y)) == pytest.approx(0.5 + 0.1 * math.pi / 4, abs=1e-6)
    assert float(l1_sam_loss(y_hat, y, sam_weight=0)) == 0.5


def test_band_scale_divides_each_band():
    y_hat, y = torch.rand(2, 2, 5, 4, 4)
    scale = torch.tensor([0.1, 1.0, 2.0, 5.0, 10.0])
    expected = np.abs((y_hat.numpy() - y.numpy()) / scale.numpy().reshape(5, 1, 1)).mean()
    assert float(l1_sam_loss(y_hat, y, 0.0, scale)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    "weights", [(1.0, None), (0.1, torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64))]
)
def test_gradient_is_right_for_random_spectra(weights):
    y = torch.rand(1, 3, 2, 2, dtype=torch.float64) + 0.1
    y_hat = (torch.rand(1, 3, 2, 2, dtype=torch.float64) + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: l1_sam_loss(x, y, *weights), y_hat)


def test_gradient_points_away_from_the_reference_at_unit_rate():
    angle = 0.3
    y = torch.tensor([1.0, 0.0], dtype=torch.float64)[:, None, None]
    y_hat = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)[
        :, None, None
    ].requires_grad_()
    spectral_angle(y_hat, y).backward()
    np.testing.assert_allclose(
        y_hat.grad.flatten().numpy(), [-math.sin(angle), math.cos(angle)], atol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "case", ["equal", "parallel", "opposite", "zero prediction", "zero reference", "both zero"]
)
def test_gradients_are_finite_where_the_arc_cosine_has_none(case, dtype):
    y = torch.rand(1, 5, 3, 3, dtype=dtype) + 0.1
    factor = {
        "equal": 1.0,
        "parallel": 0.7,
        "opposite": -1.0,
        "zero prediction": 0.0,
        "zero reference": 1.0,
        "both zero": 0.0,
    }[case]
    y_hat = (y * factor).requires_grad_()
    if case in ("zero reference", "both zero"):
        y = torch.zeros_like(y)
    loss = spectral_angle(y_hat, y)
    loss.backward()
    assert math.isfinite(loss.item())
    assert bool(y_hat.grad.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_spectra_cost_nothing_and_pull_nowhere(dtype):
    y = torch.rand(1, 5, 3, 3, dtype=dtype) + 0.1
    y_hat = y.clone().requires_grad_()
    loss = spectral_angle(y_hat, y)
    loss.backward()
    assert loss.item() == 0
    assert float(y_hat.grad.abs().max()) < 1e-6


def test_against_a_zero_reference_every_prediction_has_the_same_angle_and_no_gradient():
    y_hat = (torch.rand(2, 1, 5, 3, 3) + 0.1).requires_grad_()
    first, second = (spectral_angle(prediction, torch.zeros(1, 5, 3, 3)) for prediction in y_hat)
    (first + second).backward()
    assert first.item() == pytest.approx(second.item(), abs=1e-5)
    assert y_hat.grad.abs().max().item() < 1e-5


def test_a_zero_prediction_has_no_gradient():
    y_hat = torch.zeros(1, 5, 3, 3, requires_grad=True)
    spectral_angle(y_hat, torch.rand(1, 5, 3, 3) + 0.1).backward()
    assert y_hat.grad.abs().max().item() < 1e-5


@pytest.mark.parametrize("dark", ["none", "prediction", "reference"])
def test_the_gradient_written_out_is_that_of_autograd(dark):
    y_hat, y = torch.rand(2, 2, 7, 4, 5, dtype=torch.float64) + 0.01
    if dark != "none":
        (y_hat if dark == "prediction" else y)[0, :, 1] = 0
    weight = torch.rand(2, dtype=torch.float64)
    found, expected = [], []
    for angle, values in ((fast_spectral_angle, found), (spectral_angle, expected)):
        one, other = y_hat.clone().requires_grad_(), y.clone().requires_grad_()
        loss = l1_sam_loss(one, other, float(weight[0]), angle=angle)
        values += [loss, *torch.autograd.grad(loss, (one, other))]
    for value, other in zip(found, expected, strict=True):
        torch.testing.assert_close(value, other)
