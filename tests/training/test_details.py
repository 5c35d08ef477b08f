"""The regression of details, and how far a model is trusted: on pairs whose answer is known."""

import pytest
import torch

from s3rnet_lite import S3RNet, baselines
from s3rnet_lite.sensing.degradation import Degradation
from s3rnet_lite.training import guard
from s3rnet_lite.training.details import DetailRegression, features, reduce_pair
from s3rnet_lite.training.fusion import FusionModel


def image(seed, bands=5, size=48):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(bands, size, size, generator=generator)


@pytest.fixture
def degrade():
    return Degradation(4, 1.7, torch.eye(5)[:2])  # the MSI sees bands 0 and 1 as they are


def mixed(seed, slope=0.7, colour=0.2):
    """Bands 2 to 4 follow band 0, each with its own slope, and have a colour of their own."""
    y = image(seed)
    light = torch.linspace(0, 1, 48)[:, None].expand(48, 48)
    return torch.cat(
        [
            y[:2],
            slope * y[:1] * torch.tensor([1.0, 0.5, -1.0])[:, None, None] + colour + 0.1 * light,
        ]
    )


def test_details_that_follow_a_band_are_found_whatever_the_colour(degrade):
    known, other = mixed(0), mixed(1, colour=0.5)
    model = DetailRegression(degrade, [known], [degrade.spectral(known)])
    x_h, x_m = degrade(other)
    fused = baselines.inject(x_h, model(x_m, model.trained_weights()), degrade, 2)
    assert float((fused - other).abs().mean()) < 0.02
    assert float((baselines.bicubic(x_h, x_m, degrade) - other).abs().mean()) > 0.05


def test_the_pair_counts_more_the_worse_the_training_scenes_explain_it(degrade):
    known = mixed(0)
    model = DetailRegression(degrade, [known], [degrade.spectral(known)])
    errors = {}
    for slope in (0.7, -0.7):  # as in training, and the other way round
        other = mixed(1, slope)
        x_h, x_m = degrade(other)
        for name, weights in (
            ("trained", model.trained_weights()),
            ("pair", model.learn_from(x_h, x_m)[0]),
        ):
            fused = baselines.inject(x_h, model(x_m, weights), degrade, 2)
            errors[slope, name] = float((fused - other).square().mean())
    assert (
        model.learn_from(*degrade(mixed(1, -0.7)))[1] > 10 > model.learn_from(*degrade(mixed(1)))[1]
    )
    assert errors[-0.7, "pair"] < 0.5 * errors[-0.7, "trained"]
    assert errors[0.7, "pair"] < 1.5 * errors[0.7, "trained"] + 1e-4


def test_one_training_scene_twice_is_the_same_evidence(degrade):
    y = mixed(0)
    once = DetailRegression(degrade, [y], [degrade.spectral(y)])
    twice = DetailRegression(degrade, [y, y], [degrade.spectral(y)] * 2)
    assert torch.allclose(once.trained_weights(), twice.trained_weights())


def test_features_are_value_root_and_share():
    x_m = torch.tensor([0.25, 0.75])[:, None, None]
    value, root, share = features(x_m).flatten().split(2)
    assert value.tolist() == [0.25, 0.75] and root.tolist() == pytest.approx(
        [0.5, 0.75**0.5], abs=1e-5
    )
    assert share.tolist() == pytest.approx([0.25 / 1.02, 0.75 / 1.02])
    assert features(-x_m).isfinite().all()


def test_the_reduced_pair_has_the_lr_hsi_for_its_truth(degrade):
    x_h, x_m = degrade(image(0))
    small_h, small_m, y = reduce_pair(x_h, x_m, degrade)
    assert torch.equal(y, x_h) and small_h.shape == (5, 3, 3)
    assert torch.allclose(small_m, degrade.spectral(y), atol=1e-6)  # blur and response commute
    assert (
        reduce_pair(x_h[:, :4, :4], x_m[:, :16, :16], degrade) is None
    )  # too little to learn from


def test_the_share_has_the_least_error_of_evidence_and_prior_together(degrade):
    x_h, x_m = degrade(mixed(0))
    small_h, small_m, y = reduce_pair(x_h, x_m, degrade)
    closed = baselines.sylvester(small_h, small_m, degrade)
    weight = guard.PRIOR_WEIGHT * float((y - closed).square().sum())
    shares = torch.linspace(0, 1, 1001)
    for fused in (y, torch.rand_like(y), closed + 0.9 * (y - closed)):
        errors = [
            (
                (closed + a * (fused - closed) - y).square().sum()
                + weight * (a - guard.PRIOR_SHARE) ** 2
            )
            for a in shares
        ]
        share, rival = guard.judge(x_h, x_m, degrade, lambda _h, _m, fused=fused: fused, 1.0)
        assert rival == "sylvester"
        assert share == pytest.approx(float(shares[int(torch.stack(errors).argmin())]), abs=2e-3)
    assert guard.judge(x_h, x_m, degrade, lambda _h, _m: 1e3 * y)[0] < 0.01
    strange, known = (guard.judge(x_h, x_m, degrade, lambda _h, _m: y, m)[0] for m in (50, 5))
    assert strange < known == guard.judge(x_h, x_m, degrade, lambda _h, _m: y, 1)[0]


@pytest.mark.parametrize(("msi_bands", "expected"), [(2, "sylvester"), (1, "cnmf")])
def test_where_nothing_can_be_checked_little_of_the_model_is_used(degrade, msi_bands, expected):
    degrade = Degradation(degrade.scale, degrade.psf_sigma, degrade.srf[:msi_bands])
    x_h, x_m = degrade(mixed(0)[:, :16, :16])
    closed, smooth = (baselines.run(name, x_h, x_m, degrade) for name in (expected, "bicubic"))
    for away, share in ((0.0, guard.BLIND_SHARE), (0.5, guard.BLIND_SHARE), (10.0, 0.002)):
        fused = closed + away * (closed - smooth)
        found = guard.judge(x_h, x_m, degrade, lambda _h, _m, fused=fused: fused)
        assert found == (pytest.approx(share, rel=1e-4), expected)


@pytest.mark.parametrize(
    ("powers", "msi_bands", "expected"),
    [
        ({"sylvester": 2.0, "bicubic": 1.0, "cnmf": 4.0}, 1, "bicubic"),
        ({"sylvester": 1.9, "bicubic": 4.0, "cnmf": 2.0}, 1, "cnmf"),  # less than 1 dB better
        ({"sylvester": 2.0, "bicubic": 1.0, "cnmf": 1.0}, 4, "sylvester"),  # no rivals
    ],
)
def test_of_one_msi_band_a_clearly_better_closed_form_serves(powers, msi_bands, expected):
    errors = {name: torch.full((2, 3, 3), power**0.5) for name, power in powers.items()}
    assert guard.closed_form(errors, msi_bands) == expected


def test_a_model_that_is_wrong_on_a_scene_stays_near_the_closed_form(indian_pines_split, degrade6):
    region = indian_pines_split[0].crop(slice(0, 64), slice(0, 64), "part")
    torch.manual_seed(0)
    network = S3RNet.from_preset("tiny", len(region.cube), 6)
    model = FusionModel(network, degrade6, "band", "details", [region.cube]).eval()
    x_h, x_m = degrade6(region.cube)
    model.details.product.neg_()  # every detail with the wrong sign
    with torch.no_grad():
        known, fused = model.look_at(x_h, x_m), model(x_h[None], x_m[None])[0]
    assert known.share < 0.1
    errors = [
        float((y_hat - region.cube).square().mean())
        for y_hat in (fused, baselines.sylvester(x_h, x_m, degrade6))
    ]
    assert errors[0] < 1.5 * errors[1]


def test_in_training_mode_nothing_is_learnt_from_the_pair(small_train, degrade6):
    torch.manual_seed(0)
    network = S3RNet.from_preset("tiny", len(small_train.cube), 6)
    model = FusionModel(network, degrade6, "band", "details", [small_train.cube]).train()
    x_h, x_m = (x[None] for x in degrade6(small_train.cube[:, :32, :32]))
    fused = model(x_h, x_m)
    fused.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    other = model(torch.cat([x_h, 1 - x_h]), torch.cat([x_m, 1 - x_m]))[:1]
    assert torch.allclose(fused, other, atol=1e-5)  # an image does not know of its neighbours
