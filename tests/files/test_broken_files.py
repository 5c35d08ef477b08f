"""Every way in which an image file can be broken, or leave doubt, has its own clear error."""

import numpy as np
import pytest
from image_files import (
    CENTRES,
    CUBE,
    MATLAB_FILES,
    NAMED,
    braces,
    write_envi,
    write_geotiff,
    write_matlab5,
)

from s3rnet_lite.files import formats


def test_a_short_name_that_stands_in_a_librarys_message_is_named_all_the_same(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    np.save("obj.npy", np.array([{"a": 1}]))  # "Array can't be memory-mapped: Python objects"
    with pytest.raises(ValueError, match=r"^obj\.npy: damaged"):
        formats.open_cube("obj.npy")


@pytest.mark.parametrize("field", ["lines", "samples", "bands", "data type", "interleave"])
def test_a_header_without_a_field_names_it(tmp_path, field):
    with pytest.raises(ValueError, match=f"header lacks {field}"):
        formats.open_cube(write_envi(tmp_path, leave_out=field))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"major_frame_offsets": "{0, 8}"}, "major frame offsets: expected none or 0"),
        ({"interleave": "bbq"}, "interleave: expected one of bsq, bil, bip, got 'bbq'"),
        ({"data_type": 7}, "data type: expected one of .*, got '7'"),
        ({"bands": 0}, "expected positive bands"),
        ({"bands": -5}, "expected positive bands"),
        ({"lines": "nan"}, "image.hdr: damaged"),
        ({"lines": "many"}, "image.hdr: lines: expected numbers .*many"),
        ({"wavelength": braces(CENTRES[:4])}, "wavelength: expected 5 values, got 4"),
        ({"wavelength": "{400, 500, x, 700, 800}"}, "wavelength: expected numbers .*'x'"),
        (
            {"wavelength": braces([400, 500, 600, -700, 800]), "wavelength_units": "nm"},
            "wavelengths_nm: expected 5 positive",
        ),
        (
            {"wavelength": braces(CENTRES), "wavelength_units": "GHz"},
            "nanometers, micrometers or angstrom, got .* unit 'GHz'; give wavelengths_nm",
        ),
        (
            {"wavelength": braces([1, 2, 3, 4, 500])},
            "nanometers, micrometers or angstrom, got 1 to 500",
        ),
        (
            {"wavelength": braces(CENTRES), "fwhm": braces([10] * 6)},
            "fwhm: expected 5 values, got 6",
        ),
        ({"bbl": braces([1, 1])}, "bbl: expected 5 values, got 2"),
        ({"data_ignore_value": "none"}, "data ignore value: expected numbers"),
        (
            {"reflectance_scale_factor": 0},
            "reflectance scale factor: expected a positive number, got 0",
        ),
        ({"data_gain_values": braces([1, 1])}, "data gain values: expected 5 values"),
        (
            {"file_type": "ENVI Spectral Library", "bands": 1, "lines": 5, "samples": 42},
            "spectral library",
        ),
        ({"bands": 6}, "truncated: by its header it should have 504 bytes, it has 420"),
        ({"data_type": 4}, "truncated"),
        ({"header_offset": 0, "lines": 100}, "truncated"),
    ],
)
def test_wrong_headers_are_refused(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        formats.open_cube(write_envi(tmp_path, **fields))


def test_an_offset_that_is_no_number_is_named(tmp_path):
    path = write_envi(tmp_path)
    path.write_text(path.read_text().replace("header offset = 0", "header offset = 0Y"))
    with pytest.raises(ValueError, match=r"image\.hdr: header offset: expected"):
        formats.open_cube(path)


def test_complex_envi_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="real numbers, got complex"):
        formats.open_cube(write_envi(tmp_path, CUBE.astype("f8"), data_type=6))


def test_wavelengths_given_replace_those_of_the_file_even_if_they_are_unusable(tmp_path):
    file = formats.open_cube(
        write_envi(tmp_path, wavelength=braces([1, 2, 3]), fwhm=braces([1, 2])),
        wavelengths_nm=CENTRES,
    )
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


@pytest.mark.parametrize(
    "ending", [".hdr", ".tif", ".tiff", ".mat", ".h5", ".hdf5", ".npy", ".npz"]
)
@pytest.mark.parametrize(
    "content",
    [b"", b"garbage\n", bytes(range(256)) * 9, b"ENVI\n\xff\xfe = {"],
    ids=["empty", "text", "bytes", "half"],
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


@pytest.mark.parametrize("path", sorted(MATLAB_FILES.glob("*.mat")), ids=lambda path: path.stem)
def test_files_that_matlab_saved_are_images_or_refused(path):
    """Cells, structures, text, sparse, empty, corrupted: the test files of scipy, of which four
    hold an array with three axes, and one another of two that could be a band.
    """
    if path.name.startswith("test3dmatrix"):
        assert formats.open_cube(path, order="HWC").shape == (4, 2, 3)
    elif path.name == "test_skip_variable.mat":
        assert formats.open_cube(path).shape[0] == 1
    else:
        with pytest.raises(ValueError, match=r"it holds|damaged"):
            formats.open_cube(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"a": np.ones((3, 4)), "b": np.ones((2, 3))},
            r"three axes in one of its arrays; it holds a \(3, 4\), b \(2, 3\)",
        ),
        ({"a": np.ones((3, 4, 5), complex)}, "complex"),
        (
            {"a": np.ones((3, 4, 5)), "wavelengths": np.arange(400, 406)},
            r"as long as an axis of \(3, 4, 5\), got wavelengths \(6\)",
        ),
        (
            {"a": np.ones((3, 4, 5)), "wave1": np.arange(400, 405), "wave2": np.arange(500, 504)},
            r"got wave1 \(5\), wave2 \(4\)",
        ),
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
    with pytest.raises(
        ValueError, match=r"wavelengths_nm: expected one value a band, got shape \(1, 5\)"
    ):
        formats.open_cube(tmp_path / "image.npy", wavelengths_nm=[CENTRES])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (CUBE[0], r"three axes .* holds  \(6, 7\)\. Reshape a matrix"),
        (np.zeros((198, 10_000)), r"holds  \(198, 10000\)\. Reshape a matrix .*scenes\.public"),
        (CUBE + 1j, "complex"),
        (CUBE > 5, "real numbers, got bool"),
        (CUBE[:0], "non-empty"),
        (np.array([{}]), "damaged"),
    ],
)
def test_numpy_files_that_are_no_images_are_refused(tmp_path, array, message):
    np.save(tmp_path / "image.npy", array)
    with pytest.raises(ValueError, match=message):
        formats.open_cube(tmp_path / "image.npy")


def test_a_geotiff_of_several_pages_or_complex_numbers_is_refused(tmp_path):
    for page in range(2):
        write_geotiff(
            tmp_path / "pages.tif", CUBE[:1], **({"APPEND_SUBDATASET": "YES"} if page else {})
        )
    with pytest.raises(ValueError, match="got 2 images"):
        formats.open_cube(tmp_path / "pages.tif")
    with pytest.raises(ValueError, match="complex"):
        formats.open_cube(write_geotiff(tmp_path / "complex.tif", CUBE.astype(np.complex64)))


@pytest.mark.parametrize("name", ["image", "image.img", "image.txt", "image.xyz"])
def test_unknown_endings_are_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=rf"{name}: expected a file that ends in \.hdr, \.tif"):
        formats.open_cube(tmp_path / name)


def test_images_without_a_name_take_none(tmp_path):
    np.save(tmp_path / "image.npy", CUBE)
    for path in (
        tmp_path / "image.npy",
        write_envi(tmp_path),
        write_geotiff(tmp_path / "image.tif"),
    ):
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
