"""Linear CKA, how alike two sets of features are, from sums that do not grow with the samples;
built in notebooks/08_cka_fig2.ipynb.

Features are (n, p): n samples, each with p features. Two layers may have different p, never
different samples. CKA is the cosine between their centred Gram matrices (Kornblith et al., 2019),
unchanged by rotation, shift and one common scaling of the features, but not by stretching single
directions. The biased estimator is high for *any* two layers if n is not much larger than p; the
unbiased one (Song et al., 2012; for CKA, Nguyen et al., 2021) is about 0 for independent features
and may fall below.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from ..files.checks import check_cube

CHUNK = 4096  # samples at a time
NO_SPREAD = 1e-12  # of the squared total spread: what rounding leaves of nothing


def linear_cka(a: torch.Tensor, b: torch.Tensor, unbiased: bool = True) -> float:
    """Similarity of two feature sets, 1 for equal ones. Shape: (n, p) and (n, q), samples x
    features, same samples in the same order.

    Biased, it lies in [0, 1]; unbiased, in [-1, 1], negative only by chance.

    >>> a = torch.randn(20, 3, dtype=torch.float64)
    >>> round(linear_cka(a, 2 * a[:, [2, 0, 1]]), 4)  # scale and order of features do not count
    1.0

    Raises:
        TypeError: no floating-point tensor.
        ValueError: another shape, different n, n < 2 (n < 4 if unbiased), NaN or infinity, features
            without spread.
    """
    return float(linear_cka_matrix({"a": a, "b": b}, unbiased)[1][0, 1])


def linear_cka_matrix(
    features: Mapping[str, torch.Tensor], unbiased: bool = True
) -> tuple[list[str], torch.Tensor]:
    """CKA of every pair of layers: their L names, and a symmetric (L, L) float64 matrix. Arguments
    and errors as `linear_cka`.

    n samples span at most n directions, so a layer with more features than samples is first rotated
    into n of them.
    """
    samples = {name: _check(name, x) for name, x in features.items()}
    sums = Accumulator()
    if len({len(x) for x in samples.values()}) == 1:
        samples = {name: _rotate(x) if x.shape[1] > len(x) else x for name, x in samples.items()}
    for start in range(0, max((len(x) for x in samples.values()), default=0), CHUNK):
        sums.update({name: x[start : start + CHUNK] for name, x in samples.items()})
    return list(samples), sums.matrix(unbiased)


class Accumulator:
    """CKA between all layers from a stream of samples.

    A sample is one row r = (x_1, ..., x_L, |x_1|^2, ..., |x_L|^2, 1): the features of all layers,
    moved by the first sample (CKA does not mind, rounding does), their squared norms, and a one.
    The float64 sum of r r^T over the samples is all that is kept.

    Example:
        sums = Accumulator()
        for chunk in stream:
            sums.update(chunk)  # {"layer": (n, p), ...}: same layers, any n >= 1
        similarity = sums.matrix()
    """

    def __init__(self):
        self.widths: dict[str, int] = {}

    def update(self, features: Mapping[str, torch.Tensor]) -> None:
        """Add samples: name -> (n, p), n >= 1, the same n for all layers, the same names and p as
        before.
        """
        chunk = {name: _check(name, x).double() for name, x in features.items()}
        widths = {name: x.shape[1] for name, x in chunk.items()}
        if not widths:
            raise ValueError("features: expected at least one layer, got none")
        if len({len(x) for x in chunk.values()}) > 1:
            raise ValueError(
                "features: expected the same samples in every layer, got n = "
                f"{ {name: len(x) for name, x in chunk.items()} }"
            )
        if not self.widths:
            self.widths = widths
            self.origin = {name: x[0].clone() for name, x in chunk.items()}
            size = sum(widths.values()) + len(widths) + 1
            self.sums = next(iter(chunk.values())).new_zeros(size, size)
        if widths != self.widths:
            raise ValueError(
                f"features: expected the layers and widths of the first chunk, {self.widths}, got "
                f"{widths}"
            )
        moved = [x - self.origin[name] for name, x in chunk.items()]
        norms = [x.square().sum(1, keepdim=True) for x in moved]
        rows = torch.cat([*moved, *norms, torch.ones_like(norms[0])], dim=1)
        self.sums += rows.T @ rows

    def matrix(self, unbiased: bool = True) -> torch.Tensor:
        """(L, L) float64, layers in the order of the first chunk.

        With centred features, K = X X^T has rows that sum to 0 and the diagonal k_i = |x_i|^2. Then
        Song's estimator is n (n - 3) HSIC(K, L) = |X^T Y|^2 - n/(n-2) sum(k_i l_i) + sum(k_i)
        sum(l_i) / ((n-1)(n-2)); the biased one is the first term.
        """
        n = int(self.sums[-1, -1]) if self.widths else 0
        if n < (4 if unbiased else 2):
            raise ValueError(
                f"samples: expected at least {4 if unbiased else 2} (unbiased={unbiased}), got n = "
                f"{n}"
            )
        features, layers = sum(self.widths.values()), len(self.widths)
        member = torch.block_diag(*(torch.ones(width, 1) for width in self.widths.values())).to(
            self.sums
        )  # (features, layers)
        mean = self.sums[:features, -1] / n
        cross = self.sums[:features, :features] - n * torch.outer(mean, mean)
        hsic = member.T @ cross.square() @ member
        # |x - m|^2 = |x|^2 - 2 m.x + |m|^2 is linear in a row, so its sums follow from those of the
        # rows.
        diagonal = torch.cat(
            [
                -2 * mean[:, None] * member,
                torch.eye(layers).to(member),
                (mean.square() @ member)[None],
            ]
        )
        k, k_l = self.sums[-1] @ diagonal, diagonal.T @ self.sums @ diagonal
        if unbiased:
            hsic += torch.outer(k, k) / ((n - 1) * (n - 2)) - n / (n - 2) * k_l
        spread = hsic.diagonal()
        flat = [
            name
            for name, without in zip(
                self.widths, (spread <= NO_SPREAD * k.square()).tolist(), strict=True
            )
            if without
        ]
        if flat:
            raise ValueError(
                f"{', '.join(flat)}: expected features that vary over the samples, got constant "
                "ones (or too few that differ)"
            )
        return hsic / torch.outer(spread.sqrt(), spread.sqrt())


def pixels(features: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
    """Every pixel is a sample: (B, C, H, W) -> (B*H*W, C), first averaged down to `size` = (h, w)
    if given.

    Raises:
        TypeError, ValueError: no (B, C, H, W), or a `size` that does not divide (H, W).
    """
    _check_batch(features)
    if size is not None:
        if any(
            side < 1 or length % side
            for side, length in zip(size, features.shape[-2:], strict=True)
        ):
            raise ValueError(f"size: expected divisors of {tuple(features.shape[-2:])}, got {size}")
        features = F.adaptive_avg_pool2d(features, size)
    return features.movedim(1, -1).flatten(0, 2)


def images(features: torch.Tensor, tile: int) -> torch.Tensor:
    """Every tile x tile square is a sample: (B, C, H, W) -> (B*rows*columns, C*tile*tile). What
    fills no square is left out.

    Raises:
        TypeError, ValueError: no (B, C, H, W), or a tile that does not fit in.
    """
    _check_batch(features)
    if not 1 <= tile <= min(features.shape[-2:]):
        raise ValueError(f"tile: expected 1 to {min(features.shape[-2:])} pixels, got {tile}")
    return F.unfold(features, tile, stride=tile).mT.flatten(0, 1)


def _check(name: str, x: torch.Tensor) -> torch.Tensor:
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        found = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
        raise TypeError(f"{name}: expected a floating-point torch.Tensor, got {found}")
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(
            f"{name}: expected shape (n, p), samples x features, none of them 0, got "
            f"{tuple(x.shape)}"
        )
    if not bool(torch.isfinite(x).all()):
        raise ValueError(
            f"{name}: expected finite values, got {int((~torch.isfinite(x)).sum())} NaN or "
            "infinite ones"
        )
    return x.detach()


def _check_batch(features: torch.Tensor) -> None:
    check_cube("features", features)
    if features.ndim != 4:
        raise ValueError(f"features: expected shape (B, C, H, W), got {tuple(features.shape)}")


def _rotate(x: torch.Tensor) -> torch.Tensor:
    """(n, p) with p > n -> (n, n) with the same distances between samples."""
    x = x.double()
    return torch.linalg.qr((x - x[0]).T, mode="r").R.T
