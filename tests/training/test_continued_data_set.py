"""A data set that is continued: real kills, damage, changed sources, other settings."""

import json
import multiprocessing
import os
import signal

import pytest
from small_flight_lines import content, prepare

from s3rnet_lite.files.atomic import SEAL
from s3rnet_lite.training import dataset


def kill_after(windows: int, folder, sources) -> None:
    """In a process of its own: SIGKILL itself after so many windows."""
    bar, done = dataset.tqdm, 0

    class Killer(bar):
        def update(self, count=1):
            nonlocal done
            done += count
            if done >= windows:
                os.kill(os.getpid(), signal.SIGKILL)

    dataset.tqdm = Killer
    prepare(folder, sources, workers=1)


# of 240 windows: in both passes over a line, between lines, near the end
@pytest.mark.parametrize("windows", [1, 13, 20, 47, 100, 233])
def test_killed_and_continued_ends_with_the_same_bytes(windows, lines, tmp_path):
    prepare(tmp_path / "unbroken", lines)
    child = multiprocessing.get_context("fork").Process(
        target=kill_after, args=(windows, tmp_path / "killed", list(lines))
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "dataset.json").exists()
    with pytest.raises(FileNotFoundError, match="not finished"):
        dataset.load(tmp_path / "killed")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").rglob("*.json")}
    prepare(tmp_path / "killed", lines)
    assert content(tmp_path / "killed") == content(tmp_path / "unbroken")
    # finished work was not repeated
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_several_workers_make_the_same_bytes_as_one(lines, tmp_path):
    for workers in (1, 4):
        prepare(tmp_path / str(workers), lines, workers=workers)
    assert content(tmp_path / "1") == content(tmp_path / "4")


def test_a_second_run_verifies_and_changes_nothing(lines, tmp_path):
    prepare(tmp_path / "out", lines)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}
    prepare(tmp_path / "out", lines)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")} == before


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "", ".."])
def test_only_files_of_the_folder_are_read(name, lines, tmp_path):
    prepare(tmp_path / "out", lines)
    card = json.loads((tmp_path / "out" / "dataset.json").read_text())
    card["parts"]["train"][0]["name"] = name
    del card[SEAL]
    (tmp_path / "out" / "dataset.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"dataset\.json: expected plain names"):
        dataset.references(tmp_path / "out", "train")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"parts": 3}', "[" * 100_000])
def test_a_damaged_card_is_named(text, tmp_path):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match=r"dataset\.json: damaged, or no"):
        dataset.load(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "one bit"])
def test_damage_is_found_and_repaired(damage, lines, tmp_path):
    data = prepare(tmp_path / "out", lines)
    before = content(tmp_path / "out")
    path = tmp_path / "out" / "lines" / f"{data.parts['train'][2]['name']}.npy"
    numbers = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(numbers[:-500])
    else:
        numbers[5000] ^= 1
        path.write_bytes(numbers)
    for work in (
        lambda: prepare(tmp_path / "out", lines),
        lambda: dataset.references(tmp_path / "out", "train"),
    ):
        with pytest.raises(ValueError, match=f"{path.name}: damaged .checksum"):
            work()
    path.unlink()
    prepare(tmp_path / "out", lines)
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("finished", [True, False])
def test_a_changed_source_is_refused(finished, lines, tmp_path):
    prepare(tmp_path / "out", lines)
    if not finished:
        (tmp_path / "out" / "dataset.json").unlink()
    before = content(tmp_path / "out")
    with open(tmp_path / "line3.img", "r+b") as file:
        file.seek(1000)
        file.write(b"\x01\x02")
    message = r"line3\.json: made from something else .source_bytes_and_time.*line3\.img"
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path / "out", lines)
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": 16}, "patch: was 32, is 16"),
        ({"keep_bands": "paper"}, "expected AVIRIS's 224 bands"),
        ({"seed": 5}, "seed: was 0, is 5"),
    ],
)
def test_other_settings_are_refused_in_a_finished_folder(changes, message, lines, tmp_path):
    prepare(tmp_path / "out", lines)
    before = content(tmp_path / "out")
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path / "out", lines, **changes)
    with pytest.raises(ValueError, match=r"lines: was \['line0'\], is \[\]"):
        prepare(tmp_path / "out", list(lines)[1:])
    assert content(tmp_path / "out") == before


def test_two_at_a_time_in_one_folder_are_refused(lines, tmp_path):
    with (
        dataset._alone(tmp_path / "out"),
        pytest.raises(ValueError, match="another prepare is at work"),
    ):
        prepare(tmp_path / "out", lines)


def test_writing_into_a_reference_leaves_the_file_alone(lines, tmp_path):
    prepare(tmp_path / "out", lines)
    before = content(tmp_path / "out")
    dataset.references(tmp_path / "out", "train")[0].fill_(7)
    assert content(tmp_path / "out") == before
