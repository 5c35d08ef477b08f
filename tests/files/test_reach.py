"""A reader reads its own file and no other, and believes no size that the file cannot hold."""

import io
import zipfile

import h5py
import numpy as np
import pytest

from s3rnet_lite.files import formats

SECRET = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


def test_a_tif_that_is_a_list_of_other_files_is_refused(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(
        tmp_path / "secret.tif", "w", driver="GTiff", width=5, height=4, count=3, dtype="float32"
    ) as file:
        file.write(SECRET)
    for source in ("secret.tif", "/vsicurl/http://127.0.0.1:9/secret.tif"):
        (tmp_path / "image.tif").write_text(
            '<VRTDataset rasterXSize="5" rasterYSize="4"><VRTRasterBand dataType="Float32" '
            f'band="1"><SimpleSource><SourceFilename relativeToVRT="1">{source}</SourceFilename>'
            "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
        )
        with pytest.raises(ValueError, match=r"image\.tif: damaged, truncated or not what"):
            formats.open_cube(tmp_path / "image.tif")


def test_hdf5_whose_numbers_lie_in_other_files_is_refused(tmp_path):
    (tmp_path / "secret.bin").write_bytes(SECRET.tobytes())
    with h5py.File(tmp_path / "external.h5", "w") as file:
        where = [(str(tmp_path / "secret.bin"), 0, SECRET.nbytes)]
        file.create_dataset("image", SECRET.shape, np.float32, external=where)
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["image"] = SECRET
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout(SECRET.shape, np.float32)
        layout[:] = h5py.VirtualSource(tmp_path / "source.h5", "image", SECRET.shape)
        file.create_virtual_dataset("image", layout)
    for name in ("external.h5", "virtual.h5"):
        with pytest.raises(ValueError, match=f"{name}: .*image lie in other files"):
            formats.open_cube(tmp_path / name)


def test_links_to_other_files_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["image"] = SECRET
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["linked"] = h5py.ExternalLink(str(tmp_path / "source.h5"), "image")
    for variable in (None, "linked"):
        with pytest.raises(ValueError, match=r"links\.h5"):
            formats.open_cube(tmp_path / "links.h5", variable)


def test_an_archive_that_claims_more_than_it_holds_is_refused(tmp_path):
    header = io.BytesIO()
    facts = {"descr": "<f4", "fortran_order": False, "shape": (1000, 100_000, 10_000)}
    np.lib.format.write_array_header_1_0(header, facts)
    with zipfile.ZipFile(tmp_path / "image.npz", "w") as archive:
        archive.writestr("image.npy", header.getvalue())
    with pytest.raises(ValueError, match=r"image\.npz: .* but holds fewer numbers"):
        formats.open_cube(tmp_path / "image.npz")


def test_text_beside_the_image_of_an_archive_does_no_harm(tmp_path):
    np.savez(tmp_path / "image.npz", image=SECRET, note="a text", names=np.array([{}, None]))
    np.testing.assert_array_equal(formats.open_cube(tmp_path / "image.npz").read(), SECRET)


def test_a_window_beyond_the_memory_is_refused(tmp_path):
    path = tmp_path / "image.npy"
    with open(path, "wb") as file:
        facts = {"descr": "<f4", "fortran_order": False, "shape": (1000, 100_000, 10_000)}
        np.lib.format.write_array_header_1_0(file, facts)
        file.truncate(file.tell() + 4 * 10**12)  # a hole, no bytes on the disk
    with pytest.raises(ValueError, match=r"image\.npy: larger than the free memory"):
        formats.open_cube(path).read()
