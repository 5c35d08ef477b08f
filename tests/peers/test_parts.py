"""Shared parts of the peers: tiles that must not show, padding that must not stay."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite.peers import parts

MULTIPLES_OF_4 = st.integers(1, 20).map(lambda n: 4 * n)


def enlarge(x_h, x_m):
    return x_h.repeat_interleave(4, -1).repeat_interleave(4, -2) * 2 + x_m.mean(-3, keepdim=True)


@given(MULTIPLES_OF_4, MULTIPLES_OF_4, st.sampled_from([(16, 4), (16, 8), (32, 8)]))
def test_tiles_of_a_local_operation_are_invisible(height, width, tile_and_overlap):
    x_h, x_m = (
        torch.rand(2, 3, height // 4, width // 4, dtype=torch.float64),
        torch.rand(2, 2, height, width, dtype=torch.float64),
    )
    fused = parts.fuse_in_tiles(enlarge, x_h, x_m, 4, *tile_and_overlap)
    torch.testing.assert_close(fused, enlarge(x_h, x_m), rtol=1e-12, atol=1e-12)


def test_no_tile_is_larger_than_asked_and_lr_and_hr_windows_belong_together():
    sizes = set()

    def fuse(x_h, x_m):
        sizes.add((*x_h.shape[-2:], *x_m.shape[-2:]))
        torch.testing.assert_close(
            parts.upsample(x_h, 4, "bilinear")[..., 8:-8, 8:-8].mean(), x_m[..., 8:-8, 8:-8].mean()
        )
        return x_m

    ramp = torch.arange(100.0)[:, None] + 3 * torch.arange(72.0)
    x_m = ramp[None, None]
    parts.fuse_in_tiles(fuse, torch.nn.functional.avg_pool2d(x_m, 4), x_m, 4, 32, 8)
    assert sizes == {(8, 8, 32, 32)}


def test_tiles_that_disagree_meet_without_a_step():
    """Each tile returns its own constant: the blend must change slowly where hard edges would jump
    by 1.
    """
    count = iter(range(100))
    x_m = torch.zeros(1, 1, 32, 100)
    fused = parts.fuse_in_tiles(
        lambda _h, m: torch.full_like(m, float(next(count))),
        torch.zeros(1, 1, 8, 25),
        x_m,
        4,
        32,
        8,
    )
    assert fused.diff(dim=-1).abs().max() < 0.25
    assert fused[..., -1].max() == 3.0  # 4 tiles


def test_gradients_pass_through_tiles():
    x_h, x_m = (
        torch.rand(1, 1, 10, 10, requires_grad=True),
        torch.rand(1, 1, 40, 40, requires_grad=True),
    )
    parts.fuse_in_tiles(enlarge, x_h, x_m, 4, 16, 4).sum().backward()
    torch.testing.assert_close(x_h.grad, torch.full_like(x_h, 32.0))
    torch.testing.assert_close(x_m.grad, torch.ones_like(x_m))


@given(MULTIPLES_OF_4, MULTIPLES_OF_4)
def test_padding_gives_what_the_network_needs_and_is_cut_off(height, width):
    def fuse(x_h, x_m):
        assert x_m.shape[-2] % 16 == 0 == x_m.shape[-1] % 16
        return enlarge(x_h, x_m)

    x_h, x_m = torch.rand(1, 3, height // 4, width // 4), torch.rand(1, 2, height, width)
    assert torch.equal(parts.fuse_padded(fuse, x_h, x_m, 4, 16), enlarge(x_h, x_m))


@pytest.mark.parametrize("bias", [True, False])
def test_channel_attention_by_hand(bias):
    attention = parts.ChannelAttention(3, 2, bias).double()
    x = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    first, second = attention.perceptron[0], attention.perceptron[2]

    def perceptron(v):
        hidden = first.weight[:, :, 0, 0] @ v + (first.bias if bias else 0)
        return second.weight[:, :, 0, 0] @ hidden.clamp_min(0) + (second.bias if bias else 0)

    for image, found in zip(x, attention(x), strict=True):
        pixels = image.flatten(1)
        expected = 1 / (
            1 + torch.exp(-perceptron(pixels.mean(1)) - perceptron(pixels.max(1).values))
        )
        torch.testing.assert_close(found[:, 0, 0], expected)


def test_subpixel_upsampling_lays_a_bands_values_out_as_a_square():
    layer = parts.SubpixelUpsampling(1, 2)
    with torch.no_grad():
        layer[0].weight.zero_()
        layer[0].weight[:, 0, 1, 1] = torch.tensor([1.0, 2, 3, 4])
    assert layer(torch.ones(1, 1, 1, 1)).flatten().tolist() == [1, 2, 3, 4]
