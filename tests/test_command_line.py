"""The command line, run as a stranger would."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from scipy.io import savemat
from scipy.ndimage import gaussian_filter

from s3rnet_lite import S3RNet, baselines, scenes, training
from s3rnet_lite.training.fusion import FusionModel

pytestmark = pytest.mark.slow  # not part of `make check`


def run(*arguments) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "s3rnet_lite", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, small_train, degrade6):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    model = FusionModel(
        S3RNet.from_preset("tiny", 170, 6), degrade6, "band", "injection", small_train.cube
    )
    training.save_checkpoint(
        path,
        model,
        "tiny",
        {"training": {"config": {"seed": 0}}, "provenance": {"wall_seconds": 0.0}},
    )
    return path


@pytest.fixture
def pair(tmp_path, small_val, degrade6):
    x_h, x_m = degrade6(small_val.cube)
    np.save(tmp_path / "hsi.npy", x_h.numpy())
    np.savez(tmp_path / "msi.npz", x_m=x_m.numpy())
    return tmp_path / "hsi.npy", tmp_path / "msi.npz"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_training_after_the_step_with_its_state_kept(number, code, tmp_path):
    state, out = tmp_path / "state.safetensors", tmp_path / "a.safetensors"
    command = [sys.executable, "-m", "s3rnet_lite", "train", "--preset", "tiny", "--msi-bands", "4"]
    command += ["--steps", "100000", "--save-minutes", "0", "--state", state, "--out", out]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as training_now:
        while not state.exists() and training_now.poll() is None:
            time.sleep(0.1)
        training_now.send_signal(number)
        lines = training_now.communicate()[1].splitlines()
    assert training_now.returncode == code
    assert lines[-1] == f"stopped; the same command goes on from {state}"
    assert "Traceback" not in "".join(lines) and not out.exists()
    assert list(tmp_path.iterdir()) == [state]


def test_fuse_writes_what_the_model_answers(checkpoint, pair, tmp_path):
    out = tmp_path / "deeper" / "fused.npy"
    files = ("--hsi", pair[0], "--msi", pair[1], "--checkpoint", checkpoint, "--out", out)
    done = run("fuse", *files, "--no-guard")
    assert done.returncode == 0 and "170 x 16 x 16" in done.stdout
    x_h, x_m = torch.from_numpy(np.load(pair[0])), torch.from_numpy(np.load(pair[1])["x_m"])
    with torch.no_grad():
        expected = training.load_checkpoint(checkpoint)(x_h[None], x_m[None])[0]
    np.testing.assert_allclose(np.load(out), expected, atol=1e-5)


def bad_inputs():
    good_h, good_m = (
        np.random.default_rng(0).random((170, 4, 4), np.float32),
        np.random.default_rng(1).random((6, 16, 16), np.float32),
    )
    yield "bands", good_h[:169], good_m, "expected 170 bands"
    yield "size", good_h, good_m[:, :15], "expected height and width (16, 16)"
    yield "nan", np.where(good_h > 0.9, np.nan, good_h), good_m, "NaN"
    yield "integers", (good_h * 1000).astype(np.uint16), good_m, "floating-point"
    yield "empty", good_h[:, :0], good_m, "non-empty"
    yield "batch", np.stack([good_h] * 2), np.stack([good_m] * 2), "three axes"


@pytest.mark.parametrize(
    ("x_h", "x_m", "message"), [pytest.param(*case[1:], id=case[0]) for case in bad_inputs()]
)
def test_fuse_names_bad_input_and_writes_nothing(x_h, x_m, message, checkpoint, tmp_path):
    np.save(tmp_path / "h.npy", x_h), np.save(tmp_path / "m.npy", x_m)
    done = run(
        "fuse",
        "--hsi",
        tmp_path / "h.npy",
        "--msi",
        tmp_path / "m.npy",
        "--checkpoint",
        checkpoint,
        "--out",
        tmp_path / "out.npy",
    )
    assert done.returncode == 2 and done.stderr.startswith("error: ") and message in done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["h.npy", "m.npy"]


def test_fuse_names_files_it_cannot_read(checkpoint, pair, tmp_path):
    pair[0].write_bytes(pair[0].read_bytes()[:200])
    done = run(
        "fuse",
        "--hsi",
        pair[0],
        "--msi",
        pair[1],
        "--checkpoint",
        checkpoint,
        "--out",
        tmp_path / "out.npy",
    )
    assert done.returncode == 2 and "hsi.npy: damaged" in done.stderr
    done = run(
        "fuse",
        "--hsi",
        tmp_path / "none.npy",
        "--msi",
        pair[1],
        "--checkpoint",
        checkpoint,
        "--out",
        tmp_path / "out.npy",
    )
    assert done.returncode == 2 and "none.npy" in done.stderr


def test_train_then_evaluate(tmp_path):
    """A stopped run goes on with the same command; its checkpoint can be scored."""
    command = [
        "train",
        "--preset",
        "tiny",
        "--msi-bands",
        4,
        "--steps",
        3,
        "--state",
        tmp_path / "state.safetensors",
        "--out",
        tmp_path / "a.safetensors",
    ]
    stopped = run(*command, "--minutes", 1e-6)
    assert (
        stopped.returncode == 0
        and "Stopped after 1 of 3 steps" in stopped.stdout
        and not (tmp_path / "a.safetensors").exists()
    )
    assert run(*command).returncode == 0
    scored = run(
        "evaluate", "--checkpoint", tmp_path / "a.safetensors", "--out", tmp_path / "a_scores.json"
    )
    assert scored.returncode == 0
    for name in ("bicubic", "detail_injection", "a.safetensors", "noise ceiling"):
        assert name in scored.stdout
    assert (tmp_path / "a_scores.json").exists()


@pytest.mark.parametrize("decibels", [("40", "5"), ("1", "2", "3")])
def test_a_range_of_noise_has_a_lowest_and_a_highest(decibels, tmp_path):
    done = run(
        "train", "--preset", "tiny", "--snr-db", *decibels, "--out", tmp_path / "a.safetensors"
    )
    assert (
        done.returncode == 2
        and "--snr-db: expected one number, or the lowest and the highest" in done.stderr
    )
    assert not list(tmp_path.iterdir())


def test_evaluate_without_a_checkpoint_scores_and_times_the_classical_methods(tmp_path):
    scored = run("evaluate", "--msi-bands", 4, "--out", tmp_path / "classical.json")
    assert scored.returncode == 0 and "sylvester" in scored.stdout
    stored = json.loads((tmp_path / "classical.json").read_text())
    assert stored["networks"] == [] and len(stored["degradation"]["srf"]) == 4
    assert all(0 < stored["baselines"][name]["seconds"] < 100 for name in baselines.NAMES)


def test_complexity_prints_table_one():
    printed = run(
        "complexity", "--preset", "paper", "--hsi-bands", 172, "--msi-bands", 4, "--size", 256
    ).stdout
    assert "26,807,686" in printed and "941.90" in printed and "1,883.79" in printed


def test_a_known_scene_from_a_file_is_trained_on_and_scored(tmp_path):
    bands, height, width = scenes.PUBLIC["samson"].shape
    cube = np.random.default_rng(0).random((bands, height, width))
    cube = gaussian_filter(cube, (3, 2, 2))
    savemat(tmp_path / "samson.mat", {"V": cube.transpose(0, 2, 1).reshape(bands, -1)})
    where = ("--scene", "samson", "--file", tmp_path / "samson.mat", "--msi-bands", 3)
    out = tmp_path / "model.safetensors"
    done = run("train", *where, "--preset", "tiny", "--steps", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    assert json.loads(out.with_suffix(".json").read_text())["training"]["scene"] == "samson/train"
    done = run("evaluate", *where, "--checkpoint", out, "--out", tmp_path / "scores.json")
    assert done.returncode == 0, done.stderr
    stored = json.loads((tmp_path / "scores.json").read_text())
    assert stored["scene"] == "samson/test" and 0 < stored["networks"][0]["q2n"] <= 1
    for arguments in (
        ("--scene", "samson"),
        ("--scene", "mars", "--file", tmp_path / "samson.mat"),
    ):
        done = run("evaluate", *arguments)
        assert done.returncode == 2 and ("both or neither" in done.stderr or "mars" in done.stderr)


def test_fuse_says_how_much_of_the_image_is_the_models_and_what_it_is_in_doubt_of(tmp_path):
    scene = scenes.split(scenes.indian_pines())[2]
    model = training.load_checkpoint("lite-4bands")
    x_h, x_m = model.degrade(scene.cube.flip(0))  # bands in reversed order: an unknown place
    np.save(tmp_path / "h.npy", x_h)
    np.save(tmp_path / "m.npy", x_m.permute(1, 2, 0))
    files = ("--hsi", tmp_path / "h.npy", "--msi", tmp_path / "m.npy", "--out", tmp_path / "y.npy")
    done = run("fuse", *files, "--checkpoint", "lite-4bands")
    assert done.returncode == 2 and "warning: " in done.stderr and "order=" in done.stderr
    np.save(tmp_path / "m.npy", x_m)
    done = run("fuse", *files, "--checkpoint", "lite-4bands")
    assert done.returncode == 0, done.stderr
    [share] = re.findall(
        r"Of the image, (\d+)% is the model's and the rest sylvester's", done.stdout
    )
    assert int(share) < 50 and "unlike what the model was trained on" in done.stdout


def test_two_images_of_one_file_are_fused_by_their_names(checkpoint, tmp_path):
    model = training.load_checkpoint(checkpoint)
    x_h, x_m = model.degrade(torch.rand(170, 16, 20))
    arrays = {name: x.permute(1, 2, 0).numpy() for name, x in (("hs", x_h), ("ms", x_m))}
    savemat(tmp_path / "pair.mat", arrays)
    file, out = tmp_path / "pair.mat", tmp_path / "y.npy"
    names = ("--hsi-variable", "hs", "--msi-variable", "ms", "--order", "HWC")
    files = ("--hsi", file, "--msi", file, "--out", out, "--checkpoint", checkpoint)
    done = run("fuse", *files, *names, "--no-guard")
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        np.testing.assert_allclose(np.load(out), model(x_h[None], x_m[None])[0], atol=1e-5)
    done = run("fuse", *files)
    assert done.returncode == 2 and "holds 2 images, choose one" in done.stderr
