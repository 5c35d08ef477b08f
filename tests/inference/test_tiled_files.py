"""Fusion in tiles from file to file, and runs that are killed. 24 tiles, six in a row."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_fusion import BANDS, build, pair

from s3rnet_lite.files import formats
from s3rnet_lite.inference import tiled_files, tiling

pytestmark = pytest.mark.slow  # not part of `make check`


@pytest.fixture
def files(tmp_path):
    x_h, x_m = pair(16, 24)
    np.save(tmp_path / "h.npy", x_h), np.save(tmp_path / "m.npy", x_m)
    return tmp_path


def fuse_files(folder, out: str = "out.npy", **changes) -> np.ndarray:
    pair = formats.open_cube(folder / "h.npy"), formats.open_cube(folder / "m.npy")
    tiled_files.fuse(
        build(), *pair, folder / out, **{"tile": 16, "overlap": 16, "progress": False, **changes}
    )
    return formats.open_cube(folder / out).read()


class KilledError(BaseException):
    pass


def die(*_, **__):
    raise KilledError


def copy_half_and_die(y, image, rows, columns):
    formats.reopen_cube(image)[: len(y) // 2, rows.written, columns.written] = y[: len(y) // 2]
    die()


def after(count: int, replacement, original):
    """`original` for so many calls, then `replacement`."""
    calls = iter(range(count))
    return lambda *arguments, **named: (original if next(calls, None) is not None else replacement)(
        *arguments, **named
    )


def test_a_file_holds_what_fuse_returns(files):
    expected = tiling.fuse(build(), np.load(files / "h.npy"), np.load(files / "m.npy"), 16, 16)
    np.testing.assert_array_equal(fuse_files(files), expected)
    assert sorted(file.name for file in files.iterdir()) == ["h.npy", "m.npy", "out.npy"]


@pytest.mark.parametrize(
    ("where", "count", "death"),
    [
        ((tiling.Job, "_inputs"), 5, die),  # in the first pass
        ((tiled_files, "write_array"), 0, die),
        ((tiled_files, "write_array"), 9, die),  # a tile is computed, not stored
        ((tiled_files, "_copy"), 0, copy_half_and_die),
        ((tiled_files, "_copy"), 9, copy_half_and_die),  # stored, copied by half
        ((tiled_files.Path, "unlink"), 9, die),  # copied, the tile before not yet forgotten
        ((tiled_files, "publish"), 0, die),  # all tiles done, the image not yet renamed
    ],
    ids=["moments", "first", "computed", "first copy", "copy", "copied", "end"],
)
def test_a_killed_run_goes_on_to_the_same_bits(files, where, count, death):
    expected = fuse_files(files, "unbroken.npy")
    for _ in range(2):  # the second life ends early, too
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(*where, after(count, death, getattr(*where)))
            fuse_files(files)
        assert not (files / "out.npy").exists()
    np.testing.assert_array_equal(fuse_files(files), expected)
    assert not (files / "out.npy.partial").exists()


def test_a_process_that_is_killed_goes_on_to_the_same_bits(files):
    script = (
        "import os, signal, sys; sys.path[:0] = sys.argv[1:3]; import test_tiled_files as t\n"
        "t.die = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.tiled_files._copy = t.after(13, t.copy_half_and_die, t.tiled_files._copy)\n"
        "t.fuse_files(t.Path(sys.argv[3]))"
    )
    here = Path(__file__).parent
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run(
        [sys.executable, "-c", script, here, here.parent, files], env=environment, check=False
    )
    assert killed.returncode == -signal.SIGKILL and not (files / "out.npy").exists()
    assert len(list((files / "out.npy.partial").glob("tile_13_*.npy"))) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling.Job, "moments", die)  # the first pass is not done again
        resumed = fuse_files(files)
    np.testing.assert_array_equal(resumed, fuse_files(files, "unbroken.npy"))


@pytest.mark.parametrize("changed", ["tile", "x_m", "model"])
def test_a_run_does_not_go_on_with_something_else(files, changed, monkeypatch):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(tiled_files, "_copy", after(5, die, tiled_files._copy))
        fuse_files(files)
    other = {}
    if changed == "tile":
        other = {"tile": 32}
    elif changed == "x_m":
        x_m = np.load(files / "m.npy")
        x_m[0, 3, 4] += 1e-3
        np.save(files / "m.npy", x_m)
    else:
        model = build()
        model.network.head[0].bias.data[0] += 1e-3
        monkeypatch.setattr(sys.modules[__name__], "build", lambda: model)
    with pytest.raises(
        ValueError,
        match=f"out.npy.partial: holds an unfinished fusion of another kind .*{changed} was",
    ):
        fuse_files(files, **other)


def test_physical_units_and_bad_bands_go_in_and_come_out(files):
    """An ENVI file with a dead band and numbers that are 100 x + 20; the fused file knows the
    wavelengths.
    """
    x_h, expected = np.load(files / "h.npy"), fuse_files(files)
    good = np.array([True, True, False] + [True] * (BANDS - 2))
    nm = np.arange(BANDS + 1) * 100.0 + 400
    cube = formats.create_cube(files / "h.hdr", (BANDS + 1, *x_h.shape[1:]), nm)
    cube[good], cube[2] = 100 * x_h + 20, np.nan
    cube.flush()
    with open(files / "h.hdr", "a") as header:
        header.write(f"bbl = {{{', '.join('1' if band else '0' for band in good)}}}\n")
    np.save(files / "m_100.npy", 100 * np.load(files / "m.npy") + 20)
    pair = formats.open_cube(files / "h.hdr"), formats.open_cube(files / "m_100.npy")
    tiled_files.fuse(
        build(), *pair, files / "out.hdr", 16, 16, scale=100, offset=20, progress=False
    )
    fused = formats.open_cube(files / "out.hdr")
    np.testing.assert_allclose(fused.read(), 100 * expected + 20, rtol=1e-4, atol=1e-2)
    np.testing.assert_array_equal(fused.wavelengths_nm, nm[good])


def test_two_at_once_do_not_share_a_folder(files):
    with tiled_files.alone(files / "out.npy.partial"), pytest.raises(ValueError, match="at work"):
        fuse_files(files)


def test_a_folder_of_somebody_else_stays(files):
    strange = files / "out.npy.partial" / "thesis.tex"
    strange.parent.mkdir()
    strange.write_text("years of work")
    with pytest.raises(ValueError, match=r"out\.npy\.partial: expected .* holds thesis\.tex"):
        fuse_files(files)
    assert strange.read_text() == "years of work"


@pytest.mark.parametrize("name", ["h.npy", "m.npy"])
def test_an_input_is_not_overwritten(files, name):
    before = (files / name).read_bytes()
    with pytest.raises(ValueError, match=f"{name}: belongs to"):
        fuse_files(files, name)
    assert (files / name).read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[:-3] + bytes([x[-3] ^ 64]) + x[-2:],
        lambda x: x.replace(b"<f4", b">f4"),
        lambda x: x.replace(b"}", b"("),
    ],
)
def test_a_tile_that_was_damaged_meanwhile_is_named(files, change):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(tiled_files, "_copy", after(5, die, tiled_files._copy))
        fuse_files(files)
    tile = max((files / "out.npy.partial").glob("tile_*.npy"), key=lambda f: f.stat().st_mtime)
    tile.write_bytes(change(tile.read_bytes()))
    with pytest.raises(ValueError, match=r"tile_5_.*: damaged"):
        fuse_files(files)


def test_a_bit_of_the_growing_image_that_flips_between_two_runs_is_noticed(files):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(tiled_files, "_copy", after(5, copy_half_and_die, tiled_files._copy))
        fuse_files(files)
    image = files / "out.npy.partial" / "image.npy"
    content = bytearray(image.read_bytes())
    for place in (200, len(content) - 2):  # in a finished tile; where no tile is yet
        content[place] ^= 1
        image.write_bytes(content)
        with pytest.raises(ValueError, match=r"out\.npy\.partial.image\.npy: damaged; delete"):
            fuse_files(files)
        content[place] ^= 1
    image.write_bytes(content)
    np.testing.assert_array_equal(fuse_files(files), fuse_files(files, "unbroken.npy"))


def test_a_pixel_without_data_comes_out_without_data(files):
    x_h, x_m = np.load(files / "h.npy"), np.load(files / "m.npy")
    x_h[2, 3, 4], x_m[1, 40, 50] = np.nan, np.nan
    np.save(files / "h.npy", x_h), np.save(files / "m.npy", x_m)
    expected = np.zeros((BANDS, *x_m.shape[1:]), bool)
    expected[:, 12:16, 16:20] = expected[:, 40, 50] = True
    np.testing.assert_array_equal(np.isnan(fuse_files(files)), expected)


def test_errors_about_a_pair_name_its_files(files):
    np.save(files / "m.npy", np.load(files / "m.npy")[:, :-1])
    with pytest.raises(ValueError, match=r"h\.npy as x_h, .*m\.npy as x_m: .*height and width"):
        fuse_files(files)


def test_an_image_that_is_not_finite_is_not_written(files, monkeypatch):
    model = build()
    model.output_spread.fill_(float("inf"))
    monkeypatch.setattr(sys.modules[__name__], "build", lambda: model)
    with pytest.raises(ValueError, match=r"h\.npy as x_h, .* finite fused image, got .* rows 0:"):
        fuse_files(files)
    assert not (files / "out.npy").exists()
