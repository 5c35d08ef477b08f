"""Stored results carry their provenance; the repository's facts about a run are right."""

import json

import pytest

from s3rnet_lite.files import provenance
from s3rnet_lite.files.provenance import REPOSITORY, RESULTS_FOLDER

LEDGER = RESULTS_FOLDER / "claims.json"
STORED = sorted(set(RESULTS_FOLDER.rglob("*.json")) - {LEDGER})
FACTS = {"command", "git_commit", "seed", "device", "torch", "python", "wall_seconds", "date"}
CAMPAIGNS = {
    "comparison": "compare",
    "robustness": "robustness",
    "deafness": "deafness",
}  # folder -> command


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_every_stored_result_says_where_it_comes_from(path):
    facts = json.loads(path.read_text())["provenance"]
    command = facts["command"]
    assert set(facts) == FACTS and len(facts["git_commit"]) == 40
    if command.startswith("notebooks/"):  # a chapter's own long run
        assert path.name in (REPOSITORY / command.split()[0]).read_text()
    elif path.name == "campaign.json":
        assert command == "make campaign"
    elif path.parent.name in CAMPAIGNS:  # one command, many files
        assert command.startswith(f"python -m s3rnet_lite {CAMPAIGNS[path.parent.name]}")
    elif path.name.startswith("gpu_"):  # one command, two files for each kind of GPU
        assert command.startswith("python -m s3rnet_lite gpu")
    else:
        assert command.startswith("python -m s3rnet_lite ")
        assert path.name in command or path.stem in command.split()  # a file or a command


def test_every_claim_comes_from_a_chapter_that_is_there():
    for chapter, entry in json.loads(LEDGER.read_text()).items():
        facts = entry["provenance"]
        assert entry["claims"] and set(facts) == FACTS
        assert chapter in facts["command"] and (REPOSITORY / facts["command"]).exists()


@pytest.mark.parametrize("msi_bands", [4, 6])
def test_models_and_classical_methods_were_measured_on_the_same_images(msi_bands):
    models, classical = (
        json.loads((RESULTS_FOLDER / f"{kind}_{msi_bands}bands.json").read_text())
        for kind in ("lite", "classical")
    )
    assert models["scene"] == classical["scene"]
    assert models["noise_ceiling"] == pytest.approx(classical["noise_ceiling"], rel=1e-5)
    ours, theirs = (one["baselines"]["bicubic"]["sam_degrees"] for one in (models, classical))
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_provenance_keeps_no_absolute_path(monkeypatch, tmp_path):
    arguments = ["ignored", "train", "--data", str(tmp_path / "lines"), "--out", "runs/m.json"]
    monkeypatch.setattr("sys.argv", arguments)
    command = provenance.facts(seed=0, seconds=1.0)["command"]
    assert command == "python -m s3rnet_lite train --data lines --out runs/m.json"


def test_provenance_names_what_is_needed_to_repeat_a_run(monkeypatch):
    monkeypatch.setattr("sys.argv", ["ignored", "train", "--out", "a file"])
    facts = provenance.facts(seed=3, seconds=1.234)
    assert set(facts) == FACTS
    assert facts["command"] == "python -m s3rnet_lite train --out 'a file'"
    assert (facts["seed"], facts["wall_seconds"]) == (3, 1.2)


def test_what_is_stored_and_what_is_not():
    [tiling] = provenance.stored("tiling.json")
    known = tiling["provenance"]
    for fact in (known["device"], known["torch"], known["date"], known["git_commit"][:7]):
        assert fact in provenance.origin(tiling)
    assert provenance.stored("no_such_result_*.json") == [{}]
    assert provenance.origin({}) == "not measured"
