"""Dual-UNet: parameters from a formula, the stem and the sum by hand, who sees what, and the shift
that align_corners makes.
"""

import pytest
import torch
import torch.nn.functional as F

from s3rnet_lite import peers
from s3rnet_lite.analysis.probes import record
from s3rnet_lite.peers.dual_unet import AttentiveStem, DualUNet, _halve

SMALL = dict(
    stem=6,
    hsi_widths=(6, 8, 10, 12),
    hsi_decoder=(10, 8, 6),
    msi_widths=(4, 5, 6, 7),
    msi_decoder=(6, 5, 4),
)


def small(**changes) -> DualUNet:
    return DualUNet(5, 3, **{**SMALL, **changes}).double()


def inputs(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(1, 5, height, width, dtype=torch.float64), torch.randn(
        1, 3, 4 * height, 4 * width, dtype=torch.float64
    )


def conv(i: int, o: int, k: int = 3) -> int:
    return k * k * i * o + o


def two(i: int, o: int) -> int:
    return conv(i, o) + conv(o, o)


@pytest.mark.parametrize("msi_bands", [4, 6])
def test_size_of_the_paper_preset_module_by_module(msi_bands):
    entry, hidden = 172 + msi_bands, 16
    chains_and_mixing = 6 * conv(64, 64) + conv(128, 64) + 2 * conv(192, 64)
    attentions = 3 * (2 * 64 * hidden + conv(64, 32) + conv(32, 1))
    stem = conv(entry, 64) + chains_and_mixing + attentions + conv(192, 64, 1) + conv(64, 64) + 7
    hsi = two(64, 64) + two(64 + 64, 96) + two(96 + 64, 128) + two(128 + 64, 128)
    hsi += two(128 + 128 + 64, 96) + two(96 + 96 + 64, 64) + two(64 + 64 + 64, 64)
    msi = two(msi_bands, 64) + 6 * two(64, 64)
    heads = 2 * (conv(64, 64) + conv(64, 172, 1))
    with torch.device("meta"):
        network = peers.build("dual_unet", "paper", 172, msi_bands)
    assert sum(p.numel() for p in network.stem.parameters()) == stem
    assert sum(p.numel() for p in network.parameters()) == stem + hsi + msi + heads


def test_stem_by_hand():
    stem = AttentiveStem(5, 6).double()
    for weights in (stem.chain_weights, stem.attention_weights, stem.skip_weight):
        torch.nn.init.uniform_(weights, 0.5, 2)
    x = torch.randn(2, 5, 7, 6, dtype=torch.float64)
    x0 = F.leaky_relu(stem.enter[0](x), 0.2)
    x1, ends = x0, []
    for chain, weight in zip(stem.chains, stem.chain_weights, strict=True):
        convolutions = [layer for layer in chain if isinstance(layer, torch.nn.Conv2d)]
        for convolution in convolutions[:-1]:
            x1 = F.leaky_relu(convolution(x1), 0.2)
        x1 = convolutions[-1](x1)
        ends.append(weight * x1)
    assert [
        sum(isinstance(layer, torch.nn.Conv2d) for layer in chain) for chain in stem.chains
    ] == [1, 2, 3]
    mixed = [ends[0], stem.mix_two(torch.cat(ends[:2], 1)), stem.mix_three(torch.cat(ends, 1))]
    t = F.leaky_relu(stem.mix[0](torch.cat(mixed, 1)), 0.2)
    attended = []
    for k in range(3):
        first, _, second = stem.channel_attentions[k].perceptron
        which = sum(
            torch.einsum(
                "oh,bh->bo",
                second.weight[:, :, 0, 0],
                F.relu(torch.einsum("hc,bc->bh", first.weight[:, :, 0, 0], pooled)),
            )
            for pooled in (t.mean((2, 3)), t.flatten(2).max(2).values)
        )
        first, _, second, _ = stem.spatial_attentions[k]
        where = second(F.relu(first(t)))
        attended.append(
            stem.attention_weights[k] * t * (1 + which.sigmoid()[..., None, None] * where.sigmoid())
        )
    expected = (
        stem.leave[2](F.leaky_relu(stem.leave[0](torch.cat(attended, 1)), 0.2))
        + stem.skip_weight * x0
    )
    torch.testing.assert_close(stem(x), expected)


@pytest.mark.parametrize("global_skip", [True, False])
def test_the_output_is_upsampled_plus_residual_plus_detail(global_skip):
    network = small(global_skip=global_skip)
    x_h, x_m = inputs(4, 6)
    with record(network.hsi_head) as residual, record(network.msi_head) as detail:
        fused = network(x_h, x_m)
    up = F.interpolate(x_h, size=x_m.shape[-2:], mode="bicubic", align_corners=False)
    torch.testing.assert_close(fused, residual[0] + detail[0] + global_skip * up)


def test_the_detail_comes_from_the_msi_alone_and_the_residual_from_both():
    network = small()
    (x_h, x_m), (other_h, other_m) = inputs(4, 4), inputs(4, 4)
    with record(network.hsi_head) as residual, record(network.msi_head) as detail:
        network(x_h, x_m)
        network(other_h, x_m)
        network(x_h, other_m)
    assert torch.equal(detail[0], detail[1]) and not torch.equal(detail[0], detail[2])
    assert not torch.equal(residual[0], residual[1]) and not torch.equal(residual[0], residual[2])


def test_every_stage_of_the_hsi_unet_but_the_first_is_given_a_feature_of_the_msi_unet():
    network = small()
    details = [*SMALL["msi_widths"], *SMALL["msi_decoder"][:-1]]
    x, u = SMALL["hsi_widths"], SMALL["hsi_decoder"]
    without = [x[0], x[1], x[2], x[2] + x[3], x[1] + u[0], x[0] + u[1]]
    stages = [*network.hsi_encoder[1:], *network.hsi_decoder]
    assert [
        stage[0].in_channels - own for stage, own in zip(stages, without, strict=True)
    ] == details
    with record(network.stem) as stems:
        network(*inputs(2, 2))
    assert stems[0].shape == (1, 6, 8, 8)


def test_halving_by_means_is_bilinear_interpolation():
    x = torch.randn(2, 3, 6, 10, dtype=torch.float64)
    torch.testing.assert_close(
        _halve(x), F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
    )


@pytest.mark.parametrize("align_corners", [False, True])
def test_a_moved_object_gives_a_moved_result_unless_corners_are_aligned(align_corners):
    """An object in an empty scene, moved by 8 pixels, the coarsest stride: the empty border hides
    no difference.
    """
    network = small(align_corners=align_corners)
    x_h, x_m = (
        torch.zeros(1, 5, 48, 48, dtype=torch.float64),
        torch.zeros(1, 3, 192, 192, dtype=torch.float64),
    )
    x_h[..., 22:26, 22:26], x_m[..., 88:104, 88:104] = (
        torch.randn(1, 5, 4, 4),
        torch.randn(1, 3, 16, 16),
    )
    with torch.no_grad():
        fused, moved = network(x_h, x_m), network(x_h.roll(2, -1), x_m.roll(8, -1))
    window = (..., slice(88, 104), slice(88, 104))
    same = torch.allclose(fused.roll(8, -1)[window], moved[window], atol=1e-9)
    assert same is not align_corners


def test_widths_have_to_make_two_unets_of_one_depth():
    with pytest.raises(ValueError, match=r"one fewer for both decoders, got \[4, 4, 2, 3\]"):
        small(hsi_decoder=(8, 6))
