"""SSAWB: attention against naive loops and PyTorch's own, gates and Eqs. 3-6 by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite import SSAWB
from s3rnet_lite.analysis.probes import record
from s3rnet_lite.network.ssawb import ChannelAttention


def attention(
    heads: int = 2, head_channels: int = 3, normalise: bool = False, width: int = 6
) -> ChannelAttention:
    module = ChannelAttention(width, heads, head_channels, normalise).double()
    if normalise:
        torch.nn.init.uniform_(module.temperature, 0.5, 4.0)
    return module


def features(count: int, *shape: int) -> list[torch.Tensor]:
    return [torch.randn(*shape, dtype=torch.float64) for _ in range(count)]


def project(convolution: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """A 1x1 convolution of one image (C, H, W) as a matrix product over its pixels: (C_out,
    H*W).
    """
    return convolution.weight[:, :, 0, 0] @ x.flatten(1) + convolution.bias[:, None]


def naive_attention(
    module: ChannelAttention, f_q: torch.Tensor, f_k: torch.Tensor, f_v: torch.Tensor
) -> torch.Tensor:
    """One image, one head and one channel at a time, then the 1x1 convolution."""
    q, k, v = project(module.to_q, f_q), project(module.to_k, f_k), project(module.to_v, f_v)
    d = len(q) // module.heads
    attended = torch.zeros_like(v)
    for head in range(module.heads):
        for i in range(head * d, (head + 1) * d):
            logits = []
            for j in range(head * d, (head + 1) * d):
                if module.normalise:
                    cosine = (q[i] * k[j]).sum() / (
                        q[i].square().sum() * k[j].square().sum()
                    ).sqrt()
                    logits.append(cosine * module.temperature[head, 0, 0])
                else:
                    logits.append((q[i] * k[j]).sum() / math.sqrt(d))
            weights = torch.stack(logits)
            weights = (weights - weights.max()).exp()
            attended[i] = (weights / weights.sum()) @ v[head * d : (head + 1) * d]
    return project(module.to_out, attended.reshape(-1, *f_v.shape[-2:])).reshape(
        -1, *f_v.shape[-2:]
    )


@given(
    heads=st.integers(1, 3),
    head_channels=st.integers(1, 4),
    height=st.integers(1, 4),
    width=st.integers(1, 5),
    normalise=st.booleans(),
)
def test_attention_equals_a_naive_loop_over_heads_and_channels(
    heads, head_channels, height, width, normalise
):
    module = attention(heads, head_channels, normalise)
    f_q, f_k, f_v = features(3, 2, 6, height, width)
    with torch.no_grad():
        output = module(f_q, f_k, f_v)
        for image in range(2):
            torch.testing.assert_close(
                output[image], naive_attention(module, f_q[image], f_k[image], f_v[image])
            )


@pytest.mark.parametrize("normalise", [False, True])
def test_attention_is_pytorchs_own_with_channels_as_tokens(normalise):
    module = attention(heads=2, head_channels=4, normalise=normalise)
    f_q, f_k, f_v = features(3, 2, 6, 5, 4)
    q, k, v = (
        layer(f).reshape(2, 2, 4, 20)
        for layer, f in ((module.to_q, f_q), (module.to_k, f_k), (module.to_v, f_v))
    )
    scale = 1 / math.sqrt(4)
    if normalise:
        q, k, scale = (
            q / q.norm(dim=-1, keepdim=True) * module.temperature,
            k / k.norm(dim=-1, keepdim=True),
            1.0,
        )
    attended = F.scaled_dot_product_attention(q, k, v, scale=scale)
    torch.testing.assert_close(module(f_q, f_k, f_v), module.to_out(attended.reshape(2, 8, 5, 4)))


def test_without_normalisation_four_times_the_image_means_four_times_the_logits():
    module = attention(heads=1, head_channels=4)
    small = features(3, 1, 6, 3, 3)
    q, k, v = (
        layer(f).reshape(1, 1, 4, 9)
        for layer, f in zip((module.to_q, module.to_k, module.to_v), small, strict=True)
    )
    attended = F.scaled_dot_product_attention(q, k, v, scale=4 / math.sqrt(4))
    large = module(*(f.repeat(1, 1, 2, 2) for f in small))
    torch.testing.assert_close(large[..., :3, :3], module.to_out(attended.reshape(1, 4, 3, 3)))
    assert not torch.allclose(large[..., :3, :3], module(*small), atol=1e-3)


def test_with_normalisation_the_size_of_the_image_does_not_matter():
    module = attention(normalise=True)
    small = features(3, 2, 6, 3, 3)
    torch.testing.assert_close(
        module(*(f.repeat(1, 1, 2, 2) for f in small)), module(*small).repeat(1, 1, 2, 2)
    )


def test_attention_has_a_temperature_for_each_head_only_when_normalised():
    assert attention(heads=3, normalise=True).temperature.numel() == 3
    assert not hasattr(attention(heads=3), "temperature")


def block(gate_bias: float | None = None, normalise: bool = False) -> SSAWB:
    return SSAWB(
        6, heads=2, head_channels=3, normalise_attention=normalise, gate_bias=gate_bias
    ).double()


def test_size_follows_from_the_widths():
    size = sum(
        p.numel() for p in SSAWB(86, 4, 16, normalise_attention=False, gate_bias=None).parameters()
    )
    assert size == 3 * (86 * 64 + 64) + (64 * 86 + 86) + (4 * 86 * 4 + 4) == 23_674


def test_equations_3_to_6_by_hand():
    ssawb = block()
    q, k, v, z = features(4, 2, 6, 4, 5)
    with record(ssawb.gates) as gates, record(ssawb.attention) as attended, torch.no_grad():
        fused = ssawb(q, k, v, z)
    z_prime = attended[0] + z
    convolution = ssawb.gates[0]
    logits = torch.einsum(
        "oc,bchw->bohw", convolution.weight[:, :, 0, 0], torch.cat([q, k, v, z_prime], 1)
    )
    w = 1 / (1 + torch.exp(-logits - convolution.bias[:, None, None]))
    torch.testing.assert_close(gates[0], w)
    torch.testing.assert_close(
        fused, w[:, [0]] * q + w[:, [1]] * k + w[:, [2]] * v + w[:, [3]] * z_prime
    )


def test_attention_asks_with_q_looks_in_k_and_takes_from_v():
    ssawb = block()
    q, k, v, z = features(4, 1, 6, 4, 5)
    with record(ssawb.attention) as attended, torch.no_grad():
        ssawb(q, k, v, z)
    torch.testing.assert_close(
        attended[0][0], naive_attention(ssawb.attention, q[0], k[0], v[0]).detach()
    )


def test_there_is_one_gate_between_zero_and_one_for_each_branch_and_pixel():
    ssawb = block()
    with record(ssawb.gates) as gates:
        ssawb(*features(4, 2, 6, 4, 5))
    assert gates[0].shape == (2, 4, 4, 5)
    assert 0 < gates[0].min().item() < gates[0].max().item() < 1


@given(st.floats(-4, 4))
def test_a_gate_bias_starts_every_gate_at_its_sigmoid(bias):
    ssawb = block(gate_bias=bias)
    with record(ssawb.gates) as gates:
        ssawb(*features(4, 1, 6, 4, 5))
    expected = torch.full((1, 4, 4, 5), 1 / (1 + math.exp(-bias)), dtype=torch.float64)
    torch.testing.assert_close(gates[0], expected, atol=1e-7, rtol=0)


def test_without_a_gate_bias_the_gates_start_apart():
    with_default = block()
    assert with_default.gates[0].weight.std().item() > 0
    assert len(with_default.gates[0].bias.unique()) == 4


def test_closed_gates_silence_all_and_one_open_gate_passes_its_branch():
    ssawb = block(gate_bias=-40)
    inputs = features(4, 1, 6, 4, 5)
    assert ssawb(*inputs).abs().max().item() < 1e-12
    for branch in range(3):
        with torch.no_grad():
            ssawb.gates[0].bias.fill_(-40)[branch] = 40
        torch.testing.assert_close(ssawb(*inputs), inputs[branch])


def test_a_map_with_a_letter_of_its_own_is_summed_away_and_the_printed_one_is_not():
    """As in the authors' release (ming053l/S3RNet at 5f572d0, models/KQD.py line 102), whose
    einsum sums the map's second axis and V's channels apart.
    """

    def released(attention, f_q, f_k, f_v):
        rows = attention.split_heads(attention.to_v(f_v))
        mixed = torch.einsum("bhij,bhvp->bhip", attention.attention_map(f_q, f_k), rows)
        return attention.to_out(mixed.flatten(1, 2).unflatten(2, f_v.shape[2:]))

    torch.manual_seed(0)
    features = torch.randn(3, 2, 6, 5, 4, dtype=torch.float64)
    for form in (ChannelAttention.forward, released):
        attention = ChannelAttention(6, 2, 4, normalise=False).double()
        before = form(attention, *features)
        before.square().mean().backward()
        felt = float(attention.to_q.weight.grad.norm() + attention.to_k.weight.grad.norm())
        attention.to_q.reset_parameters(), attention.to_k.reset_parameters()
        change = float((form(attention, *features) - before).abs().max())
        if form is released:
            assert change < 1e-12 and felt < 1e-12
        else:
            assert change > 1e-3 and felt > 1e-6
