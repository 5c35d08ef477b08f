"""Stored results carry their provenance and say what the README and the chapters say."""

import json

import pytest

from s3rnet_lite import baselines
from s3rnet_lite.files import provenance
from s3rnet_lite.files.provenance import REPOSITORY, RESULTS_FOLDER

LEDGER = RESULTS_FOLDER / "claims.json"
STORED = sorted(set(RESULTS_FOLDER.rglob("*.json")) - {LEDGER})
FACTS = {"command", "git_commit", "seed", "device", "torch", "python", "wall_seconds", "date"}


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_every_stored_result_says_where_it_comes_from(path):
    facts = json.loads(path.read_text())["provenance"]
    assert set(facts) == FACTS
    if facts["command"].startswith("notebooks/"):  # a chapter's own long run
        assert path.name in (REPOSITORY / facts["command"].split()[0]).read_text()
    elif path.parent.name in ("comparison", "robustness"):  # one command, many files
        assert facts["command"].startswith(
            f"python -m s3rnet_lite {path.parent.name.replace('comparison', 'compare')}"
        )
    elif path.name.startswith("gpu_"):  # one command, two files a kind of GPU
        assert facts["command"].startswith("python -m s3rnet_lite gpu")
    else:
        assert (
            facts["command"].startswith("python -m s3rnet_lite ") and path.name in facts["command"]
        )
    assert len(facts["git_commit"]) == 40


def test_every_claim_comes_from_a_chapter_that_is_there():
    for chapter, entry in json.loads(LEDGER.read_text()).items():
        assert entry["claims"] and set(entry["provenance"]) == FACTS
        assert (REPOSITORY / entry["provenance"]["command"]).exists() and chapter in entry[
            "provenance"
        ]["command"]


@pytest.mark.parametrize("msi_bands", [4, 6])
def test_five_seeds_are_stored_and_all_beat_the_closed_form(msi_bands):
    stored = json.loads((RESULTS_FOLDER / f"lite_{msi_bands}bands.json").read_text())
    closed_form = stored["baselines"]["detail injection, regression of the training region"]
    assert [row["seed"] for row in stored["networks"]] == [0, 1, 2, 3, 4]
    for row in stored["networks"]:
        assert row["psnr_pooled_scene_peak"] > closed_form["psnr_pooled_scene_peak"] + 0.5
        assert row["psnr_band_mean_band_peak"] > closed_form["psnr_band_mean_band_peak"]
        assert row["sam_degrees"] < closed_form["sam_degrees"]
        assert row["ergas"] < closed_form["ergas"]
        assert min(row["gate_means"]) > 0.05
        assert max(row["psnr_pooled_without"].values()) < row["psnr_pooled_scene_peak"] - 3


@pytest.mark.parametrize(("msi_bands", "low", "high"), [(4, 1.5, 2.5), (6, 0.5, 1.0)])
def test_the_network_leads_the_best_classical_method_by_what_the_readme_says(msi_bands, low, high):
    network = json.loads((RESULTS_FOLDER / f"lite_{msi_bands}bands.json").read_text())["summary"][
        "psnr_pooled_scene_peak"
    ]["mean"]
    classical = json.loads((RESULTS_FOLDER / f"classical_{msi_bands}bands.json").read_text())[
        "baselines"
    ]
    assert (
        low
        < network - max(classical[name]["psnr_pooled_scene_peak"] for name in baselines.NAMES)
        < high
    )


@pytest.mark.parametrize("msi_bands", [4, 6])
def test_both_stored_results_measured_the_same_region_with_the_same_sensor(msi_bands):
    network, classical = (
        json.loads((RESULTS_FOLDER / f"{kind}_{msi_bands}bands.json").read_text())
        for kind in ("lite", "classical")
    )
    assert classical["baselines"]["bicubic"]["sam_degrees"] == pytest.approx(
        network["baselines"]["bicubic"]["sam_degrees"], rel=1e-5
    )
    assert (network["scene"], network["noise_ceiling"]) == (
        classical["scene"],
        pytest.approx(classical["noise_ceiling"], rel=1e-5),
    )


def test_provenance_names_what_is_needed_to_repeat_a_run(monkeypatch):
    monkeypatch.setattr("sys.argv", ["ignored", "train", "--out", "a file"])
    facts = provenance.facts(seed=3, seconds=1.234)
    assert facts["command"] == "python -m s3rnet_lite train --out 'a file'"
    assert (facts["seed"], facts["wall_seconds"]) == (3, 1.2)
