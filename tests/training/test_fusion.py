"""The wrapper around a network: scaling, skips and their statistics."""

import pytest
import torch
from torch import nn

from s3rnet_lite import S3RNet, baselines
from s3rnet_lite.training.fusion import FusionModel


class Silent(nn.Module):
    """A network that always answers 0."""

    def __init__(self, bands: int, scale: int):
        super().__init__()
        self.bands, self.scale = bands, scale

    def forward(self, x_h, x_m):
        return x_m.new_zeros(len(x_m), self.bands, *x_m.shape[-2:])


class Recorder(Silent):
    """Also remembers what it was given."""

    def forward(self, x_h, x_m):
        self.seen = x_h, x_m
        return super().forward(x_h, x_m)


@pytest.fixture
def train_cube(small_train):
    return small_train.cube


def test_range_scaling_maps_zero_to_minus_one_and_one_to_one(train_cube, degrade6):
    model = FusionModel(Recorder(170, 4), degrade6, "range", "none", train_cube)
    x_h, x_m = torch.zeros(1, 170, 4, 4), torch.ones(1, 6, 16, 16)
    y_hat = model(x_h, x_m)
    seen_h, seen_m = model.network.seen
    assert (seen_h == -1).all() and (seen_m == 1).all()
    assert torch.equal(y_hat, torch.full_like(y_hat, 0.5))  # a network's 0 is the middle of [0, 1]


def test_no_scaling_leaves_everything_as_it_is(train_cube, degrade6):
    model = FusionModel(Recorder(170, 4), degrade6, "none", "none", train_cube)
    x_h, x_m = torch.rand(1, 170, 4, 4), torch.rand(1, 6, 16, 16)
    y_hat = model(x_h, x_m)
    assert torch.equal(model.network.seen[0], x_h) and torch.equal(model.network.seen[1], x_m)
    assert (y_hat == 0).all()


def test_band_scaling_standardises_the_training_inputs(train_cube, degrade6):
    model = FusionModel(Recorder(170, 4), degrade6, "band", "none", train_cube)
    x_h, x_m = degrade6(train_cube)
    model(x_h[None], x_m[None])
    for seen in model.network.seen:
        torch.testing.assert_close(
            seen.mean(dim=(0, 2, 3)), torch.zeros(seen.shape[1]), atol=1e-3, rtol=0
        )
        torch.testing.assert_close(
            seen.std(dim=(0, 2, 3)), torch.ones(seen.shape[1]), atol=1e-3, rtol=0
        )


def test_band_scaling_without_skip_answers_the_mean_spectrum_for_a_silent_network(
    train_cube, degrade6
):
    model = FusionModel(Silent(170, 4), degrade6, "band", "none", train_cube)
    y_hat = model(torch.rand(1, 170, 4, 4), torch.rand(1, 6, 16, 16))
    torch.testing.assert_close(y_hat[0, :, 3, 5], train_cube.double().mean(dim=(1, 2)).float())


def test_bilinear_skip_is_the_bilinear_baseline_for_a_silent_network(train_cube, degrade6):
    model = FusionModel(Silent(170, 4), degrade6, "range", "bilinear", train_cube)
    x_h, x_m = degrade6(train_cube)
    torch.testing.assert_close(
        model(x_h[None], x_m[None])[0], baselines.run("bilinear", x_h, x_m, degrade6)
    )


def test_injection_skip_is_exact_where_the_hsi_is_affine_in_the_msi(degrade6):
    generator = torch.Generator().manual_seed(0)
    # 170 bands that are mixtures of as many spectra as the MSI has bands: the regression can undo D
    # exactly.
    mixtures = torch.rand(6, 32, 32, generator=generator)
    y = torch.einsum("ck,khw->chw", torch.rand(170, 6, generator=generator), mixtures) / 6
    model = FusionModel(Silent(170, 4), degrade6, "band", "injection", y)
    x_h, x_m = degrade6(y)
    model.output_mean.zero_()
    torch.testing.assert_close(model(x_h[None], x_m[None])[0], y, atol=2e-3, rtol=0)


def test_injection_skip_anchors_the_low_resolution_image(train_cube, degrade6):
    """Whatever the network says about uniform colour, the LR-HSI corrects it."""

    class Offset(Silent):
        def forward(self, x_h, x_m):
            return super().forward(x_h, x_m) + 3.0

    x_h, x_m = (x[None] for x in degrade6(train_cube))
    silent = FusionModel(Silent(170, 4), degrade6, "band", "injection", train_cube)(x_h, x_m)
    shifted = FusionModel(Offset(170, 4), degrade6, "band", "injection", train_cube)(x_h, x_m)
    torch.testing.assert_close(silent, shifted, atol=1e-5, rtol=0)


def test_statistics_of_several_scenes_are_pooled(train_cube, degrade6):
    both = FusionModel(Silent(170, 4), degrade6, "band", "none", [train_cube, train_cube * 0.5])
    expected = torch.cat([train_cube.flatten(1), train_cube.flatten(1) * 0.5], dim=1).mean(1)
    torch.testing.assert_close(both.output_mean.flatten(), expected)


@pytest.mark.parametrize(("scaling", "skip"), [("bands", "none"), ("band", "bicubic")])
def test_unknown_options_are_named(scaling, skip, degrade6):
    with pytest.raises(ValueError, match=r"(scaling|skip): expected one of"):
        FusionModel(Silent(170, 4), degrade6, scaling, skip)


@pytest.mark.parametrize(
    ("x_h", "x_m", "message"),
    [
        (torch.rand(1, 169, 4, 4), torch.rand(1, 6, 16, 16), "170 bands"),
        (torch.rand(1, 170, 4, 4), torch.rand(1, 4, 16, 16), "6 bands"),
        (torch.rand(1, 170, 4, 4), torch.rand(1, 6, 16, 17), "height and width"),
        (torch.rand(2, 170, 4, 4), torch.rand(1, 6, 16, 16), "batch"),
        (torch.full((1, 170, 4, 4), torch.nan), torch.rand(1, 6, 16, 16), "NaN"),
    ],
)
def test_bad_pairs_are_named(x_h, x_m, message, degrade6):
    model = FusionModel(S3RNet.from_preset("tiny", 170, 6), degrade6, "range", "none")
    with pytest.raises(ValueError, match=message):
        model(x_h, x_m)


def test_integer_inputs_are_refused(degrade6):
    model = FusionModel(S3RNet.from_preset("tiny", 170, 6), degrade6, "range", "none")
    with pytest.raises(TypeError, match="floating-point"):
        model(torch.ones(1, 170, 4, 4, dtype=torch.int16), torch.rand(1, 6, 16, 16))


def test_the_denoiser_stands_before_the_network_and_the_skip(train_cube, degrade6):
    model = FusionModel(Recorder(170, 4), degrade6, "none", "bilinear", train_cube, denoise=True)
    x_h, x_m = (x[None] for x in degrade6(train_cube))
    noisy = x_h + 0.05 * torch.randn_like(x_h)
    y_hat = model(noisy, x_m)
    cleaned = model.denoiser(noisy, x_m)
    assert torch.equal(model.network.seen[0], cleaned) and torch.equal(
        y_hat, baselines.bilinear(cleaned, x_m, degrade6)
    )
    assert (cleaned - x_h).std() < 0.3 * 0.05


@pytest.mark.parametrize("number", [0.0, 0.5])
def test_bands_that_hold_one_number_are_named(number, small_train, degrade6):
    y = small_train.cube.clone()
    y[[3, 77]] = number
    with pytest.raises(ValueError, match=r"training HSI: .* band 3, 77 .from 0. holds"):
        FusionModel(S3RNet.from_preset("tiny", 170, 6), degrade6, "band", "injection", y)
