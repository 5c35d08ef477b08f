"""Probes record what a module gave, once for each call, and leave nothing behind."""

import pytest
import torch
from torch import nn

from s3rnet_lite.analysis import probes


@pytest.fixture
def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def test_every_output_is_recorded_in_order_and_detached(network):
    batches = torch.randn(2, 5, 3)
    with probes.record(network[0]) as outputs:
        for x in batches:
            network(x)
    assert len(outputs) == 2 and not any(x.requires_grad for x in outputs)
    for x, output in zip(batches, outputs, strict=True):
        torch.testing.assert_close(output, x @ network[0].weight.T + network[0].bias)


def test_several_modules_are_recorded_under_their_names(network):
    x = torch.randn(5, 3)
    with probes.record_all({"hidden": network[1], "whole": network}) as outputs:
        y = network(x)
    assert list(outputs) == ["hidden", "whole"]
    torch.testing.assert_close(outputs["hidden"], [network[0](x).relu()])
    torch.testing.assert_close(outputs["whole"], [y])


def test_a_module_used_twice_gives_two_outputs(network):
    with probes.record_all({"activation": network[1]}) as outputs:
        network[1](network[1](torch.tensor([-1.0, 2.0])))
    assert [x.tolist() for x in outputs["activation"]] == [[0, 2], [0, 2]]


def test_no_hook_outlives_the_block_even_after_an_error(network):
    with probes.record_all({"a": network[0], "b": network[2]}) as outputs:
        pass
    network(torch.randn(1, 3))
    assert outputs == {"a": [], "b": []}
    with pytest.raises(RuntimeError), probes.record_all({"a": network[0], "b": network[2]}):
        network(torch.randn(1, 7))
    assert not any(module._forward_hooks for module in network)
