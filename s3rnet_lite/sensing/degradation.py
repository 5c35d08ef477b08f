"""The observation model: X_h = YB (blur, decimation), X_m = DY (spectral response), noise; built in
notebooks/01_degradation.ipynb.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import scipy.sparse
import torch

from ..files.checks import check_cube
from . import sensors
from .scene import Scene


class Degradation:
    """Wald's protocol: from a reference HR-HSI, the LR-HSI and HR-MSI that two sensors would have
    seen.

    Section II-B of the paper: X_h = YB and X_m = DY. B blurs with a Gaussian point spread function
    (PSF) centred on each scale x scale block, with reflected borders, and keeps one value a block,
    so the centre of LR pixel i lies at HR coordinate `scale * i + (scale - 1) / 2`, where
    resampling with `align_corners=False` expects it. D is the SRF. The PSF has an even number of
    taps for an even scale, an odd number for an odd one, and spans at least 6 sigma.

    >>> degrade = Degradation(scale=4, psf_sigma=1.7, srf=torch.full((2, 9), 1 / 9))
    >>> x_h, x_m = degrade(torch.rand(9, 24, 32))
    >>> x_h.shape, x_m.shape
    (torch.Size([9, 6, 8]), torch.Size([2, 24, 32]))

    Args:
        scale: ratio of pixel sizes r, at least 1.
        psf_sigma: standard deviation of the PSF in HR pixels, positive.
        srf: (M, C) spectral response, rows sum to 1.
        snr_db: signal-to-noise ratio of white Gaussian noise on the LR-HSI in decibels, or None for
            no noise.
        msi_snr_db: the same for the HR-MSI.
        seed: of the noise; two calls on the same image give the same noise.

    Raises:
        TypeError, ValueError: an argument outside these ranges.
    """

    def __init__(
        self,
        scale: int = 4,
        psf_sigma: float = 1.7,
        srf: torch.Tensor | None = None,
        snr_db: float | None = None,
        seed: int = 0,
        msi_snr_db: float | None = None,
    ):
        if not isinstance(scale, int) or isinstance(scale, bool) or scale < 1:
            raise ValueError(f"scale: expected a whole number of at least 1, got {scale!r}")
        if not (math.isfinite(psf_sigma) and psf_sigma > 0):
            raise ValueError(
                f"psf_sigma: expected a positive number of HR pixels, got {psf_sigma!r}"
            )
        if (
            not isinstance(srf, torch.Tensor)
            or srf.ndim != 2
            or not srf.is_floating_point()
            or srf.numel() == 0
        ):
            raise TypeError(
                "srf: expected a non-empty floating-point tensor (M, C), got "
                f"{srf if srf is None else type(srf).__name__}"
            )
        if not torch.allclose(
            srf.sum(1), torch.ones(1, dtype=srf.dtype, device=srf.device), atol=1e-4
        ):
            raise ValueError(f"srf: expected rows that sum to 1, got sums {srf.sum(1).tolist()}")
        for name, value in (("snr_db", snr_db), ("msi_snr_db", msi_snr_db)):
            if value is not None and not math.isfinite(value):
                raise ValueError(
                    f"{name}: expected a finite number of decibels or None, got {value!r}"
                )
        self.scale, self.psf_sigma, self.srf = scale, float(psf_sigma), srf
        self.snr_db, self.msi_snr_db, self.seed = snr_db, msi_snr_db, seed

    def __call__(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """HR-HSI (..., C, H, W) -> LR-HSI (..., C, H/r, W/r) and HR-MSI (..., M, H, W), with the
        noise asked for.
        """
        check_cube("y", y)
        generator = torch.Generator(device=y.device).manual_seed(self.seed)
        x_h, x_m = self.spatial(y), self.spectral(y)
        if self.snr_db is not None:
            x_h = add_noise(x_h, self.snr_db, generator)
        if self.msi_snr_db is not None:
            x_m = add_noise(x_m, self.msi_snr_db, generator)
        return x_h, x_m

    def spatial(self, y: torch.Tensor) -> torch.Tensor:
        """YB without noise: (..., C, H, W) -> (..., C, H/r, W/r), for any C. Linear and
        differentiable.

        Raises:
            TypeError, ValueError: as `check_cube` (NaN and infinity pass), or H or W not divisible
                by r or too small for the PSF.
        """
        check_cube("y", y, finite=False)
        height, width = y.shape[-2:]
        return self._axis_matrix(height, y) @ y @ self._axis_matrix(width, y).mT

    def fits(self, height: int, width: int) -> bool:
        """Whether `spatial` takes images of this size."""
        pad = (len(gaussian_psf(self.psf_sigma, self.scale)) - self.scale) // 2
        return all(length % self.scale == 0 and length > pad for length in (height, width))

    def spectral(self, y: torch.Tensor) -> torch.Tensor:
        """DY without noise: (..., C, H, W) -> (..., M, H, W). Linear and differentiable."""
        check_cube("y", y, self.srf.shape[1], finite=False)
        return torch.einsum("mc,...chw->...mhw", self.srf.to(y), y)

    def spatial_adjoint(self, x_h: torch.Tensor) -> torch.Tensor:
        """The adjoint of `spatial`: <spatial(y), x> = <y, spatial_adjoint(x)>; (..., C, h, w) ->
        (..., C, h*r, w*r).
        """
        check_cube("x_h", x_h, finite=False)
        height, width = (length * self.scale for length in x_h.shape[-2:])
        return self._axis_matrix(height, x_h).mT @ x_h @ self._axis_matrix(width, x_h)

    def spectral_adjoint(self, x_m: torch.Tensor) -> torch.Tensor:
        """The adjoint of `spectral`: (..., M, H, W) -> (..., C, H, W)."""
        check_cube("x_m", x_m, self.srf.shape[0], finite=False)
        return torch.einsum("mc,...mhw->...chw", self.srf.to(x_m), x_m)

    def spatial_matrix(self, height: int, width: int) -> scipy.sparse.csr_array:
        """B transposed, written out: `spatial(y).flatten() == matrix @ y.flatten()` for one band;
        for tiny images.

        Returns:
            (H/r * W/r, H * W) float64.
        """
        rows, columns = (
            blur_and_decimate_matrix(length, self.psf_sigma, self.scale)
            for length in (height, width)
        )
        return scipy.sparse.csr_array(scipy.sparse.kron(rows, columns))

    def _axis_matrix(self, length: int, like: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(blur_and_decimate_matrix(length, self.psf_sigma, self.scale)).to(
            like
        )

    def card(self) -> dict:
        """Everything that defines this operator, ready for JSON; `Degradation.from_card` undoes
        it.
        """
        return {
            "scale": self.scale,
            "psf": {
                "kind": "gaussian",
                "sigma": self.psf_sigma,
                "taps": len(gaussian_psf(self.psf_sigma, self.scale)),
                "phase": "block centre",
                "border": "reflect",
            },
            "srf": self.srf.tolist(),
            "snr_db": self.snr_db,
            "msi_snr_db": self.msi_snr_db,
            "noise": "white Gaussian, sigma = sqrt(mean(x^2) / 10^(SNR/10)) over each whole image "
            "on [0, 1] data",
            "seed": self.seed,
        }

    @classmethod
    def from_card(cls, card: dict) -> Degradation:
        """The operator that `card` describes."""
        return cls(
            card["scale"],
            card["psf"]["sigma"],
            torch.tensor(card["srf"], dtype=torch.float64),
            card["snr_db"],
            card["seed"],
            card["msi_snr_db"],
        )


def simulated(scene: Scene, bands: int = 4, scale: int = 4, **settings) -> Degradation:
    """The degradation of a scene by `sensors.simulated_msi`: 1 (PAN), 3 (RGB), 4 or 6 (Landsat TM)
    bands.
    """
    srf = sensors.simulated_msi(scene.wavelengths_nm, bands, scene.fwhm_nm)
    return Degradation(scale=scale, srf=srf, **settings)


def landsat_tm(scene: Scene, bands: int = 4, scale: int = 4, **settings) -> Degradation:
    """The default degradation of a scene: its HR-MSI is what Landsat-5 TM would see of it.

    Args:
        bands: 4 (TM 1-4) or 6 (TM 1-5 and 7).
        scale, settings: as for `Degradation`.
    """
    srf = sensors.landsat_tm(scene.wavelengths_nm, bands, scene.fwhm_nm)
    return Degradation(scale=scale, srf=srf, **settings)


def gaussian_psf(sigma: float, scale: int) -> np.ndarray:
    """One axis of the PSF: float64 taps that sum to 1, as many (mod 2) as `scale`, spanning at
    least 6 sigma.

    >>> gaussian_psf(1.7, scale=4).shape
    (12,)
    """
    taps = max(2 * math.ceil(3 * sigma) + scale % 2, scale)
    positions = np.arange(taps) - (taps - 1) / 2
    weights = np.exp(-0.5 * (positions / sigma) ** 2)
    return weights / weights.sum()


def add_noise(
    x: torch.Tensor, snr_db: float, generator: torch.Generator | None = None
) -> torch.Tensor:
    """White Gaussian noise at a signal-to-noise ratio of `snr_db` decibels: sigma^2 = mean(x^2) /
    10^(SNR / 10).

    The mean is over all bands and pixels of one image; each image of a batch (B, C, H, W) has its
    own sigma.
    """
    noise = torch.empty_like(x, memory_format=torch.contiguous_format).normal_(generator=generator)
    return x + noise_deviation(x, snr_db) * noise


def noise_deviation(x: torch.Tensor, snr_db: float) -> torch.Tensor:
    """sigma of `add_noise`: (..., C, H, W) -> (..., 1, 1, 1)."""
    if not math.isfinite(snr_db):
        raise ValueError(f"snr_db: expected a finite number of decibels, got {snr_db!r}")
    return (x.square().mean(dim=(-3, -2, -1), keepdim=True) / 10 ** (snr_db / 10)).sqrt()


@cache
def blur_and_decimate_matrix(length: int, sigma: float, scale: int) -> np.ndarray:
    """One axis of B: (length / scale, length) float64, with reflected borders. The PSF is
    separable, so X_h = R Y C^T.

    Raises:
        ValueError: `length` is not divisible by `scale`, or too short for the PSF's reflection.
    """
    taps = gaussian_psf(sigma, scale)
    pad = (len(taps) - scale) // 2
    if length % scale or length <= pad:
        raise ValueError(
            f"y: expected height and width divisible by the scale {scale} and at least {pad + 1} "
            f"(PSF), got {length}"
        )
    matrix = np.zeros((length // scale, length))
    for i in range(length // scale):
        for k, weight in enumerate(taps):
            j = abs(scale * i - pad + k)
            matrix[i, min(j, 2 * (length - 1) - j)] += weight
    return matrix
