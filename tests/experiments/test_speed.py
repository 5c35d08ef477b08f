"""The benchmark: its own plain implementation, its arithmetic, and a run of the command at the
smallest size.
"""

import json
import statistics
import time

import pytest
import torch

from s3rnet_lite import Degradation, S3RNet, complexity, losses
from s3rnet_lite.__main__ import main
from s3rnet_lite.experiments import speed
from s3rnet_lite.training import fusion


def test_the_command_stores_ratios_of_pairs(tmp_path, capsys, monkeypatch):
    out = tmp_path / "benchmark.json"
    monkeypatch.setattr(
        "sys.argv",
        [
            "s3rnet_lite",
            "benchmark",
            "--preset",
            "tiny",
            "--size",
            "16",
            "--runs",
            "3",
            "--out",
            str(out),
        ],
    )
    monkeypatch.setattr(
        speed, "_memory_growth", lambda preset, size, which: 1000 if which == "plain" else 600
    )
    assert main() == 0
    content = json.loads(out.read_text())
    assert content["threads"] == torch.get_num_threads() and content["cpu"]
    assert {"git_commit", "torch", "date", "wall_seconds"} <= set(content["provenance"])
    forward, training = content["rows"]
    assert (forward["what"], training["what"]) == ("forward", "training step")
    for row in content["rows"]:
        pairs = row["ratio"]["pairs"]
        assert row["preset"] == "tiny" and row["runs"] == len(pairs) == 3 and min(pairs) > 0
        assert row["ratio"]["median"] == statistics.median(pairs)
        assert (row["ratio"]["lowest"], row["ratio"]["highest"]) == (min(pairs), max(pairs))
    network = S3RNet.from_preset("tiny", 172, 4)
    assert (
        forward["macs"]
        == complexity.count(network, torch.empty(1, 172, 4, 4), torch.empty(1, 4, 16, 16)).macs
    )
    assert forward["gflop_per_second"]["fast"] == pytest.approx(
        2e-9 * forward["macs"] / forward["seconds"]["fast"], rel=0.01
    )
    assert forward["memory_growth_bytes"] == {"plain": 1000, "fast": 600}
    assert 0 <= forward["largest_relative_difference"] < 1e-4
    assert "training step" in capsys.readouterr().out


def test_memory_is_that_of_a_process_of_its_own():
    image = 4 * 256 * 256  # of one channel; tiny keeps at least its 172 upsampled bands
    assert 172 * image < speed._memory_growth("tiny", 256, "plain") < 2000 * image


def test_functions_take_turns():
    calls = []
    times = speed.in_turns(
        {"a": lambda: calls.append("a"), "b": lambda: (calls.append("b"), time.sleep(0.01))}, 3
    )
    assert calls[2:] == ["a", "b", "b", "a", "a", "b"]
    assert len(times["a"]) == len(times["b"]) == 3 and min(times["b"]) >= 0.01


def test_the_plain_step_computes_the_same_numbers():
    degrade = Degradation(srf=torch.rand(3, 6, dtype=torch.float64).softmax(1))
    cube, network = torch.rand(6, 32, 32), S3RNet.from_preset("tiny", 6, 3)
    for skip in ("none", "bilinear", "injection"):
        model = fusion.FusionModel(network, degrade, "band", skip, cube).double()
        plain = speed.PlainFusionModel(network, degrade, "band", skip, cube).double()
        y = torch.rand(2, 6, 16, 16, dtype=torch.float64)
        x_h, x_m = degrade(y)
        y_hat, other = model(x_h, x_m), plain(x_h, x_m)
        torch.testing.assert_close(
            y_hat, other, rtol=1e-5, atol=1e-6
        )  # the regression is stored in float32
        y[0, :, 0, 0] = 0
        for band_scale in (None, torch.rand(6, dtype=torch.float64) + 0.1):
            y_hat = y_hat.detach().requires_grad_()
            loss = losses.l1_sam_loss(y_hat, y, 0.3, band_scale)
            expected = speed.plain_loss(y_hat, y, 0.3, band_scale)
            torch.testing.assert_close(loss, expected)
            torch.testing.assert_close(
                *torch.autograd.grad(loss, y_hat), *torch.autograd.grad(expected, y_hat)
            )


@pytest.mark.parametrize(
    ("size", "runs", "message"),
    [(16, 0, "runs: expected at least 1"), (10, 1, "size: expected a positive multiple")],
)
def test_bad_arguments_are_named(size, runs, message):
    with pytest.raises(ValueError, match=message):
        speed.run(["tiny"], size, runs)
