"""Fusion in tiles against the model on the whole image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fusion import BANDS, MSI_BANDS, build, pair

from s3rnet_lite import S3RNet, peers
from s3rnet_lite.inference import tiles, tiling
from s3rnet_lite.training.fusion import FusionModel

pytestmark = pytest.mark.slow  # not part of `make check`


@torch.inference_mode()
def whole(model: FusionModel, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
    return model(x_h[None], x_m[None])[0]


def error(y_hat: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, as a share of the image's spread."""
    return float((y_hat - expected).abs().max() / expected.std())


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(
    ("preset", "skip", "scale"),
    [("lite", "injection", 4), ("tiny", "bilinear", 2), ("tiny", "none", 3)],
)
def test_tiles_of_any_size_give_the_whole_image(preset, skip, scale, normalise):
    model = build(preset, scale, skip, normalise_attention=normalise)
    for low_size, tile in (
        ((11, 47), 8 * scale),
        ((47, 11), 17 * scale),
    ):  # tiles see but a part of the long side
        x_h, x_m = pair(*low_size, scale)
        assert error(tiling.fuse(model, x_h, x_m, tile), whole(model, x_h, x_m)) < 1e-4


def test_tiles_share_what_the_whole_pair_says_and_differ_at_most_by_the_borders_of_a_closed_form():
    model = build("tiny", 4, "details")
    x_h, x_m = pair(24, 30)
    expected = whole(model, x_h, x_m)
    assert error(tiling.fuse(model, x_h, x_m, tile=120, overlap=0), expected) < 1e-5  # one tile
    assert error(tiling.fuse(model, x_h, x_m, tile=48, overlap=64), expected) < 1e-2


@pytest.mark.parametrize("normalise", [True, False])
def test_attention_by_tile_is_another_image(normalise):
    """What the first pass is for: the same tiles without it."""
    model = build(normalise_attention=normalise)
    x_h, x_m = pair(8, 48)
    expected = whole(model, x_h, x_m)
    assert error(tiling.fuse(model, x_h, x_m, 32), expected) < 2e-5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling.Job, "moments", lambda job, bar: None)
        assert error(tiling.fuse(model, x_h, x_m, 32), expected) > 2e-3


@pytest.mark.parametrize("skip", ["none", "bilinear", "injection"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_nothing_from_beyond_the_reach_is_felt_and_something_from_within(scale, skip):
    model, removed = build("lite", scale, skip).double(), 20
    x_h, x_m = (x.double() for x in pair(8, 40, scale))
    attention = model.network.ssawb.attention
    weights = torch.rand(1, attention.heads, 16, 16, dtype=torch.float64).softmax(-1)
    attention.attention_map = lambda _f_q, _f_k: weights
    full = whole(model, x_h, x_m)[:, :, removed * scale :]
    cropped = whole(model, x_h[:, :, removed:], x_m[:, :, removed * scale :])
    difference = (full - cropped).abs().amax((0, 1)) / full.std()
    # regressions are stored, and so applied, in float32
    assert difference[tiling.reach(model) :].max() < 1e-10
    assert difference[: tiling.reach(model) // 2].max() > 1e-2


def test_the_default_overlap_covers_what_it_can():
    for model in (build("lite"), build("lite", skip="bilinear"), build("tiny", 2)):
        overlap = tiling.default_overlap(model)
        assert overlap % model.degrade.scale == 0 and overlap - overlap // 8 >= tiling.reach(model)
    paper = FusionModel(
        S3RNet.from_preset("paper", BANDS, MSI_BANDS), build().degrade, "range", "none"
    )
    assert tiling.reach(paper) > 300 and tiling.default_overlap(paper) == tiles.LARGEST_OVERLAP


def test_an_image_of_one_tile_is_the_plain_call():
    model, (x_h, x_m) = build(), pair(9, 11)
    torch.testing.assert_close(tiling.fuse(model, x_h, x_m), whole(model, x_h, x_m))


def test_a_model_comes_back_as_it_was():
    model, (x_h, x_m) = build().train(), pair(16, 16)
    tiling.fuse(model, x_h, x_m, 32)
    assert model.training and "attention_map" not in vars(model.network.ssawb.attention)


@given(
    scale=st.integers(1, 5),
    low=st.integers(1, 80),
    tile=st.integers(1, 30),
    overlap=st.integers(0, 30),
)
def test_tiles_cover_every_pixel_once_and_weights_add_up_to_one(scale, low, tile, overlap):
    length = low * scale
    spans = tiling.spans(length, tile * scale, overlap * scale, scale)
    own, weight = np.zeros(length), np.zeros(length)
    for span in spans:
        own[span.own] += 1
        weight[span.written] += span.weight.numpy()
        assert len(span.weight) == span.written.stop - span.written.start and span.weight.min() >= 0
        assert (
            0
            <= span.seen.start
            <= span.written.start
            <= span.own.start
            < span.own.stop
            <= span.written.stop
            <= span.seen.stop
            <= length
        )
        assert span.seen.start % scale == span.seen.stop % scale == span.own.start % scale == 0
        assert span.own.stop - span.own.start <= tile * scale
    np.testing.assert_array_equal(own, 1)
    np.testing.assert_allclose(weight, 1, atol=1e-6)


@pytest.mark.parametrize(
    ("tile", "overlap", "named"),
    [(0, 8, "tile"), (30, 8, "tile"), (32, -4, "overlap"), (32, 6, "overlap")],
)
def test_tiles_off_the_low_resolution_grid_are_refused(tile, overlap, named):
    with pytest.raises(ValueError, match=f"{named}: expected a multiple of the scale 4"):
        tiling.fuse(build(), *pair(16, 16), tile, overlap)


def test_a_denoiser_sees_the_whole_image(small_train, indian_pines, degrade6):
    model = FusionModel(
        S3RNet.from_preset("tiny", 170, 6),
        degrade6,
        "band",
        "injection",
        [small_train.cube],
        denoise=True,
    ).eval()
    cube = indian_pines.cube[:, :32, :144]
    x_h, x_m = degrade6(cube)
    x_h += 0.02 * torch.randn(x_h.shape)
    y_hat, expected = tiling.fuse(model, x_h, x_m, 32), whole(model, x_h, x_m)
    assert error(y_hat, expected) < 2e-5
    assert error(model.fuse_clean(x_h[None], x_m[None])[0].detach(), expected) > 1e-2


def test_another_network_answers_for_each_tile_by_itself():
    torch.manual_seed(0)
    network = peers.build("pzres_net", "lite", BANDS, MSI_BANDS)
    model, (x_h, x_m) = FusionModel(network, build().degrade, "range", "none").eval(), pair(16, 32)
    y_hat = tiling.fuse(model, x_h, x_m, 64, overlap=16)
    left = whole(model, x_h[:, :, :20], x_m[:, :, :80])[
        :, :, :62
    ]  # what the left tile sees, and where it alone counts
    assert tiling.reach(model) is None and error(y_hat[:, :, :62], left) < 1e-6


def test_pixels_without_data_stay_without_and_others_get_values():
    model, (x_h, x_m) = build(), pair(24, 24)
    x_h[2, 3, 4] = torch.nan
    x_m[:, 70:, 90:] = torch.nan
    expected = torch.zeros(96, 96, dtype=torch.bool)
    expected[12:16, 16:20] = expected[70:, 90:] = True
    filled_h, filled_m = (
        torch.where(x_h.isnan(), model.hsi_mean, x_h),
        torch.where(x_m.isnan(), model.msi_mean, x_m),
    )
    for tile in (32, 96):
        y_hat = tiling.fuse(model, x_h, x_m, tile)
        assert torch.equal(y_hat.isnan(), expected.expand_as(y_hat))
        assert error(y_hat[:, ~expected], whole(model, filled_h, filled_m)[:, ~expected]) < 2e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x_h, x_m: (x_h, x_m * 1000), "x_m: .* as the model was trained on"),
        (lambda x_h, x_m: (x_h / 0, x_m), "x_h: .* as the model was trained on"),
        (lambda x_h, x_m: (x_h * torch.nan, x_m), "x_h: .* NaN in every pixel"),
        (lambda x_h, x_m: (x_h[None], x_m), "x_h: expected one image"),
        (lambda x_h, x_m: (x_h[:, 1:], x_m), "x_m: expected height and width"),
        (lambda x_h, x_m: (x_h[1:], x_m), f"x_h: expected {BANDS} bands"),
    ],
)
def test_bad_pairs_are_refused_before_any_tile(change, message):
    with pytest.raises(ValueError, match=message):
        tiling.fuse(build(), *change(*pair(8, 8)))


@settings(max_examples=10)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 4), st.integers(0, 4))
def test_images_of_all_shapes_come_out_whole(height, width, tile, overlap):
    """Small and narrow images, tiles larger than they are, no overlap at all: every pixel is
    written, with the seams' error.
    """
    model, (x_h, x_m) = build(skip="bilinear"), pair(height, width)
    y_hat = tiling.fuse(model, x_h, x_m, 4 * tile, 4 * overlap)
    assert (
        y_hat.shape == (BANDS, 4 * height, 4 * width) and error(y_hat, whole(model, x_h, x_m)) < 5
    )
