"""The data set: patches against the pixels of the files, the split from pixels alone."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_flight_lines import BANDS, PATCH, WAVELENGTHS, flight_line, prepare, write_line

from s3rnet_lite import Degradation, __main__, scenes, sensors
from s3rnet_lite.files import atomic
from s3rnet_lite.training import dataset


def test_patches_are_the_pixels_of_the_files_within_half_a_level(lines, tmp_path):
    data = prepare(tmp_path / "out", lines)
    for part, stored in data.parts.items():
        patches = iter(dataset.references(tmp_path / "out", part))
        for line in stored:
            cube = next(
                cube for path, cube in lines.items() if path.endswith(f"/{line['name']}.hdr")
            )
            assert line["patches"] == len(line["corners"])
            for row, column in line["corners"]:
                patch = next(patches)
                assert patch.dtype == torch.uint16 and patch.shape == (BANDS, PATCH, PATCH)
                restored = patch.numpy() / 65535 * line["scale"] + line["offset"]
                difference = np.abs(restored - cube[:, row : row + PATCH, column : column + PATCH])
                assert difference.max() <= 0.501 * line["scale"] / 65535 + 1e-3
        assert next(patches, None) is None


def test_headers_as_people_have_them(tmp_path):
    """Latin-1, no byte order, data under any ending: as for every other command."""
    sources = []
    for number in range(3):
        source = Path(write_line(tmp_path / f"line{number}.hdr", flight_line(number)))
        lines = source.read_text().splitlines()
        kept = "\n".join(line for line in lines if not line.startswith("byte order"))
        source.write_bytes(f"{kept}\ndescription = {{Größe in µ}}\n".encode("latin-1"))
        source.with_suffix(".img").rename(source.with_suffix(".cube"))
        sources.append(source.with_suffix(".cube") if number else source)
    with pytest.warns(UserWarning, match="lacks byte order"):
        data = prepare(tmp_path / "set", sources)
    assert sum(line["patches"] for part in data.parts.values() for line in part) == 18
    sources[1].write_bytes(sources[1].read_bytes() + b"x")
    with (
        pytest.warns(UserWarning, match="lacks byte order"),
        pytest.raises(ValueError, match=r"line1\.json: made from something else"),
    ):
        prepare(tmp_path / "set", sources)


def test_each_flight_line_fills_the_unit_range_by_itself_and_the_mask_does_not_count(
    lines, tmp_path
):
    data = prepare(tmp_path / "out", lines)
    for line in (line for stored in data.parts.values() for line in stored):
        cube = next(cube for path, cube in lines.items() if path.endswith(f"/{line['name']}.hdr"))
        valid = cube[:, (cube != cube[0]).any(0)].astype(float)
        assert (line["offset"], line["offset"] + line["scale"]) == pytest.approx(
            (valid.min(), valid.max())
        )


def test_percentiles_leave_out_a_glint_and_say_how_much_they_clip(tmp_path):
    cubes = [flight_line(seed, 64, 64) for seed in range(3)]
    for cube in cubes:
        cube[3, 5, 7] = 32_000  # the others end at 10,000
    sources = [write_line(tmp_path / f"line{i}.hdr", cube) for i, cube in enumerate(cubes)]
    plain = prepare(tmp_path / "minmax", sources)
    data = prepare(tmp_path / "percentile", sources, scaling="percentile")
    assert data.card["settings"]["scaling"] == "percentile"
    assert plain.card["settings"]["scaling"] == "minmax"
    for part, stored in data.parts.items():
        patches = iter(dataset.references(tmp_path / "percentile", part))
        for line in stored:
            cube = cubes[int(line["name"][-1])].astype(float)
            step = (cube.max() - cube.min()) / 65535
            low, high = np.percentile(cube, [0.1, 99.9])
            limits = line["offset"], line["offset"] + line["scale"]
            assert limits == pytest.approx((low, high), abs=2 * step)
            outside = (cube < limits[0]) | (cube > limits[1])
            assert 0 < line["clipped"] == pytest.approx(outside.mean(), abs=2e-4)
            for row, column in line["corners"]:
                window = slice(row, row + PATCH), slice(column, column + PATCH)
                restored = next(patches).numpy() / 65535 * line["scale"] + line["offset"]
                expected = np.clip(cube[:, *window], *limits)
                assert np.abs(restored - expected).max() <= 0.501 * line["scale"] / 65535 + 1e-2
    assert all(line["clipped"] == 0 for stored in plain.parts.values() for line in stored)


def test_what_was_prepared_before_there_were_scalings_is_minmax(tmp_path):
    sources = [write_line(tmp_path / f"line{i}.hdr", flight_line(i, 32, 32)) for i in range(3)]
    prepare(tmp_path / "out", sources)
    for path in (tmp_path / "out").rglob("*.json"):
        content = json.loads(path.read_text())
        assert content["settings"].pop("scaling") == "minmax"
        path.write_text(json.dumps({k: v for k, v in content.items() if k != atomic.SEAL}))
    assert prepare(tmp_path / "out", sources).card["settings"]["scaling"] == "minmax"
    with pytest.raises(ValueError, match="scaling: was minmax, is percentile"):
        prepare(tmp_path / "out", sources, scaling="percentile")


def test_patches_with_a_pixel_without_data_are_left_out(lines, tmp_path):
    data = prepare(tmp_path / "out", lines)
    grid = [[row, column] for row in (0, PATCH) for column in (0, PATCH, 2 * PATCH)]
    for line in (line for stored in data.parts.values() for line in stored):
        complete = (
            grid if int(line["name"][-1]) < 6 else [corner for corner in grid if corner != [32, 32]]
        )
        assert line["corners"] == complete


def test_no_flight_line_is_in_two_parts_as_the_pixels_tell(lines, tmp_path):
    data = prepare(tmp_path / "out", lines)
    seen = {}
    for part in ("train", "val", "test"):
        made = [
            dataset.scene(tmp_path / "out", part, index)
            for index in range(len(dataset.references(tmp_path / "out", part)))
        ]
        seen[part] = {
            round(float((scene.cube[0] * scene.scale + scene.offset).mean()) / 100)
            for scene in made
        }
        for scene in made:  # one whole patch is of one line
            assert float(scene.cube[0].std()) < 1e-6
    assert sorted(number for numbers in seen.values() for number in numbers) == list(range(10))
    assert {part: len(numbers) for part, numbers in seen.items()} == {
        "train": 8,
        "val": 1,
        "test": 1,
    }
    assert prepare(tmp_path / "other", lines, seed=1).parts["test"] != data.parts["test"]


def test_scenes_of_one_aviris_flight_stay_together(tmp_path):
    names = [
        f"f18060{day}t01p00r0{run}_sc0{number}"
        for day in (1, 2)
        for run in (5, 6)
        for number in (1, 2, 3)
    ]
    sources = [
        write_line(tmp_path / f"{name}.hdr", flight_line(seed, 32, 32))
        for seed, name in enumerate(names)
    ]
    data = prepare(tmp_path / "out", sources)
    flights = [{line["name"][:16] for line in stored} for stored in data.parts.values()]
    assert sorted(map(len, flights)) == [1, 1, 2] and len(set.union(*flights)) == 4


@given(patches=st.lists(st.integers(1, 50), min_size=3, max_size=40), seed=st.integers(0, 2**32))
def test_every_file_is_in_exactly_one_part_and_no_part_is_empty(patches, seed):
    files = [
        {"name": number, "flight_line": number, "patches": count}
        for number, count in enumerate(patches)
    ]
    parts = dataset.assign(files, seed)
    assert sorted(file["name"] for part in parts.values() for file in part) == list(
        range(len(patches))
    )
    assert list(parts) == ["train", "val", "test"] and all(parts.values())
    assert parts == dataset.assign(files, seed)


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_near_80_10_10(seed):
    patches = np.random.default_rng(seed).integers(
        5, 60, 60
    )  # about 2,000 in 60 lines, as in the paper
    files = [
        {"name": number, "flight_line": number, "patches": int(count)}
        for number, count in enumerate(patches)
    ]
    shares = [
        sum(file["patches"] for file in part) / patches.sum()
        for part in dataset.assign(files, seed).values()
    ]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.015)


def test_of_224_bands_the_papers_172_are_kept_by_channel_number(tmp_path):
    channels = np.arange(1, 225)
    cube = np.broadcast_to(100 * channels[:, None, None], (224, 32, 32)).astype(np.int16)
    sources = [
        write_line(tmp_path / f"line{seed}.hdr", cube, np.linspace(365, 2500, 224))
        for seed in range(3)
    ]
    data = prepare(tmp_path / "out", sources, keep_bands="paper")
    scene = dataset.scene(tmp_path / "out", "train", 0)
    kept = (scene.cube[:, 7, 7] * scene.scale + scene.offset).numpy() / 100
    removed = {*range(1, 11), *range(104, 117), *range(152, 171), *range(215, 225)}
    assert kept.round(2).tolist() == sorted(set(range(1, 225)) - removed)
    assert data.wavelengths_nm.tolist() == pytest.approx(
        np.linspace(365, 2500, 224)[kept.round().astype(int) - 1]
    )


def test_bands_that_the_header_calls_bad_are_dropped(tmp_path):
    bad_bands = [1, 0, 1, 1, 0] + [1] * (BANDS - 5)
    sources = [
        write_line(tmp_path / f"line{seed}.hdr", flight_line(seed), bbl=bad_bands)
        for seed in range(3)
    ]
    assert prepare(tmp_path / "out", sources).wavelengths_nm.tolist() == pytest.approx(
        WAVELENGTHS[np.array(bad_bands) == 1]
    )


def bad_files(tmp_path, lines):
    good = list(lines)[:2]
    no_wavelengths = tmp_path / "plain.npy"
    np.save(no_wavelengths, flight_line(1))
    other = write_line(tmp_path / "other.hdr", flight_line(1), WAVELENGTHS + 100)
    fewer = write_line(tmp_path / "fewer.hdr", flight_line(1)[:5], WAVELENGTHS[:5])
    flat = write_line(tmp_path / "flat.hdr", np.full((BANDS, 70, 70), 7, np.int16))
    (tmp_path / "deeper").mkdir()
    twin = write_line(tmp_path / "deeper" / "line0.hdr", flight_line(0))
    yield [], {}, "expected flight lines, or a number of simulated ones"
    yield good, {"simulated": 3}, "got 2 files and 3 simulated"
    yield good, {}, "at least 3 flight lines.*got 2"
    yield [*good, tmp_path / "none.hdr"], {}, r"none\.hdr"
    yield [*good, str(no_wavelengths)], {}, "no wavelengths"
    yield [*good, other], {}, "other: expected the bands of line0, got some up to 100.0 nm apart"
    yield [*good, fewer], {}, "fewer: expected 12 bands"
    yield [*good, flat], {}, "flat: expected at least one 32x32 patch"
    yield [*lines, twin], {}, "more than one line0"
    yield lines, {"patch": 30}, "patch: expected a multiple of 4"
    yield lines, {"patch": 128}, "expected at least one 128x128 patch"
    yield lines, {"workers": 0}, "workers"
    yield lines, {"scaling": "median"}, "scaling: expected one of minmax, percentile, got 'median'"
    yield lines, {"keep_bands": "some"}, "keep_bands: expected 'paper' or 'all'"
    yield lines, {"keep_bands": "paper"}, "expected AVIRIS's 224 bands, got 12"


def test_bad_arguments_are_named_and_nothing_looks_finished(lines, tmp_path):
    for number, (sources, changes, message) in enumerate(bad_files(tmp_path, lines)):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            prepare(tmp_path / f"out{number}", sources, **changes)
        assert not (tmp_path / f"out{number}" / "dataset.json").exists()


def test_the_card_gives_the_operators_back(lines, tmp_path):
    data = prepare(tmp_path / "out", lines)
    for bands in (4, 6):
        expected = Degradation(srf=sensors.landsat_tm(WAVELENGTHS, bands, np.full(BANDS, 160.0)))
        assert data.degradation(bands).card() == expected.card()
    with pytest.raises(ValueError, match=r"msi_bands: .* 4 or 6 bands, got 5"):
        data.degradation(5)
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["simulated"] is False


def test_a_camera_without_short_wave_infrared_has_an_operator_of_four_bands(tmp_path):
    sources = [
        write_line(tmp_path / f"line{seed}.hdr", flight_line(seed), np.linspace(420, 980, BANDS))
        for seed in range(3)
    ]
    data = prepare(tmp_path / "out", sources)
    assert data.degradation(4).srf.shape == (4, BANDS)
    with pytest.raises(ValueError, match="msi_bands"):
        data.degradation(6)


def test_the_command_makes_simulated_lines_and_verifies_them(tmp_path, monkeypatch, capsys):
    command = ["prog", "prepare", "--simulate", "3", "--patch", "16"]
    command += ["--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    assert __main__.main() == 0
    assert "Wrote" in capsys.readouterr().out
    data = dataset.load(tmp_path / "out")
    assert data.card["simulated"] and data.wavelengths_nm.shape == (172,)
    first = next(
        part for part, stored in data.parts.items() if stored[0]["name"] == "simulated0000"
    )
    made, patch = scenes.simulate(0, 32), dataset.scene(tmp_path / "out", first, 3)
    radiance = patch.cube * patch.scale + patch.offset
    torch.testing.assert_close(
        radiance, made.cube[:, 16:, 16:] * made.scale + made.offset, atol=1e-3, rtol=0
    )
    assert __main__.main() == 0
    assert "Verified all checksums" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*command[:3], "4", *command[4:]])
    assert __main__.main() == 2
    assert "error: " in capsys.readouterr().err
