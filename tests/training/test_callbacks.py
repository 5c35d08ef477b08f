"""Between the steps: state files, stops at any time, curves, losses that are read later."""

import json
import signal
import subprocess
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning_fabric.plugins.precision import MixedPrecision
from small_training import ONE_THREAD, QUICK, tiny, train_command
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from s3rnet_lite.files.atomic import read_tensors
from s3rnet_lite.training import CONFIGS, callbacks, fit

pytestmark = pytest.mark.slow  # not part of `make check`


def test_a_killed_run_goes_on_from_its_last_state(tmp_path, indian_pines_split):
    """SIGKILL, possibly while a state is written: the state before is whole, and the end is that of
    an unbroken run.
    """
    train, val, _ = indian_pines_split
    state, steps = tmp_path / "state.safetensors", 24
    process = subprocess.Popen(
        [*train_command(state, tmp_path / "m.safetensors", steps), "--save-minutes", "0"],
        env=ONE_THREAD,
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
        callbacks,
        "save_state",
        lambda _path, _model, _optimizer, run: written.append(len(run["loss"])),
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
