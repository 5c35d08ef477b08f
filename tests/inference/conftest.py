"""A pair of another sensor, which several test files share."""

import pytest
import torch

from s3rnet_lite import Degradation, sensors

GAIN, OFFSET = torch.tensor([4.0, 5.0, 6.0, 7.0])[:, None, None], 30.0  # of the MSI


@pytest.fixture(scope="session")
def other_sensor(indian_pines):
    """96 x 96 pixels in 120 bands, seen by four bands of Sentinel-2A in numbers of another unit:
    truth, pair, wavelengths, SRF. The HSI is in thousandths. Do not write into it.
    """
    bands = torch.argsort(indian_pines.wavelengths_nm)[torch.linspace(0, 169, 120).round().long()]
    wavelengths = indian_pines.wavelengths_nm[bands]
    srf = sensors.sentinel2a(wavelengths, ("2", "3", "4", "8"), indian_pines.fwhm_nm[bands])
    y = indian_pines.cube[bands, :96, 48:]
    x_h, x_m = Degradation(4, 1.7, srf)(y)
    return 1000 * y + 20, 1000 * x_h + 20, 1000 * GAIN * x_m + OFFSET, wavelengths, srf
