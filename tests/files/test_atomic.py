"""Nothing is ever half-written, and damaged files are named."""

import json

import pytest
import torch

from s3rnet_lite.files import atomic


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "result.json"
    atomic.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        atomic.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_tensors_come_back_with_their_metadata(tmp_path):
    tensors = {"whole": torch.rand(3, 4), "view": torch.rand(5, 4).T, "step": torch.tensor(7.0)}
    atomic.write_tensors(tmp_path / "t.safetensors", tensors, {"run": "text"})
    read, metadata = atomic.read_tensors(tmp_path / "t.safetensors")
    assert metadata == {"run": "text"} and read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
