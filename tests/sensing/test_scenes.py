"""Scenes: the embedded image against the file, physics and published counts; the split against
leakage.
"""

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite import Degradation, Scene, scenes
from s3rnet_lite.files.provenance import DATA_FOLDER
from s3rnet_lite.sensing import indian_pines
from s3rnet_lite.sensing.degradation import gaussian_psf

PAPER_BANDS = np.r_[9:100, 108:143, 147:191]
ABSORPTIONS_NM = {"O2-A": 764, "CO2 weak": 1575, "CO2 first": 2008, "CO2 second": 2058}
# of 145 x 145 pixels, published
CLASS_COUNTS = [46, 1428, 830, 237, 483, 730, 28, 478, 20, 972, 2455, 593, 205, 1265, 386, 93]
REGIONS = ("train", "val", "test")


def shipped(name: str) -> Path:
    return Path(importlib.util.find_spec("tensorly").origin).parent / "datasets" / "data" / name


def scene_of(cube: torch.Tensor) -> Scene:
    bands = len(cube)
    wavelengths, fwhm = torch.linspace(400, 2400, bands), torch.full((bands,), 10.0)
    return Scene(cube, wavelengths, fwhm, None, "made_up", 1.0, 0.0)


def coordinate_scene(height: int, width: int) -> Scene:
    """Band 0 holds each pixel's row, band 1 its column."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return scene_of(torch.stack([rows, columns]).float())


def box(region: Scene) -> tuple[int, int, int, int]:
    """First and last row, first and last column of a part of a coordinate scene, which has to be a
    full rectangle.
    """
    rows, columns = region.cube.long()
    top, bottom, left, right = (
        int(x) for x in (rows.min(), rows.max(), columns.min(), columns.max())
    )
    pixels = {(int(r), int(c)) for r, c in zip(rows.flatten(), columns.flatten(), strict=True)}
    assert len(pixels) == rows.numel() == (bottom - top + 1) * (right - left + 1)
    return top, bottom, left, right


def pixels_between(a: tuple, b: tuple) -> int:
    """Pixels between two rectangles in the direction in which they are farther apart; negative if
    they overlap.
    """
    rows = max(a[0] - b[1], b[0] - a[1])
    columns = max(a[2] - b[3], b[2] - a[3])
    return max(rows, columns) - 1


def dip(wavelengths: np.ndarray, spectrum: np.ndarray, near: float) -> float:
    """Where the parabola through the darkest band within 15 nm and its two neighbours has its
    lowest point.
    """
    order = np.argsort(wavelengths)
    x, y = wavelengths[order], spectrum[order]
    i = min(np.flatnonzero(abs(x - near) < 15), key=lambda j: y[j])
    a, b, _ = np.polyfit(x[i - 1 : i + 2], y[i - 1 : i + 2], 2)
    return -b / (2 * a)


def test_the_cube_fills_the_unit_range_with_170_bands_of_144_by_144(indian_pines):
    assert indian_pines.cube.shape == (170, 144, 144)
    assert indian_pines.cube.dtype == torch.float32
    assert (float(indian_pines.cube.min()), float(indian_pines.cube.max())) == (0, 1)


def test_scale_and_offset_give_back_the_radiance_of_the_shipped_file():
    indian_pines = scenes.indian_pines(repaired=False)
    numbers = np.load(shipped("Indian_pines_corrected.npy"))[:144, :144, PAPER_BANDS].astype(
        np.float64
    )
    radiance = np.clip((numbers - 1000) / 500, 0, None).transpose(2, 0, 1)
    restored = indian_pines.cube.double() * indian_pines.scale + indian_pines.offset
    np.testing.assert_allclose(restored.numpy(), radiance, atol=1e-5)


def test_the_repair_changes_few_numbers_and_leaves_the_rest(indian_pines):
    repaired, distributed = (
        scene.cube * scene.scale for scene in (indian_pines, scenes.indian_pines(repaired=False))
    )
    lost = (repaired - distributed).numpy()
    changed = np.abs(lost) > 1e-4
    np.testing.assert_allclose(lost[changed], 768 / 500, atol=1e-4)
    assert 0.02 < changed.mean() < 0.04


@pytest.mark.parametrize("gas", ABSORPTIONS_NM)
def test_atmospheric_absorptions_lie_where_physics_puts_them(indian_pines, gas):
    spectrum = indian_pines.cube.mean((1, 2)).numpy()
    assert dip(indian_pines.wavelengths_nm.numpy(), spectrum, ABSORPTIONS_NM[gas]) == pytest.approx(
        ABSORPTIONS_NM[gas], abs=3
    )


@pytest.mark.parametrize("gas", ABSORPTIONS_NM)
@pytest.mark.parametrize("shift", [-1, 1])
def test_a_band_table_that_is_one_channel_off_would_be_noticed(indian_pines, gas, shift):
    spectrum = indian_pines.cube.mean((1, 2)).numpy()
    shifted = np.roll(indian_pines.wavelengths_nm.numpy(), shift)
    assert abs(dip(shifted, spectrum, ABSORPTIONS_NM[gas]) - ABSORPTIONS_NM[gas]) > 6


def test_wavelengths_step_back_only_where_the_spectrometers_overlap(indian_pines):
    steps_back = np.flatnonzero(np.diff(indian_pines.wavelengths_nm.numpy()) < 0)
    assert list(PAPER_BANDS[steps_back]) == [30, 93]


@pytest.mark.parametrize(
    ("index", "centre", "fwhm"),
    [(0, 488.41, 10.02), (8, 567.38, 10.04), (17, 656.67, 9.84), (18, 666.61, 9.81)],
)
def test_band_centres_and_widths_are_those_that_purdue_documents(indian_pines, index, centre, fwhm):
    assert float(indian_pines.wavelengths_nm[index]) == pytest.approx(centre)
    assert float(indian_pines.fwhm_nm[index]) == pytest.approx(fwhm)


def test_labels_hold_sixteen_classes_with_nearly_the_published_counts(indian_pines):
    counts = np.bincount(indian_pines.labels.numpy().flatten(), minlength=17)
    assert len(counts) == 17
    lost = np.array(CLASS_COUNTS) - counts[1:]
    assert lost.min() >= 0  # the last row and column are left out
    assert lost.sum() < 0.01 * sum(CLASS_COUNTS)


def test_labels_are_those_of_the_shipped_file(indian_pines):
    assert indian_pines.labels.dtype == torch.int64
    np.testing.assert_array_equal(
        indian_pines.labels.numpy(), np.load(shipped("Indian_pines_gt.npy"))[:144, :144]
    )


def test_labels_lie_on_the_image_the_right_way_round(indian_pines):
    def within_class_variance(labels: torch.Tensor) -> float:
        spectra = indian_pines.cube.flatten(1)
        groups = [spectra[:, labels.flatten() == number] for number in range(1, 17)]
        return float(sum(((group - group.mean(1, keepdim=True)) ** 2).sum() for group in groups))

    right = within_class_variance(indian_pines.labels)
    for wrong in (indian_pines.labels.T, indian_pines.labels.flip(0), indian_pines.labels.flip(1)):
        assert right < 0.7 * within_class_variance(wrong)


def test_a_copy_in_the_cache_folder_is_read_first(tmp_path, monkeypatch):
    shutil.copy(DATA_FOLDER / "indian_pines_bands.csv", tmp_path)
    (tmp_path / "cache").mkdir()
    numbers = np.full((145, 145, 200), 1000, np.uint16)
    numbers[0, 0, PAPER_BANDS[3]] = 2500
    np.save(tmp_path / "cache" / "Indian_pines_corrected.npy", numbers)
    np.save(tmp_path / "cache" / "Indian_pines_gt.npy", np.full((145, 145), 7, np.uint8))
    monkeypatch.setattr(indian_pines, "DATA_FOLDER", tmp_path)
    scene = scenes.indian_pines()
    assert (scene.scale, scene.offset) == (3.0, 0.0)
    assert scene.cube.nonzero().tolist() == [[3, 0, 0]]
    assert scene.labels.unique().tolist() == [7]


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    shutil.copy(DATA_FOLDER / "indian_pines_bands.csv", tmp_path)
    monkeypatch.setattr(indian_pines, "DATA_FOLDER", tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"Indian_pines_corrected\.npy"):
        scenes.indian_pines()


@given(
    height=st.integers(60, 150),
    width=st.integers(60, 150),
    gap=st.integers(12, 20),
    multiple=st.sampled_from([2, 3, 4, 8]),
)
def test_regions_are_rectangles_apart_by_the_gap_with_divisible_sides(height, width, gap, multiple):
    regions = scenes.split(coordinate_scene(height, width), gap, multiple)
    boxes = [box(region) for region in regions]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert pixels_between(boxes[a], boxes[b]) >= gap
    for region in regions:
        assert region.cube.shape[1] % multiple == region.cube.shape[2] % multiple == 0


def test_by_default_more_than_the_psf_lies_between_the_regions_of_indian_pines():
    boxes = [box(region) for region in scenes.split(coordinate_scene(144, 144))]
    support = len(gaussian_psf(1.7, 4))
    assert (
        min(pixels_between(boxes[a], boxes[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > 12 >= support
    )


@pytest.mark.parametrize("kept", range(3), ids=REGIONS)
def test_no_pixel_of_another_region_reaches_a_region(indian_pines, tm4, kept):
    cube = indian_pines.cube[::17].clone()
    degrade = Degradation(srf=tm4[:, ::17] / tm4[:, ::17].sum(1, keepdim=True))
    parts = scenes.split(scene_of(cube))
    boxes = [box(region) for region in scenes.split(coordinate_scene(144, 144))]
    alone, whole = degrade(parts[kept].cube), degrade(cube)

    changed = cube.clone()
    for other in set(range(3)) - {kept}:
        top, bottom, left, right = boxes[other]
        changed[:, top : bottom + 1, left : right + 1] = torch.rand(
            len(cube), bottom - top + 1, right - left + 1
        )
    alone_after, whole_after = degrade(scenes.split(scene_of(changed))[kept].cube), degrade(changed)

    for before, after in zip(alone, alone_after, strict=True):
        assert torch.equal(before, after)
    top, bottom, left, right = boxes[kept]
    # degraded first, cropped afterwards
    for before, after, ratio in zip(whole, whole_after, (4, 1), strict=True):
        rows = slice(top // ratio, (bottom + 1) // ratio)
        columns = slice(left // ratio, (right + 1) // ratio)
        assert not torch.equal(before, after)
        assert torch.equal(before[:, rows, columns], after[:, rows, columns])


def test_the_psf_of_a_whole_degraded_scene_does_reach_over_a_border_so_a_gap_is_needed():
    cube = torch.rand(1, 144, 144)
    degrade = Degradation(srf=torch.ones(1, 1))
    _, bottom, _, right = box(scenes.split(coordinate_scene(144, 144))[0])
    neighbour = cube.clone()
    neighbour[:, : bottom + 1, right + 1] += 1
    before, after = degrade.spatial(cube), degrade.spatial(neighbour)
    assert not torch.equal(before[..., : (right + 1) // 4], after[..., : (right + 1) // 4])


@given(height=st.integers(4, 30), width=st.integers(4, 200))
def test_a_scene_too_small_to_split_is_refused(height, width):
    with pytest.raises(ValueError, match=f"{height}x{width} pixels are too few"):
        scenes.split(scene_of(torch.rand(2, height, width)), gap=24)


def test_a_crop_keeps_labels_on_their_pixels(indian_pines):
    part = indian_pines.crop(slice(10, 30), slice(50, 54), "part")
    assert part.name == "part"
    assert torch.equal(part.cube, indian_pines.cube[:, 10:30, 50:54])
    assert torch.equal(part.labels, indian_pines.labels[10:30, 50:54])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"cube": torch.rand(1, 5, 4, 4)}, ValueError, "unbatched"),
        ({"cube": torch.randint(0, 9, (5, 4, 4))}, TypeError, "floating-point"),
        ({"cube": torch.full((5, 4, 4), torch.nan)}, ValueError, "finite"),
        ({"cube": torch.rand(5, 0, 4)}, ValueError, "non-empty"),
        ({"wavelengths_nm": torch.ones(6)}, ValueError, r"wavelengths_nm: expected shape \(5,\)"),
        ({"fwhm_nm": torch.ones(4)}, ValueError, r"fwhm_nm: expected shape \(5,\)"),
        ({"valid": torch.ones(4, 5) > 0}, ValueError, r"valid: expected shape \(4, 4\) of bool"),
        ({"valid": torch.ones(4, 4)}, ValueError, "valid: .* of bool, got .* of torch.float32"),
    ],
)
def test_bad_scenes_are_refused(changes, error, message):
    fields = dict(cube=torch.rand(5, 4, 4), wavelengths_nm=torch.ones(5), fwhm_nm=torch.ones(5))
    with pytest.raises(error, match=message):
        Scene(**{**fields, **changes}, labels=None, name="bad", scale=1.0, offset=0.0)


def test_finite_values_whose_sum_is_not_are_accepted():
    assert scene_of(torch.full((2, 4, 4), 3e38)).cube.isfinite().all()


def test_a_crop_keeps_the_mask_on_its_pixels():
    valid = torch.rand(6, 8) > 0.5
    part = replace(scene_of(torch.rand(2, 6, 8)), valid=valid).crop(
        slice(1, 4), slice(2, 8), "part"
    )
    assert torch.equal(part.valid, valid[1:4, 2:8])
