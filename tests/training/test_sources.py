"""Sources: what they give to learn from and to be scored on, and what results say of them."""

import json

import pytest
import torch
from small_flight_lines import BANDS, PATCH, prepare

from s3rnet_lite.training import dataset, sources
from s3rnet_lite.training.sources import Source


def test_indian_pines_is_meant_where_nothing_is_named(indian_pines_split):
    parts = sources.load(Source())
    given = [*parts.train, *parts.val, *parts.test]
    for scene, expected in zip(given, indian_pines_split, strict=True):
        assert torch.equal(scene.cube, expected.cube)
    assert parts.training_pixels() is parts.train[0]
    assert Source().facts() == {} and Source().name == "indian_pines"
    assert Source().degrade(6).srf.shape == (6, 170)


def test_a_prepared_data_set_gives_its_three_parts(lines, tmp_path):
    prepare(tmp_path / "out", lines)
    source = Source(tmp_path / "out", test_patches=2)
    parts, all_of_them = sources.load(source), dataset.references(tmp_path / "out", "test")
    assert len(parts.train) == len(dataset.references(tmp_path / "out", "train"))
    assert len(parts.val) == min(8, len(dataset.references(tmp_path / "out", "val")))
    shown = [torch.round(scene.cube * 65535) for scene in parts.test]
    expected = [all_of_them[number] for number in (0, len(all_of_them) // 2)]
    assert all(torch.equal(one, y.float()) for one, y in zip(shown, expected, strict=True))
    assert len(sources.load(Source(tmp_path / "out")).test) == len(all_of_them)
    assert parts.training_pixels().cube.shape[:2] == (BANDS, PATCH)
    assert source.degrade(4).card() == dataset.load(tmp_path / "out").degradation(4).card()


def test_the_checksum_of_a_data_set_is_another_when_its_patches_are(lines, tmp_path):
    prepare(tmp_path / "a", lines)
    prepare(tmp_path / "b", lines)
    one, other = (Source(tmp_path / name).facts()["sha256"] for name in "ab")
    assert one == other
    card = tmp_path / "b" / "dataset.json"
    changed = json.loads(card.read_text())
    changed["parts"]["test"][0]["sha256"] = "0" * 64
    card.write_text(json.dumps({k: v for k, v in changed.items() if "sha256" not in k}))
    assert Source(tmp_path / "b").facts()["sha256"] != one


def test_contradictions_are_named(tmp_path):
    with pytest.raises(ValueError, match="--data, --scene: expected one of them, got"):
        Source(tmp_path, "samson", tmp_path)
    for half in ((None, "samson", None), (None, None, tmp_path)):
        with pytest.raises(ValueError, match="--scene, --file: expected both or neither"):
            Source(*half)
    with pytest.raises(FileNotFoundError, match="no prepared data set"):
        sources.load(Source(tmp_path))
