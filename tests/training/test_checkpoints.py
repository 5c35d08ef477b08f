"""Stored models: a round trip, and every way a file can be wrong."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from s3rnet_lite import S3RNet, training
from s3rnet_lite.experiments.evaluation import score_model
from s3rnet_lite.files.atomic import SEAL
from s3rnet_lite.files.provenance import DATA_FOLDER, RESULTS_FOLDER
from s3rnet_lite.training.checkpoints import SHIPPED
from s3rnet_lite.training.fusion import FusionModel

pytestmark = pytest.mark.slow  # not part of `make check`

FILES = sorted(DATA_FOLDER.glob("s3rnet_*.safetensors"))
CLEAN = [path for path in FILES if "robust" not in path.stem]


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
    torch.testing.assert_close(training.load_checkpoint(path)(x_h, x_m), model(x_h, x_m))
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
    loaded = training.load_checkpoint(tmp_path / "model.safetensors")
    torch.testing.assert_close(loaded(x_h, x_m), model(x_h, x_m))


def test_the_metadata_rebuilds_the_degradation(stored):
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
    ("key", "change", "message"),
    [
        ("network", {"config": {"width": 32}}, "tensors do not fit its metadata"),
        ("network", {"msi_bands": 4}, "tensors do not fit its metadata"),
        ("network", {"config": {"depth": 3}}, "not the metadata of a checkpoint"),
        ("fusion", {"skip": "none"}, "regression: metadata None"),
        ("fusion", {"skip": "cubic"}, "skip: expected one of"),
    ],
)
def test_metadata_of_another_model_is_refused(key, change, message, stored):
    metadata = stored[0].with_suffix(".json")
    content = json.loads(metadata.read_text())
    content[key] |= change
    del content[SEAL]
    metadata.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        training.load_checkpoint(stored[0])


@pytest.mark.parametrize("content", ['{"network": ', "{}", "[]"])
def test_a_file_that_is_no_metadata_is_refused(content, stored):
    path, _ = stored
    path.with_suffix(".json").write_text(content)
    with pytest.raises(ValueError, match=r"model\.json: (not the metadata|damaged, or no JSON)"):
        training.load_checkpoint(path)


def test_one_changed_digit_in_the_metadata_is_noticed(stored):
    metadata = stored[0].with_suffix(".json")
    metadata.write_text(metadata.read_text().replace('"sigma": 1.7', '"sigma": 1.3'))
    with pytest.raises(ValueError, match=r"model\.json: damaged or changed"):
        training.load_checkpoint(stored[0])


def test_missing_files_are_named(tmp_path, stored):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        training.load_checkpoint(tmp_path / "none.safetensors")
    shutil.move(stored[0].with_suffix(".json"), tmp_path / "elsewhere.json")
    with pytest.raises(FileNotFoundError, match=r"model\.json"):
        training.load_checkpoint(stored[0])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
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
def test_a_shipped_model_scores_on_the_test_region_what_is_stored(path, indian_pines_split):
    stored = json.loads((RESULTS_FOLDER / f"{path.stem.removeprefix('s3rnet_')}.json").read_text())
    row = next(row for row in stored["networks"] if row["checkpoint"] == path.name)
    found = score_model(training.load_checkpoint(path), indian_pines_split[2])
    assert found["psnr_pooled_scene_peak"] == pytest.approx(row["psnr_pooled_scene_peak"], abs=0.01)
    assert found["sam_degrees"] == pytest.approx(row["sam_degrees"], abs=0.001)
    assert found["gate_means"] == pytest.approx(row["gate_means"], abs=0.001)


def test_shipped_models_have_names():
    assert {DATA_FOLDER / file for file in SHIPPED.values()} == set(FILES)
    model = training.load_checkpoint("lite-4bands")
    assert (model.network.hsi_bands, model.network.msi_bands) == (170, 4)


def test_metadata_of_before_the_config_builds_the_same_network(stored):
    path, model = stored
    metadata = path.with_suffix(".json")
    content = json.loads(metadata.read_text())
    assert content["network"]["config"] == json.loads(json.dumps(asdict(model.network.config)))
    del content["network"]["config"], content[SEAL]
    metadata.write_text(json.dumps(content))
    found = training.load_checkpoint(path)
    assert found.network.config == model.network.config
    assert all(
        torch.equal(x, y)
        for x, y in zip(found.state_dict().values(), model.state_dict().values(), strict=True)
    )
