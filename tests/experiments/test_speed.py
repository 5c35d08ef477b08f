"""The benchmark: its arithmetic, and a run of the command at the smallest size."""

import json

import pytest
import torch

from s3rnet_lite import S3RNet, complexity
from s3rnet_lite.__main__ import main
from s3rnet_lite.experiments import speed

pytestmark = pytest.mark.slow  # not part of `make check`


def test_the_command_stores_ratios_of_pairs(tmp_path, capsys, monkeypatch):
    out = tmp_path / "benchmark.json"
    command = f"s3rnet_lite benchmark --preset tiny --size 16 --runs 3 --out {out}"
    monkeypatch.setattr("sys.argv", command.split())
    growth = {"plain": 1000, "fast": 600}
    monkeypatch.setattr(speed, "_memory_growth", lambda preset, size, which: growth[which])
    assert main() == 0
    content = json.loads(out.read_text())
    assert content["threads"] == torch.get_num_threads() and content["cpu"]
    assert {"git_commit", "torch", "date", "wall_seconds"} <= set(content["provenance"])
    forward, training = content["rows"]
    assert (forward["what"], training["what"]) == ("forward", "training step")
    alone = forward["ratio_of_channels_last_alone"]
    for ratio in (forward["ratio"], training["ratio"], alone):
        assert len(ratio["pairs"]) == 3 and 0 < ratio["lowest"] <= ratio["median"]
    network = S3RNet.from_preset("tiny", 172, 4)
    small = torch.empty(1, 172, 4, 4), torch.empty(1, 4, 16, 16)
    assert forward["macs"] == complexity.count(network, *small).macs
    for name in ("plain", "fast"):  # stored to a tenth
        rate = 2e-9 * forward["macs"] / forward["seconds"][name]
        assert forward["gflop_per_second"][name] == pytest.approx(rate, abs=0.051)
    assert forward["memory_growth_bytes"] == growth
    assert 0 <= forward["largest_relative_difference"] < 1e-4
    assert "training step" in capsys.readouterr().out


def test_memory_is_that_of_a_process_of_its_own():
    image = 4 * 256 * 256  # of one channel; tiny keeps at least its 172 upsampled bands
    assert 172 * image < speed._memory_growth("tiny", 256, "plain") < 2000 * image


def test_functions_take_turns():
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = speed.in_turns(functions, 3)
    assert calls == ["b", "a", "a", "b", "b", "a", "a", "b"]
    assert len(times["a"]) == len(times["b"]) == 3


@pytest.mark.parametrize(
    ("size", "runs", "message"),
    [(16, 0, "runs: expected at least 1"), (10, 1, "size: expected a positive multiple")],
)
def test_bad_arguments_are_named(size, runs, message):
    with pytest.raises(ValueError, match=message):
        speed.run(["tiny"], size, runs)
