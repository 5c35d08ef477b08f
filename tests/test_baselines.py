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
        alone = baselines.run("detail_injection", x_h[i], x_m[i], degrade)
        torch.testing.assert_close(together[i], alone, atol=1e-5, rtol=0)


def test_regression_leaves_residuals_that_no_msi_band_explains():
    x_m, y = torch.rand(3, 12, 12), torch.rand(6, 12, 12)
    fitted = baselines.apply_regression(baselines.fit_regression(x_m, y), x_m)
    residual = (y - fitted).flatten(1).double()
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
    deviation = {
        name: (degrade.spatial(baselines.run(name, x_h, x_m, degrade)) - x_h).square().mean()
        for name in baselines.NAMES
    }
    assert deviation["detail_injection"] < 0.5 * deviation["bicubic"]


def ramps(scale: int) -> tuple[torch.Tensor, slice]:
    """Three ramps in two directions, and the part of an axis that no border reaches."""
    rows, columns = torch.meshgrid(
        torch.arange(24 * scale), torch.arange(24 * scale), indexing="ij"
    )
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
    # PyTorch's cubic (a = -0.75) errs by |2 a + 1| s (1 - s) (1 - 2 s) LR pixels at offset s, at
    # most 0.0481 along each axis.
    assert float(ripple[:2].abs().max()) < 0.0482 * scale
    assert float(torch.nn.functional.avg_pool2d(ripple, scale).abs().max()) < 1e-9


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_interpolation_ignores_the_msi(name):
    degrade = operator()
    x_h, x_m = degrade(torch.rand(6, 16, 24))
    with_another = baselines.run(name, x_h, torch.rand_like(x_m), degrade)
    assert torch.equal(baselines.run(name, x_h, x_m, degrade), with_another)


@pytest.mark.parametrize("name", baselines.NAMES)
@pytest.mark.parametrize("batch", [(), (1,), (2,)])
def test_every_method_gives_the_shape_of_the_hr_hsi(name, batch):
    degrade = operator()
    y = torch.rand(*batch, 6, 16, 24)
    assert baselines.run(name, *degrade(y), degrade).shape == y.shape


def one_pan_scene(offset: float) -> tuple[torch.Tensor, torch.Tensor]:
    """An HR-MSI of three uncorrelated bands and an HR-HSI whose bands 2m and 2m + 1 follow MSI band
    m.
    """
    x_m = smooth(torch.rand(3, 48, 40)) + 0.2
    gains = torch.tensor([0.5, 2.0, 1.0, 0.3, 1.5, 0.8])[:, None, None]
    return x_m, gains * x_m.repeat_interleave(2, dim=0) + offset * torch.arange(6.0)[:, None, None]


@pytest.mark.parametrize(("name", "offset"), [("gsa", 0.1), ("mtf_glp", 0.1), ("sfim", 0.0)])
def test_methods_with_one_pan_a_band_are_exact_where_each_band_follows_one(name, offset):
    x_m, y = one_pan_scene(offset)
    degrade = operator()
    y_hat = baselines.run(name, degrade.spatial(y), x_m, degrade)
    assert float((y_hat - y).abs().max()) < 1e-4


def test_the_gain_is_the_slope_of_a_line():
    intensity = torch.rand(2, 5, 7)
    torch.testing.assert_close(
        baselines._gain(intensity * -3 + 4, intensity), torch.full((2, 1, 1), -3.0)
    )
    assert float(baselines._gain(intensity, torch.ones(2, 5, 7)).abs().max()) == 0


# an MSI whose bands differ
PAIRS_OF_BANDS = Degradation(4, 1.7, torch.eye(4).repeat_interleave(2, dim=1) / 2)


def mixed_scene() -> torch.Tensor:
    """Three spectra of eight bands, mixed with abundances that sum to 1."""
    abundances = (12 * smooth(torch.rand(3, 32, 32))).softmax(0)
    return torch.einsum("cp,phw->chw", torch.rand(8, 3), abundances)


def test_unmixing_is_non_negative_and_lowers_its_objective_step_by_step():
    x_h, x_m = PAIRS_OF_BANDS(mixed_scene())
    losses = []
    for iterations in (0, 1, 2, 5, 20, 100):
        spectra, abundances = baselines.unmix(x_h, x_m, PAIRS_OF_BANDS, 3, iterations)
        assert float(spectra.min()) >= 0 and float(abundances.min()) >= 0
        fused = torch.einsum("cp,phw->chw", spectra, abundances)
        again_h, again_m = PAIRS_OF_BANDS(fused)
        losses.append(float((x_h - again_h).square().sum() + (x_m - again_m).square().sum()))
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.5 * losses[0]


def test_unmixing_comes_ever_nearer_to_a_scene_that_is_a_mixture():
    y = mixed_scene()
    x_h, x_m = PAIRS_OF_BANDS(y)
    errors = [
        float((baselines.cnmf(x_h, x_m, PAIRS_OF_BANDS, 3, steps) - y).square().mean().sqrt())
        for steps in (0, 100, 1000, 5000)
    ]
    bicubic = float((baselines.bicubic(x_h, x_m, PAIRS_OF_BANDS) - y).square().mean().sqrt())
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.1 * bicubic


def test_the_sylvester_solution_solves_the_normal_equations_written_out():
    degrade = operator(hsi_bands=5, msi_bands=2, scale=2)
    y = smooth(torch.rand(5, 12, 14)).double()
    x_h, x_m = degrade(y)
    fused = baselines.sylvester(x_h, x_m, degrade, components=3, prior=0.01)

    # The same quadratic as one dense least-squares problem, in the principal components of the
    # LR-HSI.
    pixels = x_h.flatten(1)
    mean = pixels.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh((pixels - mean) @ (pixels - mean).T / pixels.shape[1])
    basis, variance = vectors[:, -3:].contiguous(), values[-3:]
    blur = torch.from_numpy(degrade.spatial_matrix(12, 14).toarray()).contiguous()
    eye, weight = torch.eye(12 * 14, dtype=torch.float64), (0.01 / variance).sqrt()
    srf = degrade.srf.double()
    start = torch.nn.functional.interpolate(
        x_h[None], scale_factor=2, mode="bicubic", align_corners=False
    )[0].flatten(1)
    rows = torch.cat(
        [torch.kron(basis, blur), torch.kron(srf @ basis, eye), torch.kron(weight.diag(), eye)]
    )
    targets = [
        pixels - mean,
        x_m.flatten(1) - srf @ mean,
        weight[:, None] * (basis.T @ (start - mean)),
    ]
    solution = torch.linalg.lstsq(
        rows, torch.cat([target.flatten() for target in targets])
    ).solution
    expected = basis @ solution.reshape(3, -1) + mean
    torch.testing.assert_close(fused.flatten(1), expected, atol=1e-8, rtol=0)


def test_sparse_coding_uses_few_atoms_and_survives_black_pixels():
    y = torch.cat([mixed_scene(), torch.zeros(8, 32, 8)], dim=2)
    x_h, x_m = PAIRS_OF_BANDS(y)
    y_hat = baselines.sparse_coding(x_h, x_m, PAIRS_OF_BANDS, atoms=12)
    assert bool(y_hat.isfinite().all())
    bicubic = baselines.bicubic(x_h, x_m, PAIRS_OF_BANDS)
    assert metrics.pooled_psnr(y_hat, y) > metrics.pooled_psnr(bicubic, y) + 6


@pytest.mark.parametrize("name", baselines.NAMES)
@pytest.mark.parametrize("level", [0.0, 0.5])
def test_an_image_without_any_variation_comes_back(name, level):
    y = torch.full((6, 16, 24), level)
    degrade = operator()
    # Not closer: rounding errors of a constant band have a slope too, and `gsa` and `mtf_glp`
    # follow it (by up to 4e-4).
    torch.testing.assert_close(baselines.run(name, *degrade(y), degrade), y, atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def real(indian_pines, tm4):
    """The test region, its inputs, and every method's result."""
    y = scenes.split(indian_pines)[2].cube
    degrade = Degradation(srf=tm4)
    x_h, x_m = degrade(y)
    fused = {name: baselines.run(name, x_h, x_m, degrade) for name in baselines.NAMES}
    return y, x_h, x_m, degrade, fused


FUSION = [name for name in baselines.NAMES if name not in ("bilinear", "bicubic")]


@pytest.mark.parametrize("name", FUSION)
def test_fusion_agrees_with_both_inputs_far_better_than_bicubic(real, name):
    _, x_h, x_m, degrade, fused = real

    def deviations(y_hat):
        pairs = zip(degrade(y_hat), (x_h, x_m), strict=True)
        return [float((again - x).square().mean().sqrt()) for again, x in pairs]

    lr, hr = deviations(fused[name])
    lr_bicubic, hr_bicubic = deviations(fused["bicubic"])
    assert lr < 0.5 * lr_bicubic and hr < 0.1 * hr_bicubic


@pytest.mark.parametrize("name", FUSION)
def test_fusion_beats_bicubic_by_eight_decibels_on_the_real_scene(real, name):
    y, fused = real[0], real[-1]
    assert metrics.pooled_psnr(fused[name], y) > metrics.pooled_psnr(fused["bicubic"], y) + 8
    assert metrics.sam(fused[name], y) < 0.6 * metrics.sam(fused["bicubic"], y)


def test_bicubic_beats_bilinear_and_methods_that_use_all_msi_bands_those_that_use_one(real):
    y, fused = real[0], real[-1]
    psnr = {name: metrics.pooled_psnr(fused[name], y) for name in baselines.NAMES}
    assert psnr["bicubic"] > psnr["bilinear"]
    one_band = max(psnr["gsa"], psnr["sfim"], psnr["mtf_glp"])
    assert min(psnr["detail_injection"], psnr["sylvester"]) > one_band + 1


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
def test_pairs_of_other_sizes_bands_or_batches_are_refused(name, h_shape, m_shape, message):
    with pytest.raises(ValueError, match=message):
        baselines.run(name, torch.rand(h_shape), torch.rand(m_shape), operator())


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_upsampling_equals_torchs_interpolation(mode):
    x = torch.rand(2, 3, 7, 5, dtype=torch.float64)
    expected = torch.nn.functional.interpolate(x, scale_factor=3, mode=mode, align_corners=False)
    torch.testing.assert_close(baselines.upsample(x, 3, mode), expected)
