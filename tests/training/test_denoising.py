"""The Wiener filter of the LR-HSI against closed forms, a library's cosine transform, and known
noise.
"""

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite import baselines, metrics
from s3rnet_lite.sensing.degradation import add_noise
from s3rnet_lite.training.denoising import WienerDenoiser, cosine_transform


@pytest.fixture(scope="module")
def denoiser(indian_pines_split, degrade6) -> WienerDenoiser:
    return WienerDenoiser(degrade6, [indian_pines_split[0].cube])


@pytest.fixture(scope="module")
def test_inputs(indian_pines_split, degrade6):
    return degrade6(indian_pines_split[2].cube)


@given(st.integers(1, 40))
def test_the_cosine_transform_is_scipys_and_orthonormal(length):
    matrix, x = cosine_transform(length), np.random.default_rng(length).random((length, 3))
    np.testing.assert_allclose(
        matrix.numpy() @ x, scipy.fft.dct(x, axis=0, norm="ortho"), atol=1e-12
    )
    torch.testing.assert_close(
        matrix @ matrix.T, torch.eye(length, dtype=torch.float64), atol=1e-12, rtol=0
    )


def test_without_spatial_correlation_each_axis_keeps_v_over_v_plus_n(degrade6):
    denoiser = WienerDenoiser(
        degrade6
    )  # axes = identity, variances 1, no correlation, regression 0
    denoiser._noise_variance = lambda components: torch.full(components.shape[:-3], 3.0)
    x_h, x_m = torch.rand(2, 170, 5, 4), torch.rand(2, 6, 20, 16)
    torch.testing.assert_close(denoiser(x_h, x_m), x_h / 4)


def test_it_is_the_best_linear_estimate_of_the_field_it_assumes(degrade6):
    """On a band, drawn from the assumed field: the dense solution S (S + n)^-1 x of the normal
    equations, and none is better.
    """
    denoiser = WienerDenoiser(degrade6)
    denoiser.variance.fill_(1e-12)
    denoiser.variance[0], denoiser.correlation[0] = 2.0, 0.8
    n = 0.5
    denoiser._noise_variance = lambda components: torch.full(components.shape[:-3], n)
    height, width = 6, 7
    rows, columns = cosine_transform(height), cosine_transform(width)
    power = 2.0 * torch.outer(denoiser._spectrum(height)[0], denoiser._spectrum(width)[0]).double()
    transform = torch.kron(rows, columns)
    covariance = transform.T @ torch.diag(power.flatten()) @ transform
    x = torch.zeros(170, height, width)
    x[0] = torch.randn(height, width)
    dense = covariance @ torch.linalg.solve(
        covariance + n * torch.eye(height * width), x[0].flatten().double()
    )
    ours = denoiser(x[None], torch.zeros(1, 6, 4 * height, 4 * width))[0]
    torch.testing.assert_close(ours[0].flatten().double(), dense, atol=1e-5, rtol=1e-4)
    # the mean power over frequencies is the variance of a pixel
    assert float(power.mean()) == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize("snr_db", [40, 25, 10])
def test_it_finds_the_noise_level_and_removes_most_of_it(denoiser, test_inputs, snr_db):
    x_h, x_m = test_inputs
    noisy = add_noise(x_h, snr_db, torch.Generator().manual_seed(1))
    sigma = float((noisy - x_h).std())
    assert float(denoiser.noise_level(noisy, x_m)) == pytest.approx(sigma, rel=0.02)
    cleaned = denoiser(noisy[None], x_m[None])[0]
    regression = baselines.apply_regression(denoiser.regression, denoiser.degrade.spatial(x_m))
    better_than = max(metrics.pooled_psnr(noisy, x_h), metrics.pooled_psnr(regression, x_h))
    assert metrics.pooled_psnr(cleaned, x_h) > better_than + 2


def test_clean_data_stay_and_pure_noise_leaves_the_regression(denoiser, test_inputs):
    x_h, x_m = test_inputs
    assert metrics.pooled_psnr(denoiser(x_h, x_m), x_h) > 70
    drowned = x_h + 1e4 * torch.randn(x_h.shape, generator=torch.Generator().manual_seed(0))
    regression = baselines.apply_regression(denoiser.regression, denoiser.degrade.spatial(x_m))
    assert metrics.pooled_psnr(denoiser(drowned, x_m), regression) > 45


def test_each_image_of_a_batch_has_its_own_noise_level(denoiser, test_inputs):
    x_h, x_m = test_inputs
    batch = torch.stack([x_h, add_noise(x_h, 10, torch.Generator().manual_seed(2))])
    together = denoiser(batch, torch.stack([x_m, x_m]))
    for one, single in zip(together, batch, strict=True):
        torch.testing.assert_close(one, denoiser(single, x_m), atol=1e-4, rtol=1e-4)


def test_the_fit_is_the_same_from_one_scene_or_from_its_copies(
    denoiser, indian_pines_split, degrade6
):
    y = indian_pines_split[0].cube
    twice = WienerDenoiser(degrade6, [y, y])
    torch.testing.assert_close(twice.variance, denoiser.variance, rtol=1e-3, atol=1e-9)
    torch.testing.assert_close(
        twice.correlation[:20], denoiser.correlation[:20], rtol=1e-3, atol=1e-3
    )
    assert (denoiser.variance.diff() <= 0).all() and 0 <= float(
        denoiser.correlation.min()
    ) <= float(denoiser.correlation.max()) < 1


def test_variances_and_correlations_are_those_of_the_residual(
    denoiser, indian_pines_split, degrade6
):
    """Recomputed with NumPy on the LR grid that starts at the scene's corner: close to the mean
    over all sixteen grids.
    """
    y = indian_pines_split[0].cube[:, :100, :80]
    x_h = degrade6.spatial(y)
    residual = (
        (x_h - baselines.apply_regression(denoiser.regression, degrade6.spectral(x_h)))
        .double()
        .numpy()
    )
    strongest = np.einsum("c,chw->hw", denoiser.axes[:, 0].double().numpy(), residual)
    assert np.mean(strongest**2) == pytest.approx(float(denoiser.variance[0]), rel=0.1)
    down, across = (
        np.mean(strongest[1:] * strongest[:-1]),
        np.mean(strongest[:, 1:] * strongest[:, :-1]),
    )
    assert (down + across) / 2 / np.mean(strongest**2) == pytest.approx(
        float(denoiser.correlation[0]), abs=0.1
    )
