"""`train` and `evaluate` on a prepared data set."""

import json
import sys

import numpy as np
import pytest

from s3rnet_lite import training
from s3rnet_lite.__main__ import main
from s3rnet_lite.training import dataset, validate

pytestmark = pytest.mark.slow  # not part of `make check`


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    dataset.prepare(folder, [], simulated=3, patch=32, workers=1, progress=False)
    return folder


def test_one_command_trains_on_a_prepared_data_set_and_one_scores_it(
    prepared, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "model.safetensors"
    command = f"train --data {prepared} --preset tiny --crop 16 --batch-size 2 --steps 2"
    command += f" --msi-bands 4 --out {out}"
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

    command_of_scores = f"evaluate --data {prepared} --msi-bands 4 --checkpoint {out}"
    command_of_scores += f" --out {tmp_path / 'scores.json'}"
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
