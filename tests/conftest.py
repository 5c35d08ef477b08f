"""Fixtures and settings that several test files share."""

import pytest
import torch
from hypothesis import settings

from s3rnet_lite import Degradation, Scene, scenes, sensors

settings.register_profile("suite", deadline=None, max_examples=15, derandomize=True, database=None)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def fixed_seed():
    """Every test starts from the same random numbers, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def indian_pines() -> Scene:
    """The embedded real scene. Do not write into it."""
    return scenes.indian_pines()


@pytest.fixture(scope="session")
def tm4(indian_pines) -> torch.Tensor:
    """Landsat TM bands 1-4 on the scene's wavelengths."""
    return sensors.landsat_tm(indian_pines.wavelengths_nm, bands=4, fwhm_nm=indian_pines.fwhm_nm)


@pytest.fixture(scope="session")
def indian_pines_split(indian_pines) -> tuple[Scene, Scene, Scene]:
    """Its train, validation and test regions."""
    return scenes.split(indian_pines)


@pytest.fixture(scope="session")
def small_train(indian_pines_split) -> Scene:
    """32 x 32 pixels of the training region, for tests that train."""
    return indian_pines_split[0].crop(slice(0, 32), slice(0, 32), "small train")


@pytest.fixture(scope="session")
def small_val(indian_pines_split) -> Scene:
    """16 x 16 pixels of the validation region."""
    return indian_pines_split[1].crop(slice(0, 16), slice(0, 16), "small val")


@pytest.fixture(scope="session")
def degrade6(indian_pines) -> Degradation:
    """The default degradation with six Landsat TM bands."""
    return Degradation(
        srf=sensors.landsat_tm(indian_pines.wavelengths_nm, bands=6, fwhm_nm=indian_pines.fwhm_nm)
    )
