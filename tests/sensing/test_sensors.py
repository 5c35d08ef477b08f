"""Sensors: spectral responses against independent integration, closed forms and published band
limits.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import simpson

from s3rnet_lite import sensors
from s3rnet_lite.files.provenance import DATA_FOLDER

WIDE_GRID = np.arange(405.0, 2500.0, 10.0)
TABLE = np.genfromtxt(DATA_FOLDER / "landsat5_tm_response.csv", delimiter=",", skip_header=1)
PUBLISHED_LIMITS_NM = {
    1: (450, 520),
    2: (520, 600),
    3: (630, 690),
    4: (760, 900),
    5: (1550, 1750),
    7: (2080, 2350),
}


def table_of(band: int) -> tuple[np.ndarray, np.ndarray]:
    rows = TABLE[TABLE[:, 0] == band]
    return rows[:, 1], rows[:, 2]


@pytest.mark.parametrize("bands", [4, 6])
def test_srf_has_one_non_negative_row_a_band_that_sums_to_one(bands):
    srf = sensors.landsat_tm(WIDE_GRID, bands=bands)
    assert srf.shape == (bands, len(WIDE_GRID))
    assert srf.dtype == torch.float32
    assert bool((srf >= 0).all())
    np.testing.assert_allclose(srf.sum(1).numpy(), 1, atol=1e-6)


@given(start=st.floats(380, 450), step=st.floats(4, 25), fwhm=st.floats(4, 30))
def test_rows_sum_to_one_on_any_grid_over_the_visible_and_near_infrared(start, step, fwhm):
    srf = sensors.landsat_tm(np.arange(start, 1000, step), bands=4, fwhm_nm=fwhm)
    np.testing.assert_allclose(srf.sum(1).numpy(), 1, atol=1e-6)


def test_red_row_equals_a_fine_numerical_integration():
    fwhm = np.linspace(8, 14, len(WIDE_GRID))
    response_nm, response = table_of(3)
    fine = np.arange(response_nm[0], response_nm[-1], 0.05)
    overlaps = np.array(
        [
            simpson(
                np.interp(fine, response_nm, response)
                * np.exp(-4 * np.log(2) * ((fine - centre) / width) ** 2),
                x=fine,
            )
            for centre, width in zip(WIDE_GRID, fwhm, strict=True)
        ]
    )
    srf = sensors.landsat_tm(WIDE_GRID, bands=4, fwhm_nm=fwhm)
    np.testing.assert_allclose(
        srf[2].numpy(), overlaps / overlaps.sum(), atol=1e-4
    )  # the largest weight is 0.15


@pytest.mark.parametrize(("row", "band"), list(enumerate(PUBLISHED_LIMITS_NM)))
def test_a_spectrum_that_rises_with_wavelength_reads_the_centroid_of_each_band(row, band):
    response_nm, response = table_of(band)
    centroid = (response_nm * response).sum() / response.sum()
    reading = float(
        sensors.landsat_tm(WIDE_GRID, bands=6)[row].double() @ torch.from_numpy(WIDE_GRID)
    )
    low, high = PUBLISHED_LIMITS_NM[band]
    assert reading == pytest.approx(centroid, abs=1.0)
    assert low < reading < high


@given(seed=st.integers(0, 1000))
def test_the_order_of_the_bands_is_irrelevant(seed):
    order = np.random.default_rng(seed).permutation(len(WIDE_GRID))
    fwhm = np.linspace(8, 14, len(WIDE_GRID))
    for widths, shuffled_widths in ((None, None), (fwhm, fwhm[order])):
        srf = sensors.landsat_tm(WIDE_GRID, 6, widths)
        shuffled = sensors.landsat_tm(WIDE_GRID[order], 6, shuffled_widths)
        torch.testing.assert_close(shuffled, srf[:, torch.from_numpy(order)])


def test_doubling_the_width_of_one_hsi_band_doubles_its_share_against_its_neighbour():
    fwhm = np.full(len(WIDE_GRID), 10.0)
    wide = fwhm.copy()
    i = int(
        np.argmin(abs(WIDE_GRID - 805))
    )  # on the plateau of TM 4, where the overlap is height times width
    wide[i] *= 2
    before, after = (sensors.landsat_tm(WIDE_GRID, 4, widths)[3] for widths in (fwhm, wide))
    assert after[i] > before[i]
    assert float(after[i] / after[i + 3]) == pytest.approx(
        2 * float(before[i] / before[i + 3]), rel=0.02
    )


def test_the_default_width_is_the_distance_between_the_bands():
    torch.testing.assert_close(
        sensors.landsat_tm(WIDE_GRID, 4),
        sensors.landsat_tm(WIDE_GRID, 4, np.full(len(WIDE_GRID), 10.0)),
    )


def test_a_wide_grid_covers_every_band():
    coverage = sensors.landsat_tm_coverage(WIDE_GRID, 6)
    assert min(coverage.msi_coverage) > 0.99


def test_coverage_counts_the_hsi_bands_inside_a_band():
    coverage = sensors.landsat_tm_coverage(np.arange(400.0, 1000.0, 1.0), 4)
    response_nm, response = table_of(3)
    above_one_percent = int((response > 0.01 * response.max()).sum())
    assert coverage.hsi_bands_per_msi_band[2] == pytest.approx(above_one_percent, abs=2)


def test_indian_pines_covers_the_blue_band_in_part_and_the_others_well(indian_pines):
    grid, fwhm = indian_pines.wavelengths_nm, indian_pines.fwhm_nm
    blue, *others = sensors.landsat_tm_coverage(grid, 6, fwhm).msi_coverage
    response_nm, response = table_of(1)
    lower_edge = float(grid[0] - fwhm[0] / 2)
    assert blue == pytest.approx(
        response[response_nm >= lower_edge].sum() / response.sum(), abs=0.03
    )
    assert blue < 0.7
    assert min(others) > 0.95


def test_four_bands_leave_the_shortwave_infrared_of_indian_pines_unseen_and_six_see_most_of_it(
    indian_pines,
):
    wavelengths = indian_pines.wavelengths_nm
    with_four, with_six = (
        set(sensors.landsat_tm_coverage(wavelengths, bands).unseen_hsi_bands) for bands in (4, 6)
    )
    assert set(np.flatnonzero(wavelengths > 1000)) <= with_four
    assert with_six < with_four
    for seen in (1650, 2200):
        assert int((wavelengths - seen).abs().argmin()) not in with_six
    assert int((wavelengths - 1200).abs().argmin()) in with_six  # between TM 4 and TM 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"wavelengths_nm": WIDE_GRID / 1000}, "nanometres"),
        ({"wavelengths_nm": WIDE_GRID * 10}, "nanometres"),
        ({"wavelengths_nm": WIDE_GRID, "bands": 5}, r"\(4, 6\), got 5"),
        ({"wavelengths_nm": np.arange(900.0, 2400.0, 10.0)}, "TM band 1 .*no support"),
        ({"wavelengths_nm": np.arange(400.0, 1000.0, 10.0), "bands": 6}, "TM band 5 .*no support"),
        ({"wavelengths_nm": np.append(WIDE_GRID, np.nan)}, "finite"),
        ({"wavelengths_nm": WIDE_GRID[None]}, "one axis"),
        ({"wavelengths_nm": WIDE_GRID, "fwhm_nm": 0.0}, "positive"),
        (
            {"wavelengths_nm": WIDE_GRID, "fwhm_nm": np.full(len(WIDE_GRID), np.nan)},
            "positive, finite",
        ),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sensors.landsat_tm(**arguments)


def test_sentinel_2a_reads_the_centroid_of_each_band_and_keeps_the_order_asked_for():
    """On a spectrum that is its own wavelength; ESA publishes 492, 560, 665 and 865 nm for bands 2,
    3, 4 and 8A.
    """
    names = ("8A", "2", "3", "4")
    srf = sensors.sentinel2a(WIDE_GRID, names)
    np.testing.assert_allclose(
        srf.double().numpy() @ WIDE_GRID, [864.7, 492.4, 559.8, 664.6], atol=1.5
    )
    everything = sensors.sentinel2a(WIDE_GRID)
    assert everything.shape == (10, len(WIDE_GRID)) and bool((everything >= 0).all())
    np.testing.assert_allclose(everything.sum(1).numpy(), 1, atol=1e-6)
    torch.testing.assert_close(everything[sensors.SENTINEL2_BANDS.index("8A")], srf[0])


def test_sentinel_2a_names_bad_input():
    with pytest.raises(ValueError, match=r"bands: expected names out of .*got \('2', '10'\)"):
        sensors.sentinel2a(WIDE_GRID, ("2", "10"))
    with pytest.raises(ValueError, match=r"Sentinel-2A band 11 .*no support"):
        sensors.sentinel2a(np.arange(400.0, 1000.0, 10.0))


@pytest.mark.parametrize(("bands", "limits"), [(1, {0: (480, 690)}), (3, sensors.RGB_NM)])
def test_pan_and_rgb_see_what_lies_between_their_limits(bands, limits):
    grid = np.arange(400, 1000, 5.0)
    srf = sensors.simulated_msi(grid, bands, fwhm_nm=5.0).numpy()
    assert srf.shape == (bands, len(grid))
    for row, (low, high) in zip(srf, limits.values(), strict=True):
        inside = (grid >= low + 5) & (grid <= high - 5)
        assert row[inside] == pytest.approx(np.full(inside.sum(), row.max()), rel=0.1)
        assert row[(grid < low - 10) | (grid > high + 10)].max() < 1e-3 * row.max()
        assert row.sum() == pytest.approx(1)


def test_the_four_simulated_sensors_are_the_known_ones():
    grid = np.arange(400, 2500, 10.0)
    for bands in (4, 6):
        assert torch.equal(sensors.simulated_msi(grid, bands), sensors.landsat_tm(grid, bands))
    assert torch.equal(sensors.simulated_msi(grid, 1), sensors.read_srf("pan", 1, 210, grid))
    assert torch.equal(sensors.simulated_msi(grid, 3), sensors.read_srf("rgb", 3, 210, grid))
    with pytest.raises(ValueError, match=r"bands: expected one of \(1, 3, 4, 6\), got 2"):
        sensors.simulated_msi(grid, 2)
    with pytest.raises(ValueError, match="pan has 1 bands; the MSI has 2"):
        sensors.read_srf("pan", 2, 210, grid)


def test_a_pan_band_without_hsi_bands_or_with_falling_limits_is_refused():
    with pytest.raises(ValueError, match=r"PAN band pan \(480-690 nm\) has no support"):
        sensors.pan(np.arange(900, 2500, 10.0))
    with pytest.raises(ValueError, match="limits_nm"):
        sensors.pan(np.arange(400, 1000, 10.0), limits_nm=(700, 500))
