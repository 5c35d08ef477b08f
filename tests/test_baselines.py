"""Baselines: exact cases with known answers, and the order of the methods on the real scene."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite import Degradation, baselines, metrics, scenes


def operator(msi_bands: int = 3, hsi_bands: int = 6, scale: int = 4) -> Degradation:
    return Degradation(scale, 1.7, torch.rand(msi_bands, hsi_bands).softmax(1))


def smooth(y: torch.Tensor) -> torch.Tensor:
    """Random numbers with some structure in space."""
    return torch.nn.functional.avg_pool2d(y, 5, stride=1, padding=2, count_include_pad=False)


def test_regression_recovers_a_known_affine_map():
    matrix, constant = torch.randn(6, 3), torch.randn(6)
    x_m = torch.rand(2, 3, 8, 9)
    y = torch.einsum("cm,bmhw->bchw", matrix, x_m) + constant[:, None, None]
    found = baselines.fit_regression(x_m, y)
    assert found.shape == (2, 6, 4)
    for image in found:  # one regression an image
        torch.testing.assert_close(image[:, :3], matrix, atol=1e-5, rtol=0)
        torch.testing.assert_close(image[:, 3], constant, atol=1e-5, rtol=0)


def test_a_batch_is_fused_image_by_image():
    degrade = Degradation(srf=torch.full((2, 6), 1 / 6))
    x_h, x_m = torch.rand(3, 6, 8, 8), torch.rand(3, 2, 32, 32)
    together = baselines.run("detail_injection", x_h, x_m, degrade)
    for i in range(3):
        torch.testing.assert_close(together[i], baselines.run("detail_injection", x_h[i], x_m[i], degrade), atol=1e-5, rtol=0)


def test_regression_leaves_residuals_that_no_msi_band_explains():
    x_m, y = torch.rand(3, 12, 12), torch.rand(6, 12, 12)
    residual = (y - baselines.apply_regression(baselines.fit_regression(x_m, y), x_m)).flatten(1).double()
    inputs = torch.cat([x_m.flatten(1), torch.ones(1, 144)]).double()
    assert float((residual @ inputs.T).abs().max()) < 1e-4  # the normal equations


def test_a_regression_is_applied_pixel_by_pixel():
    regression = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 0.0]])
    x_m = torch.tensor([1.0, 4.0])[:, None, None].expand(2, 2, 2)
    assert baselines.apply_regression(regression, x_m)[:, 1, 0].tolist() == [-1.5, 12.0]


@given(seed=st.integers(0, 999), scale=st.sampled_from([2, 3, 4]))
def test_detail_injection_is_exact_for_an_affine_function_of_the_msi(seed, scale):
    torch.manual_seed(seed)
    degrade = operator(scale=scale)
    x_m = torch.rand(3, 10 * scale, 12 * scale)
    y = torch.einsum("cm,mhw->chw", torch.randn(6, 3), x_m) + torch.randn(6, 1, 1)
    y_hat = baselines.run("detail_injection", degrade.spatial(y), x_m, degrade)
    assert float((y_hat - y).abs().max()) < 1e-4


def test_detail_injection_agrees_better_with_the_lr_hsi_than_bicubic():
    degrade = operator()
    x_h, x_m = degrade(smooth(torch.rand(6, 64, 48)))
    deviation = {name: (degrade.spatial(baselines.run(name, x_h, x_m, degrade)) - x_h).square().mean() for name in baselines.NAMES}
    assert deviation["detail_injection"] < 0.5 * deviation["bicubic"]


def ramps(scale: int) -> tuple[torch.Tensor, slice]:
    """Three ramps in two directions, and the part of an axis that no border reaches."""
    rows, columns = torch.meshgrid(torch.arange(24 * scale), torch.arange(24 * scale), indexing="ij")
    return torch.stack([rows, columns, 2 * rows - columns]).double(), slice(9 * scale, 15 * scale)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bilinear_undoes_the_degradation_of_a_ramp_so_their_phases_agree(scale):
    y, inside = ramps(scale)
    degrade = operator(hsi_bands=3, scale=scale)
    y_hat = baselines.run("bilinear", *degrade(y), degrade)
    torch.testing.assert_close(y_hat[:, inside, inside], y[:, inside, inside], atol=1e-9, rtol=0)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_undoes_the_degradation_of_a_ramp_up_to_a_ripple_without_shift(scale):
    y, inside = ramps(scale)
    degrade = operator(hsi_bands=3, scale=scale)
    ripple = (baselines.run("bicubic", *degrade(y), degrade) - y)[:, inside, inside]
    # PyTorch's cubic (a = -0.75) errs by |2 a + 1| s (1 - s) (1 - 2 s) LR pixels at offset s, at most 0.0481 along each axis.
    assert float(ripple[:2].abs().max()) < 0.0482 * scale
    assert float(torch.nn.functional.avg_pool2d(ripple, scale).abs().max()) < 1e-9


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_interpolation_ignores_the_msi(name):
    degrade = operator()
    x_h, x_m = degrade(torch.rand(6, 16, 24))
    assert torch.equal(baselines.run(name, x_h, x_m, degrade), baselines.run(name, x_h, torch.rand_like(x_m), degrade))


@pytest.mark.parametrize("name", baselines.NAMES)
@pytest.mark.parametrize("batch", [(), (1,), (2,)])
def test_every_method_gives_the_shape_of_the_hr_hsi(name, batch):
    degrade = operator()
    y = torch.rand(*batch, 6, 16, 24)
    assert baselines.run(name, *degrade(y), degrade).shape == y.shape


def test_detail_injection_beats_bicubic_by_four_decibels_on_the_real_scene(indian_pines, tm4):
    y = scenes.split(indian_pines)[2].cube
    degrade = Degradation(srf=tm4)
    psnr = {name: metrics.pooled_psnr(baselines.run(name, *degrade(y), degrade), y) for name in baselines.NAMES}
    assert psnr["detail_injection"] > psnr["bicubic"] + 4
    assert psnr["bicubic"] > psnr["bilinear"]


def test_the_names_are_those_of_the_three_methods():
    assert baselines.NAMES == ("bilinear", "bicubic", "detail_injection")


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"bilinear.*bicubic.*detail_injection.*got 'nearest'"):
        baselines.run("nearest", torch.rand(6, 4, 4), torch.rand(3, 16, 16), operator())


@pytest.mark.parametrize("name", baselines.NAMES)
@pytest.mark.parametrize(
    ("h_shape", "m_shape", "message"),
    [
        ((6, 4, 4), (3, 16, 20), r"expected height and width \(16, 16\).*got \(16, 20\)"),
        ((5, 4, 4), (3, 16, 16), "x_h: expected 6 bands"),
        ((6, 4, 4), (4, 16, 16), "x_m: expected 3 bands"),
        ((2, 6, 4, 4), (3, 16, 16), "equal batch sizes"),
    ],
)
def test_pairs_that_do_not_belong_together_are_refused(name, h_shape, m_shape, message):
    with pytest.raises(ValueError, match=message):
        baselines.run(name, torch.rand(h_shape), torch.rand(m_shape), operator())


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_upsampling_equals_torchs_interpolation(mode):
    x = torch.rand(2, 3, 7, 5, dtype=torch.float64)
    expected = torch.nn.functional.interpolate(x, scale_factor=3, mode=mode, align_corners=False)
    torch.testing.assert_close(baselines.upsample(x, 3, mode), expected)
