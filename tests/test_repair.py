"""The damaged scene file: the evidence, and that the repair undoes exactly this damage."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from s3rnet_lite import scenes
from s3rnet_lite.repair import undo_newline_damage


@pytest.fixture(scope="module")
def distributed() -> np.ndarray:
    folder = Path(importlib.util.find_spec("tensorly").origin).parent / "datasets" / "data"
    return np.load(folder / "Indian_pines_corrected.npy")


@pytest.fixture(scope="module")
def repaired(distributed) -> np.ndarray:
    return undo_newline_damage(distributed)


def damage(numbers: np.ndarray) -> np.ndarray:
    """What a conversion of line ends does to the bytes of an array."""
    return np.frombuffer(numbers.tobytes().replace(b"\r", b"\n"), numbers.dtype).reshape(numbers.shape)


def test_the_distributed_file_has_lost_every_carriage_return(distributed):
    counts = np.bincount(np.frombuffer(distributed.tobytes(), np.uint8), minlength=256)
    assert counts[0x0D] == 0
    assert min(counts[0x0B], counts[0x0C], counts[0x0E]) > 100_000
    assert counts[0x0A] > 1.3 * counts[[0x09, 0x0B, 0x0C, 0x0E]].max()


def test_the_repair_touches_suspects_only_and_by_one_amount(distributed, repaired):
    difference = repaired.astype(int) - distributed
    assert set(np.unique(difference)) == {0, 768}
    assert ((distributed >> 8)[difference == 768] == 0x0A).all()
    assert 0.02 < (difference == 768).mean() < 0.04


def test_the_gap_in_the_histogram_closes(distributed, repaired):
    """At 557 nm no distributed number has a high byte of 0x0B to 0x0D; in truth the darkest pixels lie just below 0x0E."""
    band_before, band_after = distributed[..., 16], repaired[..., 16]
    assert not np.isin(band_before >> 8, (0x0B, 0x0D)).any() and np.isin(band_before >> 8, 0x0A).sum() > 1_000
    assert not np.isin(band_after >> 8, 0x0A).any() and np.isin(band_after >> 8, 0x0D).sum() > 1_000


def test_damaging_the_repaired_scene_again_and_repairing_it_gives_the_same(repaired):
    once_more = damage(repaired)
    assert (once_more != repaired).mean() > 0.02
    low_byte_lost = (repaired & 0xFF) == 0x0D  # these 3 digital numbers cannot come back
    assert (undo_newline_damage(once_more) == repaired)[~low_byte_lost].all()


def test_a_sound_file_stays_as_it_is(repaired):
    assert undo_newline_damage(repaired) is repaired


def test_invented_damage_of_an_invented_scene_is_undone():
    """Mixtures of six smooth spectra with noise, scaled into the range where both 0x0A and 0x0D occur."""
    generator = np.random.default_rng(0)
    bands = np.linspace(0, 1, 60)
    spectra = np.stack([1.2 + np.sin(6 * bands * (k + 1) / 3 + k) * 0.5 for k in range(6)])
    abundances = generator.dirichlet(np.ones(6), size=(50, 50))
    numbers = (abundances @ spectra * 2_500 + generator.normal(0, 15, (50, 50, 60))).astype(np.uint16)
    numbers[..., 45:] //= 4  # dark bands without suspects, as the shortwave infrared has
    assert np.isin(numbers >> 8, 0x0A).sum() > 1_000 and np.isin(numbers >> 8, 0x0D).sum() > 1_000
    undone = undo_newline_damage(damage(numbers))
    assert (np.abs(undone.astype(int) - numbers) <= 3).mean() > 0.9999


def test_the_repair_takes_most_of_the_apparent_noise_away():
    def roughness(scene):
        """Median-free measure of what neighbours in space do not share, per band."""
        cube = scene.cube.double()
        return (cube[:, 1:-1, 1:-1] - (cube[:, :-2, 1:-1] + cube[:, 2:, 1:-1]) / 2).square().mean()

    assert roughness(scenes.indian_pines()) < 0.6 * roughness(scenes.indian_pines(repaired=False))
