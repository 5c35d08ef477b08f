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
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import (
    CENTRES,
    CUBE,
    ENVI_TYPES,
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
from spectral.io import envi

from s3rnet_lite.files import formats


@st.composite
def envi_images(draw):
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    dtype = np.dtype(draw(st.sampled_from(sorted(ENVI_TYPES.values()))))
    numbers = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 127, shape).astype(dtype)
    windows = []
    for length in shape[1:]:
        first = draw(st.integers(0, length - 1))
        windows.append(slice(first, draw(st.integers(first + 1, length + 2))))
    bands = draw(
        st.one_of(st.none(), st.lists(st.integers(-shape[0], shape[0] - 1), min_size=1, max_size=6))
    )
    fields = {"interleave": draw(st.sampled_from(["bsq", "bil", "bip", "BSQ", "BIL", "BIP"]))}
    return (
        numbers,
        windows,
        bands,
        fields
        | {
            "byte_order": draw(st.sampled_from([0, 1])),
            "header_offset": draw(st.sampled_from([0, 13])),
        },
    )


@given(image=envi_images())
@settings(max_examples=60)
def test_envi_of_any_type_interleave_byte_order_and_offset_is_read_by_windows(
    tmp_path_factory, image
):
    numbers, (rows, columns), bands, fields = image
    file = formats.open_cube(write_envi(tmp_path_factory.mktemp("envi"), numbers, **fields))
    assert file.shape == numbers.shape
    read = file.read(rows, columns, bands)
    assert read.dtype == np.float32
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(
        read, numbers[slice(None) if bands is None else bands][:, rows, columns]
    )


@pytest.mark.parametrize("interleave", TO_DISK)
@pytest.mark.parametrize("order", [0, 1])
def test_envi_written_by_spectral_python(tmp_path, interleave, order):
    path = tmp_path / "image.hdr"
    metadata = {"wavelength": CENTRES, "fwhm": [9.5] * 5, "wavelength units": "nm"}
    envi.save_image(
        str(path),
        CUBE.transpose(1, 2, 0),
        dtype=np.int16,
        interleave=interleave,
        byteorder=order,
        metadata=metadata,
    )
    file = formats.open_cube(path)
    np.testing.assert_array_equal(file.read(*WINDOW), CUBE[:, 1:5, 3:6])
    np.testing.assert_array_equal(file.wavelengths_nm, CENTRES)
    np.testing.assert_array_equal(file.fwhm_nm, [9.5] * 5)


def test_an_envi_header_scales_masks_and_marks_bands(tmp_path):
    numbers = CUBE.copy()
    numbers[2, 3, 4] = -50
    fields = {
        "bbl": braces([1, 1, 0, 1, -1]),
        "reflectance_scale_factor": "10000.0",
        "data_ignore_value": -50,
    }
    file = formats.open_cube(write_envi(tmp_path, numbers, **fields))
    expected = numbers / 10_000
    expected[2, 3, 4] = np.nan
    np.testing.assert_allclose(file.read(), expected, rtol=1e-6)
    assert file.good_bands.tolist() == [True, True, False, True, False]
    assert file.ignore_value == -50


def test_headers_written_by_hand_are_understood(tmp_path):
    path = write_envi(tmp_path)
    lines = path.read_text().replace("samples", "Samples").replace("= bsq", "=BSQ").splitlines()
    lines[2:2] = [
        "; a comment = with an equals sign",
        "description = {",
        "  made by hand, in 2 lines}",
        "wavelength = {410.5, 520.25,",
        "640, 700,",
        "1650.75}",
    ]
    path.with_suffix(".HDR").write_bytes("\r\n".join(lines).encode())
    path.unlink()
    file = formats.open_cube(tmp_path / "image.HDR")
    np.testing.assert_array_equal(file.read(), CUBE)
    np.testing.assert_array_equal(file.wavelengths_nm, CENTRES)


@pytest.mark.parametrize("ending", ["", ".img", ".IMG", ".dat", ".raw", ".bin", ".bsq"])
def test_the_data_of_an_envi_image_may_end_in_many_ways(tmp_path, ending):
    path = write_envi(tmp_path)
    (tmp_path / "image").rename(tmp_path / f"image{ending}")
    np.testing.assert_array_equal(formats.open_cube(path).read(), CUBE)


def test_gains_and_offsets_of_an_envi_header_belong_to_bands(tmp_path):
    gains, offsets = np.array([0.5, 2, 1, 0.25, 3]), np.array([-1, 0, 5, 2, 0.5])
    file = formats.open_cube(
        write_envi(tmp_path, data_gain_values=braces(gains), data_offset_values=braces(offsets))
    )
    expected = CUBE * gains[:, None, None] + offsets[:, None, None]
    np.testing.assert_allclose(file.read(bands=[3, 0]), expected[[3, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "text", "number"),
    [
        ("f4", "-3.40282347e+38", np.finfo("f4").min),
        ("f8", "-1.7976931348623157e308", np.finfo("f8").min),
        ("u2", "65535", 65535),
        ("i4", "-2147483648", -(2**31)),
        ("u1", "255.0", 255),
    ],
)
def test_the_usual_values_for_no_data_become_nan_in_that_place_only(tmp_path, dtype, text, number):
    numbers = (CUBE % 200).astype(dtype)
    numbers[1, 2, 3] = number
    read = formats.open_cube(write_envi(tmp_path, numbers, data_ignore_value=text)).read()
    assert np.argwhere(np.isnan(read)).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("dtype", "text"),
    [("u2", "-9999"), ("u1", "300"), ("i2", "1e40"), ("i2", "0.5"), ("f4", "nan")],
)
def test_a_value_for_no_data_that_the_type_cannot_hold_masks_nothing(tmp_path, dtype, text):
    numbers = (
        np.arange(2**16, dtype=np.int64).astype(dtype).reshape(4, 128, 128)
    )  # -9999 as uint16 would be 55537
    assert not np.isnan(
        formats.open_cube(write_envi(tmp_path, numbers, data_ignore_value=text)).read()
    ).any()


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("Micrometers", 1e-3),
        ("micrometer", 1e-3),
        ("um", 1e-3),
        ("Nanometers", 1),
        ("nm", 1),
        ("Unknown", 1e-3),
        ("Unknown", 1),
        (None, 1e-3),
        (None, 1),
    ],
)
def test_wavelengths_come_in_nanometres(tmp_path, unit, factor):
    fields = {"wavelength": braces(CENTRES * factor), "fwhm": braces([10 * factor] * 5)}
    file = formats.open_cube(
        write_envi(tmp_path, **fields, **({} if unit is None else {"wavelength_units": unit}))
    )
    np.testing.assert_allclose(file.wavelengths_nm, CENTRES, rtol=1e-12)
    np.testing.assert_allclose(file.fwhm_nm, 10, rtol=1e-12)


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


@pytest.mark.parametrize(
    ("name", "driver_name"), [("new/image.hdr", "new/image.img"), ("new/image.npy", None)]
)
@pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning"
)  # of GDAL in the test
def test_a_created_file_is_filled_by_windows_and_taken_up_again(tmp_path, name, driver_name):
    path = tmp_path / name
    array = formats.create_cube(path, CUBE.shape, CENTRES, [9.5] * 5)
    assert (array.shape, array.dtype, array.any()) == (CUBE.shape, np.float32, False)
    array[:, :3] = CUBE[:, :3]
    array.flush()
    del array
    again = formats.reopen_cube(path)
    np.testing.assert_array_equal(again[:, :3], CUBE[:, :3])
    again[:, 3:] = CUBE[:, 3:]
    again.flush()
    file = formats.open_cube(path)
    np.testing.assert_array_equal(file.read(), CUBE)
    if driver_name is not None:
        np.testing.assert_array_equal(file.wavelengths_nm, CENTRES)
        np.testing.assert_array_equal(file.fwhm_nm, [9.5] * 5)
        with rasterio.open(tmp_path / driver_name) as opened:  # GDAL reads ENVI by itself
            np.testing.assert_array_equal(opened.read(), CUBE)


@pytest.mark.parametrize("crs", ["EPSG:32616", "EPSG:4326", "EPSG:3035", "EPSG:2154", None])
def test_a_georeference_survives_from_geotiff_to_envi_to_envi_as_gdal_sees_it(tmp_path, crs):
    georeference = formats.open_cube(write_geotiff(tmp_path / "image.tif", crs=crs)).georeference
    for name in ("first", "second"):
        formats.create_cube(tmp_path / f"{name}.hdr", CUBE.shape, georeference=georeference)
        georeference = formats.open_cube(tmp_path / f"{name}.hdr").georeference
        with rasterio.open(tmp_path / f"{name}.img") as file:
            assert file.transform == UTM["transform"]
            assert file.crs == crs if crs else not (file.crs and file.crs.is_projected)


def test_the_map_info_of_a_rotated_flight_line_survives(tmp_path):
    info = "{UTM, 1.000, 1.000, 563200.5, 4178000.25, 16.9, 16.9, 11, North, WGS-84, "
    info += "units=Meters, rotation=-14.00}"
    path = write_envi(tmp_path, map_info=info)
    formats.create_cube(
        tmp_path / "new.hdr", CUBE.shape, georeference=formats.open_cube(path).georeference
    )
    with rasterio.open(tmp_path / "image") as old, rasterio.open(tmp_path / "new.img") as new:
        assert new.transform == old.transform
        assert new.transform.b != 0
        assert new.crs == old.crs == "EPSG:32611"


def test_a_georeference_of_gdals_envi_writer_survives(tmp_path):
    write_geotiff(tmp_path / "image.tif", crs="EPSG:2154")
    gdal_copy(tmp_path / "image.tif", tmp_path / "image.img", driver="ENVI")
    formats.create_cube(
        tmp_path / "new.hdr",
        CUBE.shape,
        georeference=formats.open_cube(tmp_path / "image.hdr").georeference,
    )
    with rasterio.open(tmp_path / "new.img") as file:
        assert (file.crs, file.transform) == ("EPSG:2154", UTM["transform"])


@pytest.mark.parametrize("name", ["fused.tif", "fused.mat", "fused"])
def test_files_of_other_endings_are_not_created(tmp_path, name):
    with pytest.raises(ValueError, match=r"ends in \.npy or \.hdr"):
        formats.create_cube(tmp_path / name, (1, 2, 3))


def test_a_rotated_image_is_not_written_as_if_it_were_not(tmp_path):
    with pytest.raises(ValueError, match="north-up"):
        formats.create_cube(
            tmp_path / "x.hdr",
            (1, 2, 3),
            georeference={"crs": None, "transform": (20, 1, 0, 1, -20, 0)},
        )
    assert not list(tmp_path.iterdir())


def test_the_header_of_an_image_with_data_of_that_name_is_not_overwritten(tmp_path):
    path = write_envi(tmp_path)
    with pytest.raises(ValueError, match="belongs to the data file"):
        formats.create_cube(path, CUBE.shape)
    np.testing.assert_array_equal(formats.open_cube(path).read(), CUBE)


def test_only_files_that_create_cube_made_are_reopened_for_writing(tmp_path):
    np.save(tmp_path / "i.npy", CUBE)
    other_type, other_order = tmp_path / "type.hdr", tmp_path / "order.hdr"
    envi.save_image(str(other_type), CUBE.transpose(1, 2, 0), dtype=np.int32, interleave="bsq")
    envi.save_image(str(other_order), CUBE.transpose(1, 2, 0), dtype=np.float32, interleave="bip")
    for path in (
        write_envi(tmp_path),
        other_type,
        other_order,
        tmp_path / "i.npy",
        write_geotiff(tmp_path / "image.tif"),
    ):
        with pytest.raises(ValueError, match="made by create_cube"):
            formats.reopen_cube(path)
