"""The tables of the paper's form agree with the stored runs, read here in another way."""

import json
import statistics

import pytest

from s3rnet_lite.course import form_results
from s3rnet_lite.experiments import demands
from s3rnet_lite.files.provenance import RESULTS_FOLDER


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_every_stored_training_is_counted():
    stored = list((RESULTS_FOLDER / "deafness").glob("*.json"))
    _, _, *rows = cells(form_results.deafness())
    assert sum(int(row[2]) for row in rows) == len(stored)


@pytest.mark.parametrize(("size", "rate"), [("small", 1e-4), ("long", 3e-3)])
def test_a_row_spans_the_scores_of_its_seeds(size, rate):
    paths = (RESULTS_FOLDER / "deafness").glob(f"{size}_{rate:.0e}_seed*.json")
    scores = sorted(
        json.loads(path.read_text())["scores"]["psnr_pooled_scene_peak"] for path in paths
    )
    row = next(r for r in cells(form_results.deafness()) if r[:2] == [size, f"{rate:g}"])
    assert [float(x) for x in row[4].split(" to ")] == pytest.approx(
        sorted({scores[0], scores[-1]}), abs=0.005
    )


def test_differences_to_the_bare_network_are_those_of_the_means():
    stored = json.loads((RESULTS_FOLDER / "demands.json").read_text())["rows"]

    def mean(name):
        return statistics.fmean(
            row["validation"]["psnr_pooled_scene_peak"] for row in stored if row["name"] == name
        )

    change = mean("softmax over the gates") - mean("bare")
    text = " ".join(form_results.readings_of_demands().split())
    assert f"a softmax over the gates {change:+.2f}" in text
    assert {row["name"] for row in stored} == set(demands.VARIANTS)
