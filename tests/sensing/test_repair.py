"""The damaged scene file: the evidence, and that the repair undoes exactly this damage."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from s3rnet_lite import metrics, scenes
from s3rnet_lite.__main__ import main
from s3rnet_lite.sensing import repair
from s3rnet_lite.sensing.repair import undo_newline_damage


@pytest.fixture(scope="module")
def distributed() -> np.ndarray:
    folder = Path(importlib.util.find_spec("tensorly").origin).parent / "datasets" / "data"
    return np.load(folder / "Indian_pines_corrected.npy")


@pytest.fixture(scope="module")
def repaired(distributed) -> np.ndarray:
    return undo_newline_damage(distributed)


def damage(numbers: np.ndarray) -> np.ndarray:
    """What a conversion of line ends does to the bytes of an array."""
    return np.frombuffer(numbers.tobytes().replace(b"\r", b"\n"), numbers.dtype).reshape(
        numbers.shape
    )


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


def test_the_two_candidates_lie_far_beyond_the_error_of_the_regression(distributed, repaired):
    """Each band regressed on all others by least squares: on suspect numbers it errs by less than a
    twentieth of 768.
    """
    suspect = (distributed >> 8 == 0x0A).reshape(-1, 200)
    pixels = np.column_stack([repaired.reshape(-1, 200).astype(float), np.ones(len(suspect))])
    squares = []
    for band in range(
        9, 200
    ):  # the bands below 9 are not among the 170, and band 0 is mostly noise
        if suspect[:, band].mean() < 0.3:
            continue  # the most damaged ones are enough
        others = np.delete(pixels, band, axis=1)
        normal = others.T @ others
        coefficients = np.linalg.solve(normal, others.T @ pixels[:, band])
        squares.append((pixels[:, band] - others @ coefficients)[suspect[:, band]] ** 2)
    assert np.sqrt(np.concatenate(squares).mean()) < 768 / 20


def test_the_gap_in_the_histogram_closes(distributed, repaired):
    """At 557 nm no distributed number has a high byte of 0x0B to 0x0D; in truth the darkest pixels
    lie just below 0x0E.
    """
    band_before, band_after = distributed[..., 16], repaired[..., 16]
    assert (
        not np.isin(band_before >> 8, (0x0B, 0x0D)).any()
        and np.isin(band_before >> 8, 0x0A).sum() > 1_000
    )
    assert not np.isin(band_after >> 8, 0x0A).any() and np.isin(band_after >> 8, 0x0D).sum() > 1_000


def test_damaging_the_repaired_scene_again_and_repairing_it_gives_the_same(repaired):
    once_more = damage(repaired)
    assert (once_more != repaired).mean() > 0.02
    low_byte_lost = (repaired & 0xFF) == 0x0D  # these 3 digital numbers cannot come back
    assert (undo_newline_damage(once_more) == repaired)[~low_byte_lost].all()


def test_a_sound_file_stays_as_it_is(repaired):
    assert undo_newline_damage(repaired) is repaired


def test_invented_damage_of_an_invented_scene_is_undone():
    """Mixtures of six random spectra with noise, in the range where both 0x0A and 0x0D occur, and
    dark bands without either.
    """
    generator = np.random.default_rng(0)
    spectra = generator.uniform(0.8, 1.6, (6, 80))
    abundances = generator.dirichlet(np.ones(6), size=(60, 60))
    numbers = abundances @ spectra * 2_500
    numbers[..., 40:] /= 4
    numbers = (numbers + generator.normal(0, 5, numbers.shape)).astype(np.uint16)
    numbers[numbers >> 8 == 0x0D] &= 0xFFF0  # low bytes that the damage leaves alone
    assert np.isin(numbers >> 8, 0x0A).sum() > 1_000 and np.isin(numbers >> 8, 0x0D).sum() > 1_000
    high_bytes_lost = numbers - 768 * (numbers >> 8 == 0x0D).astype(np.uint16)
    assert (undo_newline_damage(high_bytes_lost) == numbers).mean() > 0.9999


def test_the_repair_takes_most_of_the_apparent_noise_away():
    """A few dB of noise ceiling would be luck; the damage was the noise."""
    before, after = (
        metrics.noise_ceiling(scenes.indian_pines(repaired).cube) for repaired in (False, True)
    )
    assert after["psnr_pooled_scene_peak"] > before["psnr_pooled_scene_peak"] + 8
    assert after["sam_degrees"] < 0.5 * before["sam_degrees"]


@pytest.mark.parametrize("ending", [".npy", ".mat"])
def test_anyone_can_check_and_repair_their_own_copy(
    ending, distributed, tmp_path, capsys, monkeypatch
):
    stored = distributed[:60, :60]
    copy, out = tmp_path / f"copy{ending}", tmp_path / f"repaired{ending}"
    repair.write(copy, stored, "indian_pines_corrected")
    monkeypatch.setattr(sys, "argv", ["s3rnet_lite", "check-scene", str(copy), "--out", str(out)])
    assert main() in (0, None)
    assert "Damaged: no number has the high byte 0x0D" in capsys.readouterr().out
    numbers, _ = repair.read(out)
    assert (numbers == repair.undo_newline_damage(stored)).all() and (numbers != stored).any()
    assert (numbers[..., 0] == stored[..., 0]).all()  # band 0 stays as stored
    assert repair.verdict(numbers).startswith("Sound")
    assert (repair.read(copy)[0] == stored).all()


def test_what_is_no_image_of_16_bit_numbers_is_named(tmp_path):
    np.save(tmp_path / "radiance.npy", np.ones((4, 4, 4)))
    with pytest.raises(ValueError, match=r"radiance\.npy: expected 16-bit numbers .* float64"):
        repair.read(tmp_path / "radiance.npy")
    np.save(tmp_path / "flat.npy", np.ones((4, 4), np.uint16))
    with pytest.raises(ValueError, match=r"flat\.npy: expected one image"):
        repair.read(tmp_path / "flat.npy")
    with pytest.raises(FileNotFoundError):
        repair.read(tmp_path / "none.npy")
    with pytest.raises(ValueError, match=r"expected \.npy or \.mat"):
        repair.write(tmp_path / "x.tif", np.ones((4, 4, 4), np.uint16), None)


def test_a_copy_of_too_few_pixels_is_refused_by_name(tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "part.npy", np.full((1, 1, 220), 0x0A03, np.uint16))
    monkeypatch.setattr(sys, "argv", ["s3rnet_lite", "check-scene", str(tmp_path / "part.npy")])
    assert main() == 2
    assert "part.npy: expected a whole scene, got 1 x 1 x 220" in capsys.readouterr().err
