"""SSIM, UIQI and Q2n: torchmetrics and their definitions, computed another way, as sources."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.image import structural_similarity_index_measure

from s3rnet_lite import metrics


def noisy(*shape, seed=0, noise=0.1):
    generator = torch.Generator().manual_seed(seed)
    y = torch.rand(*shape, generator=generator, dtype=torch.float64) + 0.1
    return y + noise * torch.randn(*shape, generator=generator, dtype=torch.float64), y


def test_ssim_is_that_of_torchmetrics_inside_the_image():
    y_hat, y = noisy(4, 20, 30)
    ours = metrics.ssim(y_hat, y)
    theirs = []
    for a, b in zip(y_hat, y, strict=True):
        pair = ((x / b.max())[None, None] for x in (a, b))
        _, everywhere = structural_similarity_index_measure(
            *pair, data_range=1.0, return_full_image=True
        )
        theirs.append(everywhere[..., 5:-5, 5:-5])  # windows that lie within the image
    assert ours == pytest.approx(float(torch.stack(theirs).mean()))


def uiqi_of_window(x, y):
    """Z. Wang and A. Bovik, 2002, equation 1, with population moments."""
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    return (
        4
        * covariance
        * x.mean()
        * y.mean()
        / ((x.var() + y.var()) * (x.mean() ** 2 + y.mean() ** 2))
    )


def test_uiqi_is_the_mean_over_all_windows_of_all_bands():
    y_hat, y = (x.numpy() for x in noisy(2, 10, 11))
    windows = [
        uiqi_of_window(y_hat[band, i : i + 8, j : j + 8], y[band, i : i + 8, j : j + 8])
        for band in range(2)
        for i in range(3)
        for j in range(4)
    ]
    assert metrics.uiqi(*map(torch.from_numpy, (y_hat, y))) == pytest.approx(np.mean(windows))


def conjugate(a):
    return np.concatenate([a[:1], -a[1:]])


def product(a, b):
    """Of hypercomplex numbers, (n, ...) each, halved until they are real."""
    if len(a) == 1:
        return a * b
    (a, b), (c, d) = np.split(a, 2), np.split(b, 2)
    return np.concatenate(
        [product(a, c) - product(conjugate(d), b), product(d, a) + product(b, conjugate(c))]
    )


def q2n_of_block(x, y):
    """From the definition: every pixel's hypercomplex product, no matrix of moments."""
    parts = 2 ** math.ceil(math.log2(len(x)))
    z, w = (
        np.pad(image.reshape(len(image), -1), ((0, parts - len(image)), (0, 0))) for image in (x, y)
    )
    mean_z, mean_w = z.mean(1, keepdims=True), w.mean(1, keepdims=True)
    covariance = np.linalg.norm(product(z - mean_z, conjugate(w - mean_w)).mean(1))
    variances = [((x - mean) ** 2).sum(0).mean() for x, mean in ((z, mean_z), (w, mean_w))]
    norms = [np.linalg.norm(mean) for mean in (mean_z, mean_w)]
    return 2 * covariance / sum(variances) * 2 * math.prod(norms) / sum(n**2 for n in norms)


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 11])
def test_q2n_of_one_block_follows_the_definition(bands):
    y_hat, y = noisy(bands, 16, 16, seed=bands)
    assert metrics.q2n(y_hat, y, block=16) == pytest.approx(q2n_of_block(y_hat.numpy(), y.numpy()))


def test_quaternions_multiply_as_hamilton_says():
    one, i, j, k = np.eye(4)
    assert (product(i, j) == k).all() and (product(j, k) == i).all() and (product(k, i) == j).all()
    assert (product(j, i) == -k).all() and (product(i, i) == -one).all()


def test_blocks_cover_the_image_and_the_last_is_flush_with_the_border():
    y_hat, y = noisy(3, 8, 20)
    blocks = [metrics.q2n(y_hat[..., at : at + 8], y[..., at : at + 8], 8) for at in (0, 8, 12)]
    assert metrics.q2n(y_hat, y, 8) == pytest.approx(np.mean(blocks))


def test_of_one_band_q2n_is_the_modulus_of_uiqi():
    y_hat, y = noisy(1, 8, 8)
    assert metrics.q2n(y_hat, y, 8) == pytest.approx(abs(metrics.uiqi(y_hat, y)))
    assert metrics.uiqi(2 - y, y) < 0 < metrics.q2n(2 - y, y)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 9), st.integers(11, 40), st.integers(11, 40))
def test_the_image_itself_is_best_and_a_batch_gives_the_mean(bands, height, width):
    y_hat, y = noisy(bands, height, width)
    assert metrics.similarity(y, y) == pytest.approx({"ssim": 1, "uiqi": 1, "q2n": 1})
    worse = metrics.similarity(y_hat, y)
    assert all(value < 1 for value in worse.values())
    pairs = torch.stack([y_hat, y]), torch.stack([y, y])
    assert metrics.similarity(*pairs) == pytest.approx({k: (v + 1) / 2 for k, v in worse.items()})


def test_constant_images_have_no_contrast_to_compare_only_means():
    one, two = torch.ones(2, 16, 16), torch.full((2, 16, 16), 2.0)
    assert metrics.q2n(one, one) == metrics.uiqi(one, one) == 1
    assert [metrics.q2n(one, two), metrics.uiqi(one, two)] == pytest.approx([0.8, 0.8])


def test_too_small_an_image_for_ssim_is_named():
    with pytest.raises(ValueError, match=r"y: SSIM needs at least 11 .* got \(10, 30\)"):
        metrics.ssim(torch.ones(2, 10, 30), torch.ones(2, 10, 30))
