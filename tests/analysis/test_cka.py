"""CKA against its definition with n x n Gram matrices, its invariances, and what it must refuse."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite import cka

UNBIASED = pytest.mark.parametrize("unbiased", [False, True])


def by_definition(a: torch.Tensor, b: torch.Tensor, unbiased: bool) -> float:
    """Float64 NumPy, straight from the papers: centring matrices (Kornblith et al.), or Song et
    al.'s Eq. 5.
    """
    a, b = a.double().numpy(), b.double().numpy()
    gram_a, gram_b, n = a @ a.T, b @ b.T, len(a)
    ones = np.ones(n)

    def hsic(k, m):
        if not unbiased:
            centring = np.eye(n) - 1 / n
            return np.trace(k @ centring @ m @ centring) / (n - 1) ** 2
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        total = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return (np.trace(k @ m) + total - 2 / (n - 2) * (ones @ k @ m @ ones)) / (n * (n - 3))

    return hsic(gram_a, gram_b) / math.sqrt(hsic(gram_a, gram_a) * hsic(gram_b, gram_b))


def related(n: int, p: int, q: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two feature sets that share something, off centre."""
    a, b = torch.randn(n, p, dtype=torch.float64), torch.randn(n, q, dtype=torch.float64)
    return a + 0.5, b + a[:, :1] - 2


@UNBIASED
@given(n=st.integers(4, 40), p=st.integers(1, 30), q=st.integers(1, 30))
def test_it_equals_the_definition(unbiased, n, p, q):
    a, b = related(n, p, q)
    assert cka.linear_cka(a, b, unbiased) == pytest.approx(by_definition(a, b, unbiased), abs=1e-8)


def test_four_samples_by_hand():
    a = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    b = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert cka.linear_cka(a, b, unbiased=False) == 0  # uncorrelated columns: X^T Y = 0
    # sums of k_i l_i = 4, of k_i = 4, of l_i = 4: 0 - 2 * 4 + 16 / 6; with itself a gives 16 - 8 +
    # 16/6, b 8 - 8 + 16/6
    assert cka.linear_cka(a, b) == pytest.approx((-8 + 16 / 6) / math.sqrt((8 + 16 / 6) * (16 / 6)))


def test_one_column_each_gives_the_squared_correlation():
    a, b = related(50, 1, 1)
    r = np.corrcoef(a[:, 0], b[:, 0])[0, 1]
    assert cka.linear_cka(a, b, unbiased=False) == pytest.approx(r**2)


@UNBIASED
def test_rotation_shift_and_one_scale_do_not_matter(unbiased):
    a, b = related(60, 8, 5)
    expected = cka.linear_cka(a, b, unbiased)
    rotation = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q
    for changed in (a @ rotation, 1e-3 * a, -7 * a, a + torch.randn(8), 5 * a @ rotation - 1000):
        assert cka.linear_cka(changed, b, unbiased) == pytest.approx(expected, abs=1e-9)
    assert cka.linear_cka(b, a, unbiased) == pytest.approx(expected, abs=1e-12)


@UNBIASED
def test_stretching_one_direction_does_matter(unbiased):
    a = torch.randn(500, 4)
    stretched = a * torch.tensor([100.0, 1, 1, 1])  # invertible: the same information
    assert cka.linear_cka(a, stretched, unbiased) == pytest.approx(
        0.5, abs=0.05
    )  # 1 of 4 directions: 1 / sqrt(4)


@UNBIASED
@pytest.mark.parametrize("scale", [1e-35, 1e-6, 1.0, 1e12])
def test_a_layer_is_like_itself_at_any_scale(unbiased, scale):
    a = scale * torch.randn(30, 7)
    assert cka.linear_cka(a, a, unbiased) == pytest.approx(1, abs=1e-12)


@UNBIASED
def test_small_variation_far_from_zero_survives(unbiased):
    a, b = related(200, 6, 4)
    expected = by_definition(a - a.mean(0), b - b.mean(0), unbiased)
    assert cka.linear_cka(1e6 + 1e-3 * a, b, unbiased) == pytest.approx(expected, abs=1e-5)


@given(st.integers(4, 25), st.integers(1, 40), st.integers(1, 40))
def test_the_range(n, p, q):
    a, b = torch.randn(n, p), torch.randn(n, q)
    assert -1e-9 <= cka.linear_cka(a, b, unbiased=False) <= 1 + 1e-9
    assert -1 - 1e-9 <= cka.linear_cka(a, b) <= 1 + 1e-9


def test_few_samples_make_the_biased_estimate_high_and_leave_the_unbiased_near_0():
    draws = [(torch.randn(32, 32), torch.randn(32, 32)) for _ in range(200)]
    biased = torch.tensor([cka.linear_cka(a, b, unbiased=False) for a, b in draws])
    unbiased = torch.tensor([cka.linear_cka(a, b) for a, b in draws])
    assert biased.mean() == pytest.approx(
        0.5, abs=0.02
    )  # p / (n + p) for independent normal features
    assert abs(float(unbiased.mean())) < 3 * float(unbiased.std()) / math.sqrt(200)
    large = torch.randn(20_000, 32), torch.randn(20_000, 32)
    assert cka.linear_cka(*large, unbiased=False) < 0.01


@UNBIASED
@given(cuts=st.lists(st.integers(1, 59), max_size=5, unique=True))
def test_chunks_do_not_matter(unbiased, cuts):
    a, b = related(60, 5, 3)
    c = torch.randn(60, 2)
    sums = cka.Accumulator()
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), 60], strict=True):
        sums.update({"a": a[start:end], "b": b[start:end], "c": c[start:end]})
    names, whole = cka.linear_cka_matrix({"a": a, "b": b, "c": c}, unbiased)
    torch.testing.assert_close(sums.matrix(unbiased), whole, atol=1e-10, rtol=0)
    assert names == ["a", "b", "c"]
    assert float(whole[0, 1]) == pytest.approx(by_definition(a, b, unbiased), abs=1e-8)
    assert float(whole[1, 2]) == pytest.approx(by_definition(b, c, unbiased), abs=1e-8)


def test_more_samples_than_a_chunk():
    a, b = related(2 * cka.CHUNK + 7, 3, 2)
    centred = a - a.mean(0), b - b.mean(0)
    expected = float(
        (centred[0].T @ centred[1]).norm() ** 2
        / ((centred[0].T @ centred[0]).norm() * (centred[1].T @ centred[1]).norm())
    )
    assert cka.linear_cka(a, b, unbiased=False) == pytest.approx(expected, abs=1e-10)


def test_what_is_kept_does_not_grow_with_the_samples():
    sums, sizes = cka.Accumulator(), []
    tracemalloc.start()
    for _ in range(3):
        for _ in range(20):
            sums.update({"a": torch.randn(500, 6), "b": torch.randn(500, 4)})
        sizes.append(sum(x.numel() for x in vars(sums).values() if isinstance(x, torch.Tensor)))
    python_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert sizes == [(6 + 4 + 2 + 1) ** 2] * 3 and python_bytes < 100_000
    assert sums.matrix().shape == (2, 2) and float(sums.sums[-1, -1]) == 30_000


def test_wide_layers_need_no_matrix_of_their_width():
    wide = torch.randn(12, 200_000)  # its cross-products would be 320 GB
    assert cka.linear_cka(wide, wide) == pytest.approx(1)
    narrow = wide[:, :50]
    assert cka.linear_cka(
        narrow, torch.cat([narrow, torch.zeros(12, 10_000)], dim=1)
    ) == pytest.approx(1)


def test_pixels_are_samples_in_reading_order():
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    samples = cka.pixels(x)
    assert samples.shape == (2 * 4 * 6, 3)
    assert torch.equal(samples[6 + 2], x[0, :, 1, 2]) and torch.equal(samples[24], x[1, :, 0, 0])
    coarse = cka.pixels(x, (2, 3))
    assert coarse.shape == (2 * 2 * 3, 3)
    torch.testing.assert_close(coarse[1], x[0, :, :2, 2:4].mean((1, 2)))


def test_tiles_are_samples():
    x = torch.arange(2 * 3 * 5 * 7.0).reshape(2, 3, 5, 7)
    samples = cka.images(x, 2)
    assert samples.shape == (2 * 2 * 3, 3 * 4)  # the last row and column fill no tile
    assert torch.equal(samples[4], x[0, :, 2:4, 2:4].flatten()) and torch.equal(
        samples[6], x[1, :, :2, :2].flatten()
    )
    assert torch.equal(cka.images(x, 5)[1], x[1, :, :, :5].flatten())


@pytest.mark.parametrize(
    ("a", "message"),
    [
        (torch.randn(10), r"a: expected shape \(n, p\).*got \(10,\)"),
        (torch.randn(10, 2, 2), r"a: expected shape \(n, p\)"),
        (torch.randn(10, 0), "a: expected shape"),
        (torch.randn(9, 3), "same samples.*'a': 9, 'b': 10"),
        (torch.tensor([[math.nan, 1.0]] * 10), "a: expected finite values, got 10"),
        (torch.full((10, 3), 0.1), "a: expected features that vary"),
    ],
)
def test_bad_features_are_named(a, message):
    with pytest.raises(ValueError, match=message):
        cka.linear_cka(a, torch.randn(10, 3))


def test_wrong_types_are_named():
    with pytest.raises(
        TypeError, match=r"b: expected a floating-point torch\.Tensor, got torch\.int64"
    ):
        cka.linear_cka(torch.randn(5, 2), torch.ones(5, 2, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"a: expected a floating-point.*ndarray"):
        cka.linear_cka(np.ones((5, 2)), torch.randn(5, 2))


@given(st.integers(1, 8), st.booleans())
def test_too_few_samples_are_refused(n, unbiased):
    a, b = torch.randn(n, 3), torch.randn(n, 2)
    if n >= (4 if unbiased else 2):
        assert math.isfinite(cka.linear_cka(a, b, unbiased))
    else:
        with pytest.raises(ValueError, match=f"samples: expected at least .* got n = {n}"):
            cka.linear_cka(a, b, unbiased)


def test_samples_that_only_the_biased_estimator_can_tell_apart():
    one_hot = torch.eye(
        6
    )  # all pairs equally far: nothing is left after centring without the diagonal
    assert cka.linear_cka(one_hot, one_hot, unbiased=False) == pytest.approx(1)
    with pytest.raises(ValueError, match="a, b: expected features that vary"):
        cka.linear_cka(one_hot, one_hot)


def test_a_stream_keeps_its_layers():
    sums = cka.Accumulator()
    with pytest.raises(ValueError, match="got n = 0"):
        sums.matrix()
    with pytest.raises(ValueError, match="at least one layer"):
        sums.update({})
    sums.update({"a": torch.randn(5, 2)})
    for other in (
        {"a": torch.randn(5, 3)},
        {"b": torch.randn(5, 2)},
        {"a": torch.randn(5, 2), "b": torch.randn(5, 1)},
    ):
        with pytest.raises(ValueError, match="widths of the first chunk"):
            sums.update(other)
    assert sums.matrix().tolist() == [[pytest.approx(1)]]  # what was refused left no trace


@pytest.mark.parametrize("size", [(3, 6), (4, 4), (0, 6), (8, 12)])
def test_pixels_refuses_sizes_that_do_not_divide(size):
    with pytest.raises(ValueError, match=r"size: expected divisors of \(4, 6\)"):
        cka.pixels(torch.randn(1, 2, 4, 6), size)


@pytest.mark.parametrize("tile", [0, 5])
def test_images_refuses_tiles_that_do_not_fit(tile):
    with pytest.raises(ValueError, match="tile: expected 1 to 4"):
        cka.images(torch.randn(1, 2, 4, 6), tile)


def test_helpers_need_a_batch():
    for helper in (cka.pixels, lambda x: cka.images(x, 2)):
        with pytest.raises(
            ValueError, match=r"features: expected shape \(B, C, H, W\), got \(2, 4, 6\)"
        ):
            helper(torch.randn(2, 4, 6))
