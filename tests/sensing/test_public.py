"""Scenes that people use: the table, files made like theirs, and the real ones where they are."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from s3rnet_lite import scenes
from s3rnet_lite.__main__ import main
from s3rnet_lite.sensing import public

FOLDER = Path(os.environ.get("S3RNET_LITE_SCENES", Path(__file__).parents[3] / "shared" / "scenes"))
FILES = {
    "jasper_ridge": "jasperRidge2_R198.mat",
    "san_diego": "sandiego_plane.mat",
    "samson": "samson_1.mat",
    "paris": "paris_data_hs_ms.mat",
}
here = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs real scenes in {FOLDER}")


@pytest.mark.parametrize("scene", scenes.PUBLIC.values(), ids=scenes.PUBLIC)
def test_what_is_known_of_a_scene_fits_together(scene):
    assert scene.source.startswith("http") and scene.licence
    assert len(scene.shape) == 3 and min(scene.shape) > 1
    if scene.centres_nm is not None:
        assert len(scene.centres_nm) == scene.shape[0]
        assert min(scene.centres_nm) > 350 and max(scene.centres_nm) < 2520


def test_a_matrix_of_pixels_is_turned_into_the_cube_that_matlab_means(tmp_path):
    bands, height, width = scenes.PUBLIC["samson"].shape
    cube = np.random.default_rng(0).random((bands, height, width))
    columns_first = cube.transpose(0, 2, 1).reshape(bands, -1)  # V(:, r + (c - 1) * nRow)
    savemat(tmp_path / "samson.mat", {"V": columns_first, "nRow": height, "nCol": width})
    scene = scenes.public("samson", tmp_path / "samson.mat")
    assert torch.allclose(scene.cube * scene.scale + scene.offset, torch.tensor(cube).float())
    assert scene.name == "samson" and scene.wavelengths_nm[0] == 401


def test_another_matrix_another_cube_a_folder_and_nothing_are_named(tmp_path):
    savemat(tmp_path / "other.mat", {"V": np.ones((5, 9))})
    with pytest.raises(ValueError, match=r"other.mat: expected a variable V of 156 x 9025"):
        scenes.public("samson", tmp_path / "other.mat")
    savemat(tmp_path / "cube.mat", {"data": np.random.default_rng(0).random((20, 30, 7))})
    with pytest.raises(ValueError, match=r"cube.mat: .* 189"):
        scenes.public("san_diego", tmp_path / "cube.mat")
    with pytest.raises(ValueError, match="expected a file"):
        scenes.public("samson", tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file; samson is at https"):
        scenes.public("samson", tmp_path / "none.mat")
    with pytest.raises(ValueError, match="name: expected one of jasper_ridge"):
        scenes.public("jasper", tmp_path)


def test_where_nobody_says_the_bands_they_have_to_be_given(tmp_path):
    savemat(tmp_path / "KSC.mat", {"KSC": np.random.default_rng(0).random((12, 14, 176))})
    with pytest.raises(ValueError, match="wavelengths_nm: ksc needs 176 band centres"):
        scenes.public("ksc", tmp_path / "KSC.mat")
    given = np.linspace(400, 2500, 176)
    scene = scenes.public("ksc", tmp_path / "KSC.mat", wavelengths_nm=given)
    assert scene.cube.shape == (176, 12, 14) and scene.wavelengths_nm.tolist() == given.tolist()


def test_pictures_of_a_folder_are_bands_in_the_order_of_their_names(tmp_path):
    from PIL import Image

    bands = np.random.default_rng(0).integers(0, 2**16, (31, 8, 9), dtype=np.uint16)
    for number, band in enumerate(bands, 1):
        Image.fromarray(band).save(tmp_path / f"toys_ms_{number:02}.png")
    scene = scenes.public("cave", tmp_path)
    physical = scene.cube * scene.scale + scene.offset
    assert torch.allclose(physical, torch.tensor(bands / 65535).float(), atol=1e-6)


@here
@pytest.mark.parametrize("name", FILES)
def test_the_real_files_are_the_known_copies_and_have_the_known_shape(name):
    known = scenes.PUBLIC[name]
    assert known.is_the_known_copy(FOLDER / FILES[name])
    scene = scenes.public(name, FOLDER / FILES[name])
    assert tuple(scene.cube.shape) == known.shape and scene.valid is None
    bands = scene.cube[:: known.shape[0] // 5]
    neighbours = [
        float(torch.corrcoef(torch.stack([band[1:].flatten(), band[:-1].flatten()]))[0, 1])
        for band in bands
    ]
    assert min(neighbours) > 0.5  # an image, not pixels in a wrong order


@here
def test_the_tiles_of_enmap_make_one_image_without_seams():
    with pytest.warns(UserWarning, match="bands without any data are left out"):
        scene = scenes.public("enmap_potsdam", FOLDER)
    assert tuple(scene.cube.shape) == (218, 64, 96)
    band = scene.cube[50]
    down, right = (band.diff(dim=axis).abs().mean(1 - axis) for axis in (0, 1))
    seams = down[31] / down.median(), right[31] / right.median(), right[63] / right.median()
    assert max(seams) < 1.8


def test_the_list_of_scenes_names_all(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["s3rnet_lite", "scenes"])
    main()
    printed = capsys.readouterr().out
    assert all(name in printed for name in scenes.PUBLIC) and printed.strip() == public.table()


@here
def test_the_grid_of_aviris_is_near_the_calibration_that_comes_with_jasper_ridge():
    stored = loadmat(FOLDER / "AVIRIS_wavelengths.mat")
    [measured] = [v.ravel().astype(float) for k, v in stored.items() if not k.startswith("_")]
    measured = measured * (1000 if measured.max() < 10 else 1)
    ours = public.spectrometer(public.AVIRIS, range(1, 225))
    assert np.abs(np.array(ours) - measured).max() < 0.8  # nm, as public.py says
