"""HyperRefiner: attention against a naive loop, what it does not know (places, image size), the
skip, the decoder, sizes by formula.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from s3rnet_lite import peers
from s3rnet_lite.analysis.probes import record
from s3rnet_lite.peers.hyperrefiner import (
    ChannelGate,
    DualRefinedAttention,
    HyperRefiner,
    SpectralAttention,
)


def attention(softmax_over: str, channels: int = 4) -> SpectralAttention:
    module = SpectralAttention(channels, softmax_over).double()
    module(
        torch.randn(4, channels, 6, 5).double() * 3, torch.randn(4, channels, 9).double()
    )  # gives the norms something to remember
    return module.eval()


def small(**changes) -> HyperRefiner:
    return (
        HyperRefiner(
            5, 2, **{"width": 4, "coarse_width": 4, "coarse_stages": 2, "pooling": 2, **changes}
        )
        .double()
        .eval()
    )


def pair(height: int = 16, width: int = 16, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(batch, 5, height // 4, width // 4).double(), torch.randn(
        batch, 2, height, width
    ).double()


@pytest.mark.parametrize("softmax_over", ["queries", "keys"])
def test_attention_equals_a_naive_loop_over_pixels_and_codes(softmax_over):
    module, features, code = (
        attention(softmax_over),
        torch.randn(1, 4, 3, 2).double(),
        torch.randn(1, 4, 5).double(),
    )
    q, k, v = (
        to(x)[0].flatten(1).T
        for to, x in (
            (module.to_q, features),
            (module.to_k, code[..., None]),
            (module.to_v, code[..., None]),
        )
    )
    scores = [
        [
            math.exp(sum(a * b for a, b in zip(query.tolist(), key.tolist(), strict=True)) / 2)
            for key in k
        ]
        for query in q
    ]
    answers = torch.zeros(6, 4, dtype=torch.float64)
    for i in range(6):
        for j in range(5):
            everything = sum(scores[i]) if softmax_over == "keys" else sum(row[j] for row in scores)
            answers[i] += scores[i][j] / everything * v[j]
    torch.testing.assert_close(module(features, code), module.to_out(answers.T.reshape(1, 4, 3, 2)))


def test_over_keys_a_repeated_image_gets_the_same_answers_and_over_queries_a_quarter():
    features, code = torch.randn(1, 4, 3, 2).double(), torch.randn(1, 4, 5).double()
    large = features.repeat(1, 1, 2, 2)
    keys, queries = attention("keys"), attention("queries")
    torch.testing.assert_close(keys.weights(features, code).sum(2), torch.ones(1, 6).double())
    torch.testing.assert_close(keys(large, code), keys(features, code).repeat(1, 1, 2, 2))
    torch.testing.assert_close(queries.weights(features, code).sum(1), torch.ones(1, 5).double())
    torch.testing.assert_close(
        queries.weights(large, code)[:, :2].sum(1),
        queries.weights(features, code)[:, :2].sum(1) / 4,
    )


def test_the_order_of_the_codes_does_not_matter():
    module, features, code = (
        attention("keys"),
        torch.randn(2, 4, 3, 2).double(),
        torch.randn(2, 4, 9).double(),
    )
    torch.testing.assert_close(
        module(features, code[..., torch.randperm(9)]), module(features, code)
    )


def test_a_code_is_pixels_in_a_row():
    """Only the codes near the first LR row feel a change there, as the sequence runs row after
    row.
    """
    network, (x_h, _) = small(), pair(64, 64)
    changed = x_h.clone()
    changed[..., 0, :4] += 1
    before, after = (network.encoder(x.flatten(2))[0] for x in (x_h, changed))
    assert before.shape == (1, 4, 128)
    assert set(((before - after).abs().amax((0, 1)) > 0).nonzero().flatten().tolist()) == {0, 1, 2}


@pytest.mark.parametrize(("channels", "kernel"), [(16, 3), (32, 3), (64, 3), (128, 5)])
def test_a_channel_gate_is_a_short_convolution_of_spatial_means(channels, kernel):
    gate, x, y = (
        ChannelGate(channels).double(),
        torch.randn(2, channels, 3, 4).double(),
        torch.randn(2, channels, 3, 4).double(),
    )
    weight = gate.along_channels.weight.flatten()
    assert len(weight) == kernel
    means = F.pad(x.mean((2, 3)), (kernel // 2, kernel // 2))
    logits = torch.stack([means[:, i : i + kernel] @ weight for i in range(channels)], dim=1)
    torch.testing.assert_close(gate(x, y), y / (1 + torch.exp(-logits))[..., None, None])


def test_dual_attention_with_its_convolutions_silent_is_two_gates_half_open():
    """All logits 0 open every gate by one half; `mix` and `halve` chosen as identities then show
    the channel gates alone.
    """
    module = DualRefinedAttention(2).double()
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.dirac_(module.mix.weight)
    torch.nn.init.dirac_(module.halve.weight)
    torch.nn.init.dirac_(module.join.weight)  # the first four of (spatially gated h, gated p, g)
    p, h = torch.randn(1, 2, 3, 3).double(), torch.randn(1, 2, 3, 3).double()
    torch.testing.assert_close(module(p, h), 2 * torch.cat([torch.zeros_like(h), p / 2], dim=1))
    module.join.weight.data.zero_()[:2, 4:, 0, 0] = torch.eye(2)
    torch.testing.assert_close(module(p, h)[:, :2], 2 * (p / 2 + p))


@pytest.mark.parametrize("size", [(16, 16), (24, 20), (8, 36)])
def test_the_skip_is_the_upsampled_hsi_and_nothing_inside_depends_on_it(size):
    network, (x_h, x_m) = small(), pair(*size)
    with record(network.features.levels[2]) as features:
        full = network(x_h, x_m)
        network.global_skip = False
        residual = network(x_h, x_m)
    upsampled = F.interpolate(x_h, scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(full - residual, upsampled)
    torch.testing.assert_close(features[0], features[1], rtol=0, atol=0)


@pytest.mark.parametrize("pooling", [2, 4])
def test_the_autoencoder_reconstructs_any_size_and_is_all_that_the_fusion_leaves_without_gradients(
    pooling,
):
    network = small(pooling=pooling)
    reconstruction = network.reconstruct(torch.randn(2, 5, 7, 3).double())
    assert reconstruction.shape == (2, 5, 7, 3) and reconstruction.min().item() > 0
    network(*pair(64, 64)).square().mean().backward()
    assert {name.split(".")[0] for name, p in network.named_parameters() if p.grad is None} == {
        "decoder"
    }
    network.reconstruct(torch.randn(1, 5, 8, 8).double()).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.decoder.parameters())


def test_without_a_decoder_nothing_is_idle_and_reconstruct_says_why_it_cannot():
    network = small(decoder=False)
    with pytest.raises(ValueError, match="decoder=False"):
        network.reconstruct(torch.randn(1, 5, 8, 8).double())
    network(*pair()).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def size_by_formula(c: int, m: int, w: int = 64) -> int:
    """From the published layer list; `conv` counts weights and biases."""

    def conv(before: int, after: int, taps: int = 9) -> int:
        return before * after * taps + after

    gates = 2 * (9 * (2 * w) ** 2) + 5 + 2 * 9 * w**2 + 3
    stage = 2 * conv(w, w) + gates + conv(2 * w, 2 * w) + conv(2 * w, w, 1) + conv(3 * w, 2 * w, 1)
    coarse = conv(m, w) + conv(c, w) + 3 * stage + conv(2 * w, c)
    steps = ((c, w), (w, 2 * w), (2 * w, 4 * w))
    encoder = sum(conv(a, b, 3) + conv(b, b, 3) + 4 * b for a, b in steps)
    decoder = sum(conv(b, b, 4) + conv(b, a, 3) + 4 * b for a, b in steps)
    pyramid = sum(conv(a, b) + conv(b, b) + 4 * b for a, b in ((c + m, w), *steps[1:]))
    refinement = (
        sum(4 * (b * b + 2 * b) + conv(b, b) for _, b in steps)
        + conv(4 * w, 8 * w)
        + conv(2 * w, 4 * w)
    )
    return coarse + encoder + decoder + pyramid + refinement + conv(7 * w, c, 1) + conv(c, c)


@pytest.mark.parametrize("bands", [(172, 4), (172, 6), (103, 1)])
def test_size_follows_from_the_layer_list(bands):
    with torch.device("meta"):
        network = peers.build("hyperrefiner", "paper", *bands)
    assert sum(p.numel() for p in network.parameters()) == size_by_formula(*bands)


@pytest.mark.parametrize(
    ("changes", "message"),
    [(dict(pooling=3), "expected 2 or 4, got 3"), (dict(softmax_over="all"), "'all'")],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        HyperRefiner(5, 2, **changes)
