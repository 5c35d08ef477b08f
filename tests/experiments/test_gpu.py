"""The GPU command, without one."""

import functools
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from s3rnet_lite import S3RNet, complexity, training
from s3rnet_lite.experiments import gpu, gpu_check, gpu_timing
from s3rnet_lite.experiments.inside import inside
from s3rnet_lite.sensing import scenes
from s3rnet_lite.training import dataset, fit, sources
from s3rnet_lite.training.sources import Source

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


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="minutes: expected a positive number, got 0"):
        gpu.run(0)
    with pytest.raises(ValueError, match="epochs: expected data too, got 3"):
        gpu.run(1, epochs=3)


def test_the_recipe_on_prepared_data_is_the_papers():
    paper = training.CONFIGS["paper"]
    assert gpu._paper_config(gpu.FULL, 1678, gpu.PAPER_EPOCHS) == paper
    assert gpu._paper_config(gpu.FULL, 17, 2).steps == 2 * 5


def test_the_papers_recipe_on_prepared_data_is_kept_apart(tmp_path, monkeypatch, capsys):
    for name, lines in (("a", 3), ("b", 4)):
        folder = tmp_path / name / "lines"
        dataset.prepare(folder, [], simulated=lines, patch=16, workers=1, progress=False)
    monkeypatch.setattr(gpu, "TINY", replace(gpu.TINY, most_steps=2))
    monkeypatch.setattr(gpu, "smoke", lambda *_: None)
    monkeypatch.setattr(gpu, "time_all", None)  # nothing else is timed or trained
    where = dict(work=tmp_path / "work", data=tmp_path / "a" / "lines")
    monkeypatch.setattr(training, "fit", lambda *a, **k: fit(*a, **{**k, "minutes": 1e-9}))
    call = gpu.run(5, **where)
    assert "1 of 2 steps" in capsys.readouterr().out and not call.training.exists()
    monkeypatch.setattr(training, "fit", fit)
    assert gpu.run(5, **where).training == call.training
    assert "s3rnet-lite evaluate --data" in capsys.readouterr().out
    assert call.training == tmp_path / "work" / "cpu" / "gpu_data_lines_cpu.json"
    [row] = json.loads(call.training.read_text())["variants"].values()
    source = Source(tmp_path / "a" / "lines", test_patches=gpu.TEST_PATCHES)
    assert row["source"] == source.facts() and row["config"]["learning_rate"] == 1e-4
    model = training.load_checkpoint(call.work / "paper_on_lines.safetensors")
    found = [training.validate(model, one)["sam_degrees"] for one in sources.load(source).test]
    assert row["scores"]["sam_degrees"] == pytest.approx(np.mean(found), abs=1e-3)
    with pytest.raises(ValueError, match=r"expected a training on .*, got one on"):
        gpu.run(5, work=tmp_path / "work", data=tmp_path / "b" / "lines")


SMALL = replace(training.CONFIGS["paper"], crop=16, batch_size=2)


def test_the_smoke_check_prints_what_it_expects_and_what_it_got(capsys):
    checks = gpu_check.smoke("tiny", SMALL, torch.device("cpu"))
    text, found = capsys.readouterr().out, {check.what: check for check in checks}
    assert all(check.good for check in checks) and text.count("  ok\n") == len(checks)
    parameters = sum(p.numel() for p in S3RNet.from_preset("tiny", 172, 4).parameters())
    assert found["parameters"].expected == found["parameters"].found == f"{parameters:,}"
    assert found["output"].found == "(1, 172, 16, 16)" and float(found["loss"].found) > 0


def test_the_smoke_check_fails_clearly(monkeypatch, capsys):
    other = SimpleNamespace(parameters=7)
    with monkeypatch.context() as patch:
        patch.setattr(complexity, "count", lambda *_: other)
        with pytest.raises(ValueError, match="smoke check: parameters: expected 7, got"):
            gpu_check.smoke("tiny", SMALL, torch.device("cpu"))
    assert "NOT AS EXPECTED" in capsys.readouterr().out

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training, "fit", full)
    with pytest.raises(ValueError, match=r"a step of 2 crops of 16² needs about \d+ MiB"):
        gpu_check.smoke("tiny", SMALL, torch.device("cpu"))


def test_the_paper_preset_has_table_ones_size():
    check = gpu_check._parameters("paper", S3RNet.from_preset("paper", 172, 4))
    assert check.good and check.expected == "26,807,686 (Table I: 26.81 M)"


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
