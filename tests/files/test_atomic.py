"""Nothing is ever half-written, and damaged files are named."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from s3rnet_lite.files import atomic


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "result.json"
    atomic.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        atomic.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("full"), SafetensorError("full")])
def test_what_cannot_be_written_is_named(tmp_path, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(atomic, "save_file", full)
    with pytest.raises(OSError, match=r"t\.safetensors: cannot be written \(full\)"):
        atomic.write_tensors(tmp_path / "t.safetensors", {}, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_who_may_read_a_file_is_left_to_the_user(tmp_path):
    before = os.umask(0o027)
    try:
        atomic.write_json(tmp_path / "a.json", {})
        atomic.write_tensors(tmp_path / "b.safetensors", {"x": torch.zeros(1)}, {})
        atomic.write_array(tmp_path / "c.npy", np.zeros(1))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


def test_tensors_come_back_with_their_metadata(tmp_path):
    tensors = {"whole": torch.rand(3, 4), "view": torch.rand(5, 4).T, "step": torch.tensor(7.0)}
    atomic.write_tensors(tmp_path / "t.safetensors", tensors, {"run": "text"})
    read, metadata = atomic.read_tensors(tmp_path / "t.safetensors")
    assert metadata == {"run": "text"} and read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "t.safetensors"
    atomic.write_tensors(path, {"weight": torch.rand(100)}, {})
    whole = bytearray(path.read_bytes())
    for place in (-1, -200, -399):
        flipped = bytearray(whole)
        flipped[place] ^= 64
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"t\.safetensors: damaged, its tensors"):
            atomic.read_tensors(path)


def test_a_changed_word_of_a_sealed_file_is_noticed(tmp_path):
    path = tmp_path / "facts.json"
    content = {"sigma": 1.7, "sides": [3, 4], "none": None}
    atomic.write_sealed(path, content)
    assert atomic.read_json(path) == content
    path.write_text(path.read_text().replace("1.7", "1.3"))
    with pytest.raises(ValueError, match=r"facts\.json: damaged or changed"):
        atomic.read_json(path)
    atomic.write_json(path, content)  # as files of before are
    assert atomic.read_json(path) == content
    path.write_text("[")
    with pytest.raises(ValueError, match=r"facts\.json: damaged, or no JSON object"):
        atomic.read_json(path)


def test_who_goes_on_clears_what_a_killed_run_left(tmp_path):
    left = tmp_path / ".s3rnet_lite.left.tmp"
    for content in (None, {"rows": [1]}):
        left.mkdir()
        assert atomic.resume(tmp_path / "rows.json") == content and not left.exists()
        atomic.write_sealed(tmp_path / "rows.json", {"rows": [1]})


def test_changed_metadata_of_tensors_are_noticed(tmp_path):
    path = tmp_path / "state.safetensors"
    atomic.write_tensors(path, {"a": torch.zeros(3)}, {"run": "step 25"})
    path.write_bytes(path.read_bytes().replace(b"step 25", b"step 24"))
    with pytest.raises(ValueError, match=r"state\.safetensors: damaged or changed"):
        atomic.read_tensors(path)


def test_the_digest_sees_names_shapes_types_and_numbers():
    tensors = [
        {"a": torch.zeros(4)},
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4, dtype=torch.int32)},
        {"a": torch.tensor([0.0, 0, 0, 1e-45])},
    ]
    assert len({atomic.digest(one) for one in tensors}) == len(tensors)
    assert atomic.digest({"a": torch.zeros(4), "b": torch.ones(())}) == atomic.digest(
        {"b": torch.ones(()), "a": torch.zeros(4)}
    )


def test_files_that_belong_together_appear_together(tmp_path):
    (tmp_path / "y.hdr").write_text("old")
    with pytest.raises(RuntimeError), atomic.together(tmp_path) as folder:
        (folder / "y.img").write_text("new")
        raise RuntimeError
    assert [file.name for file in tmp_path.iterdir()] == ["y.hdr"]
    with atomic.together(tmp_path) as folder:
        for name in ("y.hdr", "y.img"):
            (folder / name).write_text("new")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "y.hdr": "new",
        "y.img": "new",
    }


def test_files_that_belong_together_may_be_part_of_others(tmp_path):
    with atomic.together(tmp_path) as outer, atomic.together(outer) as inner:
        atomic.write_json(inner / "y.json", {})
    assert [file.name for file in tmp_path.iterdir()] == ["y.json"]


def test_no_header_is_ever_found_beside_other_data(tmp_path, monkeypatch):
    """Killed at any rename, the old header is gone or the new one describes the new data."""
    for renames in range(3):
        for name in ("y.hdr", "y.img"):
            (tmp_path / name).write_text("old")
        calls = iter(range(renames))

        def replace(source, target, calls=calls):
            if next(calls, None) is None:
                raise KeyboardInterrupt
            source.rename(target)

        with monkeypatch.context() as patch:
            patch.setattr(atomic.os, "replace", replace)
            try:
                with atomic.together(tmp_path) as folder:
                    for name in ("y.hdr", "y.img"):
                        (folder / name).write_text("new")
            except KeyboardInterrupt:
                assert renames < 2
        if (tmp_path / "y.hdr").exists():
            assert (tmp_path / "y.hdr").read_text() == (tmp_path / "y.img").read_text()


@pytest.mark.skipif(atomic.fcntl is None, reason="locks are unknown on Windows")
def test_what_a_killed_writer_left_is_cleared_away_and_nothing_that_is_in_work(tmp_path):
    left, busy = (tmp_path / f".s3rnet_lite.{name}.tmp" for name in ("left", "busy"))
    for folder in (left, busy):
        folder.mkdir()
        (folder / "a.json").touch()
    with atomic.locked(busy):
        atomic.write_json(tmp_path / "a.json", {})
    assert {path.name for path in tmp_path.iterdir()} == {busy.name, "a.json"}


WRITER = """
import os, sys, time
from pathlib import Path
from s3rnet_lite.files import atomic
def half(path):
    Path(path).write_text("ha")
    print("half", flush=True)
    time.sleep(60)
atomic.write_file(sys.argv[1], half)
"""


def test_killed_in_the_middle_of_writing_the_old_file_is_whole(tmp_path):
    path = tmp_path / "text"
    atomic.write_text(path, "old")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"half\n"
    atomic.write_text(path, "newer")  # a second writer leaves the first one's file alone
    assert len(list(tmp_path.iterdir())) == 2
    writer.kill()
    writer.communicate()
    assert path.read_text() == "newer" and len(list(tmp_path.iterdir())) == 2
    atomic.write_text(path, "new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_json_has_no_nan_and_a_sealed_one_still_fits_its_checksum(tmp_path):
    content = {"a": [1.5, float("nan")], "b": {"c": float("-inf")}, "ü": "µm"}
    for write in (atomic.write_json, atomic.write_sealed):
        write(tmp_path / "it.json", content)
        assert atomic.read_json(tmp_path / "it.json") == {
            "a": [1.5, None],
            "b": {"c": None},
            "ü": "µm",
        }
        assert "NaN" not in (tmp_path / "it.json").read_text(encoding="utf-8")
