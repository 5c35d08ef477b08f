"""scenes.load: the same scene back from any format, physical units, masks, and what it refuses."""

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
import scipy.io
import torch
from hypothesis import given
from hypothesis import strategies as st
from spectral.io import envi

from s3rnet_lite import scenes

CENTRES = np.array([450.0, 550.0, 660.0, 860.0, 1650.0])
REFLECTANCE = np.random.default_rng(0).uniform(0.02, 0.6, (5, 6, 7)).astype(np.float32)


def write_envi(path: Path, numbers: np.ndarray, **metadata) -> Path:
    metadata = {name.replace("_", " "): value for name, value in metadata.items()}
    envi.save_image(
        str(path),
        numbers.transpose(1, 2, 0),
        dtype=numbers.dtype,
        interleave="bil",
        metadata=metadata,
    )
    return path


def save(path: Path, numbers: np.ndarray) -> Path:
    np.save(path, numbers)
    return path


def physical(scene: scenes.Scene) -> np.ndarray:
    return (scene.cube.double() * scene.scale + scene.offset).numpy()


def test_indian_pines_stored_as_scaled_integers_comes_back(tmp_path, indian_pines):
    numbers = np.round(physical(indian_pines) * 500).astype(np.int16)
    fields = {
        "wavelength": indian_pines.wavelengths_nm.tolist(),
        "fwhm": indian_pines.fwhm_nm.tolist(),
        "wavelength_units": "Nanometers",
    }
    scene = scenes.load(
        write_envi(tmp_path / "pines.hdr", numbers, reflectance_scale_factor=500, **fields)
    )
    torch.testing.assert_close(scene.cube, indian_pines.cube, rtol=0, atol=1e-6)
    assert torch.equal(scene.wavelengths_nm, indian_pines.wavelengths_nm)
    assert torch.equal(scene.fwhm_nm, indian_pines.fwhm_nm)
    assert (scene.scale, scene.offset) == pytest.approx((indian_pines.scale, indian_pines.offset))
    assert (scene.name, scene.labels, scene.valid) == ("pines", None, None)


def test_every_format_gives_the_same_scene(tmp_path):
    paths = [
        tmp_path / f"image{ending}" for ending in (".hdr", ".tif", ".mat", ".h5", ".npy", ".npz")
    ]
    write_envi(paths[0], REFLECTANCE)
    with rasterio.open(
        paths[1],
        "w",
        driver="GTiff",
        count=5,
        height=6,
        width=7,
        dtype="float32",
        crs="EPSG:4326",
        transform=rasterio.Affine(2, 0, 0, 0, -2, 0),
    ) as file:
        file.write(REFLECTANCE)
    scipy.io.savemat(paths[2], {"cube": REFLECTANCE.transpose(1, 2, 0)})
    with h5py.File(paths[3], "w") as file:
        file["cube"] = REFLECTANCE.transpose(1, 2, 0)
    save(paths[4], REFLECTANCE)
    np.savez(paths[5], cube=REFLECTANCE)
    for path in paths:
        scene = scenes.load(path, wavelengths_nm=CENTRES, fwhm_nm=[10, 11, 12, 13, 14])
        np.testing.assert_allclose(physical(scene), REFLECTANCE, atol=1e-7)
        assert (float(scene.cube.min()), float(scene.cube.max())) == (0, 1)
        assert scene.wavelengths_nm.tolist() == CENTRES.tolist()
        assert scene.fwhm_nm.tolist() == [10, 11, 12, 13, 14]


@given(
    low=st.floats(-1e4, 1e4),
    span=st.floats(1e-2, 1e5),
    dtype=st.sampled_from(["int32", "float32", "float64"]),
)
def test_any_range_of_values_is_brought_to_zero_to_one_and_back(tmp_path_factory, low, span, dtype):
    numbers = (low + span * np.linspace(0, 1, 60).reshape(3, 4, 5)).astype(dtype)
    if numbers.min() == numbers.max():
        return
    scene = scenes.load(
        save(tmp_path_factory.mktemp("load") / "image.npy", numbers), wavelengths_nm=[400, 500, 600]
    )
    assert (float(scene.cube.min()), float(scene.cube.max())) == (0, 1)
    np.testing.assert_allclose(physical(scene), numbers, atol=1e-6 * (abs(low) + span))


def test_a_scene_that_was_saved_comes_back_as_it_was(tmp_path, small_train):
    cube = small_train.cube - small_train.cube.min()
    cube /= cube.max()
    scene = scenes.load(
        save(tmp_path / "scene.npy", cube.numpy()), small_train.wavelengths_nm, small_train.fwhm_nm
    )
    assert torch.equal(scene.cube, cube)
    assert (scene.scale, scene.offset) == (1, 0)


def test_a_window_is_a_crop_with_a_range_of_its_own(tmp_path):
    path = save(tmp_path / "image.npy", REFLECTANCE)
    window = scenes.load(path, CENTRES, rows=slice(2, 5), columns=slice(1, 7))
    np.testing.assert_allclose(physical(window), REFLECTANCE[:, 2:5, 1:7], atol=1e-7)
    assert (float(window.cube.min()), float(window.cube.max())) == (0, 1)


def test_widths_that_nobody_gives_are_the_median_distance_of_the_bands(tmp_path):
    path = save(tmp_path / "image.npy", REFLECTANCE)
    assert (
        scenes.load(path, wavelengths_nm=[790, 450, 620, 500, 700]).fwhm_nm.tolist() == [85] * 5
    )  # 50, 120, 80, 90


def test_bad_bands_are_left_out(tmp_path):
    widths = [10, 11, 12, 13, 14]
    path = write_envi(
        tmp_path / "i.hdr",
        REFLECTANCE,
        wavelength=CENTRES.tolist(),
        fwhm=widths,
        wavelength_units="nm",
        bbl=[1, 0, 1, 1, 0],
    )
    scene = scenes.load(path)
    np.testing.assert_allclose(physical(scene), REFLECTANCE[[0, 2, 3]], atol=1e-7)
    assert scene.wavelengths_nm.tolist() == [450, 660, 860]
    assert scene.fwhm_nm.tolist() == [10, 12, 13]
    assert scenes.load(path, wavelengths_nm=CENTRES + 1).wavelengths_nm.tolist() == [451, 661, 861]


def test_pixels_without_data_are_masked_and_do_not_set_the_range(tmp_path):
    numbers = np.round(REFLECTANCE * 10_000).astype(np.int16)
    numbers[:, 0, :3] = -9999  # the border of a flight line
    numbers[2, 4, 5] = -9999  # one band only
    metadata = {"data_ignore_value": -9999, "reflectance_scale_factor": 10_000}
    scene = scenes.load(
        write_envi(
            tmp_path / "i.hdr",
            numbers,
            wavelength=CENTRES.tolist(),
            wavelength_units="nm",
            **metadata,
        )
    )
    invalid = np.zeros((6, 7), bool)
    invalid[0, :3] = invalid[4, 5] = True
    np.testing.assert_array_equal(scene.valid.numpy(), ~invalid)
    assert not scene.cube[:, ~scene.valid].any()
    np.testing.assert_allclose(
        physical(scene)[:, ~invalid], numbers[:, ~invalid] / 10_000, atol=1e-6
    )
    inside = scene.cube[:, scene.valid]
    assert (float(inside.min()), float(inside.max())) == (0, 1)
    assert scene.crop(slice(0, 2), slice(2, 4), "part").valid.tolist() == [
        [False, True],
        [True, True],
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_masked(tmp_path, value):
    cube = REFLECTANCE.copy()
    cube[3, 1, 2] = value
    scene = scenes.load(save(tmp_path / "image.npy", cube), CENTRES)
    assert (~scene.valid).nonzero().tolist() == [[1, 2]]
    np.testing.assert_allclose(
        physical(scene)[:, scene.valid], REFLECTANCE[:, scene.valid], atol=1e-7
    )


def test_a_band_without_any_data_is_left_out_with_a_warning_instead_of_masking_all(tmp_path):
    cube = REFLECTANCE.copy()
    cube[[1, 4]] = np.nan
    with pytest.warns(UserWarning, match=r"bands without any data are left out: \[1, 4\]"):
        scene = scenes.load(save(tmp_path / "image.npy", cube), CENTRES, fwhm_nm=[1, 2, 3, 4, 5])
    assert scene.valid is None
    assert scene.wavelengths_nm.tolist() == [450, 660, 860]
    assert scene.fwhm_nm.tolist() == [1, 3, 4]
    np.testing.assert_allclose(physical(scene), REFLECTANCE[[0, 2, 3]], atol=1e-7)


def test_a_whole_scene_loads_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scenes.load(
            write_envi(
                tmp_path / "i.hdr", REFLECTANCE, wavelength=CENTRES.tolist(), Sensor_Type="Capitals"
            )
        )


@pytest.mark.parametrize(
    ("cube", "options", "message"),
    [
        (
            REFLECTANCE,
            {},
            "wavelengths_nm: .*image.npy holds none; give 5 band centres in nanometres",
        ),
        (
            REFLECTANCE,
            {"wavelengths_nm": CENTRES[:4]},
            "wavelengths_nm: expected 5 positive values, one a band, got 4",
        ),
        (
            REFLECTANCE,
            {"wavelengths_nm": CENTRES, "fwhm_nm": [10] * 4},
            "fwhm_nm: expected 5 positive widths",
        ),
        (
            REFLECTANCE,
            {"wavelengths_nm": CENTRES, "fwhm_nm": [0] * 5},
            "fwhm_nm: expected 5 positive widths",
        ),
        (REFLECTANCE, {"wavelengths_nm": [500.0] * 5}, "fwhm_nm: expected 5 positive widths"),
        (REFLECTANCE[:1], {"wavelengths_nm": [500]}, "fwhm_nm: .* one band"),
        (
            REFLECTANCE,
            {"wavelengths_nm": CENTRES, "rows": slice(6, 9)},
            "rows: expected a non-empty slice",
        ),
        (REFLECTANCE * np.nan, {"wavelengths_nm": CENTRES}, "none in the window of 6x7 pixels"),
        (REFLECTANCE * 0 + 3, {"wavelengths_nm": CENTRES}, "expected an image, got 3.0 everywhere"),
        (
            np.where(np.eye(4)[:, None], np.nan, REFLECTANCE[:4, :, :4]),
            {"wavelengths_nm": CENTRES[:4]},
            "no pixel .* all of its 4 bands",
        ),
    ],
)
def test_what_cannot_become_a_scene_is_refused(tmp_path, cube, options, message):
    with pytest.raises(ValueError, match=message):
        scenes.load(save(tmp_path / "image.npy", cube), **options)


def test_a_header_whose_bands_are_all_bad_is_refused(tmp_path):
    with pytest.raises(ValueError, match="lists all 5 bands as bad"):
        scenes.load(
            write_envi(tmp_path / "i.hdr", REFLECTANCE, wavelength=CENTRES.tolist(), bbl=[0] * 5)
        )
