"""Stored models: a round trip, and every way a file can be wrong."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from s3rnet_lite import S3RNet, robustness, training
from s3rnet_lite.experiments.evaluation import TRAINED_CLOSED_FORM, score_baselines, score_model
from s3rnet_lite.files.provenance import DATA_FOLDER
from s3rnet_lite.training.fusion import FusionModel

SHIPPED = sorted(DATA_FOLDER.glob("s3rnet_*.safetensors"))
CLEAN = [path for path in SHIPPED if "robust" not in path.stem]


@pytest.fixture
def stored(tmp_path, small_train, degrade6) -> tuple[Path, FusionModel]:
    model = FusionModel(
        S3RNet.from_preset("tiny", 170, 6), degrade6, "band", "injection", small_train.cube
    ).eval()
    path = tmp_path / "model.safetensors"
    training.save_checkpoint(path, model, "tiny", {"provenance": {"seed": 0}})
    return path, model


def test_a_loaded_model_answers_like_the_stored_one(stored, small_val):
    path, model = stored
    x_h, x_m = (x[None] for x in model.degrade(small_val.cube))
    assert torch.equal(training.load_checkpoint(path)(x_h, x_m), model(x_h, x_m))
    assert not any(
        file.name.startswith(".") for file in path.parent.iterdir()
    )  # no temporary files left


def test_a_denoiser_is_stored_with_its_model(tmp_path, small_train, small_val, degrade6):
    model = FusionModel(
        S3RNet.from_preset("tiny", 170, 6),
        degrade6,
        "band",
        "injection",
        small_train.cube,
        denoise=True,
    ).eval()
    training.save_checkpoint(tmp_path / "model.safetensors", model, "tiny", {})
    x_h, x_m = (x[None] for x in degrade6(small_val.cube))
    x_h = x_h + 0.01 * torch.randn_like(x_h)
    assert torch.equal(
        training.load_checkpoint(tmp_path / "model.safetensors")(x_h, x_m), model(x_h, x_m)
    )


def test_the_robust_model_beats_the_control_under_noise_and_hardly_loses_without(
    indian_pines_split,
):
    """The regression on the clean HR-MSI alone, which no noise on the LR-HSI can touch, is what a
    fusion has to beat.
    """
    region, _, test = indian_pines_split
    robust, clean = (
        training.load_checkpoint(DATA_FOLDER / f"s3rnet_lite_6bands{end}.safetensors")
        for end in ("_robust", "")
    )
    control = robustness.regression_control(robust.degrade, region)
    networks = {"robust": robust, "clean": clean, "control": control}
    rows = robustness.sweep(networks, test, (None, 40, 15, 5), 1, degrade=robust.degrade)
    score = {(row["network"], row["snr_db"]): row["psnr_pooled_scene_peak"] for row in rows}
    assert score["robust", None] > score["clean", None] - 0.3
    for snr, lead in ((40, 4.5), (15, 2.0), (5, 0.5)):
        assert score["robust", snr] > score["control", snr] + lead
    assert score["clean", 15] < score["control", 15] - 15
    assert (
        score_model(robust, test)["psnr_pooled_without"]["lr_hsi"] < score["robust", None] - 5
    )  # it does look at a clean LR-HSI


def test_the_card_rebuilds_the_degradation(stored):
    path, model = stored
    assert training.load_checkpoint(path).degrade.card() == model.degrade.card()


@pytest.mark.parametrize("keep", [0, 7, 100, 10_000, -1])
def test_truncated_files_are_refused(keep, stored):
    path, _ = stored
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="damaged, or not a safetensors file"):
        training.load_checkpoint(path)


def test_foreign_files_are_refused(stored):
    path, _ = stored
    torch.save({"weights": torch.ones(3)}, path)
    with pytest.raises(ValueError, match="damaged, or not a safetensors file"):
        training.load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"network": {"name": "s3rnet", "preset": "lite", "hsi_bands": 170, "msi_bands": 6}},
            "tensors do not fit its card",
        ),
        (
            {"network": {"name": "s3rnet", "preset": "tiny", "hsi_bands": 170, "msi_bands": 4}},
            "tensors do not fit its card",
        ),
        ({"fusion": {"scaling": "band", "skip": "none"}}, "regression: card None"),
        ({"network": {"preset": "tiny"}}, "not the card of a checkpoint"),
        (
            {"network": {"name": "s3rnet", "preset": "huge", "hsi_bands": 170, "msi_bands": 6}},
            "expected one of",
        ),
    ],
)
def test_a_card_of_another_model_is_refused(change, message, stored):
    path, _ = stored
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        training.load_checkpoint(path)


def test_a_card_that_is_no_json_is_refused(stored):
    path, _ = stored
    path.with_suffix(".json").write_text('{"network": ')
    with pytest.raises(ValueError, match="not the card of a checkpoint"):
        training.load_checkpoint(path)


def test_missing_files_are_named(tmp_path, stored):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        training.load_checkpoint(tmp_path / "none.safetensors")
    shutil.move(stored[0].with_suffix(".json"), tmp_path / "elsewhere.json")
    with pytest.raises(FileNotFoundError, match=r"model\.json"):
        training.load_checkpoint(stored[0])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_checkpoints_are_small_and_say_where_they_come_from(path):
    card = json.loads(path.with_suffix(".json").read_text())
    assert path.stat().st_size <= 3 * 2**20
    facts = card["provenance"]
    assert set(facts) == {
        "command",
        "git_commit",
        "seed",
        "device",
        "torch",
        "python",
        "wall_seconds",
        "date",
    }
    assert len(facts["git_commit"]) == 40  # a commit, with no changes on top
    assert facts["wall_seconds"] <= 600
    assert card["training"]["validation"][-1]["step"] == card["training"]["config"]["steps"]


@pytest.mark.parametrize("path", CLEAN, ids=lambda path: path.stem)
def test_shipped_checkpoints_beat_the_closed_form_on_unseen_pixels(path, indian_pines_split):
    """In all four metrics; the regression is fitted on the training region, as the network is."""
    train, _, test = indian_pines_split
    model = training.load_checkpoint(path)
    closed_form, ours = (
        score_baselines(model.degrade, train, test)[TRAINED_CLOSED_FORM],
        score_model(model, test),
    )
    assert ours["psnr_pooled_scene_peak"] > closed_form["psnr_pooled_scene_peak"] + 0.5
    assert ours["psnr_band_mean_band_peak"] > closed_form["psnr_band_mean_band_peak"] + 0.3
    assert ours["sam_degrees"] < closed_form["sam_degrees"]
    assert ours["ergas"] < closed_form["ergas"]


@pytest.mark.parametrize("path", CLEAN, ids=lambda path: path.stem)
def test_shipped_checkpoints_use_both_inputs_and_keep_all_gates_open(path, indian_pines_split):
    scores = score_model(training.load_checkpoint(path), indian_pines_split[2])
    assert max(scores["psnr_pooled_without"].values()) < scores["psnr_pooled_scene_peak"] - 3
    # The network alone leans on the HR-MSI; open gates let the LR-HSI in, but the skip has already
    # said most of what it knows.
    assert scores["psnr_pooled_network_without"]["hr_msi"] < scores["psnr_pooled_scene_peak"] - 0.5
    assert scores["psnr_pooled_network_without"]["lr_hsi"] < scores["psnr_pooled_scene_peak"] - 0.02
    assert min(scores["gate_means"]) > 0.05


def test_there_is_a_checkpoint_for_four_and_for_six_bands():
    assert [path.stem for path in CLEAN] == ["s3rnet_lite_4bands", "s3rnet_lite_6bands"]
