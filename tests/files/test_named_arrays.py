"""Arrays without a header: of two, three and four axes, in structures, matrices, and PRISMA's."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from image_files import write_hdf5, write_matlab73
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


def test_rows_columns_and_then_bands_in_a_numpy_file_are_in_doubt_too(tmp_path):
    np.save(tmp_path / "image.npy", np.zeros((40, 50, 170), np.float32))
    with pytest.warns(UserWarning, match=r"read \(40, 50, 170\) as CHW"):
        formats.open_cube(tmp_path / "image.npy")


def test_a_matrix_that_may_be_bands_and_pixels_is_not_silently_an_image(tmp_path):
    np.save(tmp_path / "matrix.npy", np.zeros((50, 600)))
    with pytest.warns(UserWarning, match=r"read \(50, 600\) as an image of one band"):
        assert formats.open_cube(tmp_path / "matrix.npy").shape == (1, 50, 600)


def test_structures_and_matrices_of_pixels_in_matlab_7_3(tmp_path):
    cube = np.random.default_rng(0).random((20, 30, 15))
    write_matlab73(tmp_path / "field.mat", {"hsi/data": cube})
    matrix = cube.transpose(2, 1, 0).reshape(15, -1)  # pixels down the columns first
    write_matlab73(tmp_path / "matrix.mat", {"Y": matrix, "nRow": 20, "nCol": 30})
    for file in (
        formats.open_cube(tmp_path / "field.mat", "hsi.data", order="HWC"),
        formats.open_cube(tmp_path / "matrix.mat", order="HWC"),
    ):
        np.testing.assert_allclose(file.read(), cube.transpose(2, 0, 1), rtol=1e-6)


def write_prisma(path: Path, level: str, **attributes) -> dict[str, np.ndarray]:
    """As the product specification lays it out: bands on the middle axis, wavelengths falling, 0
    for dead bands.
    """
    rng = np.random.default_rng(0)
    cubes = {name: rng.integers(0, 60_000, (6, 5, 7), np.uint16) for name in ("VNIR", "SWIR")}
    fields = f"HDFEOS/SWATHS/PRS_{level}_HCO/Data Fields"
    write_hdf5(path, {f"{fields}/{name}_Cube": cube for name, cube in cubes.items()})
    attributes |= {"List_Cw_Vnir": [0, 900, 700, 500, 400], "List_Fwhm_Vnir": [0, 9, 7, 5, 4]}
    attributes |= {"List_Cw_Swir": [2400, 2000, 1500, 950, 850], "List_Fwhm_Swir": [24] * 5}
    with h5py.File(path, "r+") as file:
        file.attrs.update({name: np.float32(x) for name, x in attributes.items()})
        file.attrs["List_Cw_Swir_Flags"] = [1, 0, 1, 1, 1]
    return cubes


@pytest.mark.parametrize("level", ["L1", "L2D"])
def test_the_two_cubes_of_prisma_are_one_image(tmp_path, level):
    scales = {"ScaleFactor_Vnir": 100, "Offset_Vnir": 3, "ScaleFactor_Swir": 50, "Offset_Swir": 0}
    gains, offsets = np.repeat([0.01, 0.02], [4, 3]), np.repeat([-3, 0], [4, 3])
    if level == "L2D":
        scales = {"L2ScaleVnirMin": 0.1, "L2ScaleVnirMax": 0.9}
        scales |= {"L2ScaleSwirMin": 0, "L2ScaleSwirMax": 0.5}
        gains, offsets = np.repeat([0.8, 0.5], [4, 3]) / 65535, np.repeat([0.1, 0], [4, 3])
    cubes = write_prisma(tmp_path / "image.he5", level, **scales)
    file = formats.open_cube(tmp_path / "image.he5")
    np.testing.assert_array_equal(file.wavelengths_nm, [400, 500, 700, 900, 950, 1500, 2400])
    np.testing.assert_array_equal(file.fwhm_nm, [4, 5, 7, 9, 24, 24, 24])
    numbers = np.concatenate([cubes["VNIR"][:, [4, 3, 2, 1]], cubes["SWIR"][:, [3, 2, 0]]], axis=1)
    expected = numbers.transpose(1, 0, 2) * gains[:, None, None] + offsets[:, None, None]
    np.testing.assert_allclose(file.read(), expected, rtol=1e-5, atol=1e-5)
    window = slice(1, 4), slice(2, 7)
    np.testing.assert_allclose(file.read(*window, [5, 0]), expected[[5, 0], 1:4, 2:], rtol=1e-5)
