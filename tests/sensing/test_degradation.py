"""Degradation: the convolution against scipy and an explicit matrix, its adjoint, phase, noise and
card.
"""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from s3rnet_lite import Degradation
from s3rnet_lite.sensing.degradation import gaussian_psf


def random_srf(msi_bands: int = 2, hsi_bands: int = 3, dtype=torch.float32) -> torch.Tensor:
    return torch.rand(msi_bands, hsi_bands, dtype=dtype).softmax(1)


def blur_with_scipy(y: np.ndarray, sigma: float, scale: int) -> np.ndarray:
    """One band, blurred on every pixel by scipy with a kernel of its own, then read at each block's
    centre.
    """
    half = int(np.ceil(3 * sigma))
    taps = max(2 * half + scale % 2, scale)
    distances = np.arange(taps) - (taps - 1) / 2
    kernel = np.exp(-(distances**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    # scipy centres an even kernel on the tap right of its middle
    first = (scale - taps) // 2 + taps // 2
    for axis in (0, 1):
        y = ndimage.correlate1d(y, kernel, axis, mode="mirror")
    return y[first::scale, first::scale]


sizes = st.tuples(st.integers(1, 5), st.integers(5, 9), st.integers(5, 9), st.floats(0.3, 1.6))


@given(sizes)
def test_spatial_equals_the_explicit_matrix(size):
    scale, rows, columns, sigma = size
    degrade = Degradation(scale, sigma, random_srf())
    height, width = rows * scale, columns * scale
    matrix = degrade.spatial_matrix(height, width)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        y = torch.rand(3, height, width, dtype=dtype)
        expected = (matrix @ y.double().numpy().reshape(3, -1).T).T.reshape(3, rows, columns)
        np.testing.assert_allclose(degrade.spatial(y).numpy(), expected, rtol=0, atol=tolerance)


@given(sizes)
def test_spatial_equals_a_blur_by_scipy_read_at_block_centres(size):
    scale, rows, columns, sigma = size
    y = torch.rand(rows * scale, columns * scale, dtype=torch.float64)
    found = Degradation(scale, sigma, random_srf()).spatial(y[None])[0].numpy()
    expected = blur_with_scipy(y.numpy(), sigma, scale)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_the_psf_is_normalised_symmetric_and_as_wide_as_asked():
    for scale in (1, 2, 3, 4, 8):
        psf = gaussian_psf(1.7, scale)
        positions = np.arange(len(psf)) - (len(psf) - 1) / 2
        assert len(psf) % 2 == scale % 2
        assert psf.sum() == pytest.approx(1)
        np.testing.assert_allclose(psf, psf[::-1])
        assert np.sqrt((psf * positions**2).sum()) == pytest.approx(1.7, rel=0.02)


@given(scale=st.integers(1, 6), value=st.floats(-2, 2))
def test_a_constant_image_stays_constant(scale, value):
    y = torch.full((3, 12 * scale, 8 * scale), value, dtype=torch.float64)
    x_h, x_m = Degradation(scale, 1.7, random_srf(dtype=torch.float64))(y)
    np.testing.assert_allclose(x_h.numpy(), value, atol=1e-12)
    np.testing.assert_allclose(x_m.numpy(), value, atol=1e-12)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5])
def test_a_ramp_reads_its_value_at_the_centre_of_each_block(scale):
    length, margin = 24 * scale, 6
    ramp = torch.arange(length, dtype=torch.float64)
    centres = scale * torch.arange(24) + (scale - 1) / 2  # 4 i + 1.5 for scale 4
    degrade = Degradation(scale, 1.7, random_srf())
    down = degrade.spatial(ramp[None, :, None].expand(1, length, length))[0]
    across = degrade.spatial(ramp[None, None, :].expand(1, length, length))[0]
    inside = slice(margin, 24 - margin)
    np.testing.assert_allclose(
        down[inside].numpy(), centres[inside, None].expand(-1, 24).numpy(), atol=1e-10
    )
    np.testing.assert_allclose(
        across[:, inside].numpy(), centres[None, inside].expand(24, -1).numpy(), atol=1e-10
    )


def test_spectral_is_the_weighted_sum_over_bands():
    srf = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])
    y = torch.tensor([1.0, 2.0, 4.0])[:, None, None].expand(3, 4, 4)
    x_m = Degradation(2, 0.5, srf).spectral(y)
    assert x_m[:, 3, 1].tolist() == [1.5, 3.5]
    random = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    expected = np.einsum("mc,bchw->bmhw", srf.double().numpy(), random.numpy())
    np.testing.assert_allclose(
        Degradation(2, 0.5, srf).spectral(random).numpy(), expected, atol=1e-12
    )


def test_space_and_spectrum_degrade_in_either_order():
    degrade = Degradation(4, 1.7, random_srf(dtype=torch.float64))
    y = torch.rand(3, 24, 16, dtype=torch.float64)
    torch.testing.assert_close(
        degrade.spatial(degrade.spectral(y)), degrade.spectral(degrade.spatial(y))
    )


@given(sizes)
def test_spatial_adjoint_satisfies_the_inner_product_identity(size):
    scale, rows, columns, sigma = size
    degrade = Degradation(scale, sigma, random_srf())
    y = torch.randn(2, 3, rows * scale, columns * scale, dtype=torch.float64)
    x = torch.randn(2, 3, rows, columns, dtype=torch.float64)
    left, right = (degrade.spatial(y) * x).sum(), (y * degrade.spatial_adjoint(x)).sum()
    assert float(left) == pytest.approx(float(right), abs=1e-11)


def test_spectral_adjoint_satisfies_the_inner_product_identity():
    degrade = Degradation(srf=random_srf(dtype=torch.float64))
    y = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64)
    left, right = (degrade.spectral(y) * x).sum(), (y * degrade.spectral_adjoint(x)).sum()
    assert float(left) == pytest.approx(float(right), abs=1e-12)


@pytest.mark.parametrize("scale", [2, 3])
def test_spatial_has_the_right_gradient(scale):
    y = torch.rand(1, 3 * scale, 4 * scale, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Degradation(scale, 0.6, random_srf()).spatial, y)


@pytest.mark.parametrize(
    "mode", [torch.inference_mode, lambda: torch.device("meta")], ids=["inference", "meta"]
)
def test_the_mode_of_the_first_use_does_not_matter_later(mode):
    sigma = 0.71 if mode is torch.inference_mode else 0.72  # used by no other test
    degrade = Degradation(4, sigma, random_srf())
    with mode():
        degrade.spatial(torch.rand(1, 12, 8, dtype=torch.float64))
    y = torch.rand(1, 12, 8, dtype=torch.float64, requires_grad=True)
    degrade.spatial(y).sum().backward()
    assert float(y.grad.sum()) == pytest.approx(6)  # one for each LR pixel: the PSF sums to 1


def test_a_batch_is_degraded_image_by_image():
    degrade = Degradation(4, 1.7, random_srf())
    batch = torch.rand(2, 2, 3, 16, 24)
    x_h, x_m = degrade(batch)
    assert (x_h.shape, x_m.shape) == ((2, 2, 3, 4, 6), (2, 2, 2, 16, 24))
    one_h, one_m = degrade(batch[1, 0])
    torch.testing.assert_close(x_h[1, 0], one_h)
    torch.testing.assert_close(x_m[1, 0], one_m)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_keep_the_precision_of_the_input(dtype):
    x_h, x_m = Degradation(srf=random_srf(), snr_db=30, msi_snr_db=30)(
        torch.rand(3, 16, 16, dtype=dtype)
    )
    assert x_h.dtype == x_m.dtype == dtype


def measured_snr(noisy: torch.Tensor, clean: torch.Tensor) -> float:
    noise = (noisy - clean).double().numpy()
    return float(10 * np.log10((clean.double().numpy() ** 2).mean() / (noise**2).mean()))


@pytest.mark.parametrize("snr_db", [35, 15])
def test_noise_has_the_snr_asked_for_on_the_image_asked_for(snr_db):
    srf, y = random_srf(2, 8), torch.rand(8, 256, 256)
    clean_h, clean_m = Degradation(srf=srf)(y)
    for on_hsi, on_msi in ((True, False), (False, True), (True, True)):
        x_h, x_m = Degradation(
            srf=srf, snr_db=snr_db if on_hsi else None, msi_snr_db=snr_db if on_msi else None
        )(y)
        for noisy, clean, asked in ((x_h, clean_h, on_hsi), (x_m, clean_m, on_msi)):
            if asked:
                assert measured_snr(noisy, clean) == pytest.approx(snr_db, abs=0.2)
            else:
                assert torch.equal(noisy, clean)


def test_noise_is_white_and_not_shared_between_the_two_images():
    y = torch.rand(4, 256, 256)
    srf = torch.eye(4)
    clean_h, clean_m = Degradation(1, 0.3, srf)(y)
    x_h, x_m = Degradation(1, 0.3, srf, snr_db=10, msi_snr_db=10)(y)
    hsi, msi = (x_h - clean_h).numpy(), (x_m - clean_m).numpy()
    assert abs(np.corrcoef(hsi.ravel(), msi.ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(hsi[:, :, 1:].ravel(), hsi[:, :, :-1].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(hsi[1:].ravel(), hsi[:-1].ravel())[0, 1]) < 0.01
    assert abs(hsi.mean()) < 0.01 * hsi.std() * 2


def test_a_seed_repeats_its_noise_and_another_seed_differs():
    srf, y = random_srf(), torch.rand(3, 16, 16)
    first, again, other = (Degradation(srf=srf, snr_db=20, seed=seed)(y)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_noise_leaves_the_global_random_state_alone():
    degrade, y = Degradation(srf=random_srf(), snr_db=20), torch.rand(3, 16, 16)
    state = torch.get_rng_state()
    degrade(y)
    assert torch.equal(state, torch.get_rng_state())


def test_every_image_of_a_batch_gets_noise_of_its_own_strength():
    srf = random_srf(2, 8)
    y = torch.rand(2, 8, 128, 128) * torch.tensor([1.0, 0.05])[:, None, None, None]
    clean, noisy = Degradation(srf=srf)(y)[0], Degradation(srf=srf, snr_db=15)(y)[0]
    for i in range(2):
        assert measured_snr(noisy[i], clean[i]) == pytest.approx(15, abs=0.3)


def test_a_card_survives_json_and_gives_the_same_operator():
    degrade = Degradation(3, 1.1, random_srf(), snr_db=25.0, seed=7, msi_snr_db=30)
    restored = Degradation.from_card(json.loads(json.dumps(degrade.card())))
    y = torch.rand(3, 12, 15)
    for before, after in zip(degrade(y), restored(y), strict=True):
        assert torch.equal(before, after)
    assert restored.card() == degrade.card()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"scale": 0}, ValueError, "scale"),
        ({"scale": 2.5}, ValueError, "scale"),
        ({"psf_sigma": 0.0}, ValueError, "psf_sigma"),
        ({"psf_sigma": float("nan")}, ValueError, "psf_sigma"),
        ({"psf_sigma": float("inf")}, ValueError, "psf_sigma"),
        ({"srf": None}, TypeError, "srf"),
        ({"srf": torch.ones(3)}, TypeError, "srf"),
        ({"srf": torch.ones(2, 3, dtype=torch.int64)}, TypeError, "srf"),
        ({"srf": torch.ones(2, 3)}, ValueError, "sum to 1"),
        ({"srf": torch.full((2, 3), torch.nan)}, ValueError, "sum to 1"),
    ],
)
def test_bad_arguments_of_the_operator_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        Degradation(**{"srf": torch.full((2, 4), 0.25), **arguments})


@pytest.mark.parametrize("snr_db", [float("nan"), float("inf")])
def test_a_noise_level_that_is_no_number_is_refused(snr_db):
    with pytest.raises(ValueError, match="snr_db"):
        Degradation(srf=random_srf(), snr_db=snr_db)(torch.rand(3, 16, 16))


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (torch.randint(0, 9, (3, 16, 16)), TypeError, "floating-point"),
        (np.zeros((3, 16, 16), np.float32), TypeError, "torch.Tensor"),
        (torch.full((3, 16, 16), torch.nan), ValueError, "768 NaN"),
        (torch.full((3, 16, 16), torch.inf), ValueError, "finite"),
        (torch.rand(16, 16), ValueError, "shape"),
        (torch.rand(3, 0, 16), ValueError, "non-empty"),
        (torch.rand(4, 16, 16), ValueError, "expected 3 bands on axis -3, got 4"),
        (torch.rand(3, 4, 16), ValueError, "at least 5"),
    ],
)
def test_bad_images_are_refused_with_a_reason(y, error, message):
    with pytest.raises(error, match=message):
        Degradation(srf=torch.full((2, 3), 1 / 3))(y)


@given(height=st.integers(8, 40), width=st.integers(8, 40), scale=st.integers(2, 5))
def test_sides_must_be_divisible_by_the_scale(height, width, scale):
    degrade, y = Degradation(scale, 1.0, random_srf()), torch.rand(3, height, width)
    if height % scale or width % scale:
        with pytest.raises(ValueError, match=f"divisible by the scale {scale} "):
            degrade(y)
    else:
        assert degrade(y)[0].shape == (3, height // scale, width // scale)


@given(st.sampled_from([torch.uint8, torch.int16, torch.int64, torch.bool, torch.complex64]))
def test_numbers_that_are_not_floating_point_are_refused(dtype):
    degrade = Degradation(srf=random_srf())
    adjoints = degrade.spatial_adjoint, degrade.spectral_adjoint
    for operation in (degrade, degrade.spatial, degrade.spectral, *adjoints):
        with pytest.raises(TypeError, match="floating-point"):
            operation(torch.ones(3, 16, 16).to(dtype))
