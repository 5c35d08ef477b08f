"""Training at full size, tested at small size: many processes, less memory, other precisions, stops
at any time, logs.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric.plugins.precision import MixedPrecision
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from s3rnet_lite import S3RNet, complexity, peers, training
from s3rnet_lite.__main__ import main
from s3rnet_lite.experiments import gpu
from s3rnet_lite.files.atomic import read_tensors
from s3rnet_lite.training import CONFIGS, crops, dataset, fit, validate
from s3rnet_lite.training.crops import CropSampler
from s3rnet_lite.training.devices import changed_forward

QUICK = replace(
    CONFIGS["tiny"],
    steps=3,
    batch_size=4,
    crop=16,
    warmup_steps=0,
    validate_every=3,
    snr_db=(20.0, 40.0),
)
COMMAND = [
    sys.executable,
    "-m",
    "s3rnet_lite",
    "train",
    "--preset",
    "tiny",
    "--crop",
    "16",
    "--batch-size",
    "4",
    "--snr-db",
    "20",
    "40",
]


def tiny(seed: int = 0) -> S3RNet:
    torch.manual_seed(seed)
    return S3RNet.from_preset("tiny", 170, 6)


def arguments_for(state, out, steps: int) -> list[str]:
    return [*COMMAND, "--steps", str(steps), "--state", str(state), "--out", str(out)]


def environment() -> dict:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def first_gradient(path) -> torch.Tensor:
    """After Adam's first step, its first moment is a tenth of the gradient, in the state file: no
    test can look closer.
    """
    tensors, _ = read_tensors(path)
    return torch.cat(
        [tensor.flatten() for name, tensor in sorted(tensors.items()) if name.endswith("exp_avg")]
    )


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_two_processes_train_as_one_with_the_same_batch(tmp_path, indian_pines_split):
    """Gradients agree to 1e-5, relative, with accumulation too; and the losses, the validation and
    the log are those of one.
    """
    train, val, _ = indian_pines_split
    two = tmp_path / "two.safetensors"
    command = [
        *arguments_for(two, tmp_path / "model.safetensors", 1),
        "--devices",
        "2",
        "--accumulate",
        "2",
        "--log",
        str(tmp_path / "log"),
    ]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
    one = tmp_path / "one.safetensors"
    config = replace(CONFIGS["tiny"], steps=1, batch_size=4, crop=16, snr_db=(20.0, 40.0))
    history = fit(tiny(), train, val, config, state_file=one, progress=False)
    assert process.wait(timeout=100) == 0, process.stderr.read()
    assert relative(first_gradient(two), first_gradient(one)) < 1e-5
    run = json.loads(read_tensors(two)[1]["run"])
    assert run["loss"] == pytest.approx(history.loss, rel=1e-5)
    assert len(run["validation"]) == 1
    psnr = "psnr_pooled_scene_peak"
    assert run["validation"][0][psnr] == pytest.approx(history.validation[0][psnr], abs=1e-4)
    assert len(list((tmp_path / "log").iterdir())) == 1
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(("devices", "accumulate"), [(1, 3), (2, 4), (3, 1)])
def test_a_batch_that_cannot_be_shared_out_is_refused(devices, accumulate, small_train, small_val):
    with pytest.raises(
        ValueError, match=r"batch_size: expected a multiple of devices \* num_nodes \* accumulate"
    ):
        fit(
            tiny(),
            small_train,
            small_val,
            replace(QUICK, accumulate=accumulate),
            devices=devices,
            progress=False,
        )


def test_parts_of_a_batch_do_not_depend_on_how_it_is_cut(small_train, degrade6):
    sampler = CropSampler(
        [small_train.cube, small_train.cube.flip(1)], degrade6, 16, mixing=0.5, snr_db=(10.0, 30.0)
    )
    whole = sampler.draw(6, torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    plain = CropSampler(sampler.references, degrade6, 16).draw(6, generator).y
    share = 0.5 * torch.rand(6, 1, 1, 1, generator=generator)
    torch.testing.assert_close(
        whole.y, plain + share * (plain.roll(1, dims=0) - plain)
    )  # each with the one before it, in a ring

    @given(st.integers(0, 5), st.integers(1, 6))
    def check(start: int, length: int):
        part = sampler.draw(6, torch.Generator().manual_seed(4), slice(start, start + length))
        assert part.snr_db == whole.snr_db and len(part.y) == min(length, 6 - start)
        torch.testing.assert_close(part.y, whole.y[start : start + length])
        assert torch.equal(part.noise, whole.noise[start : start + length])

    check()


def test_whole_numbers_stand_for_the_range_from_0_to_1(tmp_path, small_train, degrade6):
    """A memory map of uint16 gives the crops of the same image in float32, to half of its step."""
    np.save(tmp_path / "numbers.npy", (small_train.cube.numpy() * 65535).round().astype(np.uint16))
    stored = torch.from_numpy(np.load(tmp_path / "numbers.npy", mmap_mode="c"))
    of_numbers, of_floats = (
        CropSampler([y], degrade6, 16).draw(5, torch.Generator().manual_seed(1)).y
        for y in (stored, small_train.cube)
    )
    assert of_numbers.dtype == torch.float32
    torch.testing.assert_close(of_numbers, of_floats, atol=0.51 / 65535, rtol=0)
    with pytest.raises(TypeError, match="references: expected float32 in"):
        CropSampler([small_train.cube.double()], degrade6, 16)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    dataset.prepare(folder, [], simulated=3, patch=32, workers=1, progress=False)
    return folder


def test_one_command_trains_on_a_prepared_data_set_and_one_scores_it(
    prepared, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "model.safetensors"
    command = f"train --data {prepared} --preset tiny --crop 16 --batch-size 2 --steps 2 --msi-bands 4 --out {out}"
    monkeypatch.setattr(sys, "argv", ["s3rnet_lite", *command.split()])
    assert main() == 0
    card, model, data = (
        json.loads(out.with_suffix(".json").read_text()),
        training.load_checkpoint(out),
        dataset.load(prepared),
    )
    assert card["degradation"] == data.degradation(4).card()
    lines = card["training"]["flight_lines"]
    assert not set(lines["train"]) & set(lines["val"])
    val = [
        dataset.scene(prepared, "val", i) for i in range(len(card["training"]["validation_scene"]))
    ]
    scores = [validate(model, scene)["psnr_pooled_scene_peak"] for scene in val]
    assert card["training"]["validation"][-1]["psnr_pooled_scene_peak"] == pytest.approx(
        np.mean(scores), abs=1e-4
    )

    command_of_scores = f"evaluate --data {prepared} --msi-bands 4 --checkpoint {out} --out {tmp_path / 'scores.json'}"
    monkeypatch.setattr(sys, "argv", ["s3rnet_lite", *command_of_scores.split()])
    assert main() == 0
    stored = json.loads((tmp_path / "scores.json").read_text())
    test = [dataset.scene(prepared, "test", i) for i in range(stored["patches"])]
    scores = [validate(model, scene)["psnr_pooled_scene_peak"] for scene in test]
    assert len(test) == 4 and stored["mean_scores"][out.name][
        "psnr_pooled_scene_peak"
    ] == pytest.approx(np.mean(scores), abs=1e-4)

    monkeypatch.setattr(sys, "argv", ["s3rnet_lite", *command.split(), "--data", str(tmp_path)])
    assert main() == 2 and "no prepared data set" in capsys.readouterr().err


def test_statistics_of_a_large_data_set_are_those_of_some_of_it(degrade6):
    numbers = torch.randint(65536, (200, 170, 20, 20), dtype=torch.int32).to(torch.uint16)
    chosen = crops.sample(list(numbers), images=64, side=16)
    assert len(chosen) == 64 and chosen[0].shape == (170, 16, 16)
    assert torch.equal(chosen[3], numbers[9, :, :16, :16].float() / 65535)
    with pytest.raises(ValueError, match="degrade: expected a Degradation"):
        training.wrap(tiny(), list(numbers), QUICK)


def gradients(network: torch.nn.Module, *inputs: torch.Tensor, **changes) -> torch.Tensor:
    network.zero_grad()
    with changed_forward(network, **changes):
        network(*inputs).square().mean().backward()
    return torch.cat([p.grad.flatten() for p in network.parameters()])


@pytest.fixture
def eager_backend(monkeypatch):
    """Trace as ever, in one piece, but do not generate code, which takes minutes on a processor."""
    monkeypatch.setattr(
        torch, "compile", functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    )


def test_checkpoints_change_no_gradient_and_neither_they_nor_compilation_change_names():
    network, inputs = tiny(), (torch.rand(2, 170, 4, 4), torch.rand(2, 6, 16, 16))
    names, expected = list(network.state_dict()), gradients(network, *inputs)
    assert relative(gradients(network, *inputs, checkpoint_activations=True), expected) < 1e-5
    with changed_forward(network, checkpoint_activations=True, compiled=True):
        assert list(network.state_dict()) == names
    assert torch.equal(gradients(network, *inputs), expected)  # all is as before


@pytest.mark.parametrize(
    "changes",
    [{"accumulate": 2}, {"accumulate": 4}, {"checkpoint_activations": True, "compile": True}],
    ids=["2", "4", "both"],
)
def test_how_a_step_is_computed_does_not_change_it(
    changes, small_train, small_val, tmp_path, eager_backend
):
    """A batch in parts, checkpoints and compilation give the gradient of the whole batch to 1e-5; a
    run may go on with any of them.
    """
    config, states = (
        replace(QUICK, gradient_clip=None),
        [tmp_path / "plain.safetensors", tmp_path / "changed.safetensors"],
    )
    for state, changed in zip(states, ({}, changes), strict=True):
        fit(
            tiny(),
            small_train,
            small_val,
            replace(config, **changed),
            state_file=state,
            minutes=1e-9,
            progress=False,
        )
    assert relative(first_gradient(states[1]), first_gradient(states[0])) < 1e-5
    histories = [
        fit(tiny(), small_train, small_val, config, state_file=state, progress=False)
        for state in states
    ]
    assert histories[1].loss == pytest.approx(histories[0].loss, rel=1e-4)
    assert len(histories[1].validation[-1]["gate_means"]) == 4


def test_checkpoints_keep_a_tenth_of_the_activations_of_the_papers_network():
    with torch.device("meta"):
        network = S3RNet.from_preset("paper", 172, 4)
        inputs = torch.empty(1, 172, 32, 32), torch.empty(1, 4, 128, 128)

    def kept(checkpoint_activations: bool) -> int:
        sizes = {}

        def pack(tensor):
            sizes[tensor.untyped_storage()._cdata] = tensor  # held, so that no two have one address
            return tensor

        parameters = {p.untyped_storage()._cdata for p in network.parameters()}
        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            changed_forward(network, checkpoint_activations),
        ):
            network(*inputs)
        return sum(
            t.untyped_storage().nbytes() for key, t in sizes.items() if key not in parameters
        )

    plain = kept(False)
    assert plain == pytest.approx(
        complexity.peak_memory(network, *inputs, keep_for_backward=True), rel=0.1
    )
    assert kept(True) < 0.1 * plain
    # Why the network itself is not split over devices: weights, gradients and Adam's moments are a
    # fraction of one crop's activations.
    assert 16 * sum(p.numel() for p in network.parameters()) < 0.25 * plain


def test_only_networks_with_residual_groups_can_checkpoint_them():
    network = peers.build("dual_unet", preset="lite", hsi_bands=170, msi_bands=6)
    expected = pytest.raises(
        ValueError,
        match="checkpoint_activations: expected a network with residual groups, got DualUNet",
    )
    with expected, changed_forward(network, checkpoint_activations=True):
        pass


def test_a_killed_run_goes_on_from_its_last_state(tmp_path, indian_pines_split):
    """SIGKILL, possibly while a state is written: the state before is whole, and the end is that of
    an unbroken run.
    """
    train, val, _ = indian_pines_split
    state, steps = tmp_path / "state.safetensors", 24
    process = subprocess.Popen(
        [*arguments_for(state, tmp_path / "m.safetensors", steps), "--save-minutes", "0"],
        env=environment(),
    )
    deadline = time.monotonic() + 100
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    config = replace(CONFIGS["tiny"], steps=steps, batch_size=4, crop=16, snr_db=(20.0, 40.0))
    assert 0 < len(json.loads(read_tensors(state)[1]["run"])["loss"]) < steps
    resumed = fit(tiny(seed=9), train, val, config, state_file=state, progress=False)
    unbroken = fit(tiny(), train, val, config, progress=False)
    assert resumed.loss == pytest.approx(unbroken.loss, rel=1e-4)
    for (name, theirs), ours in zip(
        resumed.model.named_parameters(), unbroken.model.parameters(), strict=True
    ):
        torch.testing.assert_close(theirs, ours, msg=name)


def test_states_are_written_by_the_clock(small_train, small_val, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(
        callbacks, "save_state", lambda _path, _model, _optimizer, run: written.append(len(run["loss"]))
    )
    config = replace(QUICK, steps=5, validate_every=4)
    fit(
        tiny(),
        small_train,
        small_val,
        config,
        state_file=tmp_path / "s",
        save_minutes=0,
        progress=False,
    )
    assert written == [1, 2, 3, 4, 5]
    written.clear()
    fit(tiny(), small_train, small_val, config, state_file=tmp_path / "s", progress=False)
    assert written == [4, 5]


def test_the_scale_of_half_precision_gradients_is_kept(
    small_train, small_val, tmp_path, monkeypatch
):
    """No processor trains in "16-mixed", so the precision that Fabric takes on a CPU plays the one
    that has a scale.
    """
    loaded = []
    monkeypatch.setattr(MixedPrecision, "state_dict", lambda self: {"scale": 1024.0})
    monkeypatch.setattr(MixedPrecision, "load_state_dict", lambda self, state: loaded.append(state))
    for _ in range(2):
        config = replace(QUICK, precision="bf16-mixed")
        fit(
            tiny(),
            small_train,
            small_val,
            config,
            state_file=tmp_path / "s",
            minutes=1e-9,
            progress=False,
        )
    assert loaded == [{"scale": 1024.0}]


def test_tensorboard_shows_what_the_history_holds(small_train, small_val, tmp_path):
    config = replace(QUICK, steps=45, validate_every=30, crop=8)
    history = fit(tiny(), small_train, small_val, config, log=tmp_path, progress=False)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    points = {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }
    assert [step for step, _ in points["loss"]] == [
        20,
        30,
        45,
    ]  # every 20 steps, and where the run stops to validate
    assert points["loss"][1][1] == pytest.approx(np.mean(history.loss[20:30]), rel=1e-5)
    psnr = [row["psnr_pooled_scene_peak"] for row in history.validation]
    assert [value for _, value in points["validation/psnr_pooled_scene_peak"]] == pytest.approx(
        psnr, rel=1e-6
    )
    assert points["validation/gate_z"][-1][1] == pytest.approx(
        history.validation[-1]["gate_means"][3], rel=1e-6
    )
    for step_seconds, speed in zip(
        points["step_seconds"], points["samples_per_second"], strict=True
    ):
        assert step_seconds[1] * speed[1] == pytest.approx(config.batch_size, rel=1e-5)
    assert (
        points["peak_memory_mib"][-1][1] > 50
        and points["learning_rate"][-1][1] < points["learning_rate"][0][1]
    )


def test_the_step_whose_loss_is_not_finite_is_named_though_it_is_read_later(small_train, small_val):
    config = replace(QUICK, steps=10, validate_every=10, learning_rate=1e30, gradient_clip=1.0)
    with pytest.raises(FloatingPointError, match=r"the loss is (nan|inf) at step 1;"):
        fit(tiny(), small_train, small_val, config, progress=False)


def test_several_scenes_are_validated_by_their_mean(small_train, small_val):
    model = training.wrap(tiny(), [small_train], QUICK)
    both, first, second = (
        validate(model, which) for which in ([small_val, small_train], small_val, small_train)
    )
    assert both["ergas"] == pytest.approx((first["ergas"] + second["ergas"]) / 2)
    assert both["gate_means"] == pytest.approx(
        np.mean([first["gate_means"], second["gate_means"]], axis=0)
    )


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
    assert trained["provenance"]["seed"] == 0 and trained["device"]["name"] == "CPU"
    assert {(row["pass"], row["precision"], row["channels_last"]) for row in timing["rows"]} == {
        (which, precision, last)
        for which in gpu.PASSES
        for precision in gpu.PRECISIONS
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

    monkeypatch.setattr(gpu, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(gpu, "synchronise", lambda _device: spend(10))
    assert gpu.time_runs(lambda: spend(1), torch.device("cpu"), runs=3) == {
        "seconds": 11,
        "launch_seconds": 1,
    }
