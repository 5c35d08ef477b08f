"""Fusion in tiles against the model on the whole image, and runs that are killed."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s3rnet_lite import Degradation, S3RNet, peers
from s3rnet_lite.files import formats
from s3rnet_lite.inference import tiled_files, tiles, tiling
from s3rnet_lite.training.fusion import FusionModel

pytestmark = pytest.mark.slow  # not part of `make check`

BANDS, MSI_BANDS = 7, 3


def build(preset: str = "tiny", scale: int = 4, skip: str = "injection", **changes) -> FusionModel:
    """A model in which everything counts: no weight is zero, gates are half open, attention is
    neither flat nor one-hot.
    """
    torch.manual_seed(0)
    network = S3RNet.from_preset(preset, BANDS, MSI_BANDS, scale=scale, **changes)
    model = FusionModel(
        network, Degradation(scale, 1.7, torch.rand(MSI_BANDS, BANDS).softmax(1)), "band", skip
    ).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.5 if "attention.to_" in name else 0.1)
    attention = network.ssawb.attention
    if attention.normalise:
        torch.nn.init.uniform_(attention.temperature, 3, 8)
    else:
        attention.to_q.weight.data *= 0.01  # sums over thousands of pixels
    if skip == "injection":
        model.regression.normal_()
    if skip == "details":
        model.details.product.normal_()
    return model


def pair(height: int, width: int, scale: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """In LR pixels. Brightness changes across the image, so that a tile's statistics are not the
    image's.
    """
    light = torch.linspace(0.1, 1, width).repeat_interleave(scale)
    return torch.rand(BANDS, height, width) * light[::scale], torch.rand(
        MSI_BANDS, height * scale, width * scale
    ) * light


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
        (
            lambda x_h, x_m: (x_h, x_m * 1000),
            "x_m: expected floating-point values as the model was trained on",
        ),
        (
            lambda x_h, x_m: (x_h / 0, x_m),
            "x_h: expected floating-point values as the model was trained on",
        ),
        (lambda x_h, x_m: (x_h * torch.nan, x_m), "x_h: .* NaN in every pixel"),
        (lambda x_h, x_m: (x_h[None], x_m), "x_h: expected one image"),
        (lambda x_h, x_m: (x_h[:, 1:], x_m), "x_m: expected height and width"),
        (lambda x_h, x_m: (x_h[1:], x_m), f"x_h: expected {BANDS} bands"),
    ],
)
def test_bad_pairs_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        tiling.fuse(build(), *change(*pair(8, 8)))


# From file to file. 24 tiles, six in a row.


@pytest.fixture
def files(tmp_path):
    x_h, x_m = pair(16, 24)
    np.save(tmp_path / "h.npy", x_h), np.save(tmp_path / "m.npy", x_m)
    return tmp_path


def fuse_files(folder, out: str = "out.npy", **changes) -> np.ndarray:
    pair = formats.open_cube(folder / "h.npy"), formats.open_cube(folder / "m.npy")
    tiled_files.fuse(
        build(), *pair, folder / out, **{"tile": 16, "overlap": 16, "progress": False, **changes}
    )
    return formats.open_cube(folder / out).read()


class KilledError(BaseException):
    pass


def die(*_, **__):
    raise KilledError


def copy_half_and_die(y, image, rows, columns):
    formats.reopen_cube(image)[: len(y) // 2, rows.written, columns.written] = y[: len(y) // 2]
    die()


def after(count: int, replacement, original):
    """`original` for so many calls, then `replacement`."""
    calls = iter(range(count))
    return lambda *arguments, **named: (original if next(calls, None) is not None else replacement)(
        *arguments, **named
    )


def test_a_file_holds_what_fuse_returns(files):
    expected = tiling.fuse(build(), np.load(files / "h.npy"), np.load(files / "m.npy"), 16, 16)
    np.testing.assert_array_equal(fuse_files(files), expected)
    assert sorted(file.name for file in files.iterdir()) == ["h.npy", "m.npy", "out.npy"]


@pytest.mark.parametrize(
    ("where", "count", "death"),
    [
        ((tiling.Job, "_inputs"), 5, die),  # in the first pass
        ((tiled_files, "write_array"), 0, die),
        ((tiled_files, "write_array"), 9, die),  # a tile is computed, not stored
        ((tiled_files, "_copy"), 0, copy_half_and_die),
        ((tiled_files, "_copy"), 9, copy_half_and_die),  # stored, copied by half
        ((tiled_files.Path, "unlink"), 9, die),  # copied, the tile before not yet forgotten
        ((tiled_files.os, "replace"), 25, die),  # all renamed but the image itself
    ],
    ids=["moments", "first", "computed", "first copy", "copy", "copied", "end"],
)
def test_a_killed_run_goes_on_to_the_same_bits(files, where, count, death):
    expected = fuse_files(files, "unbroken.npy")
    for _ in range(2):  # the second life ends early, too
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(*where, after(count, death, getattr(*where)))
            fuse_files(files)
        assert not (files / "out.npy").exists()
    np.testing.assert_array_equal(fuse_files(files), expected)
    assert not (files / "out.npy.partial").exists()


def test_a_process_that_is_killed_goes_on_to_the_same_bits(files):
    script = (
        "import sys, os, signal; sys.path.insert(0, sys.argv[1]); import test_tiling as t; from "
        "pathlib import Path\n"
        "t.die = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.tiled_files._copy = t.after(13, t.copy_half_and_die, t.tiled_files._copy)\n"
        "t.fuse_files(Path(sys.argv[2]))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run(
        [sys.executable, "-c", script, os.path.dirname(__file__), files],
        env=environment,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL and not (files / "out.npy").exists()
    assert (files / "out.npy.partial" / "tile_13.npy").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling.Job, "moments", die)  # the first pass is not done again
        resumed = fuse_files(files)
    np.testing.assert_array_equal(resumed, fuse_files(files, "unbroken.npy"))


@pytest.mark.parametrize("changed", ["tile", "x_m", "model"])
def test_a_run_does_not_go_on_with_something_else(files, changed, monkeypatch):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(tiled_files, "_copy", after(5, die, tiled_files._copy))
        fuse_files(files)
    other = {}
    if changed == "tile":
        other = {"tile": 32}
    elif changed == "x_m":
        x_m = np.load(files / "m.npy")
        x_m[0, 3, 4] += 1e-3
        np.save(files / "m.npy", x_m)
    else:
        model = build()
        model.network.head[0].bias.data[0] += 1e-3
        monkeypatch.setattr(sys.modules[__name__], "build", lambda: model)
    with pytest.raises(
        ValueError,
        match=f"out.npy.partial: holds an unfinished fusion of another kind .*{changed} was",
    ):
        fuse_files(files, **other)


def test_physical_units_and_bad_bands_go_in_and_come_out(files):
    """An ENVI file with a dead band and numbers that are 100 x + 20; the fused file knows the
    wavelengths.
    """
    x_h, expected = np.load(files / "h.npy"), fuse_files(files)
    good = np.array([True, True, False] + [True] * (BANDS - 2))
    nm = np.arange(BANDS + 1) * 100.0 + 400
    cube = formats.create_cube(files / "h.hdr", (BANDS + 1, *x_h.shape[1:]), nm)
    cube[good], cube[2] = 100 * x_h + 20, np.nan
    cube.flush()
    with open(files / "h.hdr", "a") as header:
        header.write(f"bbl = {{{', '.join('1' if band else '0' for band in good)}}}\n")
    np.save(files / "m_100.npy", 100 * np.load(files / "m.npy") + 20)
    pair = formats.open_cube(files / "h.hdr"), formats.open_cube(files / "m_100.npy")
    tiled_files.fuse(
        build(), *pair, files / "out.hdr", 16, 16, scale=100, offset=20, progress=False
    )
    fused = formats.open_cube(files / "out.hdr")
    np.testing.assert_allclose(fused.read(), 100 * expected + 20, rtol=1e-4, atol=1e-2)
    np.testing.assert_array_equal(fused.wavelengths_nm, nm[good])


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
