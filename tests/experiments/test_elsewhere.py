"""The study of other scenes, on small made ones: cases, rows, resuming, and the summary."""

import json
import os
from pathlib import Path

import pytest
import torch

from s3rnet_lite import baselines, metrics, scenes
from s3rnet_lite.experiments import elsewhere

FOLDER = Path(os.environ.get("S3RNET_LITE_SCENES", Path(__file__).parents[3] / "shared" / "scenes"))


@pytest.fixture
def small(indian_pines, monkeypatch):
    """Two scenes of few bands, and neither network nor `adapt`."""
    bands = indian_pines.wavelengths_nm.argsort()[::9]
    found = []
    for name, rows in (("one", slice(0, 50)), ("two", slice(90, 140))):
        part = indian_pines.crop(rows, slice(0, 66), name)
        found.append(
            type(part)(
                part.cube[bands],
                part.wavelengths_nm[bands],
                part.fwhm_nm[bands],
                None,
                name,
                1.0,
                0.0,
            )
        )
    monkeypatch.setattr(elsewhere, "find", lambda folder: (found, {"one": "abc"}))
    return found


def test_halves_share_no_pixel_and_fit_the_scale(small):
    left, right = elsewhere.halves(small[0])
    assert left.cube.shape[1:] == right.cube.shape[1:] == (48, 32)
    assert torch.equal(left.cube, small[0].cube[:, :48, :32])
    assert torch.equal(right.cube, small[0].cube[:, :48, 34:])


def test_every_half_is_tested_by_a_model_of_the_other(small):
    keys = [
        (case.key["scene"], case.key["tested"], case.msi_bands) for case in elsewhere.cases(small)
    ]
    assert len(keys) == len(set(keys)) == 2 * 2 * 3
    for case in elsewhere.cases(small):
        assert case.learn.name != case.test.name
        assert case.learn.name.split("/")[0] == case.test.name.split("/")[0]


def test_rows_are_measured_once_and_are_what_the_method_scores(small, tmp_path, monkeypatch):
    out = tmp_path / "scenes.json"
    content = elsewhere.run(tmp_path, out, ("bicubic", "zero-shot"))
    assert len(content["rows"]) == 2 * 2 * 3 * 2 and content["sha256"] == {"one": "abc"}
    case = next(iter(elsewhere.cases(small)))
    y_hat = baselines.bicubic(*case.degrade(case.test.cube), case.degrade)
    [row] = [
        r for r in content["rows"] if case.key.items() <= r.items() and r["method"] == "bicubic"
    ]
    assert row["psnr_pooled_scene_peak"] == pytest.approx(
        metrics.pooled_psnr(y_hat, case.test.cube)
    )
    monkeypatch.setattr(elsewhere.metrics, "evaluate", None)  # nothing is measured again
    assert elsewhere.run(tmp_path, out, ("bicubic", "zero-shot"))["rows"] == content["rows"]
    assert json.loads(out.read_text())["provenance"]["seed"] == [0, 1, 2]


def test_what_a_method_refuses_is_stored_with_its_reason(small, tmp_path, monkeypatch):
    def refuse(*_):
        raise ValueError("too small")

    monkeypatch.setattr(elsewhere, "adapted", refuse)
    rows = elsewhere.run(tmp_path, tmp_path / "scenes.json", ("adapt",))["rows"]
    assert {row["refused"] for row in rows} == {"too small"}
    assert elsewhere.summary(rows) == []


def test_lite_and_adapt_give_an_image_of_the_half(small, monkeypatch):
    from dataclasses import replace

    case = next(iter(elsewhere.cases(small)))
    monkeypatch.setattr(elsewhere, "CONFIG", replace(elsewhere.CONFIG, steps=2, validate_every=2))
    quick = replace(elsewhere.adaptation.CONFIG, steps=2)
    monkeypatch.setattr(elsewhere.adaptation, "CONFIG", quick)
    for image in (elsewhere.lite(case, 0), elsewhere.adapted(case, 0)):
        assert image.shape == case.test.cube.shape and image.isfinite().all()


def test_a_scene_without_near_bands_teaches_nothing(small):
    other = scenes.simulate(0, 32, torch.linspace(400, 900, 20))
    assert not elsewhere.covers(other, small[0]) and elsewhere.covers(small[1], small[0])
    assert torch.equal(elsewhere.matched(small[1], small[0]), small[1].cube[:, :48, :64])


def test_the_summary_compares_with_the_best_classical_method_of_each_half():
    def row(method, value, scene="s", **more):
        scores = dict.fromkeys(elsewhere.METRICS, float(value))
        return (
            {"scene": scene, "tested": "left half", "msi_bands": 4, "method": method}
            | scores
            | more
        )

    rows = [
        row("bicubic", 30),
        row("sylvester", 40),
        row("lite", 41, seed=0),
        row("lite", 43, seed=1),
    ]
    rows += [row("sylvester", 50, "t"), row("lite", 49, "t", seed=0)]
    [lite] = [r for r in elsewhere.summary(rows) if r["method"] == "lite"]
    assert lite["halves"] == 2
    assert (lite["mean_psnr_pooled_scene_peak"], lite["worst_psnr_pooled_scene_peak"]) == (0.5, -1)
    assert (lite["mean_sam_degrees"], lite["worst_sam_degrees"]) == ((12 - 1) / 2, 12)


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs real scenes in {FOLDER}")
def test_the_scenes_of_a_folder_are_found_with_their_checksums():
    found, checksums = elsewhere.find(FOLDER)
    names = {"indian_pines", "jasper_ridge", "san_diego", "samson", "enmap_potsdam", "paris"}
    assert {scene.name for scene in found} == names
    assert checksums.keys() == names - {"indian_pines", "enmap_potsdam"}
    assert all(len(checksum) == 64 for checksum in checksums.values())


def test_what_cannot_be_measured_is_said_before_the_work(tmp_path):
    with pytest.raises(ValueError, match=r"--method: expected some of .*adapt, got 'best'"):
        elsewhere.run(tmp_path, tmp_path / "out.json", ("bicubic", "best"))
    with pytest.raises(FileNotFoundError, match="none: no such folder"):
        elsewhere.run(tmp_path / "none", tmp_path / "out.json")
    (tmp_path / "other.json").write_text('{"thesis": 1}')
    with pytest.raises(ValueError, match=r"other\.json: expected a file of earlier rows"):
        elsewhere.run(tmp_path, tmp_path / "other.json")
    assert (tmp_path / "other.json").read_text() == '{"thesis": 1}'
