"""What relates a pair, found from the pair: against shifts by splines, known PSFs and known
responses.
"""

import numpy as np
import pytest
import scipy.ndimage
import torch

from s3rnet_lite import Degradation, sensors
from s3rnet_lite.inference import calibration


@pytest.fixture(scope="module")
def other_sensor(indian_pines):
    """The scene in 120 bands, and Sentinel-2A's ten bands on them."""
    bands = torch.argsort(indian_pines.wavelengths_nm)[torch.linspace(0, 169, 120).round().long()]
    srf = sensors.sentinel2a(
        indian_pines.wavelengths_nm[bands], fwhm_nm=indian_pines.fwhm_nm[bands]
    )
    return indian_pines.cube[bands], srf


def shifted(x: torch.Tensor, rows: float, columns: float) -> torch.Tensor:
    return torch.from_numpy(
        scipy.ndimage.shift(x.double().numpy(), (0, rows, columns), order=3, mode="mirror")
    ).float()


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.3, -0.6), (-2.5, 3.2), (9.0, 14.0)])
@pytest.mark.parametrize(("scale", "sigma", "msi_bands"), [(4, 1.7, 10), (3, 1.0, 3), (6, 2.5, 1)])
def test_shift_and_psf_are_found_whatever_the_bands_and_units(
    other_sensor, shift, scale, sigma, msi_bands
):
    cube, srf = other_sensor
    x_h, x_m = Degradation(scale, sigma, srf[:msi_bands], snr_db=35, msi_snr_db=40)(cube)
    gain = torch.linspace(5, 50, msi_bands)[:, None, None]
    found = calibration.align(x_h, shifted(x_m, *shift) * gain - 3, scale)
    assert (found.rows, found.columns) == pytest.approx(shift, abs=0.1)
    assert found.psf_sigma == pytest.approx(sigma, rel=0.05)
    assert found.correlation > 0.7


def test_a_known_psf_is_kept(other_sensor):
    cube, srf = other_sensor
    x_h, x_m = Degradation(4, 1.7, srf)(cube)
    found = calibration.align(x_h, shifted(x_m, 0.4, 0), 4, psf_sigma=1.5)
    assert found.psf_sigma == 1.5
    assert (found.rows, found.columns) == pytest.approx((0.4, 0), abs=0.1)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.flip(1),
        lambda x: x.rot90(1, (1, 2)),
        torch.rand_like,
        lambda x: torch.full_like(x, 0.3),
    ],
)
def test_another_place_is_not_correlated(other_sensor, change):
    cube, srf = other_sensor
    x_h, x_m = Degradation(4, 1.7, srf)(cube)
    assert calibration.align(x_h, change(x_m), 4).correlation < 0.3


def test_a_large_image_is_represented_by_its_centre(other_sensor, monkeypatch):
    cube, srf = other_sensor
    x_h, x_m = Degradation(4, 1.7, srf)(cube)
    monkeypatch.setattr(calibration, "LARGEST", 24)
    found = calibration.align(x_h, shifted(x_m, 1, -2), 4)
    assert (found.rows, found.columns) == pytest.approx((1, -2), abs=0.1)


def test_without_noise_the_response_is_exact_up_to_what_the_image_shows(other_sensor):
    """Predictions and units: the weights themselves are found too, because nothing blurs the
    difference between bands.
    """
    cube, srf = other_sensor
    gain, offset = (
        torch.linspace(0.5, 20, 10)[:, None, None],
        torch.linspace(-1, 1, 10)[:, None, None],
    )
    x_h, x_m = Degradation(4, 1.7, srf)(cube)
    found = calibration.estimate_response(
        x_h, Degradation(4, 1.7, srf).spatial(gain * x_m + offset)
    )
    torch.testing.assert_close(found.to_hsi_unit(gain * x_m + offset), x_m, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.gain, gain, rtol=0.01, atol=0)
    torch.testing.assert_close(found.srf.sum(1), torch.ones(10))
    assert bool((found.srf >= 0).all()) and float(found.explained.min()) > 0.9999


def test_with_noise_the_predictions_are_right_although_the_weights_are_not(other_sensor):
    """On pixels that the estimate never saw: fitted on the left half, checked on the right one, at
    high resolution.
    """
    cube, srf = other_sensor
    degrade = Degradation(4, 1.7, srf, snr_db=35)
    left, right = cube[..., :72], cube[..., 72:]
    x_h, x_m = degrade(left)
    found = calibration.estimate_response(x_h, degrade.spatial(x_m))
    predicted, measured = (
        torch.einsum("mc,chw->mhw", found.srf, right),
        found.to_hsi_unit(degrade.spectral(right)),
    )
    relative = (predicted - measured).square().mean((1, 2)).sqrt() / measured.std((1, 2))
    assert float(relative.max()) < 0.1
    assert float((found.srf - srf).abs().sum(1).max()) > 0.5  # of 2 at most: not the true weights


def test_of_a_known_response_gain_and_offset_are_found(other_sensor):
    cube, srf = other_sensor
    x_h, x_m = Degradation(4, 1.7, srf)(cube)
    found = calibration.fit_gains(srf, x_h, Degradation(4, 1.7, srf).spatial(7 * x_m - 2))
    np.testing.assert_allclose(found.gain.flatten(), 7, rtol=1e-3)
    np.testing.assert_allclose(found.offset.flatten(), -2, atol=2e-3)
    assert torch.equal(found.srf, srf)


def test_bands_that_fall_where_they_should_rise_are_named(other_sensor):
    cube, srf = other_sensor
    x_h, x_m = Degradation(4, 1.7, srf)(cube)
    low = Degradation(4, 1.7, srf).spatial(x_m)
    low[3] = 1 - low[3]
    with pytest.raises(ValueError, match=r"srf: MSI band 3 .*falls where"):
        calibration.fit_gains(srf, x_h, low)
    with pytest.raises(ValueError, match=r"x_m: no non-negative combination .* MSI band 0"):
        calibration.estimate_response(x_h[:5], -x_h[:5].mean(0, keepdim=True))


@pytest.mark.parametrize(
    ("h", "m", "scale", "message"),
    [
        ((5, 12, 12), (2, 49, 48), None, r"ratios 4.083.* and 4; crop both to one footprint"),
        ((5, 12, 12), (2, 48, 36), None, "ratios 4 and 3"),
        ((5, 12, 12), (2, 12, 12), None, "at least twice"),
        ((5, 12, 12), (2, 6, 6), None, "at least twice"),
        ((5, 12, 12), (2, 48, 48), 3, r"scale: 3 was given, but .*say 4"),
        ((1, 5, 12, 12), (2, 48, 48), None, "x_h: expected one image"),
    ],
)
def test_sizes_that_do_not_fit_are_named(h, m, scale, message):
    with pytest.raises(ValueError, match=message):
        calibration.find_scale(torch.rand(h), torch.rand(m), scale)
    assert calibration.find_scale(torch.rand(5, 12, 10), torch.rand(2, 36, 30), 3) == 3


def test_missing_pixels_are_named():
    x_h = torch.rand(5, 12, 12)
    x_h[2, 3, 4] = torch.nan
    with pytest.raises(ValueError, match="x_h: expected finite values, got 1 NaN"):
        calibration.find_scale(x_h, torch.rand(2, 48, 48))
