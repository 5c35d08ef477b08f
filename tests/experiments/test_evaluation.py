"""Scores over many scenes."""

import pytest
import torch

from s3rnet_lite import S3RNet, baselines, metrics, training
from s3rnet_lite.experiments import evaluation
from s3rnet_lite.peers import registry
from s3rnet_lite.training.fusion import FusionModel


def test_scores_of_many_scenes_are_means_over_the_scenes(small_train, small_val, degrade6):
    scenes = [small_train, small_val]
    model = FusionModel(
        S3RNet.from_preset("tiny", 170, 6), degrade6, "band", "injection", small_train.cube
    )
    rows = evaluation.score_many(degrade6, {"a model": model}, iter(scenes))
    assert set(rows) == {*evaluation.QUICK_BASELINES, "a model"}
    pairs = [degrade6(scene.cube) for scene in scenes]
    with torch.no_grad():
        fused = {
            "bicubic": [baselines.bicubic(x_h, x_m, degrade6) for x_h, x_m in pairs],
            "a model": [model(x_h[None], x_m[None])[0] for x_h, x_m in pairs],
        }
    for name, images in fused.items():
        for metric, function in (
            ("sam_degrees", metrics.sam),
            ("psnr_pooled_scene_peak", metrics.pooled_psnr),
        ):
            values = [
                function(y_hat, scene.cube) for y_hat, scene in zip(images, scenes, strict=True)
            ]
            assert rows[name][metric] == pytest.approx(sum(values) / 2, rel=1e-4)


def test_no_scene_is_an_error(degrade6):
    with pytest.raises(ValueError, match="scenes: expected at least one"):
        evaluation.score_many(degrade6, {}, [])


def test_scoring_teaches_a_model_nothing(small_train, small_val, degrade6):
    """Batch normalisation in training mode would take the test region into its statistics."""
    model = FusionModel(
        registry.build("hyperrefiner", "lite", 170, 6),
        degrade6,
        "band",
        "injection",
        small_train.cube,
    ).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluation.score_model(model, small_val)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_skip_alone_is_what_a_zero_output_network_leaves(small_train, small_val, degrade6):
    model = FusionModel(
        registry.build("s3rnet", "tiny", 170, 6), degrade6, "band", "injection", small_train.cube
    ).eval()
    found = evaluation.score_model(model, small_val)["skip_alone"]
    x_h, x_m = degrade6(small_val.cube)
    guess = baselines.apply_regression(model.regression, x_m)
    expected = baselines.inject(x_h, guess, degrade6, passes=2)
    assert found == pytest.approx(evaluation.measure(expected, small_val, degrade6), rel=1e-4)


def test_a_model_whose_metadata_do_not_say_how_it_was_trained_is_scored(
    small_train, small_val, degrade6, tmp_path
):
    model = FusionModel(
        S3RNet.from_preset("tiny", 170, 6), degrade6, "band", "bilinear", small_train.cube
    )
    training.save_checkpoint(tmp_path / "model.safetensors", model, "tiny", {"training": None})
    row = evaluation._row_of(tmp_path / "model.safetensors", model, small_val)
    assert (row["seed"], row["trained_seconds"]) == (None, None)
    assert row["psnr_pooled_scene_peak"] > 0


def test_two_checkpoints_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--checkpoint: .* different names, got \['a', 'a'\]"):
        evaluation.load_comparable([tmp_path / "one" / "a", tmp_path / "other" / "a"])
