"""Nothing is ever half-written, and damaged files are named."""

import json

import numpy as np
import pytest
import torch

from s3rnet_lite import files


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "result.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_tensors_come_back_with_their_metadata(tmp_path):
    tensors = {"whole": torch.rand(3, 4), "view": torch.rand(5, 4).T, "step": torch.tensor(7.0)}
    files.write_tensors(tmp_path / "t.safetensors", tensors, {"run": "text"})
    read, metadata = files.read_tensors(tmp_path / "t.safetensors")
    assert metadata == {"run": "text"} and read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_arrays_are_read_as_float32(tmp_path, dtype):
    array = np.random.default_rng(0).random((2, 3, 4)).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", anything=array)
    for name in ("a.npy", "a.npz"):
        read = files.read_array(tmp_path / name)
        assert read.dtype == torch.float32 and np.array_equal(read.numpy(), array.astype(np.float32))


def test_arrays_that_cannot_be_read_are_named(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.ones(2), b=np.ones(2))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("not an array")
    (tmp_path / "image.png").write_bytes(b"x")
    np.save(tmp_path / "whole.npy", np.ones((2, 2, 2), np.uint16))
    for name, message in [
        ("two.npz", "expected one array, got 2"),
        ("objects.npy", "objects.npy"),
        ("text.npy", "text.npy"),
        ("image.png", ".npy or .npz"),
    ]:
        with pytest.raises(ValueError, match=message):
            files.read_array(tmp_path / name)
    with pytest.raises(TypeError, match="uint16"):
        files.read_array(tmp_path / "whole.npy")
    with pytest.raises(FileNotFoundError):
        files.read_array(tmp_path / "absent.npy")
