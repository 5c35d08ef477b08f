"""Complexity: counts worked out by hand for small networks, which have to stay as they were."""

import time

import pytest
import torch
from torch import nn

from s3rnet_lite import S3RNet, complexity


class TwoConvolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 6, 1, groups=2, stride=2, bias=False)

    def forward(self, x_h, x_m):
        return self.second(torch.relu(self.first(x_m)))


class MatrixProducts(nn.Module):
    """Attention between the pixels of x_h, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 7)

    def forward(self, x_h, x_m):
        tokens = x_h.flatten(2).mT
        return self.linear((tokens @ tokens.mT).softmax(-1) @ tokens)


X_H, X_M = torch.rand(1, 5, 4, 4), torch.rand(1, 3, 16, 16)


def test_convolutions_by_hand():
    found = complexity.count(TwoConvolutions(), X_H, X_M)
    assert found.parameters == (3 * 8 * 9 + 8) + 8 * 6 // 2
    assert found.macs == 3 * 8 * 9 * 16 * 16 + 8 * 6 // 2 * 8 * 8


def test_attention_and_linear_layer_by_hand():
    found = complexity.count(MatrixProducts(), X_H, X_M)
    assert found.parameters == 5 * 7 + 7
    assert found.macs == 16 * 16 * 5 + 16 * 16 * 5 + 16 * 5 * 7


def test_a_multiply_accumulate_is_two_operations():
    found = complexity.count(TwoConvolutions(), X_H, X_M)
    assert found.flops == 2 * found.macs > 0


def test_work_grows_with_the_batch_and_size_does_not():
    one, three = (
        complexity.count(TwoConvolutions(), X_H.expand(n, -1, -1, -1), X_M.expand(n, -1, -1, -1))
        for n in (1, 3)
    )
    assert three.macs == 3 * one.macs
    assert three.parameters == one.parameters


def test_frozen_parameters_are_not_counted():
    network = TwoConvolutions()
    network.first.bias.requires_grad_(False)
    assert complexity.count(network, X_H, X_M).parameters == 3 * 8 * 9 + 8 * 6 // 2


@pytest.mark.parametrize("training", [True, False])
def test_the_network_and_its_inputs_stay_as_they_were(training):
    network = S3RNet.from_preset("tiny", 5, 3).train(training)
    before = {name: (id(p), p.clone(), p.device) for name, p in network.named_parameters()}
    inputs = X_H.clone(), X_M.clone()
    complexity.count(network, *inputs)
    assert network.training is training
    assert all(
        not module._forward_hooks and not module._forward_pre_hooks for module in network.modules()
    )
    for name, p in network.named_parameters():
        identity, values, device = before[name]
        assert (id(p), p.device, p.grad) == (identity, device, None)
        assert torch.equal(p, values)
    assert torch.equal(inputs[0], X_H)
    assert torch.equal(inputs[1], X_M)


def test_a_count_needs_shapes_only():
    with torch.device("meta"):
        network = S3RNet.from_preset("tiny", 5, 3)
        on_meta = complexity.count(network, torch.empty(1, 5, 4, 4), torch.empty(1, 3, 16, 16))
    assert on_meta == complexity.count(S3RNet.from_preset("tiny", 5, 3), X_H, X_M)


class Attention(nn.Module):
    """Between the pixels of x_m, three heads of two channels, through the fused kernel."""

    def forward(self, x_h, x_m):
        tokens = x_m.flatten(2).unflatten(1, (3, 2)).mT
        return torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)


def test_fused_attention_is_not_missed():
    x_m = torch.rand(2, 6, 8, 8)
    assert complexity.count(Attention(), x_m, x_m).macs == 2 * 3 * (64 * 64 * 2 + 64 * 64 * 2)


class Chain(nn.Sequential):
    def forward(self, x_h, x_m):
        return super().forward(x_m)


@pytest.mark.parametrize("kind", [nn.Tanh, nn.Sigmoid])
def test_a_chain_needs_two_images_at_a_time_or_keeps_all(kind):
    chain, image = (
        Chain(kind(), kind(), kind(), kind()),
        torch.rand(1, 8, 32, 32, requires_grad=True),
    )
    size = 4 * image.numel()
    assert complexity.peak_memory(chain, image, image) == 2 * size
    assert complexity.peak_memory(chain, image, image, keep_for_backward=True) == 4 * size


def test_memory_of_a_full_size_network_is_counted_without_having_it():
    with torch.device("meta"):
        network = Chain(nn.Conv2d(100, 100, 3, padding=1))
        image = torch.empty(1, 100, 100_000, 100_000)
    assert complexity.peak_memory(network, image, image) == 4 * 10**12


def test_a_measurement_runs_the_network_and_says_on_what():
    calls = []

    class Sleeper(nn.Module):
        def forward(self, x_h, x_m):
            calls.append(torch.is_grad_enabled())
            time.sleep(
                0.5 if len(calls) == 4 else 0.02
            )  # one run in five is disturbed; the median does not care

    found = complexity.measure(Sleeper(), X_H, X_M, runs=5)
    assert calls == [False] * 7
    assert 0.02 <= found.seconds < 0.4
    assert (found.runs, found.device, found.threads) == (5, "cpu", torch.get_num_threads())
    with pytest.raises(ValueError, match="runs: expected at least 1"):
        complexity.measure(Sleeper(), X_H, X_M, runs=0)


def test_conventions_differ_by_what_they_leave_out():
    found = complexity.macs_by_convention(MatrixProducts(), X_H, X_M)
    assert found["layers"] == found["layers, oversized"] == 16 * 5 * 7
    assert found["all"] == 2 * 16 * 16 * 5 + 16 * 5 * 7 and found["twice all"] == 2 * found["all"]


def test_an_oversized_transposed_convolution_counts_stride_squared_times():
    class Enlarge(nn.ConvTranspose2d):
        def forward(self, x_h, x_m):
            return super().forward(x_h)

    found = complexity.macs_by_convention(Enlarge(5, 2, 2, stride=2), X_H, X_M)
    assert found["layers"] == found["all"] == 5 * 2 * 4 * 16
    assert found["layers, oversized"] == 4 * found["layers"]
