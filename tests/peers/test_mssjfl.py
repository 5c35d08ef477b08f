"""MSSJFL: sizes by formula, attention by loops, and corrections that undo what a known sensor model
lacks.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite.analysis.probes import record
from s3rnet_lite.peers import parts
from s3rnet_lite.peers.mssjfl import MSSJFL, AttentionBlock, BackProjection, SpatialAttention


def small(**changes) -> MSSJFL:
    return MSSJFL(6, 3, **{**dict(hsi_width=8, msi_width=4, blocks=2), **changes}).double()


def rand(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64)


def size(
    bands: int,
    msi_bands: int,
    wide: int,
    narrow: int,
    blocks: int,
    reduction: int,
    depthwise: bool,
    scale: int,
) -> int:
    def conv(inputs, outputs, side):
        return side**2 * inputs * outputs + outputs

    def branch(inputs, width, channels, pixels):
        hidden = max(1, width // reduction)
        attention = channels * (2 * width * hidden + hidden + width) + pixels * (2 * 49 + 1)
        return conv(inputs, width, 1) + blocks * (2 * conv(width, width, 3) + attention)

    both = bands + msi_bands
    branches = (
        branch(both, wide, 1, 1)
        + branch(both, narrow, 1, 1)
        + branch(bands, wide, 1, 0)
        + branch(msi_bands, narrow, 0, 1)
    )
    guesses = (
        2 * conv(wide, scale**2 * wide, 1)
        + conv(wide, bands, 1)
        + conv(narrow, bands, 1)
        + conv(wide + narrow, bands, 3)
    )
    resampling = 2 * (scale**2 * bands * (1 if depthwise else bands) + bands)
    return branches + guesses + resampling + conv(bands, msi_bands, 1) + conv(msi_bands, bands, 1)


COUNT = st.integers(1, 12)


@given(
    COUNT,
    COUNT,
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 3),
    st.sampled_from([2, 16]),
    st.booleans(),
)
def test_size_follows_from_the_widths(bands, msi_bands, wide, narrow, blocks, reduction, depthwise):
    network = MSSJFL(
        bands, msi_bands, 3, wide, narrow, blocks, reduction=reduction, depthwise=depthwise
    )
    assert sum(p.numel() for p in network.parameters()) == size(
        bands, msi_bands, wide, narrow, blocks, reduction, depthwise, scale=3
    )


def test_the_formula_gives_table_1s_size_whatever_the_slope():
    assert size(172, 4, 256, 64, 5, 16, depthwise=False, scale=4) == 16_335_277
    with torch.device("meta"):
        for slope in (0.2, 1.0):
            assert sum(p.numel() for p in MSSJFL(172, 4, slope=slope).parameters()) == 16_335_277


def test_spatial_attention_equals_a_naive_loop_over_pixels():
    attention, x = SpatialAttention().double(), rand(1, 3, 4, 5) - 0.5
    weight, bias = attention.convolution.weight[0], attention.convolution.bias[0]
    with torch.no_grad():
        output = attention(x)
        for row in range(4):
            for column in range(5):
                logit = bias.item()
                for i in range(4):
                    for j in range(5):
                        dy, dx = (
                            i - row + 3,
                            j - column + 3,
                        )  # where pixel (i, j) lies in the 7 x 7 window
                        if 0 <= dy < 7 and 0 <= dx < 7:
                            pixel = x[0, :, i, j]
                            logit += (
                                weight[0, dy, dx] * pixel.sum() / 3
                                + weight[1, dy, dx] * max(pixel.tolist())
                            ).item()
                assert output[0, 0, row, column].item() == pytest.approx(1 / (1 + math.exp(-logit)))


def test_a_block_weighs_channels_before_pixels_and_adds_its_input_last():
    block, x = AttentionBlock(5, 0.2, 2, channels=True, pixels=True).double(), rand(2, 5, 6, 7)
    first, _, second = block.convolutions
    hidden = F.conv2d(x, first.weight, first.bias, padding=1)
    features = F.conv2d(
        torch.where(hidden < 0, 0.2 * hidden, hidden), second.weight, second.bias, padding=1
    )
    channels, pixels = block.attentions
    features = features * channels(features)
    torch.testing.assert_close(block(x), features * pixels(features) + x)


def test_the_published_slope_of_1_leaves_a_block_linear_but_for_its_attention():
    x, y = rand(1, 5, 6, 6) - 0.5, rand(1, 5, 6, 6) - 0.5
    for slope, linear in ((1.0, True), (0.2, False)):
        f = AttentionBlock(5, slope, 2, channels=False, pixels=False).double()
        bent = (f(x) + f(y) - f(x + y) - f(torch.zeros_like(x))).abs().max().item()
        assert (bent < 1e-12) is linear


@given(st.sampled_from([2, 3, 4]), st.booleans())
def test_corrections_of_a_known_sensor_are_exact_and_vanish_when_nothing_lacks(scale, depthwise):
    """With averaging over an LR pixel as the sensor and copying as its inverse, one correction
    explains the LR-HSI.
    """
    correct = BackProjection(5, 2, scale, depthwise).double()
    with torch.no_grad():
        for p in correct.parameters():
            p.zero_()
        own = torch.eye(5)[:, :, None, None] if not depthwise else torch.ones(5, 1, 1, 1)
        correct.to_hsi[0].weight.copy_(own.expand_as(correct.to_hsi[0].weight) / scale**2)
        correct.from_hsi.weight.copy_(own.expand_as(correct.from_hsi.weight))
        correct.to_msi[0].weight.copy_(rand(2, 5, 1, 1))
    fused, x_h, x_m = (
        rand(2, 5, 3 * scale, 2 * scale),
        rand(2, 5, 3, 2),
        rand(2, 2, 3 * scale, 2 * scale),
    )
    torch.testing.assert_close(F.avg_pool2d(correct(fused, x_h, x_m), scale), x_h)

    torch.nn.init.normal_(
        correct.from_msi.weight
    )  # counts only where the HR-MSI is not explained either
    seen = torch.einsum("mc,bchw->bmhw", correct.to_msi[0].weight[:, :, 0, 0], fused)
    torch.testing.assert_close(correct(fused, F.avg_pool2d(fused, scale), seen), fused)
    assert not torch.allclose(
        correct(fused, F.avg_pool2d(fused, scale), seen + 1), fused, atol=1e-3
    )


def test_three_guesses_are_added_and_then_corrected():
    network, x_h, x_m = small(), rand(2, 6, 3, 4), rand(2, 3, 12, 16)
    with record(network.guess_a) as a, record(network.guess_b) as b, record(network.guess_c) as c:
        output = network(x_h, x_m)
    torch.testing.assert_close(output, network.correct(a[0] + b[0] + c[0], x_h, x_m))


def test_the_joint_branches_see_both_images_at_their_own_resolution():
    network, x_h, x_m, inputs = small(), rand(1, 6, 3, 4), rand(1, 3, 12, 16), {}
    for name in ("joint_low", "joint_high", "spectral", "spatial"):
        getattr(network, name).register_forward_hook(
            lambda _module, args, _output, name=name: inputs.__setitem__(name, args[0])
        )
    network(x_h, x_m)
    x_m_down = F.interpolate(x_m, scale_factor=0.25, mode="bicubic", align_corners=False)
    torch.testing.assert_close(inputs["joint_low"], torch.cat([x_h, x_m_down], 1))
    torch.testing.assert_close(
        inputs["joint_high"], torch.cat([x_m, parts.upsample(x_h, 4, "bilinear")], 1)
    )
    assert inputs["spectral"] is x_h and inputs["spatial"] is x_m


def test_x_b_and_x_c_can_hardly_be_negative():
    network = small()
    with record(network.guess_b) as b, record(network.guess_c) as c:
        network(100 * (rand(1, 6, 4, 4) - 0.5), 100 * (rand(1, 3, 16, 16) - 0.5))
    for guess in (b[0], c[0]):
        assert 0 < -guess.min() < 0.05 * guess.max()
