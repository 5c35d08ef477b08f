"""`compare` and `robustness` on images of one's own: kept apart, and of these images."""

import json
import sys

import numpy as np
import pytest
from scipy.io import savemat
from scipy.ndimage import gaussian_filter

from s3rnet_lite import baselines, robustness, scenes, training
from s3rnet_lite.__main__ import main
from s3rnet_lite.experiments import comparison, runs
from s3rnet_lite.training import dataset
from s3rnet_lite.training.sources import Source

pytestmark = pytest.mark.slow  # not part of `make check`


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "lines"
    dataset.prepare(folder, [], simulated=3, patch=32, workers=1, progress=False)
    return folder


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Call a command in a folder of its own, its jobs one after the other in this process."""

    def one_by_one(function, jobs, *_):
        for job in jobs:
            function(*job)

    def call(*arguments) -> int:
        monkeypatch.setattr(sys, "argv", ["s3rnet_lite", *map(str, arguments)])
        return main()

    for module in (comparison, runs):
        monkeypatch.setattr(module, "run_all", one_by_one)
    monkeypatch.chdir(tmp_path)
    return call


QUICK = ("--network", "mssjfl", "--seconds", 0.01)


def test_compare_on_a_data_set_keeps_its_results_apart_and_names_its_images(
    prepared, call, tmp_path, capsys
):
    command = ("compare", "--data", prepared, *QUICK, "--recipe", "common", "--seeds", 1)
    assert call(*command, "--patches", 2) == 0
    assert "| MSSJFL |" in capsys.readouterr().out
    folder = tmp_path / "runs" / "lines"
    [row] = comparison.stored(folder / "comparison")
    source = Source(prepared, test_patches=2)
    assert row["provenance"]["source"] == source.facts()
    assert row["provenance"]["source"]["data"] == "lines"
    stem = folder / "models" / "comparison" / "common_4bands_mssjfl_seed0.safetensors"
    model = training.load_checkpoint(stem)
    assert model.degrade.card() == dataset.load(prepared).degradation(4).card()
    test = [dataset.scene(prepared, "test", number) for number in (0, 2)]
    scores = [training.validate(model, scene)["psnr_pooled_scene_peak"] for scene in test]
    assert row["test"]["psnr_pooled_scene_peak"] == pytest.approx(np.mean(scores), abs=1e-3)
    assert not any(folder.glob("*.json"))
    assert call(*command, "--patches", 3) == 2  # other test images
    assert "expected a result of {'data': 'lines'" in capsys.readouterr().err


def test_robustness_on_a_data_set_uses_the_searches_and_models_of_compare(
    prepared, call, tmp_path, monkeypatch
):
    monkeypatch.setattr(robustness, "SNR_DB", (None, 15))
    monkeypatch.setattr(baselines, "NAMES", ("bicubic",))
    monkeypatch.setattr(robustness, "table", lambda *_: ([], [], []))
    out = tmp_path / "mine"
    command = ("--data", prepared, *QUICK, "--patches", 2, "--out", out, "--recipe")
    assert call("robustness", *command, "denoised") == 0
    [row] = robustness.stored(out / "robustness")
    assert row["provenance"]["source"] == Source(prepared, test_patches=2).facts()
    assert (out / "comparison" / "search_common_mssjfl.json").exists()
    stem = out / "models" / "robustness" / "denoised_random_mssjfl_seed0.safetensors"
    model, test = training.load_checkpoint(stem), Source(prepared, test_patches=2)
    measured = [robustness.measure(model, one) for one in training.sources.load(test).test]
    at15 = [one["curves"]["lr_hsi"]["sam_degrees"][-1] for one in measured]
    assert row["curves"]["lr_hsi"]["sam_degrees"][-1] == pytest.approx(np.mean(at15), abs=1e-3)
    others = json.loads((out / "robustness" / "others.json").read_text())
    assert robustness.CONTROL in others["methods"] and "bicubic" in others["methods"]
    assert not any(name.startswith("s3rnet") for name in others["methods"])


def test_compare_on_a_public_scene_and_never_beside_stored_results(call, tmp_path, capsys):
    bands, height, width = scenes.PUBLIC["samson"].shape
    cube = gaussian_filter(np.random.default_rng(0).random((bands, height, width)), (3, 2, 2))
    file = tmp_path / "samson.mat"
    savemat(file, {"V": cube.transpose(0, 2, 1).reshape(bands, -1)})
    command = ("compare", "--scene", "samson", "--file", file, *QUICK, "--recipe", "published")
    assert call(*command, "--seeds", 1) == 0
    [row] = comparison.stored(tmp_path / "runs" / "samson" / "comparison")
    assert row["provenance"]["source"]["scene"] == "samson"
    stored = runs.FOLDER.parent
    assert call(*command, "--seeds", 1, "--out", stored) == 2
    assert "got one of Indian Pines" in capsys.readouterr().err
    assert call("compare", "--scene", "samson") == 2
    assert call("robustness", "--data", tmp_path) == 2
    assert "no prepared data set" in capsys.readouterr().err
