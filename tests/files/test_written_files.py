"""Files that are created and filled by windows: taken up again, with their georeference."""

import numpy as np
import pytest
import rasterio
from image_files import CENTRES, CUBE, UTM, write_envi, write_geotiff
from rasterio.shutil import copy as gdal_copy
from spectral.io import envi

from s3rnet_lite.files import formats


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
