"""How a feature's energy is spread over its channels, and four numbers that sum it up; built in
notebooks/07_energy_fig1.ipynb.

All four are functions of the *energy* vector (sums of squares), not of amplitudes, need no
normalisation, and do not care for the order of the channels. Their ranges for C channels, from
equal energies to all energy in one channel:

| number | equal | one channel | source |
|---|---|---|---|
| gini | 0 | 1 - 1/C | C. Gini 1912, as a measure of sparsity N. Hurley and S. Rickard, IEEE Trans.
Inf. Theory 55, 2009 | | hoyer | 0 | 1 | P. Hoyer, "Non-negative Matrix Factorization with
Sparseness Constraints", JMLR 5, 2004 | | participation_ratio | C | 1 | R. Bell and P. Dean,
Discuss. Faraday Soc. 50, 1970 | | top_share(0.10) | 0.10 | 1 (C >= 10), else C/10 | a point of the
curve of M. Lorenz, 1905, read from its rich end |
"""

from __future__ import annotations

import torch

from ..files.checks import check_cube

TOP_FRACTION = 0.10


def channel_energy(features: torch.Tensor) -> torch.Tensor:
    """The share of the sum of squares that each channel holds, over batch and pixels: the quantity
    of the paper's Fig. 1.

    The mean of a channel counts as energy. For the energy around it, subtract the mean over pixels
    first.

    Shape: features (..., C, H, W), any range -> (C,) float64, sums to 1.

    >>> features = torch.tensor([1.0, 2.0])[:, None, None].expand(2, 4, 4)
    >>> channel_energy(features).tolist()
    [0.2, 0.8]

    Raises:
        TypeError, ValueError: see `check_cube`; features that are zero everywhere, whose shares are
            0/0.
    """
    check_cube("features", features)
    squares = features.detach().double().square().movedim(-3, 0).flatten(1).sum(1)
    if not squares.sum() > 0:
        raise ValueError(
            "features: expected some value other than zero, got zeros only (shape "
            f"{tuple(features.shape)})"
        )
    return squares / squares.sum()


def gini(energies: torch.Tensor) -> float:
    """Mean absolute difference between two channels' energies, over twice the mean energy: 0
    (equal) to 1 - 1/C (one-hot).

    Energies or shares (C,); errors as `shares_of`.

    >>> gini(torch.tensor([1.0, 0.0, 0.0, 0.0])), gini(torch.ones(4))
    (0.75, 0.0)
    """
    shares = shares_of(energies).sort().values
    count = len(shares)
    ranks = torch.arange(1, count + 1, dtype=shares.dtype, device=shares.device)
    return float(((2 * ranks - count - 1) * shares).sum() / count)


def hoyer(energies: torch.Tensor) -> float:
    """(sqrt(C) - |e|_1 / |e|_2) / (sqrt(C) - 1) of the energy vector e: 0 (equal) to 1 (one-hot).

    Energies or shares (C,) of at least two channels; errors as `shares_of`.
    """
    shares = shares_of(energies)
    if len(shares) < 2:
        raise ValueError(
            "energies: expected at least two channels, got 1: one channel is both equal and one-hot"
        )
    root = len(shares) ** 0.5
    return float((root - 1 / shares.norm()) / (root - 1))


def participation_ratio(energies: torch.Tensor) -> float:
    """1 / sum p^2 of the shares p, the effective number of channels: C (equal) to 1 (one-hot).

    Energies or shares (C,); errors as `shares_of`.
    """
    return float(1 / shares_of(energies).square().sum())


def top_share(energies: torch.Tensor, fraction: float = TOP_FRACTION) -> float:
    """The energy in the richest `fraction` of the channels, as a share of all.

    If `fraction * C` is no whole number, the last channel counts in part: 10 % of 24 channels are
    the two richest and 0.4 of the third. So equal energies give exactly `fraction`, whatever C is.

    Energies or shares (C,); errors as `shares_of`, and

    Raises:
        ValueError: a fraction outside (0, 1].
    """
    shares = shares_of(energies).sort(descending=True).values
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction: expected a number above 0 and up to 1, got {fraction!r}")
    weights = (
        fraction * len(shares) - torch.arange(len(shares), dtype=shares.dtype, device=shares.device)
    ).clamp(0, 1)
    return float((weights * shares).sum())


def summary(energies: torch.Tensor) -> dict[str, float]:
    """All numbers of one energy vector (C,), and how many of its C channels are effective, as a
    share.
    """
    effective = participation_ratio(energies)
    return {
        "channels": len(energies),
        "gini": gini(energies),
        "hoyer": hoyer(energies),
        "effective_channels": effective,
        "effective_share": effective / len(energies),
        "top_10_percent": top_share(energies, TOP_FRACTION),
    }


def shares_of(energies: torch.Tensor) -> torch.Tensor:
    """Energies (C,), in any unit, as float64 shares that sum to 1.

    Raises:
        TypeError: no tensor of floating-point numbers.
        ValueError: another shape, a value that is negative or not finite, or nothing but zeros.
    """
    if not isinstance(energies, torch.Tensor) or not energies.is_floating_point():
        found = (
            f"dtype {energies.dtype}"
            if isinstance(energies, torch.Tensor)
            else type(energies).__name__
        )
        raise TypeError(f"energies: expected a floating-point tensor (C,), got {found}")
    if energies.ndim != 1 or len(energies) == 0:
        raise ValueError(
            f"energies: expected shape (C,), one energy a channel, got {tuple(energies.shape)}"
        )
    energies = energies.detach().double()
    if not bool((torch.isfinite(energies) & (energies >= 0)).all()):
        raise ValueError(
            "energies: expected finite values of at least 0, got a negative, NaN or infinite one"
        )
    if not energies.sum() > 0:
        raise ValueError("energies: expected some energy, got zeros only")
    return energies / energies.sum()
