"""A training is watched on the way, stored, and goes on where it stopped."""

import json

import pytest

from s3rnet_lite.experiments import deafness
from s3rnet_lite.network.s3rnet import PRESETS


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setitem(deafness.STEPS, "small", 10)
    return deafness.Trajectory("small", 1e-3)


def test_the_full_size_follows_the_papers_own_recipe():
    full = deafness.Trajectory("full")
    config = full.config
    assert config.learning_rate == 1e-4 and config.steps == 252_000 and config.skip == "none"
    assert full.build().config == PRESETS["paper"]


def test_small_ones_have_the_papers_form(short):
    config, network = short.config, short.build().config
    assert config.skip == "none" and config.scaling == "range" and config.sam_weight == 0.1
    assert network.gate_bias is None and network.damped and network.entry_kernel_size == 3


def test_every_validation_says_what_the_image_owes_to_either_input(short, tmp_path):
    content = deafness.run(short, folder=tmp_path, work=tmp_path / "work")
    assert content["complete"] and [row["step"] for row in content["validation"]][-1] == 10
    for row in content["validation"]:
        assert len(row["gate_means"]) == 4 and row["dependence"]["lr_hsi_elsewhere"]["change"] >= 0
    assert json.loads((tmp_path / f"{short.name}.json").read_text())["steps"] == 10
    assert deafness.run(short, folder=tmp_path, work=tmp_path / "work")["steps"] == 10


def test_stopped_by_the_clock_it_is_scored_and_goes_no_further(short, tmp_path):
    content = deafness.run(short, 1e-6, folder=tmp_path, work=tmp_path / "work")
    assert content["complete"] and content["steps"] == 1 and "scores" in content
