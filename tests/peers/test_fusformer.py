"""FusFormer: attention against a naive loop, tokens without position, Table I's row by hand, tiles
without seams on two real networks.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite import complexity, peers
from s3rnet_lite.peers import fusformer, parts


def on_meta(name: str, image: int, **changes) -> tuple[torch.nn.Module, complexity.Complexity]:
    """The paper preset for 172 + 4 bands, and its work on a square HR image of so many pixels a
    side.
    """
    with torch.device("meta"):
        network = peers.build(name, "paper", 172, 4, **changes)
        return network, complexity.count(
            network, torch.empty(1, 172, image // 4, image // 4), torch.empty(1, 4, image, image)
        )


@given(heads=st.integers(1, 3), head_channels=st.integers(1, 4), pixels=st.integers(1, 7))
def test_attention_equals_a_naive_loop_over_heads_and_pixels(heads, head_channels, pixels):
    width = heads * head_channels
    module = fusformer.Attention(width, heads).double()
    tokens = torch.randn(2, pixels, width, dtype=torch.float64)
    with torch.no_grad():
        output = module(tokens)
        for image in range(2):
            normal = tokens[image] - tokens[image].mean(1, keepdim=True)
            normal = normal / (normal.square().mean(1, keepdim=True) + 1e-5).sqrt()
            q, k, v = (normal @ weight.mT for weight in module.to_qkv.weight.split(width))
            attended = torch.zeros_like(v)
            for head in range(heads):
                mine = slice(head * head_channels, (head + 1) * head_channels)
                for i in range(pixels):
                    weights = torch.stack(
                        [
                            torch.exp(q[i, mine] @ k[j, mine] / math.sqrt(head_channels))
                            for j in range(pixels)
                        ]
                    )
                    attended[i, mine] = weights @ v[:, mine] / weights.sum()
            expected = tokens[image] + attended @ module.to_out.weight.mT + module.to_out.bias
            torch.testing.assert_close(output[image], expected)


def test_tokens_have_no_position_until_they_are_refined():
    network = peers.build("fusformer", "lite", 5, 3).double()
    upsampled, x_m = (
        torch.randn(1, 5, 8, 12, dtype=torch.float64),
        torch.randn(1, 3, 8, 12, dtype=torch.float64),
    )
    shuffle = torch.randperm(96)

    def shuffled(image):
        return image.flatten(2)[..., shuffle].unflatten(2, (8, 12))

    tokens = network._transform(upsampled, x_m)
    torch.testing.assert_close(
        network._transform(shuffled(upsampled), shuffled(x_m)), shuffled(tokens)
    )
    assert not torch.allclose(
        network.refine(shuffled(tokens)), shuffled(network.refine(tokens)), atol=1e-2
    )


@given(
    st.integers(1, 40), st.integers(1, 9), st.integers(1, 3), st.text("AF", min_size=1, max_size=8)
)
def test_parameters_by_hand(bands, msi_bands, head_channels, blocks):
    c = 2 * head_channels
    network = fusformer.FusFormer(bands, msi_bands, width=c, heads=2, blocks=blocks)
    attention, perceptron = 4 * c * c + c + 2 * c, 2 * (c * c + c) + 2 * c
    expected = (
        (bands + msi_bands + 1) * c + blocks.count("A") * attention + blocks.count("F") * perceptron
    )
    expected += 9 * c * c + c + 9 * c * bands + bands
    assert sum(p.numel() for p in network.parameters()) == expected


def test_macs_by_hand_and_table1s_are_those_without_attention():
    """Six attentions cost 2 N^2 c each; Table I's 11.74G are the rest, with 4 for each of the ten
    LayerNorms' numbers.
    """
    c, pixels = 48, 256 * 256
    layers_of_a_pixel = 176 * c + 6 * 4 * c * c + 4 * 2 * c * c + 9 * c * c + 9 * c * 172
    _, counted = on_meta("fusformer", 256, tile=256)
    assert counted.macs == pixels * layers_of_a_pixel + 6 * 2 * pixels**2 * c
    assert round(pixels * (layers_of_a_pixel + 10 * 4 * c) / 1e9, 2) == 11.74


def test_unknown_blocks_and_uneven_heads_are_refused():
    with pytest.raises(ValueError, match=r"blocks: expected the letters A .* got 'AXF'"):
        fusformer.FusFormer(5, 3, blocks="AXF")
    with pytest.raises(ValueError, match="width: expected a multiple of heads 3, got 16"):
        fusformer.FusFormer(5, 3, width=16, heads=3)


def smooth_image(bands: int, side: int) -> torch.Tensor:
    return parts.upsample(torch.randn(1, bands, side // 16, side // 16), 16, "bicubic")


def step_at_borders(network: torch.nn.Module, side: int = 96) -> float:
    """How much the learnt residual changes from column to column where tiles begin or end, relative
    to everywhere else (medians).
    """
    image = smooth_image(network.hsi_bands + network.msi_bands, side)
    x_m, y = image.split([network.msi_bands, network.hsi_bands], dim=1)
    with torch.no_grad():
        steps = network(F.avg_pool2d(y, 4), x_m).diff(dim=-1).abs().mean((0, 1, 2))
    count = math.ceil((side - network.tile) / (network.tile - network.overlap))
    starts = [round(i * (side - network.tile) / count) for i in range(count + 1)]
    at_border = torch.zeros(side + 1, dtype=torch.bool)
    at_border[[*starts, *(start + network.tile for start in starts)]] = True
    at_border = at_border[1:-1]  # steps[i] is from column i to i + 1
    return (steps[at_border].median() / steps[~at_border].median()).item()


@pytest.mark.parametrize("name", ["fusformer", "u2net"])
def test_tiles_show_no_seams_and_would_without_the_blend(name):
    blended, cut = [], []
    for seed in range(3):
        for overlap, ratios in ((8, blended), (0, cut)):
            torch.manual_seed(seed)
            ratios.append(
                step_at_borders(
                    peers.build(name, "lite", 6, 4, global_skip=False, overlap=overlap).eval()
                )
            )
    assert max(blended) < 1.5
    assert min(cut) > 2.5
