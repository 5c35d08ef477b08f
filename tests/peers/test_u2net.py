"""U2Net: both attention maps against naive loops, what each may depend on, shared Down and Up,
sizes and work by hand.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite import complexity, peers
from s3rnet_lite.analysis.probes import record
from s3rnet_lite.peers import u2net


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def softmax(logits: list[torch.Tensor]) -> torch.Tensor:
    weights = torch.stack(logits).exp()
    return weights / weights.sum()


@given(heads=st.integers(1, 3), d=st.integers(1, 4), pixels=st.integers(1, 6))
def test_attention_equals_naive_loops_over_heads_pixels_and_channels(heads, d, pixels):
    module = u2net.CrossAttention(heads * d, d).double()
    x, y = tokens(2, pixels, heads * d), tokens(2, pixels, heads * d)
    with torch.no_grad():
        output = module(x, y)
        for image in range(2):
            x_1, x_2 = x[image] @ module.to_x1.weight.mT, x[image] @ module.to_x2.weight.mT
            y_1, y_2 = y[image] @ module.to_y1.weight.mT, y[image] @ module.to_y2.weight.mT
            product = torch.zeros_like(x_1)
            for head in range(heads):
                mine = range(head * d, (head + 1) * d)
                channels = slice(mine.start, mine.stop)
                spectral = [
                    softmax([x_1[:, a] @ x_2[:, b] / math.sqrt(d) / (pixels / d) for b in mine])
                    for a in mine
                ]
                spectral = torch.stack(spectral)  # row: channel of x_1
                for i in range(pixels):
                    spatial = softmax(
                        [y_1[i, channels] @ y_2[j, channels] / math.sqrt(d) for j in range(pixels)]
                    )
                    product[i, channels] = (spatial @ x_1[:, channels]) * (
                        y_1[i, channels] @ spectral
                    )
            torch.testing.assert_close(
                output[image], product @ module.to_out.weight.mT + module.to_out.bias
            )


def test_showing_every_pixel_twice_changes_nothing():
    module = u2net.CrossAttention(6, 3).double()
    x, y = tokens(2, 5, 6), tokens(2, 5, 6)
    torch.testing.assert_close(
        module(x.repeat(1, 2, 1), y.repeat(1, 2, 1)), module(x, y).repeat(1, 2, 1)
    )


def test_only_y_decides_where_x_is_averaged():
    module = u2net.CrossAttention(6, 3).double()
    x, y = tokens(1, 9, 6), tokens(1, 1, 6).expand(1, 9, 6)
    same_everywhere = module(x, y)
    torch.testing.assert_close(same_everywhere, same_everywhere[:, :1].expand_as(same_everywhere))
    shuffle = torch.randperm(9)
    torch.testing.assert_close(module(x[:, shuffle], y), same_everywhere)


def test_each_down_and_up_serves_both_u_nets():
    network = peers.build("u2net", "lite", 5, 3, width=8, head_channels=8)
    x_h, x_m = torch.randn(1, 5, 4, 4), torch.randn(1, 3, 16, 16)
    for module, shape in zip(
        [*network.down, *network.up],
        [(1, 16, 8, 8), (1, 32, 4, 4), (1, 16, 8, 8), (1, 8, 16, 16)],
        strict=True,
    ):
        with record(module) as outputs:
            network(x_h, x_m)
        of_x, of_y = outputs
        assert of_x.shape == of_y.shape == shape
        assert not torch.equal(of_x, of_y)


@given(st.integers(1, 20), st.integers(1, 9), st.integers(1, 3))
def test_parameters_by_hand(bands, msi_bands, half_width):
    d = 2 * half_width
    network = u2net.U2Net(bands, msi_bands, width=d, head_channels=d)
    expected = (
        9 * bands * 16 * bands + (9 * bands * d + d) + (9 * msi_bands * d + d)
    )  # upsampling, embeddings
    expected += sum(
        6 * w * w + 13 * w // 2 for w in (d, 2 * d, 4 * d, 2 * d, d)
    )  # S2Blocks: five w x w, w x w/2 twice, biases, norms
    expected += sum(9 * w * w + 3 * w // 2 for w in (d, 2 * d, 4 * d, 2 * d))  # ResBlocks
    expected += sum(
        4 * w * w + w + 2 * w * w + 2 * w + 10 * 2 * w for w in (d, 2 * d)
    )  # Down: 2x2, 1x1, depthwise 3x3
    expected += sum(
        4 * 2 * w * w + w + 9 * w * w + w for w in (2 * d, d)
    )  # Up: transposed 2x2, 3x3
    expected += 9 * d * d + d + 9 * d * bands + bands  # head
    assert sum(p.numel() for p in network.parameters()) == expected


def test_macs_by_hand():
    """For a 64-pixel tile, whose attention (2 N^2 c + 2 N c d a level) is more than half of all."""
    pixels, widths, d, bands = 64 * 64, (64, 128, 256, 128, 64), 16, 172
    per_level = [pixels, pixels // 4, pixels // 16, pixels // 4, pixels]
    macs = pixels * 9 * (bands * bands + bands * 64 + 4 * 64 + 64 * 64 + 64 * bands)
    for n, w in zip(per_level, widths, strict=True):
        macs += 2 * n * n * w + 2 * n * w * d + n * (5 * w * w + w * w)
    macs += sum(n * 9 * w * w for n, w in zip(per_level[:4], widths[:4], strict=True))
    for n, w in zip(per_level[1:3], (64, 128), strict=True):
        macs += 2 * n * (4 * w * w + 2 * w * w + 9 * 2 * w)  # twice: for x and y
    for n, w in zip(per_level[3:], (128, 64), strict=True):
        macs += (
            2 * n * (2 * w * w + 9 * w * w)
        )  # a transposed 2x2 with stride 2: one tap an output pixel
    with torch.device("meta"):
        network = peers.build("u2net", "paper", bands, 4)
        counted = complexity.count(
            network, torch.empty(1, bands, 16, 16), torch.empty(1, 4, 64, 64)
        )
    assert counted.macs == macs


def test_what_cannot_be_halved_twice_is_refused():
    with pytest.raises(ValueError, match=r"scale and tile: expected multiples of 4.* got 2 and 64"):
        u2net.U2Net(5, 3, scale=2)
    with pytest.raises(ValueError, match="width: expected a multiple of head_channels 16, got 24"):
        u2net.U2Net(5, 3, width=24)
