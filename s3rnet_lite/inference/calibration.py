"""What relates an LR-HSI and an HR-MSI of the same place: scale, shift, PSF and SRF, found from the
two alone; used in notebooks/10_gpu_training.ipynb."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize, nnls

from ..files.checks import check_cube
from ..sensing.degradation import Degradation
from ..sensing.resampling import mix

PSF_SIGMA_BOUNDS = (0.15, 1.0)  # of the search, in LR pixels
LARGEST = 128  # LR pixels a side that the alignment looks at
# in LR pixels; the Gaussian that lets through 0.41 of the signal at the LR grid's Nyquist frequency
TYPICAL_PSF_SIGMA = 0.425


@dataclass(frozen=True)
class Alignment:
    """rows, columns: HR pixels by which the HR-MSI's content lies below and to the right of where
    the LR-HSI has it.

    psf_sigma: standard deviation of the PSF between the two, in HR pixels.
    correlation: squared correlation of the two images at the best shift in whole pixels, mean over
    their components, 0 to 1.
    """

    rows: float
    columns: float
    psf_sigma: float
    correlation: float


@dataclass(frozen=True)
class Response:
    """How each band of an MSI follows from the HSI bands: `msi = gain * (srf @ hsi) + offset`.

    srf: (M, C) float32, non-negative (if it was estimated), rows sum to 1.
    gain, offset: (M, 1, 1) float32, positive gain; they take the MSI to the HSI's unit.
    explained: (M,) share of each MSI band's variance that this explains at low resolution, at most
    1.
    """

    srf: torch.Tensor
    gain: torch.Tensor
    offset: torch.Tensor
    explained: torch.Tensor

    def to_hsi_unit(self, x_m: torch.Tensor) -> torch.Tensor:
        """The MSI (..., M, H, W) as `srf @ y` would give it."""
        return (x_m - self.offset) / self.gain


def find_scale(x_h: torch.Tensor, x_m: torch.Tensor, scale: int | None = None) -> int:
    """The ratio of pixel sizes of two images (bands, height, width) of one footprint.

    Raises:
        TypeError, ValueError: not two images without NaN; a ratio that is no whole number of at
            least 2, differs between the axes, or differs from `scale`.
    """
    for name, x in (("x_h", x_h), ("x_m", x_m)):
        if check_cube(name, x).ndim != 3:
            raise ValueError(
                f"{name}: expected one image (bands, height, width), got shape {tuple(x.shape)}"
            )
    (height, width), (fine_height, fine_width) = x_h.shape[1:], x_m.shape[1:]
    found = fine_height // height
    if found < 2 or (fine_height, fine_width) != (found * height, found * width):
        raise ValueError(
            f"x_m: expected height and width the same whole number of times those of x_h ({height} "
            f"x {width}), at least twice, got "
            f"{fine_height} x {fine_width}: ratios {fine_height / height:g} and "
            f"{fine_width / width:g}; crop both to one footprint"
        )
    if scale is not None and scale != found:
        raise ValueError(
            f"scale: {scale} was given, but the sizes {height} x {width} and {fine_height} x "
            f"{fine_width} say {found}"
        )
    return found


def align(
    x_h: torch.Tensor, x_m: torch.Tensor, scale: int, psf_sigma: float | None = None
) -> Alignment:
    """Where the HR-MSI lies under the LR-HSI, to a small part of a pixel, and the width of the PSF
    between them.

    First a search over all shifts up to a quarter of the image (`_correlate`), then a fit: the
    shift and the width with which the blurred and decimated HR-MSI is best explained by the LR-HSI,
    that is with the smallest residual of a regression of the leading principal components of the
    former on those of the latter. Neither needs to know bands, gains or offsets. Images of more
    than `LARGEST` LR pixels a side are represented by their centre.

    Args:
        x_h, x_m: (C, h, w) and (M, h * scale, w * scale).
        psf_sigma: in HR pixels, if known; else it is fitted too.
    """
    side = [min(length, LARGEST) for length in x_h.shape[1:]]
    x_h, x_m = _centre(x_h, side), _centre(x_m, [length * scale for length in side])
    sigma = TYPICAL_PSF_SIGMA * scale if psf_sigma is None else psf_sigma
    top, left, correlation = _correlate(x_h, x_m, scale, sigma)

    # LR pixels at the border, whose PSF reaches out of the image
    margin = min(1 + math.ceil(max(abs(top), abs(left)) / scale), min(side) // 4)
    inside = [slice(margin, length - margin) for length in x_h.shape[1:]]
    hsi = _standardise(x_h[:, *inside]).flatten(1)
    basis = torch.linalg.svd(hsi, full_matrices=False)[2][: max(1, min(20, hsi.shape[1] // 10))]
    msi = _standardise(x_m)
    msi = mix(_whitening(msi), msi)

    def misfit(parameters: np.ndarray) -> float:
        width = scale * math.exp(parameters[2]) if psf_sigma is None else psf_sigma
        rows, columns = (
            _shifted_blur(length, scale, width, by)
            for length, by in zip(msi.shape[1:], parameters, strict=False)
        )
        low = _standardise((rows @ msi @ columns.mT)[:, *inside]).flatten(1)
        return float((low - low @ basis.mT @ basis).square().mean())

    start, step = np.array([top, left, math.log(sigma / scale)]), np.array([0.5, 0.5, 0.3])
    bounds = [(top - scale, top + scale), (left - scale, left + scale), np.log(PSF_SIGMA_BOUNDS)]
    if psf_sigma is not None:
        start, step, bounds = start[:2], step[:2], bounds[:2]
    simplex = np.concatenate([start[None], start + np.diag(step)])
    found = minimize(
        misfit,
        start,
        method="Nelder-Mead",
        bounds=bounds,
        options={"initial_simplex": simplex, "xatol": 1e-3},
    ).x
    return Alignment(
        *found[:2].tolist(),
        scale * math.exp(found[2]) if psf_sigma is None else psf_sigma,
        correlation,
    )


def _correlate(
    x_h: torch.Tensor, x_m: torch.Tensor, scale: int, psf_sigma: float
) -> tuple[int, int, float]:
    """The shift in whole HR pixels at which the two predict each other best, and their squared
    correlation there, 0 to 1.

    The leading principal components of both are whitened and correlated at every shift, by Fourier
    transforms on the HR grid, where the adjoint of blur and decimation takes those of the LR-HSI.
    The sum of their squared correlations needs no knowledge of the bands.
    """
    degrade = Degradation(scale, psf_sigma, torch.ones(1, 1))
    fine, coarse = _standardise(x_m), _standardise(x_h)
    hsi, msi = mix(_whitening(coarse), coarse), mix(_whitening(degrade.spatial(fine)), fine)
    height, width = msi.shape[1:]
    size = (2 * height, 2 * width)  # zeros beside the images, so that a shift does not wrap around
    product = torch.fft.rfft2(degrade.spatial_adjoint(hsi), size).conj()[:, None] * torch.fft.rfft2(
        msi, size
    )
    correlation = torch.fft.irfft2(product, size) / x_h[0].numel()
    rows, columns = (torch.fft.fftfreq(length, 1 / length, dtype=torch.float64) for length in size)
    overlap = (1 - rows.abs()[:, None] / height) * (1 - columns.abs() / width)
    score = (correlation / overlap.clamp_min(0.5)).square().sum((0, 1)) / min(len(hsi), len(msi))
    score[(rows.abs()[:, None] > height / 4) | (columns.abs() > width / 4)] = 0
    top, left = divmod(int(score.argmax()), size[1])
    return int(rows[top]), int(columns[left]), float(score[top, left])


def _shifted_blur(length: int, scale: int, sigma: float, shift: float) -> torch.Tensor:
    """One axis of a blur and decimation that looks `shift` HR pixels further on, (length / scale,
    length) float64.

    As `Degradation`'s inside the image, for any shift; at the border the taps inside the image are
    made to sum to 1.
    """
    centres = scale * torch.arange(length // scale, dtype=torch.float64) + (scale - 1) / 2 + shift
    weights = torch.exp(-0.5 * ((torch.arange(length) - centres[:, None]) / sigma).square())
    return weights / weights.sum(1, keepdim=True).clamp_min(1e-12)


def estimate_response(x_h: torch.Tensor, x_m_low: torch.Tensor) -> Response:
    """SRF, gains and offsets from an LR-HSI (C, h, w) and the MSI at the same resolution (M, h, w):
    non-negative least squares.

    Neighbouring HSI bands are almost equal, so many weightings predict the MSI equally well and
    this finds one with few
    bands: trust what it predicts, not its shape.

    Raises:
        ValueError: an MSI band that no non-negative combination of HSI bands follows.
    """
    hsi, msi = x_h.flatten(1).double().numpy(), x_m_low.flatten(1).double().numpy()
    centred = (hsi - hsi.mean(1, keepdims=True)).T
    weights = np.stack([nnls(centred, band - band.mean())[0] for band in msi])
    gain = weights.sum(1, keepdims=True)
    if not (gain > 0).all():
        raise ValueError(
            f"x_m: no non-negative combination of HSI bands follows MSI {_bands(gain)}"
        )
    return _response(weights / gain, gain, hsi, msi)


def fit_gains(srf: torch.Tensor, x_h: torch.Tensor, x_m_low: torch.Tensor) -> Response:
    """As `estimate_response`, for a known SRF (M, C) with rows that sum to 1: only gains and
    offsets are fitted.

    Raises:
        ValueError: an MSI band that does not rise with what the SRF says it sees.
    """
    hsi, msi = x_h.flatten(1).double().numpy(), x_m_low.flatten(1).double().numpy()
    weights = srf.double().numpy()
    seen = weights @ hsi
    seen = seen - seen.mean(1, keepdims=True)
    gain = (seen * msi).sum(1, keepdims=True) / np.square(seen).sum(1, keepdims=True)
    if not (gain > 0).all():
        raise ValueError(
            f"srf: MSI {_bands(gain)} falls where its SRF says that it rises; is the order of the "
            "bands right?"
        )
    return _response(weights, gain, hsi, msi)


def _response(weights: np.ndarray, gain: np.ndarray, hsi: np.ndarray, msi: np.ndarray) -> Response:
    seen = gain * (weights @ hsi)
    offset = msi.mean(1, keepdims=True) - seen.mean(1, keepdims=True)
    explained = 1 - np.square(msi - seen - offset).mean(1) / msi.var(1)
    numbers = (
        torch.from_numpy(x).float()
        for x in (weights, gain[..., None], offset[..., None], explained)
    )
    return Response(*numbers)


def _standardise(x: torch.Tensor) -> torch.Tensor:
    """Every band in float64 with mean 0 and standard deviation 1; a constant band stays 0."""
    x = x.double() - x.double().mean((1, 2), keepdim=True)
    return x / x.std((1, 2), keepdim=True).clamp_min(1e-12)


def _whitening(x: torch.Tensor, share: float = 0.02, most: int = 4) -> torch.Tensor:
    """(k, bands): takes an image to its leading principal components, each with variance 1.

    The components that hold at least `share` of the variance, at most `most`: weaker ones may be
    noise.
    """
    pixels = x.flatten(1) - x.flatten(1).mean(1, keepdim=True)
    variance, vectors = torch.linalg.eigh(pixels @ pixels.mT / pixels.shape[1])
    variance, vectors = variance.flip(0)[:most].clamp_min(1e-12), vectors.flip(1)[:, :most]
    return (vectors / variance.sqrt())[:, variance >= share * variance.sum()].mT


def _centre(x: torch.Tensor, size: list[int]) -> torch.Tensor:
    top, left = ((length - part) // 2 for length, part in zip(x.shape[1:], size, strict=True))
    return x[:, top : top + size[0], left : left + size[1]]


def _bands(gain: np.ndarray) -> str:
    return f"band {', '.join(str(band) for band in np.flatnonzero(~(gain > 0)))} (counted from 0)"
