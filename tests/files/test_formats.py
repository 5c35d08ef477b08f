"""Image files against bytes written by hand and the libraries' own writers and readers: values,
axes, units, windows, laziness.
"""

import pickle
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
from image_files import (
    CENTRES,
    CUBE,
    MATLAB_FILES,
    NAMED,
    TO_DISK,
    UTM,
    WINDOW,
    braces,
    write_envi,
    write_geotiff,
    write_hdf5,
)
from rasterio.shutil import copy as gdal_copy

from s3rnet_lite.files import formats


def test_geotiff_written_by_rasterio(tmp_path):
    file = formats.open_cube(
        write_geotiff(
            tmp_path / "image.tif",
            nodata=int(CUBE[0, 0, 0]),
            tiled=True,
            blockxsize=16,
            blockysize=16,
        )
    )
    expected = np.where(CUBE[0, 0, 0] == CUBE, np.nan, CUBE)
    np.testing.assert_array_equal(file.read(), expected)
    np.testing.assert_array_equal(file.read(*WINDOW, bands=[4, 1]), expected[[4, 1], 1:5, 3:6])
    assert file.wavelengths_nm is None
    assert rasterio.Affine(*file.georeference["transform"]) == UTM["transform"]
    assert rasterio.CRS.from_wkt(file.georeference["crs"]) == UTM["crs"]


def test_scales_and_offsets_of_a_geotiff(tmp_path):
    with rasterio.open(write_geotiff(tmp_path / "image.tiff"), "r+") as file:
        file.scales, file.offsets = [0.1, 0.2, 0.3, 0.4, 0.5], [1, 0, 0, 0, -2]
    expected = (
        CUBE * np.array([0.1, 0.2, 0.3, 0.4, 0.5])[:, None, None]
        + np.array([1, 0, 0, 0, -2])[:, None, None]
    )
    np.testing.assert_allclose(
        formats.open_cube(tmp_path / "image.tiff").read(), expected, rtol=1e-6
    )


@pytest.mark.parametrize(("unit", "factor"), [("Nanometers", 1), ("Micrometers", 1e-3)])
def test_wavelengths_that_gdal_carries_from_envi_into_a_geotiff(tmp_path, unit, factor):
    write_envi(
        tmp_path,
        wavelength=braces(CENTRES * factor),
        wavelength_units=unit,
        fwhm=braces([9.8 * factor] * 5),
    )
    gdal_copy(tmp_path / "image", tmp_path / "image.tif", driver="GTiff")
    file = formats.open_cube(tmp_path / "image.tif")
    np.testing.assert_allclose(file.wavelengths_nm, CENTRES, rtol=1e-12)
    np.testing.assert_allclose(file.fwhm_nm, 10)  # GDAL rounds to a nanometre
    np.testing.assert_array_equal(file.read(), CUBE)


def test_wavelengths_in_the_imagery_tags_of_a_geotiff(tmp_path):
    with rasterio.open(write_geotiff(tmp_path / "image.tif"), "r+") as file:
        for band, centre in enumerate(CENTRES, 1):
            file.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=centre / 1000)
    file = formats.open_cube(tmp_path / "image.tif")
    np.testing.assert_allclose(file.wavelengths_nm, CENTRES, rtol=1e-12)
    assert file.fwhm_nm is None


@pytest.mark.parametrize("with_wavelengths", [True, False])
@pytest.mark.parametrize("ending", NAMED)
def test_named_arrays_lie_as_height_width_bands(tmp_path, ending, with_wavelengths):
    arrays = {"cube": CUBE.transpose(1, 2, 0), "gt": np.ones((6, 7))} | (
        {"wavelength": CENTRES} if with_wavelengths else {}
    )
    file = formats.open_cube(NAMED[ending](tmp_path / f"image{ending}", arrays))
    assert file.shape == CUBE.shape
    np.testing.assert_array_equal(file.read(), CUBE)
    np.testing.assert_array_equal(file.read(*WINDOW, [0, 3, 2]), CUBE[[0, 3, 2], 1:5, 3:6])
    assert (file.wavelengths_nm is None) != with_wavelengths
    if with_wavelengths:
        np.testing.assert_array_equal(file.wavelengths_nm, CENTRES)


@pytest.mark.parametrize("ending", NAMED)
@pytest.mark.parametrize("given", [True, False], ids=["argument", "in the file"])
@pytest.mark.parametrize("order", TO_DISK.values(), ids=TO_DISK)
def test_wavelengths_tell_which_axis_of_a_named_array_holds_the_bands(
    tmp_path, ending, given, order
):
    arrays = {"cube": CUBE.transpose(order)} | ({} if given else {"Lambda_um": CENTRES / 1000})
    file = formats.open_cube(
        NAMED[ending](tmp_path / f"image{ending}", arrays),
        wavelengths_nm=CENTRES if given else None,
    )
    np.testing.assert_array_equal(file.read(*WINDOW), CUBE[:, 1:5, 3:6])
    np.testing.assert_allclose(file.wavelengths_nm, CENTRES, rtol=1e-12)


def test_a_three_dimensional_matrix_that_matlab_saved():
    """reshape(1:24, [2 3 4]), from the test files of scipy."""
    file = formats.open_cube(MATLAB_FILES / "test3dmatrix_7.4_GLNX86.mat")
    expected = np.arange(1, 25).reshape(2, 3, 4, order="F")
    assert file.shape == (4, 2, 3)
    np.testing.assert_array_equal(file.read(), expected.transpose(2, 0, 1))


def test_matlab_itself_reverses_the_axes_in_its_hdf5_files():
    """testdouble = 0:pi/4:2*pi is a row, 1 x 9; `write_matlab73` imitates that for images."""
    with h5py.File(MATLAB_FILES / "testhdf5_7.4_GLNX86.mat") as file:
        assert file["testdouble"].shape == (9, 1)


@pytest.mark.parametrize("ending", [*NAMED, ".npz"])
def test_one_of_several_images_is_chosen_by_name(tmp_path, ending):
    order = (0, 1, 2) if ending == ".npz" else (1, 2, 0)
    arrays = {"first": CUBE.transpose(order), "second": (CUBE[:, :4] + 1).transpose(order)}
    path = tmp_path / f"image{ending}"
    np.savez(path, **arrays) if ending == ".npz" else NAMED[ending](path, arrays)
    np.testing.assert_array_equal(
        formats.open_cube(path, variable="second").read(), CUBE[:, :4] + 1
    )
    with pytest.raises(ValueError, match=r"variable=: first \(.*\), second \(.*\)"):
        formats.open_cube(path)
    with pytest.raises(ValueError, match=r"has no 'third'; it holds .*first \("):
        formats.open_cube(path, variable="third")


def test_hdf5_in_the_layout_of_neons_reflectance(tmp_path):
    numbers = CUBE.copy()
    numbers[:, 0, 0] = -9999
    group = "SITE/Reflectance"
    arrays = {
        f"{group}/Reflectance_Data": numbers.transpose(1, 2, 0),
        f"{group}/Metadata/Spectral_Data/Wavelength": CENTRES,
    }
    path = write_hdf5(
        tmp_path / "image.h5", arrays | {f"{group}/Metadata/Spectral_Data/FWHM": np.full(5, 6.0)}
    )
    with h5py.File(path, "r+") as opened:
        opened[f"{group}/Reflectance_Data"].attrs.update(
            {"Scale_Factor": 10_000.0, "Data_Ignore_Value": -9999.0}
        )
        opened[f"{group}/Metadata/Spectral_Data/Wavelength"].attrs["Units"] = b"nanometers"
    file = formats.open_cube(path)
    expected = numbers / 10_000
    expected[:, 0, 0] = np.nan
    np.testing.assert_allclose(file.read(), expected, rtol=1e-6)
    np.testing.assert_array_equal(file.wavelengths_nm, CENTRES)
    np.testing.assert_array_equal(file.fwhm_nm, np.full(5, 6.0))


def test_hdf5_with_the_attributes_of_netcdf(tmp_path):
    path = write_hdf5(tmp_path / "image.h5", {"radiance": CUBE.transpose(1, 2, 0)})
    with h5py.File(path, "r+") as opened:
        opened["radiance"].attrs.update(
            {"scale_factor": 0.5, "add_offset": 3.0, "_FillValue": CUBE[:1, 0, 0]}
        )
    np.testing.assert_array_equal(
        formats.open_cube(path).read(), np.where(CUBE[0, 0, 0] == CUBE, np.nan, CUBE * 0.5 + 3)
    )


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [">u2", "f8", "f2"])
def test_numpy_files_lie_as_bands_height_width(tmp_path, order, dtype):
    numbers = np.asarray(CUBE % 1000, dtype, order=order)
    np.save(tmp_path / "image.npy", numbers)
    np.savez_compressed(tmp_path / "image.npz", anything=numbers)
    for name in ("image.npy", "image.npz"):
        file = formats.open_cube(tmp_path / name)
        np.testing.assert_array_equal(file.read(*WINDOW, slice(1, 4)), CUBE[1:4, 1:5, 3:6] % 1000)
        assert (file.good_bands.all(), file.ignore_value, file.georeference) == (True, None, None)


def huge_envi(folder: Path, shape: tuple, window: np.ndarray) -> Path:
    with open(folder / "image", "wb") as file:
        file.truncate(int(np.prod(shape)) * 2)
    np.memmap(folder / "image", "<i2", "r+", shape=(shape[1], shape[0], shape[2]))[
        5000:5004, :, 300:305
    ] = window.transpose(1, 0, 2)
    header = {
        "samples": shape[2],
        "lines": shape[1],
        "bands": shape[0],
        "data type": 2,
        "interleave": "bil",
        "byte order": 0,
    }
    (folder / "image.hdr").write_text(
        "ENVI\n" + "".join(f"{name} = {value}\n" for name, value in header.items())
    )
    return folder / "image.hdr"


def huge_npy(folder: Path, shape: tuple, window: np.ndarray) -> Path:
    formats.create_cube(folder / "image.npy", shape)[:, 5000:5004, 300:305] = window
    return folder / "image.npy"


def huge_hdf5(folder: Path, shape: tuple, window: np.ndarray) -> Path:
    with h5py.File(folder / "image.h5", "w") as file:
        dataset = file.create_dataset("cube", (*shape[1:], shape[0]), "i2", chunks=(8, 8, shape[0]))
        dataset[5000:5004, 300:305] = window.transpose(1, 2, 0)
    return folder / "image.h5"


def huge_matlab73(folder: Path, shape: tuple, window: np.ndarray) -> Path:
    with h5py.File(folder / "image.mat", "w", userblock_size=512) as file:
        dataset = file.create_dataset(
            "cube", (shape[0], shape[2], shape[1]), "i2", chunks=(shape[0], 8, 8)
        )
        dataset[:, 300:305, 5000:5004] = window.transpose(0, 2, 1)
    return folder / "image.mat"


def huge_geotiff(folder: Path, shape: tuple, window: np.ndarray) -> Path:
    sizes = {"count": shape[0], "height": shape[1], "width": shape[2], "dtype": "int16"}
    layout = {
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 64,
        "SPARSE_OK": True,
        "BIGTIFF": "YES",
    }
    with rasterio.open(folder / "image.tif", "w", driver="GTiff", **sizes, **layout, **UTM) as file:
        file.write(window, window=((5000, 5004), (300, 305)))
    return folder / "image.tif"


@pytest.mark.parametrize("write", [huge_envi, huge_npy, huge_hdf5, huge_matlab73, huge_geotiff])
def test_of_a_file_larger_than_memory_only_the_window_is_read(tmp_path, write):
    """20 GB (40 as .npy), nearly all of it holes in a sparse file."""
    shape = (160, 32_000, 2000)
    window = np.random.default_rng(1).integers(1, 9999, (160, 4, 5)).astype(np.int16)
    path = write(tmp_path, shape, window)
    tracemalloc.start()
    file = formats.open_cube(path)
    read = file.read(slice(4999, 5004), slice(300, 306))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    path.with_suffix("" if path.suffix == ".hdr" else path.suffix).unlink()
    assert file.shape == shape
    np.testing.assert_array_equal(read[:, 1:, :5], window)
    assert not read[:, 0].any()
    assert not read[:, :, 5].any()
    assert peak < 20e6


def test_a_file_can_be_sent_to_another_process(tmp_path):
    for path in (
        write_envi(tmp_path),
        write_geotiff(tmp_path / "image.tif"),
        write_hdf5(tmp_path / "i.h5", {"c": CUBE.transpose(1, 2, 0)}),
    ):
        message = pickle.dumps(formats.open_cube(path))
        assert len(message) < 5000
        np.testing.assert_array_equal(pickle.loads(message).read(), CUBE)


@pytest.mark.parametrize("form", ["{} Nanometers", "band at {} nm", "{}nm"])
def test_wavelengths_in_the_descriptions_of_a_geotiffs_bands(tmp_path, form):
    path = write_geotiff(tmp_path / "image.tif")
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = [form.format(centre) for centre in CENTRES]
    np.testing.assert_allclose(formats.open_cube(path).wavelengths_nm, CENTRES)
