"""Arrays without a header: of two, three and four axes, in structures and as matrices."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from s3rnet_lite.files import formats


@pytest.mark.parametrize("ending", [".npy", ".npz", ".mat", ".h5"])
def test_an_array_of_two_axes_is_one_band_and_one_of_four_with_a_single_image_is_that(
    tmp_path, ending
):
    pan = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    cube = np.random.default_rng(0).random((7, 20, 30)).astype(np.float32)
    on_disk = {".npy": (pan, cube[None])}.get(ending)
    on_disk = on_disk or (pan, (cube if ending == ".npz" else cube.transpose(1, 2, 0))[None])
    for name, array, expected in zip(("pan", "four"), on_disk, (pan[None], cube), strict=True):
        path = tmp_path / f"{name}{ending}"
        if ending == ".npy":
            np.save(path, array)
        elif ending == ".npz":
            np.savez(path, image=array)
        elif ending == ".mat":
            savemat(path, {"image": array})
        else:
            with h5py.File(path, "w") as file:
                file["image"] = array
        np.testing.assert_array_equal(formats.open_cube(path).read(), expected)


def test_a_cube_inside_a_structure_is_found_and_named(tmp_path):
    cube = np.random.default_rng(0).random((20, 30, 7))
    savemat(tmp_path / "one.mat", {"hsi": {"data": cube, "title": "x"}})
    savemat(tmp_path / "two.mat", {"hsi": {"data": cube}, "other": cube + 1})
    for file in (
        formats.open_cube(tmp_path / "one.mat"),
        formats.open_cube(tmp_path / "one.mat", "hsi.data"),
        formats.open_cube(tmp_path / "two.mat", "hsi.data"),
    ):
        np.testing.assert_allclose(file.read(), cube.transpose(2, 0, 1), rtol=1e-6)


def test_a_matrix_of_pixels_with_its_rows_and_columns_is_a_cube(tmp_path):
    cube = np.random.default_rng(0).random((20, 30, 15))
    matrix = cube.transpose(2, 1, 0).reshape(15, -1)  # pixels down the columns first
    savemat(tmp_path / "scene.mat", {"Y": matrix, "nRow": 20, "nCol": 30})
    file = formats.open_cube(tmp_path / "scene.mat", order="HWC")
    np.testing.assert_allclose(file.read(), cube.transpose(2, 0, 1), rtol=1e-6)


def test_where_the_order_of_axes_is_in_doubt_it_is_said_and_can_be_given(tmp_path):
    array = np.random.default_rng(0).random((20, 24, 6)).astype(np.float32)
    np.save(tmp_path / "image.npy", array)
    with pytest.warns(UserWarning, match=r"read \(20, 24, 6\) as CHW.*order="):
        assert formats.open_cube(tmp_path / "image.npy").shape == (20, 24, 6)
    file = formats.open_cube(tmp_path / "image.npy", order="HWC")
    np.testing.assert_array_equal(file.read(), array.transpose(2, 0, 1))
    with pytest.raises(ValueError, match="order: expected the letters C, H and W"):
        formats.open_cube(tmp_path / "image.npy", order="BHW")
