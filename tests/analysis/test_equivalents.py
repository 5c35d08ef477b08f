"""The same function with other weights, bit for bit where factors are powers of two."""

import pytest
import torch

from s3rnet_lite import S3RNet
from s3rnet_lite.analysis import probes
from s3rnet_lite.analysis.equivalents import rescaled

X_H, X_M = torch.rand(1, 7, 4, 4), torch.rand(1, 3, 16, 16)


@pytest.mark.parametrize("preset", ["lite", "tiny"])
def test_outputs_stay_and_one_channel_of_every_branch_grows(preset):
    network = S3RNet.from_preset(preset, 7, 3).eval()
    factors = torch.ones(network.config.width).index_fill(0, torch.tensor(2), 8.0)
    other = rescaled(network, factors)
    with torch.no_grad(), probes.record(network.mbfn.k) as k, probes.record(other.mbfn.k) as grown:
        assert torch.equal(network(X_H, X_M), other(X_H, X_M))
    assert torch.equal(k[0] * factors[:, None, None], grown[0])


def test_it_refuses_other_factors_and_deeper_networks():
    network = S3RNet.from_preset("tiny", 7, 3)
    for factors in (torch.ones(3), -torch.ones(network.config.width)):
        with pytest.raises(ValueError, match="factors"):
            rescaled(network, factors)
    deep = S3RNet.from_preset("tiny", 7, 3, blocks=2)
    with pytest.raises(ValueError, match="one dense block"):
        rescaled(deep, torch.ones(deep.config.width))
