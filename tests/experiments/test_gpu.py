"""The GPU command, without one."""

import functools
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from s3rnet_lite import S3RNet, complexity, training
from s3rnet_lite.experiments import gpu, gpu_timing
from s3rnet_lite.experiments.inside import inside
from s3rnet_lite.sensing import scenes
from s3rnet_lite.training import fit

pytestmark = pytest.mark.slow  # not part of `make check`


def test_the_gpu_command_runs_at_tiny_size_without_one(tmp_path, monkeypatch, capsys):
    """Stopped, it goes on; finished, it does nothing again; nothing goes where results of a GPU
    belong.
    """
    monkeypatch.setattr(gpu, "TINY", replace(gpu.TINY, image_sizes=(16,), most_steps=2))
    monkeypatch.setattr(
        gpu,
        "VARIANTS",
        {name: gpu.VARIANTS[name] for name in ("paper", "paper, open gates and injection skip")},
    )
    stop_at_once = functools.partial(fit, minutes=1e-9)
    monkeypatch.setattr(
        training,
        "fit",
        lambda *args, **kwargs: stop_at_once(
            *args, **{k: v for k, v in kwargs.items() if k != "minutes"}
        ),
    )
    gpu.run(5, tmp_path / "results", tmp_path / "work")
    assert "Not trained yet: paper; paper, open gates" in capsys.readouterr().out
    monkeypatch.setattr(training, "fit", fit)
    call = gpu.run(5, tmp_path / "results", tmp_path / "work")
    assert "No CUDA GPU here" in capsys.readouterr().out
    assert not (tmp_path / "results").exists() and call.timing.name == "gpu_timing_cpu.json"

    trained, timing = (json.loads(path.read_text()) for path in (call.training, call.timing))
    for name, row in trained["variants"].items():
        assert row["dependence"][0]["lr_hsi_mean"]["change"] > 0 and len(row["validation"]) == 2
        model = training.load_checkpoint(
            call.work / f"{'_'.join(name.replace(',', '').split())}.safetensors"
        )
        assert model.skip == row["config"]["skip"]
        again = inside(model, scenes.split(scenes.indian_pines())[2])["energy"]["raw"]
        assert row["inside"]["energy"]["raw"] == pytest.approx(again, rel=1e-4)
    assert trained["provenance"]["seed"] == 0 and trained["device"]["name"] == "CPU"
    assert {(row["pass"], row["precision"], row["channels_last"]) for row in timing["rows"]} == {
        (which, precision, last)
        for which in gpu_timing.PASSES
        for precision in gpu_timing.PRECISIONS
        for last in (False, True)
    }
    assert all(0 < row["launch_seconds"] <= row["seconds"] for row in timing["rows"])
    with torch.device("meta"):
        network = S3RNet.from_preset("tiny", 172, 4)
        macs = complexity.count(network, torch.empty(1, 172, 4, 4), torch.empty(1, 4, 16, 16)).macs
    assert timing["counted"][0]["macs"] == macs

    before = {path: path.stat().st_mtime_ns for path in call.work.iterdir()}
    gpu.run(5, tmp_path / "results", tmp_path / "work")
    assert {path: path.stat().st_mtime_ns for path in call.work.iterdir()} == before
    with pytest.raises(ValueError, match="minutes: expected a positive number, got 0"):
        gpu.run(0)


def test_a_clock_that_does_not_wait_sees_the_launch_only(monkeypatch):
    """A device that takes a call in 1 s and needs 10 s more, on a clock of our own."""
    clock = [0.0]

    def spend(seconds: float):
        clock[0] += seconds

    monkeypatch.setattr(gpu_timing, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(gpu_timing, "synchronise", lambda _device: spend(10))
    assert gpu_timing.time_runs(lambda: spend(1), torch.device("cpu"), runs=3) == {
        "seconds": 11,
        "launch_seconds": 1,
    }
