"""HyperTransformer: channels as tokens against a naive loop and PyTorch's own, symmetries, the
locked size, sizes by formula.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from s3rnet_lite import peers
from s3rnet_lite.analysis.probes import record
from s3rnet_lite.peers.hypertransformer import HyperTransformer, MultiHeadAttention, PlainAttention
from s3rnet_lite.peers.parts import FeaturePyramid


def maps(channels: int = 3, height: int = 4, width: int = 5) -> list[torch.Tensor]:
    return [torch.randn(2, channels, height, width, dtype=torch.float64) for _ in range(3)]


def small(**changes) -> HyperTransformer:
    changes = {"lr_size": None, "first_kernel_size": 3} | changes
    return (
        HyperTransformer(5, 2, width=4, head_blocks=1, stage_blocks=1, output_blocks=1, **changes)
        .double()
        .eval()
    )


def test_plain_attention_equals_a_naive_loop_over_images_and_channels():
    q, k, v = maps()
    output = PlainAttention()(q, k, v)
    for image in range(2):
        for i in range(3):
            scores = [math.exp((q[image, i] * k[image, j]).mean().item()) for j in range(3)]
            expected = sum(score * v[image, j] for j, score in enumerate(scores)) / sum(scores)
            torch.testing.assert_close(output[image, i], expected)


def test_multi_head_attention_is_pytorchs_own_on_flattened_channels():
    q, k, v = maps()
    module = MultiHeadAttention(channels=3, pixels=20, heads=2, head_size=6).double().eval()
    torch.nn.init.uniform_(module.norm.running_mean)
    torch.nn.init.uniform_(module.norm.running_var, 0.5, 2)
    heads = []
    for head in range(2):
        rows = slice(6 * head, 6 * head + 6)
        projected = (
            x.flatten(2) @ to.weight[rows].T
            for x, to in ((q, module.to_q), (k, module.to_k), (v, module.to_v))
        )
        heads.append(F.scaled_dot_product_attention(*projected, scale=1 / math.sqrt(20)))
    t = v + (torch.cat(heads, dim=2) @ module.to_out.weight.T).reshape(v.shape)
    mean, var = module.norm.running_mean[:, None, None], module.norm.running_var[:, None, None]
    torch.testing.assert_close(module(q, k, v), (t - mean) / (var + 1e-5).sqrt())


def test_the_order_of_key_channels_does_not_matter_and_that_of_queries_carries_over():
    q, k, v = maps(channels=6)
    order, attention = torch.randperm(6), PlainAttention()
    torch.testing.assert_close(attention(q, k[:, order], v[:, order]), attention(q, k, v))
    torch.testing.assert_close(attention(q[:, order], k, v), attention(q, k, v)[:, order])


def test_the_size_of_the_image_does_not_matter():
    small_maps, attention = maps(), PlainAttention()
    torch.testing.assert_close(
        attention(*(x.repeat(1, 1, 2, 2) for x in small_maps)),
        attention(*small_maps).repeat(1, 1, 2, 2),
    )


def test_a_query_that_looks_like_one_blurred_channel_gets_that_channel_sharp():
    blurred = torch.eye(4, dtype=torch.float64).reshape(1, 4, 2, 2) * 20
    sharp = torch.randn(1, 4, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(PlainAttention()(blurred[:, [2]], blurred, sharp), sharp[:, [2]])


def test_the_attention_asks_with_the_hsi_looks_in_the_blurred_msi_and_takes_from_the_sharp_one():
    network, x_h, x_m = (
        small(),
        torch.randn(1, 5, 4, 3).double(),
        torch.randn(1, 2, 16, 12).double(),
    )
    with record(network.attentions[0]) as transferred, torch.no_grad():
        network(x_h, x_m)
        blurred = F.interpolate(
            F.interpolate(x_m, scale_factor=0.25, mode="bilinear"), scale_factor=4, mode="bilinear"
        )
        q = network.hsi_features(F.interpolate(x_h, scale_factor=4, mode="bicubic"))[2]
        k, v = network.msi_features(blurred)[2], network.msi_features(x_m)[2]
    torch.testing.assert_close(transferred[0], PlainAttention()(q, k, v))


def test_a_pyramid_halves_twice_and_hands_on_what_is_positive():
    pyramid = FeaturePyramid(3, (2, 4, 8), kernel_size=7).double().eval()
    x = torch.randn(1, 3, 8, 12, dtype=torch.float64)
    full, half, quarter = pyramid(x)
    assert [tuple(level.shape[1:]) for level in (full, half, quarter)] == [
        (2, 8, 12),
        (4, 4, 6),
        (8, 2, 3),
    ]
    assert min(level.min().item() for level in (full, half, quarter)) < 0
    positive = F.max_pool2d(full.clamp_min(0), 2)
    torch.testing.assert_close(pyramid.levels[1](positive), half)


def size_by_formula(c: int, m: int, w: int = 64, lr: int = 64, heads: int = 4) -> int:
    """From the published layer list: 3x3 convolutions of w, 2w and 4w channels, 84 * heads * lr**3
    for the attentions.
    """

    def conv(before: int, after: int, kernel: int = 3) -> int:
        return before * after * kernel**2 + after

    def blocks(width: int, count: int) -> int:
        return (2 * count + 1) * conv(width, width)

    def pyramid(channels: int) -> int:
        convolutions = (
            conv(channels, w, 7)
            + conv(w, w)
            + conv(w, 2 * w)
            + conv(2 * w, 2 * w)
            + conv(2 * w, 4 * w)
            + conv(4 * w, 4 * w)
        )
        return convolutions + 2 * 2 * 7 * w

    size = (
        pyramid(c) + pyramid(m) + 84 * heads * lr**3 + 2 * 7 * w
    )  # and the norms after the attentions
    size += conv(c, 4 * w) + blocks(4 * w, 16)
    size += sum(
        2 * width + conv(2 * width, width) + blocks(width, 4) for width in (w, 2 * w, 4 * w)
    )
    return size + conv(4 * w, 8 * w) + conv(2 * w, 4 * w) + conv(7 * w, c) + blocks(c, 4)


@pytest.mark.parametrize("bands", [(172, 4), (172, 6), (103, 1)])
def test_size_follows_from_the_layer_list(bands):
    with torch.device("meta"):
        network = peers.build("hypertransformer", "paper", *bands)
    assert sum(p.numel() for p in network.parameters()) == size_by_formula(*bands)


def test_the_multi_head_form_takes_the_size_it_was_built_for_and_names_it_otherwise():
    network = small(lr_size=4, heads=2)
    assert network(torch.randn(2, 5, 4, 4).double(), torch.randn(2, 2, 16, 16).double()).shape == (
        2,
        5,
        16,
        16,
    )
    with pytest.raises(ValueError, match=r"built for 4 x 4 pixels \(lr_size\), got 4 x 5"):
        network(torch.randn(1, 5, 4, 5).double(), torch.randn(1, 2, 16, 20).double())


def test_other_scales_are_refused():
    with pytest.raises(ValueError, match="expected 4, got 2"):
        HyperTransformer(5, 2, scale=2)
