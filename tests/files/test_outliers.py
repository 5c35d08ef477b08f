"""One number that takes the range of an image for itself is named, or the image is refused."""

import re
import warnings

import numpy as np
import pytest
import small_flight_lines
import torch
from image_files import CENTRES

from s3rnet_lite import scenes
from s3rnet_lite.files import outliers
from s3rnet_lite.inference import pair

CUBE = np.random.default_rng(0).uniform(0, 1, (5, 24, 24)).astype(np.float32)


def with_number(value: float, cube: np.ndarray = CUBE) -> np.ndarray:
    """A copy with this number in band 3, row 5, column 6."""
    changed = cube.astype(np.float32)
    changed[3, 5, 6] = value
    return changed


def check(cube: np.ndarray) -> None:
    outliers.check("it", cube.min(0), cube.max(0), lambda row, column: cube[:, row, column])


@pytest.mark.parametrize("value", [90.0, 1e-9, -90.0])
def test_a_bright_pixel_is_no_outlier(value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(with_number(value))
        check(np.full_like(CUBE, 3))


@pytest.mark.parametrize("value", [200.0, -5000.0])
def test_a_hundred_times_the_others_is_suspect(value):
    text = f"it: of the bands in use, band 3 holds {value:g} in row 5, column 6"
    with pytest.warns(UserWarning, match=re.escape(text)):
        check(with_number(value))


@pytest.mark.parametrize("value", [1e5, -1e30])
def test_where_nothing_would_be_left_of_the_others_the_image_is_refused(value):
    text = f"band 3 holds {value:g} in row 5, column 6"
    with pytest.raises(ValueError, match=re.escape(text)):
        check(with_number(value))
    for_all = CUBE.copy()
    for_all[:, 5, 6] = value
    with pytest.raises(ValueError, match="in row 5, column 6"):
        check(for_all)


def test_a_scene_from_a_file(tmp_path):
    np.save(tmp_path / "scene.npy", with_number(1e30))
    with pytest.raises(ValueError, match=r"scene\.npy: .* band 3 holds 1e\+30 in row 5, column 6"):
        scenes.load(tmp_path / "scene.npy", CENTRES)
    np.save(tmp_path / "scene.npy", with_number(np.nan))
    assert scenes.load(tmp_path / "scene.npy", CENTRES).valid.sum() == 24 * 24 - 1


@pytest.mark.parametrize("which", ["x_h", "x_m"])
def test_a_pair(which):
    images = {"x_h": CUBE, "x_m": np.random.default_rng(1).random((2, 96, 96), np.float32)}
    images["x_h"] = np.concatenate([CUBE, CUBE])
    images[which] = np.concatenate([with_number(1e9, images[which][[0] * 5])])
    with pytest.raises(ValueError, match=rf"{which}: .* band 3 holds 1e\+09 in row 5, column 6"):
        pair.calibrate(*(torch.from_numpy(images[name]) for name in ("x_h", "x_m")))


def test_a_flight_line(tmp_path):
    lines = [small_flight_lines.flight_line(seed) for seed in range(3)]
    lines[1] = with_number(1e10, lines[1])
    sources = [
        small_flight_lines.write_line(tmp_path / f"line{i}.hdr", line)
        for i, line in enumerate(lines)
    ]
    with pytest.raises(ValueError, match=r"line1: .* band 3 holds 1e\+10 in row 5, column 6"):
        small_flight_lines.prepare(tmp_path / "set", sources)
    assert not (tmp_path / "set" / "dataset.json").exists()
