"""The comparison: equal budgets, equal help, nothing repeated, the test region last."""

import csv
import json

import pytest
import torch

from s3rnet_lite import training
from s3rnet_lite.experiments import comparison, runs
from s3rnet_lite.files.provenance import DATA_FOLDER
from s3rnet_lite.peers import registry

pytestmark = pytest.mark.slow  # not part of `make check`


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One network with both recipes and next to no budget, trained by two processes."""
    folder = tmp_path_factory.mktemp("campaign") / "comparison"
    comparison.compare(["mssjfl"], comparison.RECIPES, 4, 1, 2, campaign(folder))
    return folder


def campaign(folder, seconds: float = 1.0) -> runs.Campaign:
    return runs.Campaign(seconds, results=folder.parent, work=folder.parent / "models")


def test_one_result_per_run_and_per_search(folder):
    expected = {
        f"{start}_mssjfl{end}.json"
        for recipe in comparison.RECIPES
        for start, end in ((f"search_{recipe}", ""), (f"{recipe}_4bands", "_seed0"))
    }
    assert {path.name for path in folder.glob("*.json")} == expected
    for path in folder.glob("*.json"):
        facts = json.loads(path.read_text())["provenance"]
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
        assert facts["device"] == "CPU, 1 threads"


def test_the_rate_of_a_run_is_the_best_of_its_search(folder):
    for path in folder.glob("search_*.json"):
        search = json.loads(path.read_text())
        best = max(search["validation_trials"], key=lambda trial: trial["psnr_pooled"])
        run = json.loads(
            (folder / f"{search['recipe']}_4bands_{search['network']}_seed0.json").read_text()
        )
        assert run["config"]["learning_rate"] == search["learning_rate"] == best["learning_rate"]
        assert run["config"]["steps"] == search["steps"] == run["validation"][-1]["step"]
        assert search["provenance"]["seed"] != run["seed"]
        rates = [trial["learning_rate"] for trial in search["validation_trials"]]
        assert rates == list(runs.LEARNING_RATES)


def test_scores_are_those_of_the_stored_model(folder, indian_pines_split):
    run = json.loads((folder / "common_4bands_mssjfl_seed0.json").read_text())
    model = training.load_checkpoint(
        folder.parent / "models" / "comparison" / "common_4bands_mssjfl_seed0.safetensors"
    )
    scores = training.validate(model, indian_pines_split[2])
    assert run["test"]["psnr_pooled_scene_peak"] == pytest.approx(
        scores["psnr_pooled_scene_peak"], abs=1e-3
    )
    assert run["parameters"] == sum(p.numel() for p in model.network.parameters())


def test_what_is_stored_is_not_trained_again(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*.*")}
    comparison.compare(["mssjfl"], comparison.RECIPES, 4, 1, 1, campaign(folder))
    assert {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*.*")} == before


def test_another_budget_is_another_comparison(folder):
    with pytest.raises(ValueError, match=r"budget: expected 1\.0 CPU-seconds"):
        runs.search("mssjfl", "common", campaign(folder, 2.0))


def test_the_table_shows_every_network_and_the_printed_numbers(folder):
    rows = comparison.stored(folder)
    lines = comparison.format_table(rows, 4).splitlines()
    assert len(lines) == 2 + 1
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    half = comparison.format_table([row for row in rows if row["recipe"] == "published"], 4)
    assert half.splitlines()[2].count("–") == 4  # of the other recipe nothing is known
    pan = comparison.format_table([{**row, "msi_bands": 1} for row in rows], 1).splitlines()
    assert pan[2].endswith("| – | – |")  # Table I has 4 and 6 bands
    assert any("MSSJFL" in line and "34.97" in line for line in lines)


def test_seeds_become_mean_and_standard_deviation():
    def run(seed, psnr):
        scores = {metric: psnr for metric in comparison.METRICS}
        config = {"steps": 5, "learning_rate": 1e-3}
        return {
            "network": "u2net",
            "recipe": "common",
            "msi_bands": 4,
            "seed": seed,
            "parameters": 9,
            "config": config,
            "cpu_seconds": 2.0 * seed,
            "fusing_seconds": 0.1,
            "test": scores,
        }

    row = comparison.summarise([run(0, 40.0), run(1, 42.0), run(2, 44.0)], "common", 4)["u2net"]
    assert row["psnr_pooled_scene_peak"] == (42.0, 2.0)
    assert (row["seeds"], row["cpu_seconds"]) == (3, 2.0)


def test_table1_is_complete():
    printed = comparison.table1()
    assert set(printed) == set(registry.NAMES)
    with open(DATA_FOLDER / "table1.csv", newline="") as file:
        assert len(list(csv.reader(file))) == 12
    # What the paper's text says of its own row: best in both PSNR columns, second-best in one ERGAS
    # column
    for bands in (4, 6):
        assert max(printed, key=lambda name: printed[name][f"psnr_{bands}bands"]) == "s3rnet"


def test_stored_results_of_this_repository_are_one_fair_comparison():
    """Equal budgets, one commit of the code, and nobody far above the budget."""
    rows = comparison.stored()
    assert {row["network"] for row in rows} == set(registry.NAMES)
    assert len({row["budget_cpu_seconds"] for row in rows}) == 1
    four = [json.dumps(row["degradation"]) for row in rows if row["msi_bands"] == 4]
    assert len(set(four)) == 1
    for run in rows:
        assert len(run["provenance"]["git_commit"]) == 40
        assert torch.isfinite(
            torch.tensor([run["test"][metric] for metric in comparison.METRICS])
        ).all()


SHIPPED = sorted((DATA_FOLDER / "peers").glob("*.safetensors"))


def test_all_eleven_are_shipped_with_their_cards():
    assert {path.stem for path in SHIPPED} == {f"{name}_4bands" for name in registry.NAMES}
    for path in SHIPPED:
        card = json.loads(path.with_suffix(".json").read_text())
        assert path.stat().st_size <= 3 * 2**20
        assert (
            len(card["provenance"]["git_commit"]) == 40 and card["training"]["config"]["seed"] == 0
        )


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_model_scores_what_its_run_says(path, indian_pines_split):
    run = json.loads(
        (
            comparison.FOLDER / f"common_4bands_{path.stem.removesuffix('_4bands')}_seed0.json"
        ).read_text()
    )
    scores = training.validate(training.load_checkpoint(path), indian_pines_split[2])
    for metric in comparison.METRICS:
        assert scores[metric] == pytest.approx(run["test"][metric], rel=1e-3)
