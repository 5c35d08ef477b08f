"""Adaptation from files to files: the command, its report and its picture."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from image_files import braces, write_envi
from small_fusion import TINY

from s3rnet_lite import baselines, metrics, sensors, training
from s3rnet_lite.files import formats
from s3rnet_lite.inference import report

pytestmark = pytest.mark.slow  # not part of `make check`


def run(*arguments) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    command = [sys.executable, "-m", "s3rnet_lite", "adapt", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def map_info(pixel: float, left: float = 500_000.0) -> str:
    return braces(
        ["UTM", 1, 1, left, 4_480_000, pixel, pixel, 16, "North", "WGS-84", "units=Meters"]
    )


@pytest.fixture(scope="module")
def envi_pair(other_sensor, tmp_path_factory):
    """The pair as ENVI files: the HSI in uint16 with one bad band more, the MSI in float32; both
    say where they lie.
    """
    _, x_h, x_m, wavelengths, _ = other_sensor
    numbers = np.concatenate([np.rint(10 * x_h.numpy()), np.full((1, 24, 24), 60_000)]).astype(
        np.uint16
    )
    fields = {
        "wavelength": braces([*wavelengths.tolist(), 2499.0]),
        "wavelength_units": "Nanometers",
    }
    fields |= {"bbl": braces([1] * 120 + [0]), "reflectance_scale_factor": 10}
    folders = [tmp_path_factory.mktemp(name) for name in ("hsi", "msi")]
    return write_envi(folders[0], numbers, map_info=map_info(80), **fields), write_envi(
        folders[1], x_m.numpy(), map_info=map_info(20)
    )


def test_from_envi_files_to_envi_file(other_sensor, envi_pair, tmp_path):
    y, x_h, x_m, wavelengths, _ = other_sensor
    out = tmp_path / "deeper" / "fused.hdr"
    options = ("--steps", 2, "--srf", "sentinel2a", "--psf-sigma", 1.7)
    done = run("--hsi", envi_pair[0], "--msi", envi_pair[1], "--out", out, *options)
    assert done.returncode == 0, done.stderr
    assert "network" in done.stdout and "On the held-out pixels" in done.stdout
    endings = (".hdr", ".img", ".json", ".safetensors", "_report.json", "_report.png")
    assert {file.name for file in out.parent.iterdir()} == {f"fused{end}" for end in endings}
    fused, msi = formats.open_cube(out), formats.open_cube(envi_pair[1])
    report = json.loads((out.parent / "fused_report.json").read_text())
    assert fused.shape == (120, 96, 96)
    assert fused.georeference["map info"] == msi.georeference["map info"]
    np.testing.assert_allclose(fused.wavelengths_nm, wavelengths, atol=1e-3)
    cube = torch.from_numpy(fused.read())
    assert metrics.rmse(cube, y) < metrics.rmse(baselines.upsample(x_h, 4, "bicubic"), y) / 3
    assert report["alignment"]["psf_sigma"] == 1.7 and not report["msi"]["srf_estimated"]
    assert report["provenance"]["command"].startswith("python -m s3rnet_lite adapt --hsi")
    model = training.load_checkpoint(out.with_suffix(".safetensors"))
    hsi = torch.from_numpy(formats.open_cube(envi_pair[0]).read(bands=slice(120)))
    with torch.no_grad():
        again = model(hsi[None], x_m[None])[0]
    assert metrics.rmse(again, cube) < metrics.rmse(cube, y)  # the network's part of the blend


def test_numpy_files_without_wavelengths_give_a_picture_too(other_sensor, tmp_path):
    _, x_h, x_m, _, srf = other_sensor
    srf_file = tmp_path / "srf.csv"
    np.savetxt(srf_file, 3 * srf, delimiter=",")
    for name, image in (("h.npy", x_h), ("m.npy", x_m)):
        np.save(tmp_path / name, image)
    files = (tmp_path / name for name in ("h.npy", "m.npy", "y.npy"))
    found, written = report.run(*files, str(srf_file), config=TINY, progress=False)
    endings = (".npy", ".safetensors", "_report.json", "_report.png")
    assert [path.name for path in written] == [f"y{end}" for end in endings]
    assert all(path.stat().st_size > 1000 for path in written)
    torch.testing.assert_close(found.srf, srf, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), found.y_hat)


def test_other_footprints_are_refused(envi_pair, other_sensor, tmp_path):
    moved = write_envi(tmp_path, other_sensor[2].numpy(), map_info=map_info(20, left=500_040.0))
    message = r"expected one footprint, .* -2\.00, \+0\.00, -2\.00, \+0\.00 HR pixels apart"
    with pytest.raises(ValueError, match=message):
        report.run(envi_pair[0], moved, tmp_path / "fused.npy", config=TINY, progress=False)
    assert not list(tmp_path.glob("fused*"))


def test_responses_that_do_not_fit_are_named(tmp_path, other_sensor):
    np.save(tmp_path / "srf.npy", np.ones((4, 119)))
    (tmp_path / "srf.csv").write_text("a,b\nc,d\n")
    wavelengths = other_sensor[3]
    for source, bands, nanometres, message in (
        (tmp_path / "srf.npy", 4, None, r"expected 4 rows .* of 120 .* got shape \(4, 119\)"),
        (tmp_path / "srf.csv", 4, None, "cannot be read as numbers"),
        ("quickbird", 4, None, "landsat_tm or sentinel2a .* or .npy file, got 'quickbird'"),
        ("sentinel2a", 4, None, "needs wavelengths"),
        ("sentinel2a", 5, wavelengths, "the MSI has 5"),
    ):
        with pytest.raises(ValueError, match=message):
            sensors.read_srf(str(source), bands, 120, nanometres)
    with pytest.raises(ValueError, match=r"ends in \.npy or \.hdr"):
        report.run("h.npy", "m.npy", tmp_path / "out.tif")
