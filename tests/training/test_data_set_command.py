"""`train` and `evaluate` on a prepared data set."""

import json
import sys

import numpy as np
import pytest

from s3rnet_lite import peers, training
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


def test_a_peer_is_trained_by_the_epoch_and_loads_again(prepared, tmp_path, monkeypatch):
    out, patches = tmp_path / "peer.safetensors", len(dataset.references(prepared, "train"))
    command = f"train --network mssjfl --data {prepared} --crop 16 --batch-size 3 --epochs 2"
    monkeypatch.setattr(sys, "argv", f"s3rnet_lite {command} --msi-bands 4 --out {out}".split())
    assert main() == 0
    model, card = training.load_checkpoint(out), json.loads(out.with_suffix(".json").read_text())
    assert type(model.network) is type(peers.build("mssjfl", "lite", 172, 4))
    assert patches % 3 and card["training"]["config"]["steps"] == 2 * (patches // 3 + 1)
    assert card["training"]["data"] == "set" and len(card["training"]["sha256"]) == 64
    assert card["network"]["name"] == "mssjfl" and card["network"]["preset"] == "lite"


def test_a_peer_leaves_the_skip_to_the_wrapper_if_that_has_one(prepared, tmp_path, monkeypatch):
    out = tmp_path / "peer.safetensors"
    for skip in ("details", "none"):
        command = f"train --network dual_unet --data {prepared} --crop 16 --batch-size 2 --steps 1"
        command += f" --skip {skip} --msi-bands 4 --out {out}"
        monkeypatch.setattr(sys, "argv", ["s3rnet_lite", *command.split()])
        assert main() == 0
        assert training.load_checkpoint(out).network.global_skip == (skip == "none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--epochs 2", "--epochs: expected --data too"),
        ("--data {} --epochs 2 --steps 3", "--steps, --epochs: expected one of them, got 3 and 2"),
        ("--network u2net --preset tiny", "--preset: expected paper or lite for u2net, got tiny"),
        ("--data {} --scene samson --file x.mat", "--data, --scene: expected one of them"),
        ("--file x.mat", "--scene, --file: expected both or neither"),
        ("--data {} --msi-bands 3 --minutes 1", "--minutes: expected --state too"),
    ],
)
def test_options_that_contradict_one_another_are_named(
    options, message, prepared, tmp_path, monkeypatch, capsys
):
    command = f"s3rnet_lite train {options.format(prepared)} --out {tmp_path / 'a.safetensors'}"
    monkeypatch.setattr(sys, "argv", command.split())
    assert main() == 2 and message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
