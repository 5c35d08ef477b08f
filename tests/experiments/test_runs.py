"""The runner: recipes, searches, what is stored once, and jobs in processes of their own."""

import json

import pytest

from s3rnet_lite import peers
from s3rnet_lite.experiments import runs
from s3rnet_lite.peers import registry
from s3rnet_lite.training.sources import INDIAN_PINES


@pytest.mark.parametrize("name", registry.NAMES)
def test_the_common_recipe_is_the_same_for_all_and_the_published_one_brings_no_help(name):
    changes, config = runs.recipe(name, "common", 150, 1e-3, 0)
    assert config == runs.recipe("mssjfl", "common", 150, 1e-3, 0)[1]
    if name != "s3rnet":
        assert changes == ({"global_skip": False} if name in peers.WITH_GLOBAL_SKIP else {})
    changes, config = runs.recipe(name, "published", 150, 1e-3, 0)
    assert (config.skip, config.mixing) == ("none", 0.0)
    assert not config.standardised_l1 and config.gradient_clip is None
    assert config.sam_weight == (0.1 if name == "s3rnet" else 0.0)
    registry.build(name, "lite", 20, 4, **changes)


def test_unknown_recipes_are_named():
    with pytest.raises(ValueError, match="recipe: expected one of"):
        runs.recipe("s3rnet", "best", 10, 1e-3, 0)


def test_a_diverging_learning_rate_loses_the_search(monkeypatch):
    def diverge(*_):
        raise FloatingPointError("the loss is nan")

    monkeypatch.setattr(runs, "train_run", diverge)
    found = runs._trial(runs.Run("s3rnet", "common", 4, 0), 5, 1.0, INDIAN_PINES)
    assert found == {"learning_rate": 1.0, "steps": 5, "psnr_pooled": None}


def test_what_is_stored_is_not_measured_again(tmp_path):
    measured = []

    def measure() -> dict:
        measured.append(1)
        return {"score": 3}

    path = tmp_path / "deeper" / "run.json"
    assert runs.store_once(path, measure) == runs.store_once(path, measure) == {"score": 3}
    assert len(measured) == 1 and json.loads(path.read_text())["score"] == 3


def test_an_error_in_a_process_is_raised(tmp_path):
    runs.run_all(pow, [(2, 3), (2, 4)], 1, "powers")
    with pytest.raises(ZeroDivisionError):
        runs.run_all(divmod, [(1, 1), (1, 0)], 1, "quotients")
