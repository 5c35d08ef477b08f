"""ENVI images against bytes written by hand and other libraries; headers as people write them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import CENTRES, CUBE, ENVI_TYPES, TO_DISK, WINDOW, braces, write_envi
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


def hand_written(folder, *lines, leave_out=(), encoding="utf-8", mark=b""):
    """A header with further lines and without some fields."""
    path = write_envi(folder)
    kept = [
        line
        for line in path.read_text().splitlines()
        if line.split("=")[0].strip() not in leave_out
    ]
    path.write_bytes(mark + "\n".join([*kept, *lines]).encode(encoding))
    return path


def test_without_a_byte_order_the_low_byte_comes_first_and_is_said_to(tmp_path):
    path = hand_written(tmp_path, leave_out=("byte order",))
    with pytest.warns(UserWarning, match="lacks byte order; 0"):
        file = formats.open_cube(path)
    np.testing.assert_array_equal(file.read(), CUBE)


@pytest.mark.parametrize(
    ("encoding", "mark"), [("latin-1", b""), ("utf-8", b""), ("utf-8", b"\xef\xbb\xbf")]
)
def test_headers_of_any_encoding_are_read(tmp_path, encoding, mark):
    lines = ("description = { Fläche, µm, Zürich }", "wavelength units = Nanometers")
    path = hand_written(tmp_path, *lines, encoding=encoding, mark=mark)
    np.testing.assert_array_equal(formats.open_cube(path).read(), CUBE)


@pytest.mark.parametrize("form", ["{{{},}}", "{{{} , }}", "[{}]", "[ {},\n ]"])
def test_lists_with_trailing_commas_or_brackets_are_read(tmp_path, form):
    values = form.format(", ".join(map(str, CENTRES)))
    path = hand_written(tmp_path, f"wavelength = {values}", "wavelength units = nm")
    np.testing.assert_array_equal(formats.open_cube(path).wavelengths_nm, CENTRES)


def test_a_field_of_nearly_the_right_name_is_read_and_named(tmp_path):
    path = hand_written(tmp_path, f"wavelengths = {braces(CENTRES)}", "wavelength units = nm")
    with pytest.warns(UserWarning, match="read the field 'wavelengths' as 'wavelength'"):
        file = formats.open_cube(path)
    np.testing.assert_array_equal(file.wavelengths_nm, CENTRES)


@pytest.mark.parametrize("unit", ["Angstroms", "angstrom", "Å"])
def test_angstrom_are_tenths_of_nanometres(tmp_path, unit):
    path = hand_written(
        tmp_path, f"wavelength = {braces(10 * CENTRES)}", f"wavelength units = {unit}"
    )
    np.testing.assert_allclose(formats.open_cube(path).wavelengths_nm, CENTRES)


@pytest.mark.parametrize("field", ["wavelength", "fwhm"])
def test_a_band_with_a_wavelength_or_width_of_zero_is_bad(tmp_path, field):
    values = {"wavelength": list(CENTRES), "fwhm": [10.0] * 5}
    values[field][2] = 0
    lines = [f"{name} = {braces(numbers)}" for name, numbers in values.items()]
    path = hand_written(tmp_path, *lines, "wavelength units = nm")
    with pytest.warns(UserWarning, match=r"bands \[2\] .* are left out"):
        file = formats.open_cube(path)
    assert file.good_bands.tolist() == [True, True, False, True, True]
    np.testing.assert_allclose(np.delete(file.wavelengths_nm, 2), np.delete(CENTRES, 2))


def test_one_gain_serves_all_bands(tmp_path):
    path = hand_written(tmp_path, "data gain values = { 0.5 }", "data offset values = {1}")
    np.testing.assert_allclose(formats.open_cube(path).read(), 0.5 * CUBE + 1)


@pytest.mark.parametrize("named", ["image.img.hdr", "image.hdr"])
def test_the_data_file_may_be_named_instead_of_the_header(tmp_path, named):
    path = write_envi(tmp_path)
    (tmp_path / "image").rename(tmp_path / "image.img")
    path.rename(tmp_path / named)
    file = formats.open_cube(tmp_path / "image.img")
    np.testing.assert_array_equal(file.read(), CUBE)
    assert file.path == tmp_path / named


def test_the_only_file_of_the_headers_name_is_its_data_and_of_two_none_is(tmp_path):
    path = write_envi(tmp_path)
    (tmp_path / "image").rename(tmp_path / "image.cube")
    np.testing.assert_array_equal(formats.open_cube(path).read(), CUBE)
    np.testing.assert_array_equal(formats.open_cube(tmp_path / "image.cube").read(), CUBE)
    (tmp_path / "image.other").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"found image\.cube, image\.other"):
        formats.open_cube(path)
