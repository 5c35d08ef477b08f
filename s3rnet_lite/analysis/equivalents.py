"""Other weights, the same function: what a measure of features must not be taken to depend on; used
in notebooks/08_cka_fig2.ipynb.
"""

from __future__ import annotations

import copy

import torch
from torch import nn


@torch.no_grad()
def rescaled(network: nn.Module, factors: torch.Tensor) -> nn.Module:
    """A copy of the network that computes the same function, in which channel c of every branch's
    output is multiplied by `factors[c]`, and divided by it wherever the channel is read.

    LeakyReLU lets a positive factor through. Powers of two change no bit of the output.

    Args:
        network: with one residual group of one dense block per branch, as the presets "lite" and
            "tiny" have it.
        factors: (width,) positive.

    Raises:
        ValueError: factors of another shape or not positive; a deeper network.
    """
    config, width = network.config, network.config.width
    if factors.shape != (width,) or not bool((factors > 0).all()):
        raise ValueError(f"factors: expected {width} positive numbers, got {factors.tolist()}")
    if set(config.residual_groups) != {1} or config.blocks != 1:
        raise ValueError("network: expected one residual group of one dense block per branch")
    network = copy.deepcopy(network)
    inward, outward = factors[None, :, None, None], factors[:, None, None, None]
    attention, written = network.ssawb.attention, [network.ssawb.attention.to_out]
    for name in "qkvz":
        entry, _, [block] = getattr(network.mbfn, name)
        for convolution in block.convolutions:
            convolution.weight[:, :width] /= inward  # each reads the branch's stream first
        written += [entry, block.convolutions[-1]]
    for reader in (network.head[0], attention.to_q, attention.to_k, attention.to_v):
        reader.weight /= inward
    for convolution in written:
        convolution.weight *= outward
        convolution.bias *= factors
    network.ssawb.gates[0].weight /= inward.repeat(1, 4, 1, 1)
    return network
