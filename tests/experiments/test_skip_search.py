"""The search of the skip's settings changes one at a time, inside left halves, and puts everything
back as it was.
"""

import pytest

from s3rnet_lite.experiments import elsewhere, skip_search


@pytest.fixture
def small_scene(indian_pines):
    return indian_pines.crop(slice(0, 64), slice(0, 128), "small")


def test_settings_begin_with_the_present_and_differ_in_one_value():
    now, *others = skip_search.settings()
    for (module, name), values in skip_search.CHOICES.items():
        assert now[name] == getattr(module, name) and now[name] in values
    for other in others:
        assert sum(other[name] != now[name] for name in now) == 1


def test_every_setting_is_scored_on_quarters_of_left_halves_only(small_scene, monkeypatch):
    monkeypatch.setattr(skip_search, "find", lambda folder: ([small_scene], {}))
    monkeypatch.setattr(elsewhere, "MSI_BANDS", (4,))
    before = next(skip_search.settings())
    found = skip_search.search(None, progress=False)
    assert next(skip_search.settings()) == before
    assert len(found["tested"]) == 4 and all("left half/" in name for name in found["tested"])
    assert len(found["rows"]) == len(list(skip_search.settings()))
    assert all(row["worst_lead"] <= row["mean_lead"] < 60 for row in found["rows"])
    assert len({row["mean_lead"] for row in found["rows"]}) > 3  # the settings were really used
