"""Simulated scenes: the spectra against the library's own file, the mixing against non-negative
least squares, the fields against 1/f.
"""

import csv
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls
from spectral.io import envi

from s3rnet_lite import scenes, sensors
from s3rnet_lite.sensing import landscape, simulation
from s3rnet_lite.sensing.indian_pines import PAPER_CHANNELS

FAMILIES = list(simulation.FAMILIES)


def shipped(name: str) -> Path:
    return Path(importlib.util.find_spec("earthlib").origin).parent / "data" / name


@pytest.fixture(scope="module")
def simulated():
    return scenes.simulate(seed=1, size=128)


@pytest.fixture(scope="module")
def measured(indian_pines_split):
    return simulation.measured_spectra(indian_pines_split[0])


def radiance(scene) -> np.ndarray:
    return scene.cube.numpy().astype(np.float64) * scene.scale + scene.offset


def ndvi(scene) -> torch.Tensor:
    red, infrared = (
        scene.cube[int((scene.wavelengths_nm - nm).abs().argmin())] for nm in (670, 800)
    )
    return (infrared - red) / (infrared + red)


def test_the_default_is_the_papers_size_and_says_that_it_is_simulated():
    scene = scenes.simulate(seed=3)
    assert scene.cube.shape == (172, 256, 256) and scene.cube.dtype == torch.float32
    assert (float(scene.cube.min()), float(scene.cube.max())) == (0, 1)
    assert scene.name == "simulated/seed3"
    assert scene.labels.shape == (256, 256) and scene.labels.dtype == torch.int64
    assert set(scene.labels.unique().tolist()) <= set(range(1, len(FAMILIES) + 1))


def test_the_seed_decides_everything(simulated):
    again, other = scenes.simulate(seed=1, size=128), scenes.simulate(seed=2, size=128)
    assert torch.equal(simulated.cube, again.cube) and torch.equal(simulated.labels, again.labels)
    assert (
        float(
            torch.corrcoef(torch.stack([simulated.cube[30].flatten(), other.cube[30].flatten()]))[
                0, 1
            ]
        )
        < 0.5
    )


@given(size=st.integers(16, 48), seed=st.integers(0, 2**32), bands=st.integers(2, 9))
def test_any_size_seed_and_band_count_gives_a_scene(size, seed, bands):
    scene = scenes.simulate(seed, size, np.linspace(450, 2350, bands), np.full(bands, 50.0))
    assert scene.cube.shape == (bands, size, size)
    assert float(scene.cube.min()) == 0 and float(scene.cube.max()) == pytest.approx(1)
    assert int(scene.labels.min()) >= 1 and int(scene.labels.max()) <= len(FAMILIES)


def test_every_pixel_is_a_non_negative_mixture_of_the_spectra_up_to_the_noise(simulated, measured):
    nanometres, spectra, light = measured
    grid = simulated.wavelengths_nm.numpy(), simulated.fwhm_nm.numpy()
    library = (
        np.concatenate(list(spectra.values()))
        @ simulation.band_responses(nanometres, *grid).T
        * np.interp(grid[0], *light)
    )
    pixels = radiance(simulated)[:, 5::40, 5::40].reshape(172, -1).T
    sigma = simulation.NOISE_FLOOR + simulation.NOISE_SHARE * pixels
    misfits = [
        nnls((library[::7] / s).T, pixel / s)[1] / np.sqrt(172)
        for pixel, s in zip(pixels, sigma, strict=True)
    ]
    assert 0.8 < np.median(misfits) < 1.2
    shuffled = pixels[:, np.random.default_rng(0).permutation(172)]
    assert (
        min(
            nnls((library[::7] / s).T, pixel / s)[1] / np.sqrt(172)
            for pixel, s in zip(shuffled, sigma, strict=True)
        )
        > 10
    )


def test_the_noise_left_by_a_regression_of_each_band_on_the_others_is_that_put_in(simulated):
    pixels = radiance(simulated).reshape(172, -1)
    left = 1 / np.sqrt(np.diag(np.linalg.inv(np.cov(pixels))))
    put_in = np.sqrt(np.mean((simulation.NOISE_FLOOR + simulation.NOISE_SHARE * pixels) ** 2, 1))
    assert (left > 0.9 * put_in).all() and np.median(left / put_in) < 1.15


def test_the_noise_is_about_that_of_indian_pines(indian_pines, simulated):
    real, made = (
        1 / np.sqrt(np.diag(np.linalg.inv(np.cov(radiance(scene).reshape(len(scene.cube), -1)))))
        for scene in (indian_pines, simulated)
    )
    assert 0.5 < np.median(made) / np.median(real) < 2


def test_spectra_are_about_as_many_sided_as_indian_pines(indian_pines, simulated):
    """Components of more than twice the noise."""

    def components(scene) -> int:
        covariance = np.cov(radiance(scene).reshape(len(scene.cube), -1))
        noise = 1 / np.sqrt(np.diag(np.linalg.inv(covariance)))
        return int((np.linalg.eigvalsh(covariance / noise / noise[:, None]) > 2).sum())

    assert 8 <= components(simulated) <= 1.5 * components(indian_pines)


@pytest.mark.parametrize(
    ("low", "between", "high"), [(755, 764, 774), (1035, 1130, 1230), (1540, 1470, 1640)]
)
def test_light_passes_the_real_atmosphere(simulated, low, between, high):
    """Oxygen and water: each dip is far below what lies on both sides."""
    mean = radiance(simulated).mean((1, 2))
    left, dip, right = (
        mean[int((simulated.wavelengths_nm - nm).abs().argmin())] for nm in (low, between, high)
    )
    assert dip < 0.75 * min(left, right)


def test_labels_lie_on_the_land_they_name(simulated):
    means = {
        int(label): float(ndvi(simulated)[simulated.labels == label].mean())
        for label in simulated.labels.unique()
    }
    assert max(means, key=means.get) == 1 + FAMILIES.index("green plants")
    assert means[1] > 0.25 > 0.15 > means[1 + FAMILIES.index("soil")]


def test_only_sound_measured_spectra_are_mixed(measured):
    with open(shipped("spectra.csv"), newline="") as file:
        modelled = {row["NAME"] for row in csv.DictReader(file) if row["LEVEL_4"] != "measured"}
    library = envi.open(str(shipped("spectra.sli.hdr")), str(shipped("spectra.sli")))
    rows_of = {
        spectrum.tobytes(): name
        for name, spectrum in zip(library.names, library.spectra, strict=True)
    }
    nanometres, spectra, _ = measured
    assert len(modelled) == 2000
    gaps = np.diff(nanometres) > 15  # where the air is opaque
    assert (nanometres[0], nanometres[-1]) == pytest.approx((400, 2450)) and nanometres[:-1][
        gaps
    ] == pytest.approx([1350, 1790])
    for family, kept in spectra.items():
        if family != "green plants":
            names = {rows_of[spectrum.astype(np.float32).tobytes()] for spectrum in kept}
            assert len(names) >= 10 and not names & modelled
        assert kept.min() > 0 and kept.max() < 1


def test_green_plants_look_like_green_plants(measured):
    """The red edge, the green peak, and liquid water at 1450 and 1950 nm, as in any spectrum of
    leaves.
    """
    nanometres, spectra, _ = measured

    def at(nm: float) -> np.ndarray:
        return spectra["green plants"][:, np.abs(nanometres - nm).argmin()]

    assert (at(800) > 3 * at(670)).all()
    assert (at(550) > at(670)).mean() > 0.5
    assert (at(1650) > 1.2 * at(1460)).all() and (at(1650) > 1.5 * at(1970)).all()


def test_a_constant_spectrum_stays_and_a_ramp_gives_the_centre():
    library_nm = np.arange(400.0, 2451, 10)
    centres, widths = (
        np.linspace(600, 2200, 50),
        np.linspace(20, 100, 50),
    )  # a narrower band falls between samples
    weights = simulation.band_responses(library_nm, centres, widths)
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(weights @ library_nm, centres, atol=0.1)


def test_a_band_beyond_the_library_gets_its_nearest_value():
    library_nm = np.arange(400.0, 2451, 10)
    weights = simulation.band_responses(
        library_nm, np.array([300.0, 400.0, 2450.0, 2600.0]), np.full(4, 10.0)
    )
    np.testing.assert_array_equal(weights[0], weights[1])
    np.testing.assert_array_equal(weights[2], weights[3])


@pytest.mark.parametrize("exponent", [1.5, 2.5, 3.5])
def test_fields_have_the_power_spectrum_asked_for(exponent):
    fields = landscape.one_over_f(np.random.default_rng(0), 8, 128, exponent)
    np.testing.assert_allclose(fields.mean((1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(fields.std((1, 2)), 1, atol=1e-4)
    power = (np.abs(np.fft.fft2(fields)) ** 2).mean(0)
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128))
    inside = (frequency > 0.02) & (frequency < 0.4)
    assert -np.polyfit(np.log(frequency[inside]), np.log(power[inside]), 1)[0] == pytest.approx(
        exponent, abs=0.1
    )


def test_the_papers_172_bands_hold_all_170_of_indian_pines(indian_pines):
    wavelengths, fwhm = scenes.paper_bands()
    assert wavelengths.shape == fwhm.shape == (172,) == np.shape(PAPER_CHANNELS)
    working = [channel not in (33, 97) for channel in PAPER_CHANNELS]
    assert torch.equal(wavelengths[working], indian_pines.wavelengths_nm) and torch.equal(
        fwhm[working], indian_pines.fwhm_nm
    )
    spectrometer = np.searchsorted(
        [32, 96, 160], PAPER_CHANNELS
    )  # AVIRIS's four: channels 1-32, 33-96, 97-160, 161-224
    for number in range(4):
        steps = wavelengths[torch.from_numpy(spectrometer == number)].diff()
        gap = 1.05 * steps.median()
        assert (steps > 9).all() and (steps[steps < 2 * gap] < gap).all()


def test_the_library_in_the_cache_folder_is_read_first(tmp_path, monkeypatch, indian_pines_split):
    (tmp_path / "cache").mkdir()
    shutil.copy(shipped("spectra.csv"), tmp_path / "cache")
    shutil.copy(shipped("spectra.sli.hdr"), tmp_path / "cache")
    halved = 0.5 * np.fromfile(shipped("spectra.sli"), "<f4")
    halved.tofile(tmp_path / "cache" / "spectra.sli")
    monkeypatch.setattr(simulation, "DATA_FOLDER", tmp_path)
    read = simulation.measured_spectra.__wrapped__(indian_pines_split[0])[1]["burned"]
    assert (
        read.max()
        < 0.5 * simulation.measured_spectra(indian_pines_split[0])[1]["burned"].max() + 0.1
    )


def test_a_missing_library_is_named(tmp_path, monkeypatch, indian_pines_split):
    monkeypatch.setattr(simulation, "DATA_FOLDER", tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"spectra\.csv.*earthlib"):
        simulation.measured_spectra.__wrapped__(indian_pines_split[0])


def test_another_sensors_bands_are_simulated_too():
    wavelengths = np.linspace(420, 2480, 120)
    scene = scenes.simulate(seed=0, size=32, wavelengths_nm=wavelengths)
    assert scene.cube.shape == (120, 32, 32)
    assert scene.fwhm_nm.tolist() == pytest.approx([wavelengths[1] - wavelengths[0]] * 120)
    assert sensors.landsat_tm(scene.wavelengths_nm, 6, scene.fwhm_nm).shape == (6, 120)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 8}, "size: expected at least 16"),
        ({"seed": -1}, "non-negative"),
        (
            {"wavelengths_nm": [0.5, 0.6]},
            "wavelengths_nm: expected band centres between 300 and 2600 nm",
        ),
        ({"wavelengths_nm": [[500.0, 600.0]]}, "wavelengths_nm: expected"),
        (
            {"wavelengths_nm": [500.0, 600.0], "fwhm_nm": [10.0]},
            "fwhm_nm: expected 2 positive widths",
        ),
        ({"fwhm_nm": np.zeros(172)}, "fwhm_nm: expected 172 positive widths"),
        ({"wavelengths_nm": [500.0]}, "fwhm_nm: expected 1 positive widths"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        scenes.simulate(**{"size": 16, **arguments})
