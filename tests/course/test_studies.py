"""Sentences about the studies agree with the stored runs, read here in another way."""

import json

import pytest

from s3rnet_lite.course import studies
from s3rnet_lite.files.provenance import RESULTS_FOLDER


def pooled_psnr(pattern: str, pick) -> dict[str, float]:
    """Network -> number, of the stored files of this pattern."""
    runs = [json.loads(path.read_text()) for path in RESULTS_FOLDER.glob(pattern)]
    return {run["network"]: pick(run) for run in runs}


@pytest.mark.parametrize("bands", [4, 6])
def test_the_ranking_without_its_errors(bands):
    runs = pooled_psnr(
        f"comparison/published_{bands}bands_*_seed0.json",
        lambda run: run["test"]["psnr_pooled_scene_peak"],
    )
    expected = sorted(runs, key=runs.get, reverse=True)
    ranking = studies.ranking("published", bands)
    assert [name for name, _, _ in ranking] == [studies.title(name) for name in expected]
    assert [mean for _, mean, _ in ranking] == pytest.approx([runs[name] for name in expected])


@pytest.mark.parametrize("snr_db", [35, 15])
def test_the_rank_under_noise_counts_the_networks_above(snr_db):
    def pick(run):
        return run["curves"]["lr_hsi"]["psnr_pooled_scene_peak"][run["snr_db"].index(snr_db)]

    runs = pooled_psnr("robustness/bare_35dB_*_seed0.json", pick)
    rank, own, peer, best = studies.rank_with_noise("bare", "35 dB", snr_db)
    order = sorted(runs, key=runs.get, reverse=True)
    assert len(runs) == 11 and order.index("s3rnet") + 1 == rank and runs["s3rnet"] == own
    order.remove("s3rnet")
    assert (peer, best) == (studies.title(order[0]), runs[order[0]])
