"""PZRes-Net: means that pass through untouched, layers as the card orders them, sizes by
formula.
"""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite import peers
from s3rnet_lite.analysis.probes import record
from s3rnet_lite.peers import parts
from s3rnet_lite.peers.pzres_net import DenseLayer, PZResNet, Stage, every_nth_band

SMALL = dict(growth=(2, 3, 4), layers=3)


def small(**changes) -> PZResNet:
    return PZResNet(9, 3, **{**SMALL, **changes}).double()


def pair(
    batch: int = 2, bands: int = 9, msi_bands: int = 3, side: int = 3
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, bands, side, side, dtype=torch.float64), torch.randn(
        batch, msi_bands, 4 * side, 4 * side, dtype=torch.float64
    )


def layer_size(inputs: int, outputs: int, separable: bool) -> int:
    return inputs * outputs + outputs + 9 * outputs * (1 if separable else outputs) + outputs


def size(bands: int, msi_bands: int, growth, layers: int, separable: bool, spare: bool) -> int:
    total, before = layer_size(bands, bands, separable), 0
    for stride, g in zip((4, 2, 1), growth, strict=True):
        c, guides = -(-bands // stride), msi_bands + before
        total += guides * c + c + 9 * c + c if separable else 9 * guides * c + c
        total += sum(layer_size(2 * c + i * g, g, separable) for i in range(layers - 1))
        total += layer_size(2 * c + (layers - 1) * g, c + (spare and stride == 1), separable)
        before = c
    return total


@given(st.integers(1, 30), st.integers(1, 6), st.integers(2, 4), st.booleans(), st.booleans())
def test_size_follows_from_the_widths(bands, msi_bands, layers, separable, spare):
    network = PZResNet(
        bands, msi_bands, growth=(2, 3, 4), layers=layers, separable=separable, spare_channel=spare
    )
    assert sum(p.numel() for p in network.parameters()) == size(
        bands, msi_bands, (2, 3, 4), layers, separable, spare
    )


def test_the_spare_channel_is_in_the_published_size_and_only_its_last_filter_is_idle():
    growth = (2 * 43, 2 * 86, 2 * 172)
    assert (
        size(172, 4, growth, 8, False, True)
        == 15_593_101
        == size(172, 4, growth, 8, False, False) + 5_859
    )
    network = small(spare_channel=True)
    network(*pair()).square().mean().backward()
    filters = network.stages[2].last.spatial.weight.grad.abs().sum((1, 2, 3))
    assert filters.shape == (10,) and filters[9] == 0 and (filters[:9] > 0).all()
    assert network.stages[2].last.spectral.weight.grad[9].abs().sum() > 0


def test_the_paper_preset_widens_from_2_to_16_times_the_bands():
    with torch.device("meta"):
        network = peers.build("pzres_net", "paper", 172, 4)
    for stage, c in zip(network.stages, (43, 86, 172), strict=True):
        assert [layer.spectral.in_channels for layer in [*stage.layers, stage.last]] == [
            2 * c * i for i in range(1, 9)
        ]


def test_bands_are_thinned_from_the_first_to_the_last():
    bands = torch.arange(172.0)[None, :, None, None]
    assert every_nth_band(bands, 4).flatten().tolist() == [*range(0, 165, 4), 171]
    assert every_nth_band(bands, 2).flatten().tolist() == [*range(0, 169, 2), 171]
    assert every_nth_band(bands, 1).flatten().tolist() == [*range(172)]
    assert every_nth_band(bands[:, :1], 4).flatten().tolist() == [0]


@pytest.mark.parametrize("separable", [False, True])
def test_a_dense_layer_centres_before_each_convolution(separable):
    layer = DenseLayer(5, 3, separable).double()
    x = torch.randn(2, 5, 4, 6, dtype=torch.float64) + 7
    expected = []
    for image in x:  # one image at a time, in the order of the published code
        centred = torch.stack([channel - channel.mean() for channel in image])
        mixed = (
            torch.einsum("oc,chw->ohw", layer.spectral.weight[:, :, 0, 0], centred)
            + layer.spectral.bias[:, None, None]
        )
        mixed = mixed.clamp_min(0)
        centred = torch.stack([channel - channel.mean() for channel in mixed])
        groups = 3 if separable else 1
        expected.append(
            F.conv2d(
                centred[None], layer.spatial.weight, layer.spatial.bias, padding=1, groups=groups
            )[0].clamp_min(0)
        )
    torch.testing.assert_close(layer(x), torch.stack(expected))


def test_what_the_skip_of_a_stage_carries_is_the_lifted_guides():
    stage = Stage(4, 3, 5, 3, separable=False, spare_channel=False).double()
    torch.nn.init.zeros_(stage.last.spatial.weight), torch.nn.init.zeros_(stage.last.spatial.bias)
    bands, guides = (
        torch.randn(1, 4, 6, 6, dtype=torch.float64),
        torch.randn(1, 3, 6, 6, dtype=torch.float64),
    )
    torch.testing.assert_close(stage(bands, guides), stage.lift(guides).clamp_min(0))


@given(st.floats(-100, 100), st.floats(-100, 100))
def test_a_brighter_hsi_gives_an_output_brighter_by_as_much_and_a_brighter_msi_none_at_all(
    hsi_offset, msi_offset
):
    """Zero-centric: whatever the network adds to the upsampled LR-HSI cannot depend on means."""
    network, (x_h, x_m) = small(), pair()
    offset = hsi_offset * torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(
        network(x_h + offset, x_m + msi_offset), network(x_h, x_m) + offset, atol=1e-9, rtol=1e-9
    )


def test_each_stage_is_guided_by_the_one_before_and_all_of_them_by_the_msi():
    network, (x_h, x_m) = small(), pair()
    seen = []
    for stage in network.stages:
        stage.register_forward_hook(lambda _stage, inputs, output: seen.append((*inputs, output)))
    network(x_h, x_m)
    centred = x_m - x_m.mean((2, 3), keepdim=True)
    torch.testing.assert_close(seen[0][1], centred)
    for (_, _, before), (_, guides, _) in pairwise(seen):
        torch.testing.assert_close(guides, torch.cat([before, centred], 1))
    assert [bands.shape[1] for bands, _, _ in seen] == [3, 5, 9]


def test_the_refinement_only_adds_and_the_skip_only_decides_about_the_upsampled_hsi():
    network, (x_h, x_m) = small(), pair()
    up = parts.upsample(x_h, 4, "bilinear")
    with record(network.stages[2]) as details, record(network.refine) as refinements:
        output = network(x_h, x_m)
    assert refinements[0].min() >= 0 and refinements[0].max() > 0
    torch.testing.assert_close(output, up + details[0] + refinements[0])
    network.global_skip = False
    torch.testing.assert_close(network(x_h, x_m), output - up)


def test_recentred_detail_has_no_mean_and_published_detail_has_one():
    (x_h, x_m), means = pair(), {}
    for recentre in (False, True):
        network = small(recentre=recentre)
        with record(network.refine) as refinements:
            detail = network(x_h, x_m) - parts.upsample(x_h, 4, "bilinear") - refinements[0]
        means[recentre] = detail.mean((2, 3)).abs().max().item()
    assert means[True] < 1e-12 < 1e-2 < means[False]


def test_growth_is_given_for_each_of_the_three_stages():
    with pytest.raises(
        ValueError, match=r"growth: expected one number for each of the 3 stages, got \(4, 8\)"
    ):
        PZResNet(9, 3, growth=(4, 8))
