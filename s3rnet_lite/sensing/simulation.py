"""SIMULATED scenes: measured spectra, mixed over made-up land, as AVIRIS would see them; used in
notebooks/10_gpu_training.ipynb.

The land is invented; the spectra are not. Soils, dry plants and building materials were measured in
the field and in the laboratory (package `earthlib` 1.1.0; its modelled canopies are left out). It
holds no measured green plant, so those come from the training region of Indian Pines, divided by
what the sun, the air and the instrument make of a reflectance of 1, which the bare soil of that
image tells. The same factor then turns the mixture into radiance.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from ..files import extras
from ..files.atomic import packaged_file
from ..files.provenance import DATA_FOLDER
from .indian_pines import indian_pines, paper_bands
from .landscape import abundances_of, brightness_of
from .scene import Scene, split
from .sensors import typical_width

# label - 1: its materials in the library, how many of them a scene is mixed from, odds of a parcel
FAMILIES = {
    "green plants": ((), 6, 1.5),
    "dry plants": (("npv", "litter", "bark", "wood"), 4, 0.7),
    "soil": (("soil", "sand", "dirt", "gravel"), 6, 1.0),
    "built": (
        (
            "road",
            "parking_lot",
            "comp_shingle",
            "wood_shingle",
            "concrete_tile",
            "tile",
            "sidewalk",
        ),
        6,
        0.2,
    ),
    "burned": (("char",), 2, 0.2),
}
LARGEST_STEP = 0.1  # of reflectance within 10 nm; a measured spectrum that jumps farther is damaged
GREEN_NDVI, BARE_NDVI = 0.55, 0.1
NOISE_FLOOR, NOISE_SHARE = (
    0.008,
    0.005,
)  # radiance units and share of the signal, near those of Indian Pines' bands


def simulate(seed: int = 0, size: int = 256, wavelengths_nm=None, fwhm_nm=None) -> Scene:
    """A SIMULATED scene of measured spectra: invented land, radiance in the units of
    `indian_pines`.

    Args:
        seed: another number, another landscape.
        size: height and width in pixels, at least 16.
        wavelengths_nm: (C,) band centres in nanometres; the paper's 172 AVIRIS bands if None.
        fwhm_nm: (C,) full widths at half maximum; by default the median distance between centres.

    Raises:
        FileNotFoundError: the spectra or Indian Pines, whose training region lends light and green
            plants, are not there.
        ValueError: a size below 16, or bands that are not nanometres between 300 and 2600.
    """
    if size < 16:
        raise ValueError(f"size: expected at least 16 pixels, got {size}")
    if wavelengths_nm is None:
        wavelengths_nm, paper_fwhm_nm = paper_bands()
        fwhm_nm = paper_fwhm_nm if fwhm_nm is None else fwhm_nm
    wavelengths_nm = torch.as_tensor(wavelengths_nm, dtype=torch.float64)
    if wavelengths_nm.ndim != 1 or not bool(
        ((wavelengths_nm >= 300) & (wavelengths_nm <= 2600)).all()
    ):
        raise ValueError(
            "wavelengths_nm: expected band centres between 300 and 2600 nm on one axis"
        )
    if fwhm_nm is None:
        fwhm_nm = torch.full_like(wavelengths_nm, typical_width(wavelengths_nm))
    fwhm_nm = torch.as_tensor(fwhm_nm, dtype=torch.float64)
    if fwhm_nm.shape != wavelengths_nm.shape or not bool((fwhm_nm > 0).all()):
        raise ValueError(
            f"fwhm_nm: expected {len(wavelengths_nm)} positive widths in nanometres, got shape "
            f"{tuple(fwhm_nm.shape)}"
        )
    radiance, labels = simulate_radiance(
        _lender(), seed, size, wavelengths_nm.numpy(), fwhm_nm.numpy()
    )
    offset, scale = float(radiance.min()), float(np.ptp(radiance))
    radiance -= offset
    radiance /= scale
    return Scene(
        torch.from_numpy(radiance),
        wavelengths_nm,
        fwhm_nm,
        torch.from_numpy(labels),
        f"simulated/seed{seed}",
        scale,
        offset,
    )


def simulate_radiance(
    real: Scene, seed: int, size: int, wavelengths_nm: np.ndarray, fwhm_nm: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Invent a landscape and look at it: linear mixing, relief, texture, the sensor's blur and
    noise.

    Args:
        real: the radiance scene that lends its green plants and its light.
        size: height and width in pixels.
        wavelengths_nm, fwhm_nm: (C,) of the bands. Beyond 400-2450 nm the spectra go on as
            constants, and the light beyond the bands of `real`; between these it is interpolated.

    Returns:
        (C, size, size) float32 radiance, and (size, size) int64 labels: 1 + the family of each
        parcel's main material.
    """
    generator = np.random.default_rng(seed)
    library_nm, spectra, light = measured_spectra(real)
    chosen = [
        (family, spectrum)
        for family, (name, (_, count, _)) in enumerate(FAMILIES.items())
        for spectrum in _related(generator, spectra[name], count)
    ]
    family_of = np.array([family for family, _ in chosen])
    responses = band_responses(library_nm, wavelengths_nm, fwhm_nm)
    reflectances = responses @ np.stack([spectrum for _, spectrum in chosen], 1)
    endmembers = np.interp(wavelengths_nm, *light)[:, None] * reflectances

    odds = np.array([odds for _, _, odds in FAMILIES.values()])[family_of]
    abundances, labels = abundances_of(generator, size, family_of, odds)
    abundances *= brightness_of(generator, size)
    # what the optics blur; mixing commutes with it
    abundances = gaussian_filter(abundances, (0, 0.5, 0.5), mode="reflect")
    radiance = endmembers.astype(np.float32) @ abundances.reshape(len(chosen), -1)
    radiance = radiance.reshape(-1, size, size)
    for band in radiance:  # one at a time stays in the processor's cache
        deviation = NOISE_FLOOR + NOISE_SHARE * band
        band += deviation * generator.standard_normal(band.shape, np.float32)
    return np.maximum(radiance, 0, out=radiance), labels


@cache
def measured_spectra(
    real: Scene,
) -> tuple[np.ndarray, dict[str, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The measured spectra by family, and the light.

    Returns:
        (180,) wavelengths in nm; per family of `FAMILIES` an (n, 180) array of reflectances; and
        the light as (wavelengths, radiance of a reflectance of 1), to be interpolated.

    Raises:
        FileNotFoundError: neither `data/cache/` nor the package earthlib has the library.
    """
    envi = extras.load("spectral.io.envi")

    with open(_library_file("spectra.csv"), newline="", encoding="utf-8") as file:
        materials = {
            row["NAME"]: row["LEVEL_3"]
            for row in csv.DictReader(file)
            if row["LEVEL_4"] == "measured"
        }
    library = envi.open(str(_library_file("spectra.sli.hdr")), str(_library_file("spectra.sli")))
    nanometres, reflectances = 1000 * np.array(library.bands.centers), library.spectra
    material = np.array([materials.get(name, "") for name in library.names])
    neighbours = (
        np.diff(nanometres) < 11
    )  # the library leaves out 1350-1460 and 1790-1960 nm, where air is opaque
    steps = np.abs(np.diff(reflectances))[:, neighbours]
    sound = (steps.max(1) <= LARGEST_STEP) & (reflectances.min(1) > 0)
    spectra = {
        name: reflectances[sound & np.isin(material, kinds)]
        for name, (kinds, _, _) in FAMILIES.items()
    }

    order = np.argsort(real.wavelengths_nm.numpy())  # the spectrometers overlap
    real_nm = real.wavelengths_nm.numpy()[order]
    radiance = real.cube.numpy()[order] * real.scale + real.offset
    height, width = (length // 4 * 4 for length in radiance.shape[1:])
    means = (
        radiance[:, :height, :width]
        .reshape(len(order), height // 4, 4, width // 4, 4)
        .mean((2, 4))
        .reshape(len(order), -1)
    )
    red, infrared = (means[np.abs(real_nm - nm).argmin()] for nm in (670, 800))
    ndvi = (infrared - red) / (infrared + red)
    light = means[:, ndvi < BARE_NDVI].mean(1) / np.interp(
        real_nm, nanometres, reflectances[sound & (material == "soil")].mean(0)
    )
    spectra["green plants"] = np.stack(
        [np.interp(nanometres, real_nm, x / light) for x in means[:, ndvi > GREEN_NDVI].T]
    )
    return nanometres, spectra, (real_nm, light)


def _related(generator: np.random.Generator, spectra: np.ndarray, count: int) -> np.ndarray:
    """`count` of the spectra, among the third that is most like a random one: the soils of one
    place are alike.
    """
    unlike = np.linalg.norm(spectra - spectra[generator.integers(len(spectra))], axis=1)
    return spectra[
        generator.choice(unlike.argsort()[: max(count, len(spectra) // 3)], count, replace=False)
    ]


def band_responses(
    library_nm: np.ndarray, wavelengths_nm: np.ndarray, fwhm_nm: np.ndarray
) -> np.ndarray:
    """(C, 180) weights that turn a library spectrum into bands of Gaussian response; rows sum to 1.

    A band beyond the library's samples, or in one of its gaps, gets the nearest value.
    """
    sigma = np.maximum(fwhm_nm, 10) / np.sqrt(8 * np.log(2))
    centres = np.clip(wavelengths_nm, library_nm[0], library_nm[-1])
    weights = np.exp(-0.5 * ((library_nm - centres[:, None]) / sigma[:, None]) ** 2)
    return weights / weights.sum(1, keepdims=True)


def _library_file(name: str) -> Path:
    return packaged_file(DATA_FOLDER / "cache", name, "earthlib", "data")


@cache
def _lender() -> Scene:
    return split(indian_pines())[0]
