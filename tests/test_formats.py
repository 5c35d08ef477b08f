"""Image files against bytes written by hand, the libraries' own writers and readers, and every way to be broken that we know of."""

import pickle
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from rasterio.shutil import copy as gdal_copy
from spectral.io import envi

from s3rnet_lite import formats

ENVI_TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}  # from ENVI's documentation
TO_DISK = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}  # from (C, H, W)
CENTRES = np.array([410.5, 520.25, 640.0, 700.0, 1650.75])
CUBE = np.random.default_rng(0).integers(0, 10_000, (5, 6, 7)).astype(np.int16)
WINDOW = slice(1, 5), slice(3, 6)
UTM = {"crs": "EPSG:32616", "transform": rasterio.transform.from_origin(500_000, 4_480_000, 20, 30)}


def write_envi(folder: Path, numbers: np.ndarray = CUBE, leave_out: str = "", **fields) -> Path:
    """An ENVI image whose header and bytes are made here, without a library. `fields`: header fields with _ for blanks."""
    bands, lines, samples = numbers.shape
    code = {np.dtype(name): code for code, name in ENVI_TYPES.items()}[numbers.dtype.newbyteorder("=")]
    header = {
        "samples": samples,
        "lines": lines,
        "bands": bands,
        "header offset": 0,
        "data type": code,
        "interleave": "bsq",
        "byte order": 0,
    }
    header |= {name.replace("_", " "): value for name, value in fields.items()}
    header.pop(leave_out, None)
    stored = numbers.transpose(TO_DISK.get(str(header.get("interleave")).lower(), (0, 1, 2)))
    data = stored.astype(numbers.dtype.newbyteorder("<>"[int(header.get("byte order", 0))])).tobytes()
    path = folder / "image.hdr"
    path.write_text("ENVI\n" + "".join(f"{name} = {value}\n" for name, value in header.items()))
    (folder / "image").write_bytes(b"\xab" * header["header offset"] + data)
    return path


def braces(values) -> str:
    return "{" + ", ".join(str(value) for value in values) + "}"


def write_geotiff(path: Path, numbers: np.ndarray = CUBE, **options) -> Path:
    bands, height, width = numbers.shape
    shape = {"count": bands, "height": height, "width": width}
    with rasterio.open(path, "w", driver="GTiff", dtype=numbers.dtype, **shape, **(UTM | options)) as file:
        file.write(numbers)
    return path


def write_hdf5(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def write_matlab73(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """As MATLAB's `save -v7.3` lays it out: a block of 512 bytes with its name, then HDF5 with every array transposed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = np.atleast_2d(array).T
        file["#refs#/a"] = np.zeros((2, 3, 4))
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def write_matlab5(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    scipy.io.savemat(path, arrays, do_compression=True)
    return path


NAMED = {".mat": write_matlab5, "73.mat": write_matlab73, ".h5": write_hdf5, ".hdf5": write_hdf5}


@st.composite
def envi_images(draw):
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    dtype = np.dtype(draw(st.sampled_from(sorted(ENVI_TYPES.values()))))
    numbers = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 127, shape).astype(dtype)
    windows = []
    for length in shape[1:]:
        first = draw(st.integers(0, length - 1))
        windows.append(slice(first, draw(st.integers(first + 1, length + 2))))
    bands = draw(st.one_of(st.none(), st.lists(st.integers(-shape[0], shape[0] - 1), min_size=1, max_size=6)))
    fields = {"interleave": draw(st.sampled_from(["bsq", "bil", "bip", "BSQ", "BIL", "BIP"]))}
    return numbers, windows, bands, fields | {"byte_order": draw(st.sampled_from([0, 1])), "header_offset": draw(st.sampled_from([0, 13]))}


@given(image=envi_images())
def test_envi_of_any_type_interleave_byte_order_and_offset_is_read_by_windows(tmp_path_factory, image):
    numbers, (rows, columns), bands, fields = image
    file = formats.open_cube(write_envi(tmp_path_factory.mktemp("envi"), numbers, **fields))
    assert file.shape == numbers.shape
    read = file.read(rows, columns, bands)
    assert read.dtype == np.float32
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, numbers[slice(None) if bands is None else bands][:, rows, columns])


@pytest.mark.parametrize("interleave", TO_DISK)
@pytest.mark.parametrize("order", [0, 1])
def test_envi_written_by_spectral_python(tmp_path, interleave, order):
    path = tmp_path / "image.hdr"
    metadata = {"wavelength": CENTRES, "fwhm": [9.5] * 5, "wavelength units": "nm"}
    envi.save_image(str(path), CUBE.transpose(1, 2, 0), dtype=np.int16, interleave=interleave, byteorder=order, metadata=metadata)
    file = formats.open_cube(path)
    np.testing.assert_array_equal(file.read(*WINDOW), CUBE[:, 1:5, 3:6])
    np.testing.assert_array_equal(file.wavelengths_nm, CENTRES)
    np.testing.assert_array_equal(file.fwhm_nm, [9.5] * 5)


def test_an_envi_header_scales_masks_and_marks_bands(tmp_path):
    numbers = CUBE.copy()
    numbers[2, 3, 4] = -50
    fields = {"bbl": braces([1, 1, 0, 1, -1]), "reflectance_scale_factor": "10000.0", "data_ignore_value": -50}
    file = formats.open_cube(write_envi(tmp_path, numbers, **fields))
    expected = numbers / 10_000
    expected[2, 3, 4] = np.nan
    np.testing.assert_allclose(file.read(), expected, rtol=1e-6)
    assert file.good_bands.tolist() == [True, True, False, True, False]
    assert file.ignore_value == -50


def test_gains_and_offsets_of_an_envi_header_belong_to_bands(tmp_path):
    gains, offsets = np.array([0.5, 2, 1, 0.25, 3]), np.array([-1, 0, 5, 2, 0.5])
    file = formats.open_cube(write_envi(tmp_path, data_gain_values=braces(gains), data_offset_values=braces(offsets)))
    expected = CUBE * gains[:, None, None] + offsets[:, None, None]
    np.testing.assert_allclose(file.read(bands=[3, 0]), expected[[3, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "text", "number"),
    [("f4", "-3.40282347e+38", np.finfo("f4").min), ("f8", "-1.7976931348623157e308", np.finfo("f8").min), ("u2", "65535", 65535),
     ("i4", "-2147483648", -(2**31)), ("u1", "255.0", 255)],
)  # fmt: skip
def test_the_usual_values_for_no_data_become_nan_in_that_place_only(tmp_path, dtype, text, number):
    numbers = (CUBE % 200).astype(dtype)
    numbers[1, 2, 3] = number
    read = formats.open_cube(write_envi(tmp_path, numbers, data_ignore_value=text)).read()
    assert np.argwhere(np.isnan(read)).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(("dtype", "text"), [("u2", "-9999"), ("u1", "300"), ("i2", "1e40"), ("i2", "0.5"), ("f4", "nan")])
def test_a_value_for_no_data_that_the_type_cannot_hold_masks_nothing(tmp_path, dtype, text):
    numbers = np.arange(2**16, dtype=np.int64).astype(dtype).reshape(4, 128, 128)  # -9999 as uint16 would be 55537
    assert not np.isnan(formats.open_cube(write_envi(tmp_path, numbers, data_ignore_value=text)).read()).any()


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("Micrometers", 1e-3), ("micrometer", 1e-3), ("um", 1e-3), ("Nanometers", 1), ("nm", 1), ("Unknown", 1e-3), ("Unknown", 1),
     (None, 1e-3), (None, 1)],
)  # fmt: skip
def test_wavelengths_come_in_nanometres(tmp_path, unit, factor):
    fields = {"wavelength": braces(CENTRES * factor), "fwhm": braces([10 * factor] * 5)}
    file = formats.open_cube(write_envi(tmp_path, **fields, **({} if unit is None else {"wavelength_units": unit})))
    np.testing.assert_allclose(file.wavelengths_nm, CENTRES, rtol=1e-12)
    np.testing.assert_allclose(file.fwhm_nm, 10, rtol=1e-12)


def test_geotiff_written_by_rasterio(tmp_path):
    file = formats.open_cube(write_geotiff(tmp_path / "image.tif", nodata=int(CUBE[0, 0, 0]), tiled=True, blockxsize=16, blockysize=16))
    expected = np.where(CUBE[0, 0, 0] == CUBE, np.nan, CUBE)
    np.testing.assert_array_equal(file.read(), expected)
    np.testing.assert_array_equal(file.read(*WINDOW, bands=[4, 1]), expected[[4, 1], 1:5, 3:6])
    assert file.wavelengths_nm is None
    assert rasterio.Affine(*file.georeference["transform"]) == UTM["transform"]
    assert rasterio.CRS.from_wkt(file.georeference["crs"]) == UTM["crs"]


def test_scales_and_offsets_of_a_geotiff(tmp_path):
    with rasterio.open(write_geotiff(tmp_path / "image.tiff"), "r+") as file:
        file.scales, file.offsets = [0.1, 0.2, 0.3, 0.4, 0.5], [1, 0, 0, 0, -2]
    expected = CUBE * np.array([0.1, 0.2, 0.3, 0.4, 0.5])[:, None, None] + np.array([1, 0, 0, 0, -2])[:, None, None]
    np.testing.assert_allclose(formats.open_cube(tmp_path / "image.tiff").read(), expected, rtol=1e-6)


def test_wavelengths_that_gdal_carries_from_envi_into_a_geotiff(tmp_path):
    write_envi(tmp_path, wavelength=braces(CENTRES), wavelength_units="Nanometers", fwhm=braces([10] * 5))
    gdal_copy(tmp_path / "image", tmp_path / "image.tif", driver="GTiff")
    file = formats.open_cube(tmp_path / "image.tif")
    np.testing.assert_allclose(file.wavelengths_nm, CENTRES, atol=0.51)  # GDAL rounds to a nanometre
    np.testing.assert_array_equal(file.read(), CUBE)


@pytest.mark.parametrize("with_wavelengths", [True, False])
@pytest.mark.parametrize("ending", NAMED)
def test_named_arrays_lie_as_height_width_bands(tmp_path, ending, with_wavelengths):
    arrays = {"cube": CUBE.transpose(1, 2, 0), "gt": np.ones((6, 7))} | ({"wavelength": CENTRES} if with_wavelengths else {})
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
def test_wavelengths_tell_which_axis_of_a_named_array_holds_the_bands(tmp_path, ending, given, order):
    arrays = {"cube": CUBE.transpose(order)} | ({} if given else {"Lambda_um": CENTRES / 1000})
    file = formats.open_cube(NAMED[ending](tmp_path / f"image{ending}", arrays), wavelengths_nm=CENTRES if given else None)
    np.testing.assert_array_equal(file.read(*WINDOW), CUBE[:, 1:5, 3:6])
    np.testing.assert_allclose(file.wavelengths_nm, CENTRES, rtol=1e-12)


@pytest.mark.parametrize("ending", [*NAMED, ".npz"])
def test_one_of_several_images_is_chosen_by_name(tmp_path, ending):
    order = (0, 1, 2) if ending == ".npz" else (1, 2, 0)
    arrays = {"first": CUBE.transpose(order), "second": (CUBE[:, :4] + 1).transpose(order)}
    path = tmp_path / f"image{ending}"
    np.savez(path, **arrays) if ending == ".npz" else NAMED[ending](path, arrays)
    np.testing.assert_array_equal(formats.open_cube(path, variable="second").read(), CUBE[:, :4] + 1)
    with pytest.raises(ValueError, match=r"variable=: first \(.*\), second \(.*\)"):
        formats.open_cube(path)
    with pytest.raises(ValueError, match=r"has no 'third'; it holds .*first \("):
        formats.open_cube(path, variable="third")


def test_hdf5_in_the_layout_of_neons_reflectance(tmp_path):
    numbers = CUBE.copy()
    numbers[:, 0, 0] = -9999
    group = "SITE/Reflectance"
    arrays = {f"{group}/Reflectance_Data": numbers.transpose(1, 2, 0), f"{group}/Metadata/Spectral_Data/Wavelength": CENTRES}
    path = write_hdf5(tmp_path / "image.h5", arrays | {f"{group}/Metadata/Spectral_Data/FWHM": np.full(5, 6.0)})
    with h5py.File(path, "r+") as opened:
        opened[f"{group}/Reflectance_Data"].attrs.update({"Scale_Factor": 10_000.0, "Data_Ignore_Value": -9999.0})
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
        opened["radiance"].attrs.update({"scale_factor": 0.5, "add_offset": 3.0, "_FillValue": CUBE[:1, 0, 0]})
    np.testing.assert_array_equal(formats.open_cube(path).read(), np.where(CUBE[0, 0, 0] == CUBE, np.nan, CUBE * 0.5 + 3))


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
    np.memmap(folder / "image", "<i2", "r+", shape=(shape[1], shape[0], shape[2]))[5000:5004, :, 300:305] = window.transpose(1, 0, 2)
    header = {"samples": shape[2], "lines": shape[1], "bands": shape[0], "data type": 2, "interleave": "bil", "byte order": 0}
    (folder / "image.hdr").write_text("ENVI\n" + "".join(f"{name} = {value}\n" for name, value in header.items()))
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
        dataset = file.create_dataset("cube", (shape[0], shape[2], shape[1]), "i2", chunks=(shape[0], 8, 8))
        dataset[:, 300:305, 5000:5004] = window.transpose(0, 2, 1)
    return folder / "image.mat"


def huge_geotiff(folder: Path, shape: tuple, window: np.ndarray) -> Path:
    sizes = {"count": shape[0], "height": shape[1], "width": shape[2], "dtype": "int16"}
    layout = {"tiled": True, "blockxsize": 64, "blockysize": 64, "SPARSE_OK": True, "BIGTIFF": "YES"}
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


@pytest.mark.parametrize(("name", "driver_name"), [("new/image.hdr", "new/image.img"), ("new/image.npy", None)])
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


def test_a_georeference_of_gdals_envi_writer_survives(tmp_path):
    write_geotiff(tmp_path / "image.tif", crs="EPSG:2154")
    gdal_copy(tmp_path / "image.tif", tmp_path / "image.img", driver="ENVI")
    formats.create_cube(tmp_path / "new.hdr", CUBE.shape, georeference=formats.open_cube(tmp_path / "image.hdr").georeference)
    with rasterio.open(tmp_path / "new.img") as file:
        assert (file.crs, file.transform) == ("EPSG:2154", UTM["transform"])


@pytest.mark.parametrize("name", ["fused.tif", "fused.mat", "fused"])
def test_files_of_other_endings_are_not_created(tmp_path, name):
    with pytest.raises(ValueError, match=r"ends in \.npy or \.hdr"):
        formats.create_cube(tmp_path / name, (1, 2, 3))


def test_a_rotated_image_is_not_written_as_if_it_were_not(tmp_path):
    with pytest.raises(ValueError, match="north-up"):
        formats.create_cube(tmp_path / "x.hdr", (1, 2, 3), georeference={"crs": None, "transform": (20, 1, 0, 1, -20, 0)})
    assert not list(tmp_path.iterdir())


def test_only_files_that_create_cube_made_are_reopened_for_writing(tmp_path):
    np.save(tmp_path / "i.npy", CUBE)
    other_type, other_order = tmp_path / "type.hdr", tmp_path / "order.hdr"
    envi.save_image(str(other_type), CUBE.transpose(1, 2, 0), dtype=np.int32, interleave="bsq")
    envi.save_image(str(other_order), CUBE.transpose(1, 2, 0), dtype=np.float32, interleave="bip")
    for path in (write_envi(tmp_path), other_type, other_order, tmp_path / "i.npy", write_geotiff(tmp_path / "image.tif")):
        with pytest.raises(ValueError, match="made by create_cube"):
            formats.reopen_cube(path)


@pytest.mark.parametrize("field", ["lines", "samples", "bands", "data type", "interleave", "byte order"])
def test_a_header_without_a_field_names_it(tmp_path, field):
    with pytest.raises(ValueError, match=f"header lacks {field}"):
        formats.open_cube(write_envi(tmp_path, leave_out=field))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"interleave": "bbq"}, "interleave: expected one of bsq, bil, bip, got 'bbq'"),
        ({"data_type": 7}, "data type: expected one of .*, got '7'"),
        ({"bands": 0}, "expected positive bands"),
        ({"bands": -5}, "expected positive bands"),
        ({"lines": "many"}, "image.hdr: damaged.*many"),
        ({"wavelength": braces(CENTRES[:4])}, "wavelength: expected 5 values, got 4"),
        ({"wavelength": "{400, 500, x, 700, 800}"}, "wavelength: expected numbers .*'x'"),
        ({"wavelength": braces([400, 500, 600, -700, 800]), "wavelength_units": "nm"}, "wavelengths_nm: expected 5 positive"),
        ({"wavelength": braces(CENTRES), "wavelength_units": "GHz"}, "nanometers or micrometers, got .* unit 'GHz'; give wavelengths_nm"),
        ({"wavelength": braces([1, 2, 3, 4, 500])}, "nanometers or micrometers, got 1 to 500"),
        ({"wavelength": braces(CENTRES), "fwhm": braces([10] * 6)}, "fwhm: expected 5 values, got 6"),
        ({"bbl": braces([1, 1])}, "bbl: expected 5 values, got 2"),
        ({"data_ignore_value": "none"}, "data ignore value: expected numbers"),
        ({"reflectance_scale_factor": 0}, "reflectance scale factor: expected a positive number, got 0"),
        ({"data_gain_values": braces([1, 1])}, "data gain values: expected 5 values"),
        ({"file_type": "ENVI Spectral Library", "bands": 1, "lines": 5, "samples": 42}, "spectral library"),
        ({"bands": 6}, "truncated: by its header it should have 504 bytes, it has 420"),
        ({"data_type": 4}, "truncated"),
        ({"header_offset": 0, "lines": 100}, "truncated"),
    ],
)  # fmt: skip
def test_wrong_headers_are_refused(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        formats.open_cube(write_envi(tmp_path, **fields))


def test_complex_envi_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="real numbers, got complex"):
        formats.open_cube(write_envi(tmp_path, CUBE.astype("f8"), data_type=6))


def test_wavelengths_given_replace_those_of_the_file_even_if_they_are_unusable(tmp_path):
    file = formats.open_cube(write_envi(tmp_path, wavelength=braces([1, 2, 3]), fwhm=braces([1, 2])), wavelengths_nm=CENTRES)
    np.testing.assert_array_equal(file.wavelengths_nm, CENTRES)
    assert file.fwhm_nm is None


def test_missing_files_are_named(tmp_path):
    path = write_envi(tmp_path)
    (tmp_path / "image").unlink()
    with pytest.raises(FileNotFoundError, match=r"image\.hdr: no data file beside the header"):
        formats.open_cube(path)
    for ending in (".hdr", ".npy", ".mat", ".h5", ".tif", ".npz"):
        with pytest.raises(FileNotFoundError, match="nothing"):
            formats.open_cube(tmp_path / f"nothing{ending}")


@pytest.mark.parametrize("ending", [".hdr", ".tif", ".tiff", ".mat", ".h5", ".hdf5", ".npy", ".npz"])
@pytest.mark.parametrize(
    "content", [b"", b"garbage\n", bytes(range(256)) * 9, b"ENVI\n\xff\xfe = {"], ids=["empty", "text", "bytes", "half"]
)
def test_garbage_is_refused_in_any_format(tmp_path, ending, content):
    path = tmp_path / f"image{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"image{ending}: "):
        formats.open_cube(path)


@pytest.mark.parametrize("ending", [".tif", ".npy", ".npz", *NAMED])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_truncated_files_are_refused_when_opened_or_when_read(tmp_path, ending, share):
    numbers = np.random.default_rng(0).random((20, 30, 40))
    path = tmp_path / f"image{ending}"
    if ending == ".tif":
        write_geotiff(path, numbers)
    elif ending in NAMED:
        NAMED[ending](path, {"cube": numbers})
    else:
        {".npy": np.save, ".npz": np.savez}[ending](path, numbers)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=f"image{ending}: damaged, truncated"):
        formats.open_cube(path).read()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.ones((3, 4)), "b": np.ones((2, 3))}, r"three axes in one of its arrays; it holds a \(3, 4\), b \(2, 3\)"),
        ({"a": np.ones((3, 4, 5), complex)}, "complex"),
        ({"a": np.ones((3, 4, 5)), "wavelengths": np.arange(400, 406)}, r"as long as an axis of \(3, 4, 5\), got wavelengths \(6\)"),
        ({"a": np.ones((3, 4, 5)), "wave1": np.arange(400, 405), "wave2": np.arange(500, 504)}, r"got wave1 \(5\), wave2 \(4\)"),
        (
            {"a": np.ones((5, 4, 5)), "wave": np.arange(400, 405)},
            r"one axis of \(5, 4, 5\) .* as long as the 5 wavelengths_nm.*; 2 axes are",
        ),
    ],
)
@pytest.mark.parametrize("ending", NAMED)
def test_named_arrays_that_leave_doubt_are_refused(tmp_path, ending, arrays, message):
    with pytest.raises(ValueError, match=message):
        formats.open_cube(NAMED[ending](tmp_path / f"image{ending}", arrays))


def test_wavelengths_given_must_fit(tmp_path):
    np.save(tmp_path / "image.npy", CUBE)
    mat = write_matlab5(tmp_path / "image.mat", {"cube": CUBE})
    for path, message in (
        (tmp_path / "image.npy", "expected 5 positive values, one a band, got 4"),
        (mat, "the 4 wavelengths_nm.*; 0 axes are"),
    ):
        with pytest.raises(ValueError, match=message):
            formats.open_cube(path, wavelengths_nm=[400, 500, 600, 700])
    with pytest.raises(ValueError, match=r"wavelengths_nm: expected one value a band, got shape \(1, 5\)"):
        formats.open_cube(tmp_path / "image.npy", wavelengths_nm=[CENTRES])


@pytest.mark.parametrize(
    ("array", "message"),
    [(CUBE[0], r"three axes \(C, H, W\), got shape \(6, 7\)"), (CUBE + 1j, "complex"), (CUBE > 5, "real numbers, got bool"),
     (CUBE[:0], "non-empty"), (np.array([{}]), "damaged")],
)  # fmt: skip
def test_numpy_files_that_are_no_images_are_refused(tmp_path, array, message):
    np.save(tmp_path / "image.npy", array)
    with pytest.raises(ValueError, match=message):
        formats.open_cube(tmp_path / "image.npy")


def test_a_geotiff_of_several_pages_or_complex_numbers_is_refused(tmp_path):
    for page in range(2):
        write_geotiff(tmp_path / "pages.tif", CUBE[:1], **({"APPEND_SUBDATASET": "YES"} if page else {}))
    with pytest.raises(ValueError, match="got 2 images"):
        formats.open_cube(tmp_path / "pages.tif")
    with pytest.raises(ValueError, match="complex"):
        formats.open_cube(write_geotiff(tmp_path / "complex.tif", CUBE.astype(np.complex64)))


@pytest.mark.parametrize("name", ["image", "image.img", "image.txt", "image.nc"])
def test_unknown_endings_are_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=rf"{name}: expected a file that ends in \.hdr, \.tif.*of an ENVI image, name the \.hdr"):
        formats.open_cube(tmp_path / name)


def test_images_without_a_name_take_none(tmp_path):
    np.save(tmp_path / "image.npy", CUBE)
    for path in (tmp_path / "image.npy", write_envi(tmp_path), write_geotiff(tmp_path / "image.tif")):
        with pytest.raises(ValueError, match=r"variable: .* holds one image"):
            formats.open_cube(path, variable="cube")


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"rows": slice(6, 9)}, r"rows: expected a non-empty slice without a step within 0\.\.6"),
        ({"columns": slice(3, 3)}, "columns: .*non-empty"),
        ({"rows": slice(0, 6, 2)}, "without a step"),
        ({"bands": [0, 5]}, "bands: expected some of the 5 bands"),
        ({"bands": []}, "at least one band"),
        ({"bands": 2}, "a list, a mask or a slice"),
        ({"bands": np.ones(4, bool)}, "bands: expected some of the 5 bands"),
    ],
)
def test_windows_outside_the_image_are_refused(tmp_path, window, message):
    with pytest.raises(ValueError, match=message):
        formats.open_cube(write_envi(tmp_path)).read(**window)
