"""DHIF-Net: its filters against naive loops, its step against autograd's gradient, parameters from
a formula.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite import peers
from s3rnet_lite.analysis.probes import record
from s3rnet_lite.peers.dhif_net import DHIFNet, apply_filters

SMALL = dict(encoder=(4, 6, 8), decoder=(6, 5), taps=3)


def small(**changes) -> DHIFNet:
    return DHIFNet(5, 3, **{**SMALL, **changes}).double()


def inputs(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 5, height, width, dtype=torch.float64), torch.randn(
        2, 3, 4 * height, 4 * width, dtype=torch.float64
    )


@given(
    st.integers(1, 7),
    st.integers(1, 4),
    st.sampled_from([1, 3, 5]),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_filters_equal_a_loop_over_every_value(bands, groups, taps, height, width):
    groups = min(groups, bands)
    z = torch.randn(bands, height, width, dtype=torch.float64)
    weights = torch.randn(3, taps, groups, height, width, dtype=torch.float64)
    per_group = -(-bands // groups)
    expected = z
    for axis, name in enumerate(("rows", "columns", "bands")):
        before, expected = expected, torch.zeros_like(z)
        for c in range(bands):
            for i in range(height):
                for j in range(width):
                    for tap in range(taps):
                        step = tap - taps // 2
                        if name == "rows":
                            value = before[c, i, min(max(j + step, 0), width - 1)]
                        elif name == "columns":
                            value = before[c, min(max(i + step, 0), height - 1), j]
                        else:
                            value = before[c + step, i, j] if 0 <= c + step < bands else 0
                        expected[c, i, j] += weights[axis, tap, c // per_group, i, j] * value
    torch.testing.assert_close(apply_filters(z[None], *weights[:, None])[0], expected)


def test_a_single_middle_tap_changes_nothing_and_even_taps_amplify():
    z = torch.ones(1, 6, 4, 4, dtype=torch.float64)
    single = torch.zeros(1, 7, 3, 4, 4, dtype=torch.float64)
    single[:, 3] = 1
    torch.testing.assert_close(apply_filters(z, single, single, single), z)
    even = torch.full_like(single, 7**-0.5)
    torch.testing.assert_close(
        apply_filters(z, even, even, single), 7 * z
    )  # sqrt(7) along rows, again along columns


def test_the_squares_of_each_filters_taps_sum_to_one_and_groups_share_a_filter():
    network = small(filter_groups=2)
    with record(network.filters[0]) as taps:
        network(*inputs(2, 3))
    assert taps[0].shape == (2, 3, 2, 8, 12)
    torch.testing.assert_close(
        taps[0].square().sum(1), torch.ones(2, 2, 8, 12, dtype=torch.float64)
    )
    assert taps[0].min() < 0


def test_with_true_transposes_one_stage_is_a_step_along_the_gradient_of_both_data_terms():
    network = small(stages=1, operator_slope=1.0)
    with torch.no_grad():
        network.lambda_.zero_()
        for operator in (
            network.spectral,
            network.spectral_transposed,
            network.spatial,
            network.spatial_transposed,
        ):
            operator.bias.zero_()
        network.spectral_transposed.weight.copy_(network.spectral.weight.transpose(0, 1).flip(2, 3))
        network.spatial_transposed.weight.copy_(network.spatial.weight)
    x_h, x_m = inputs(4, 4)
    z = F.interpolate(x_h, scale_factor=4, mode="bicubic", align_corners=False).requires_grad_()
    misfit = (
        0.5 * (network.spectral(z) - x_m).square().sum()
        + 0.5 * (network.spatial(z) - x_h).square().sum()
    )
    (gradient,) = torch.autograd.grad(misfit, z)
    torch.testing.assert_close(network(x_h, x_m), z - 2 * network.eta * gradient)


def test_lambda_pulls_towards_the_filtered_image():
    network = small(stages=1, global_skip=False)
    x_h, x_m = inputs(4, 4)
    with torch.no_grad():
        network.lambda_.fill_(3.0)
        network.eta.fill_(0.25)
        for operator in (network.spectral_transposed, network.spatial_transposed):
            for parameter in operator.parameters():
                parameter.zero_()  # no data term
        with (
            record(network.filters[0]) as rows,
            record(network.filters[1]) as columns,
            record(network.filters[2]) as bands,
        ):
            moved = network(x_h, x_m)
    z = F.interpolate(x_h, scale_factor=4, mode="bicubic", align_corners=False)
    torch.testing.assert_close(moved, -1.5 * (z - apply_filters(z, rows[0], columns[0], bands[0])))


def test_operators_treat_negative_values_like_positive_ones_only_if_linear():
    z = torch.randn(1, 5, 8, 8, dtype=torch.float64)
    for slope, odd in ((1.0, True), (0.01, False)):
        network = small(operator_slope=slope, blur_by_band=True)
        for operator, x in (
            (network.spectral, z),
            (network.spatial, z),
            (network.spectral_transposed, z[:, :3]),
        ):
            zero = operator(torch.zeros_like(x))
            assert torch.allclose(operator(x) - zero, zero - operator(-x)) is odd


def test_blur_of_one_band_at_a_time_sees_no_other_band():
    network = small(blur_by_band=True, blur_margin=1)
    assert network.spatial[0].kernel_size == (6, 6)
    z = torch.randn(1, 5, 8, 8, dtype=torch.float64)
    changed = z.clone()
    changed[:, 2] += 1
    difference = (network.spatial(changed) - network.spatial(z)).abs().amax((0, 2, 3))
    assert (difference > 0).tolist() == [False, False, True, False, False]


def conv(i: int, o: int, k: int) -> int:
    return k * k * i * o + o


@pytest.mark.parametrize("msi_bands", [4, 6])
def test_size_of_the_paper_preset_module_by_module(msi_bands):
    operators = conv(172, msi_bands, 3) + conv(msi_bands, 172, 3) + 2 * conv(172, 172, 12)
    unet = sum(
        conv(i, o, 3) + conv(o, o, 3)
        for i, o in ((32, 32), (32, 64), (64, 128), (192, 64), (96, 128))
    )
    head = conv(128, 7 * 172, 3) + conv(7 * 172, 7 * 172, 3) + conv(7 * 172, 7 * 172, 1)
    looks = conv(172 + msi_bands, 32, 3) + sum(conv(32 * t, 32, 3) for t in (1, 2, 3, 4))
    with torch.device("meta"):
        network = peers.build("dhif_net", "paper", 172, msi_bands)
    assert sum(p.numel() for p in network.filters.parameters()) == 3 * head
    assert (
        sum(p.numel() for p in network.parameters()) == operators + unet + 3 * head + looks + 2 * 4
    )


def test_a_further_stage_brings_two_numbers_and_one_convolution():
    two, three = (sum(p.numel() for p in small(stages=stages).parameters()) for stages in (2, 3))
    assert three - two == 2 + conv(3 * 4, 4, 3)


def test_even_taps_and_odd_decoders_are_refused():
    with pytest.raises(ValueError, match="taps: expected an odd number, got 4"):
        small(taps=4)
    with pytest.raises(ValueError, match="decoder: expected 2 widths"):
        small(decoder=(6,))
