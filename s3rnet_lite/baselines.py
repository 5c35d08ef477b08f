"""Classical fusion, the yardstick for every network; built in
notebooks/02_metrics_and_baselines.ipynb.

Each takes an LR-HSI (..., C, h, w), an HR-MSI (..., M, h*r, w*r) and the `Degradation` that relates
them, and returns an HR-HSI (..., C, h*r, w*r).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import NMF, MiniBatchDictionaryLearning, SparseCoder

from .files.checks import check_pair
from .sensing.degradation import Degradation, blur_and_decimate_matrix
from .sensing.resampling import interpolation_matrix, mix, upsample

TINY = 1e-9


def bilinear(x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation) -> torch.Tensor:
    """The LR-HSI, bilinearly upsampled; the HR-MSI is not used."""
    return upsample(x_h, degrade.scale, "bilinear")


def bicubic(x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation) -> torch.Tensor:
    """The LR-HSI, bicubically upsampled; the HR-MSI is not used."""
    return upsample(x_h, degrade.scale, "bicubic")


def gsa(x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation) -> torch.Tensor:
    """Gram-Schmidt adaptive: each HSI band takes its detail from the MSI band that it follows best.

    HSI bands that share an MSI band form a group; the group's intensity is the combination of its
    bands that comes nearest to the blurred MSI band. What the MSI band has beyond the intensity is
    detail, added with the gain cov(band, intensity) / var(intensity) (B. Aiazzi et al., 2007; by
    groups as in the review of N. Yokoya et al., 2017).
    """
    chosen, low = followed_band(x_h, x_m, degrade)
    x_h_up = bicubic(x_h, x_m, degrade)
    fused = torch.empty_like(x_h_up)
    for band in chosen.unique():
        group = chosen == band
        weights = fit_regression(x_h[group], low[band][None])
        intensity = apply_regression(weights, x_h_up[group])
        fused[group] = x_h_up[group] + _gain(x_h_up[group], intensity) * (x_m[band] - intensity)
    return fused


def sfim(x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation) -> torch.Tensor:
    """Smoothing filter-based intensity modulation: the upsampled LR-HSI times (MSI band / the same
    band smoothed) (J. Liu, 2000).

    Smoothed means seen through the LR sensor and upsampled. Where that is dark (below 0.001), the
    ratio is bounded.
    """
    chosen, low = followed_band(x_h, x_m, degrade)
    ratio = x_m / upsample(low, degrade.scale, "bicubic").clamp_min(1e-3)
    return bicubic(x_h, x_m, degrade) * ratio[chosen]


def mtf_glp(x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation) -> torch.Tensor:
    """Hypersharpening with a selected band: detail of one MSI band, found with the sensor's own
    PSF, times a regression gain.

    Source: M. Selva et al., "Hyper-sharpening: a first approach on SIM-GA data", 2015. Their
    synthesised band, a regression on all MSI bands instead of one, is `detail_injection`.
    """
    chosen, low = followed_band(x_h, x_m, degrade)
    return inject(x_h, _gain(x_h, low[chosen]) * x_m[chosen], degrade)


def detail_injection(x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation) -> torch.Tensor:
    """Regression of HSI on MSI at low resolution, injected at high resolution, fitted on this very
    pair, from the blurred and decimated HR-MSI to the LR-HSI: needs no training data.
    """
    regression = fit_regression(degrade.spatial(x_m), x_h)
    return inject(x_h, apply_regression(regression, x_m), degrade)


def cnmf(
    x_h: torch.Tensor,
    x_m: torch.Tensor,
    degrade: Degradation,
    endmembers: int = 6,
    iterations: int = 200,
) -> torch.Tensor:
    """Coupled non-negative matrix factorisation: every pixel is a mixture of the same few spectra,
    Y = E A with E, A >= 0.

    scikit-learn's NMF of the LR-HSI starts E (C, endmembers) and A; then multiplicative updates
    lower |X_h - E A B|^2 + |X_m - D E A|^2, so that endmembers come mostly from the LR-HSI and
    abundances from the HR-MSI (N. Yokoya, T. Yairi, A. Iwasaki, 2012; here with one objective in
    place of two taken in turns). Six endmembers did well on the training and validation regions of
    Indian Pines: the few values of an HR-MSI pixel cannot fix many abundances.
    """
    spectra, abundances = unmix(x_h, x_m, degrade, endmembers, iterations)
    return torch.einsum("cp,phw->chw", spectra, abundances)


def unmix(
    x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation, endmembers: int, iterations: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two factors of `cnmf`: endmember spectra (C, endmembers) and abundances (endmembers, H,
    W), both >= 0.

    With fewer LR-HSI pixels or bands than `endmembers`, as many factors as there are of these.
    Negative inputs count as 0.
    """
    x_h, x_m, response = x_h.clamp_min(0), x_m.clamp_min(0), degrade.srf.to(x_h)
    pixels = x_h.flatten(1).mT.double().cpu().numpy()
    start = NMF(min(endmembers, *pixels.shape), init="nndsvda", max_iter=5000, random_state=0)
    mixing = torch.from_numpy(start.fit_transform(pixels).T).to(x_h).unflatten(1, x_h.shape[1:])
    spectra = torch.from_numpy(start.components_.T).to(x_h).clamp_min(TINY)
    # an exact zero could never grow again
    abundances = bilinear(mixing, x_m, degrade).clamp_min(TINY)
    for _ in range(iterations):
        seen = response @ spectra  # the endmembers as the MSI sees them, (M, endmembers)
        wanted = degrade.spatial_adjoint(mix(spectra.mT, x_h)) + mix(seen.mT, x_m)
        blurred = mix(spectra.mT @ spectra, degrade.spatial(abundances))
        found = degrade.spatial_adjoint(blurred) + mix(seen.mT @ seen, abundances)
        abundances = abundances * wanted / found.clamp_min(TINY)
        coarse, fine = degrade.spatial(abundances).flatten(1), abundances.flatten(1)
        wanted = x_h.flatten(1) @ coarse.mT + response.mT @ (x_m.flatten(1) @ fine.mT)
        found = spectra @ (coarse @ coarse.mT)
        found = found + response.mT @ (response @ spectra) @ (fine @ fine.mT)
        spectra = spectra * wanted / found.clamp_min(TINY)
    return spectra, abundances


def sylvester(
    x_h: torch.Tensor,
    x_m: torch.Tensor,
    degrade: Degradation,
    components: int = 20,
    prior: float = 1e-7,
    spectra: torch.Tensor | None = None,
) -> torch.Tensor:
    """The most probable image under a Gaussian prior: the exact minimum of a quadratic, whose
    equations are Sylvester's.

    In the principal components E of the LR-HSI, Y = E U + mean, with prior mean the bicubic image
    and prior covariance C that of the LR spectra, the minimum of |X_h - Y B|^2 + |X_m - D Y|^2 +
    prior * |U - U_bicubic|^2_C satisfies U B B^T + K U = right-hand side. B acts on rows and
    columns separately, so three small eigendecompositions solve it exactly, with reflected borders;
    Q. Wei, N. Dobigeon, J.-Y. Tourneret (2015) do it by Fourier transforms with periodic ones.
    `spectra` is the LR-HSI that a tile is cut from.
    """
    pixels = (x_h if spectra is None else spectra).flatten(1).double()
    mean = pixels.mean(1, keepdim=True)
    basis, spread, _ = torch.linalg.svd(pixels - mean, full_matrices=False)
    basis, variance = basis[:, :components], spread[:components].square() / pixels.shape[1]
    variance = variance.clamp_min(max(TINY * float(variance.max()), TINY**2))
    seen = degrade.srf.to(pixels) @ basis
    coarse = mix(basis.mT, x_h.double() - mean[..., None])
    fine = x_m.double() - degrade.spectral(mean[..., None])
    weight = prior / variance
    known = degrade.spatial_adjoint(coarse) + mix(seen.mT, fine)
    right = known + weight[:, None, None] * upsample(coarse, degrade.scale, "bicubic")

    left_values, left = torch.linalg.eigh(seen.mT @ seen + weight.diag())
    row_values, rows = torch.linalg.eigh(_blur_and_back(x_m.shape[-2], degrade).to(pixels))
    column_values, columns = torch.linalg.eigh(_blur_and_back(x_m.shape[-1], degrade).to(pixels))
    values = left_values[:, None, None] + row_values[:, None] * column_values
    solved = (rows.mT @ mix(left.mT, right) @ columns) / values
    return (mix(basis @ left, rows @ solved @ columns.mT) + mean[..., None]).to(x_h)


def sparse_coding(
    x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation, atoms: int = 30
) -> torch.Tensor:
    """Each HR-MSI pixel as a non-negative mixture of few spectra from a dictionary that
    scikit-learn learns on the LR-HSI.

    The dictionary, seen through the SRF, is fitted to each pixel with an L1 penalty; the same
    weights on the full atoms give the spectrum (N. Akhtar, F. Shafait, A. Mian, 2014). Spectra have
    unit length meanwhile, so that light and shade share atoms. One back-projection (`inject`) makes
    the guess agree with the LR-HSI, as J. Yang et al. (2010) do.
    """
    dictionary = spectral_dictionary(x_h, atoms)
    seen = dictionary @ degrade.srf.double().cpu().numpy().T
    norms = np.linalg.norm(seen, axis=1, keepdims=True).clip(TINY)
    fine = x_m.flatten(1).mT.double().cpu().numpy()
    brightness = np.linalg.norm(fine, axis=1, keepdims=True).clip(TINY)
    coder = SparseCoder(
        seen / norms, transform_algorithm="lasso_lars", transform_alpha=0.01, positive_code=True
    )
    guess = brightness * coder.transform(fine / brightness) @ (dictionary / norms)
    return inject(x_h, torch.from_numpy(guess.T).to(x_h).unflatten(1, x_m.shape[1:]), degrade)


def spectral_dictionary(x_h: torch.Tensor, atoms: int) -> np.ndarray:
    """Non-negative spectra (atoms, C) of which few suffice for each pixel of the LR-HSI, learned on
    pixels of unit length.
    """
    pixels = x_h.flatten(1).mT.double().cpu().numpy()
    pixels = pixels / np.linalg.norm(pixels, axis=1, keepdims=True).clip(TINY)
    settings = dict(alpha=0.1, fit_algorithm="lars", positive_dict=True, max_iter=10)
    learner = MiniBatchDictionaryLearning(atoms, batch_size=64, random_state=0, **settings)
    return learner.fit(pixels).components_


_LINEAR = (bilinear, bicubic, gsa, sfim, mtf_glp, detail_injection)
METHODS = {method.__name__: method for method in (*_LINEAR, cnmf, sylvester, sparse_coding)}
NAMES = tuple(METHODS)


def run(name: str, x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation) -> torch.Tensor:
    """Fuse one pair, or a batch image by image, with the method `name`, one of `NAMES`.

    >>> degrade = Degradation(srf=torch.full((2, 9), 1 / 9))
    >>> run("sylvester", *degrade(torch.rand(9, 24, 24)), degrade).shape
    torch.Size([9, 24, 24])

    Raises:
        TypeError, ValueError: an unknown name, or inputs that do not belong together.
    """
    if name not in METHODS:
        raise ValueError(f"name: expected one of {NAMES}, got {name!r}")
    check_pair(x_h, x_m, degrade.scale, degrade.srf.shape[1], degrade.srf.shape[0])
    if x_h.ndim == 3:
        return METHODS[name](x_h, x_m, degrade)
    pairs = zip(x_h, x_m, strict=True)
    return torch.stack([run(name, *pair, degrade) for pair in pairs])


def fit_regression(x_m: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Least squares y = R [x_m; 1] over the pixels of each image: (..., M, H, W) and (..., C, H, W)
    -> R (..., C, M + 1).

    Solved in float64 by `torch.linalg.lstsq`, returned in float32. Both images need the same
    pixels.
    """
    inputs = x_m.flatten(-2).mT.double()
    inputs = torch.cat([inputs, torch.ones_like(inputs[..., :1])], dim=-1)
    return torch.linalg.lstsq(inputs, y.flatten(-2).mT.double()).solution.mT.float()


def apply_regression(regression: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
    """R [x_m; 1]: (..., C, M + 1) and (..., M, H, W) -> (..., C, H, W), an HSI predicted from the
    HR-MSI alone.
    """
    linear, constant = regression[..., :-1].to(x_m), regression[..., -1:].to(x_m)
    images = torch.broadcast_shapes(regression.shape[:-2], x_m.shape[:-3])
    # an image each, so that the result lies in memory as x_m does
    product = linear.expand(*images, -1, -1) @ x_m.flatten(-2)
    return product.add_(constant).unflatten(-1, x_m.shape[-2:])


def inject(
    x_h: torch.Tensor, guess: torch.Tensor, degrade: Degradation, passes: int = 1
) -> torch.Tensor:
    """Make a guessed HR-HSI (..., C, H, W) agree with the LR-HSI: add what its own blurred version
    lacks, upsampled.

    Seen the other way round, this is the upsampled LR-HSI plus the guess's detail. One pass leaves
    a rest, because interpolation does not undo the PSF; each further pass shrinks it (iterative
    back-projection, M. Irani and S. Peleg, 1991).
    """
    rest = missing = x_h - degrade.spatial(guess)
    rows, columns = (_interpolate_and_blur(length, degrade).to(guess) for length in x_h.shape[-2:])
    for _ in range(passes - 1):
        rest = rest - rows @ rest @ columns.mT
        missing = missing + rest
    return guess + upsample(missing, degrade.scale, "bicubic")


def followed_band(
    x_h: torch.Tensor, x_m: torch.Tensor, degrade: Degradation
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each HSI band the MSI band it correlates with best at low resolution (C,), and the MSI at
    that resolution (M, h, w).
    """
    low = degrade.spatial(x_m)
    hsi, msi = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (x_h, low))
    correlation = F.normalize(hsi, dim=1) @ F.normalize(msi, dim=1).mT
    return correlation.argmax(dim=1), low


def _gain(x: torch.Tensor, intensity: torch.Tensor) -> torch.Tensor:
    """cov(x, intensity) / var(intensity) over the pixels, (C, 1, 1); 0 for constant intensity."""
    deviation = intensity - intensity.mean(dim=(-2, -1), keepdim=True)
    along, power = x * deviation, deviation.square()
    along, power = (y.sum(dim=(-2, -1), keepdim=True) for y in (along, power))
    return along / power.clamp_min(TINY)


def _interpolate_and_blur(length: int, degrade: Degradation) -> torch.Tensor:
    """One axis of `spatial` after bicubic `upsample`, (length, length): what remains of an image at
    low resolution.
    """
    blur = blur_and_decimate_matrix(length * degrade.scale, degrade.psf_sigma, degrade.scale)
    return torch.from_numpy(blur @ interpolation_matrix(length, degrade.scale, "bicubic"))


def _blur_and_back(length: int, degrade: Degradation) -> torch.Tensor:
    """One axis of B B^T: blur, decimate, and the adjoint of both, (length, length)."""
    matrix = torch.from_numpy(blur_and_decimate_matrix(length, degrade.psf_sigma, degrade.scale))
    return matrix.mT @ matrix
