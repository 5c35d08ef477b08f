"""What may be written is decided before any work: nothing else is ever destroyed."""

import errno
import os

import pytest

from s3rnet_lite.files.formats import create_cube
from s3rnet_lite.files.outputs import Output, belonging

CHECKPOINT = Output((".safetensors",), (".json",))


def test_a_free_name_and_an_old_result_may_be_written(tmp_path):
    CHECKPOINT.check(tmp_path / "new" / "folder" / "m.safetensors")
    (tmp_path / "m.safetensors").write_text("old")
    CHECKPOINT.check(tmp_path / "m.safetensors", [tmp_path / "other.npy"])


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"m\.json: expected .* ends in \.safetensors"):
        CHECKPOINT.check(tmp_path / "m.json")


@pytest.mark.parametrize("name", ["m.safetensors", "m.json"])
@pytest.mark.parametrize("make", [os.mkdir, lambda path: os.symlink("/nowhere", path), os.mkfifo])
def test_folders_links_and_devices_stay(tmp_path, name, make):
    make(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name}: expected a file or a free name"):
        CHECKPOINT.check(tmp_path / "m.safetensors")


def test_inputs_and_what_belongs_to_them_stay(tmp_path):
    for name in ("m.safetensors", "m.json", "cube.hdr", "cube.img"):
        (tmp_path / name).touch()
    os.symlink(tmp_path / "m.safetensors", tmp_path / "link.safetensors")
    for out, given in (
        ("m.safetensors", "m.safetensors"),
        ("m.safetensors", "m.json"),
        ("m.safetensors", "link.safetensors"),
    ):
        with pytest.raises(ValueError, match="belongs to"):
            CHECKPOINT.check(tmp_path / out, [tmp_path / given])
    with pytest.raises(ValueError, match=r"m\.json: belongs to"):
        Output((".json",)).check(tmp_path / "m.json", [tmp_path / "m.safetensors"])
    assert tmp_path / "cube.img" in belonging(tmp_path / "cube.hdr")


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="expected a folder to write to"):
        CHECKPOINT.check(tmp_path / "file" / "m.safetensors")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(PermissionError, match="read-only"):
        CHECKPOINT.check(tmp_path / "m.safetensors")


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve room")
@pytest.mark.parametrize("name", ["y.npy", "y.hdr"])
def test_a_disk_without_room_is_noticed_before_the_work(name, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"y\.\w+: cannot be written .*No space left"):
        create_cube(tmp_path / name, (2, 3, 4))
