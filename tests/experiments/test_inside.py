"""Numbers from inside a network, against the library's own functions on hand-made features."""

import torch

from s3rnet_lite import S3RNet, cka, energy
from s3rnet_lite.experiments.inside import inside
from s3rnet_lite.training.fusion import FusionModel


def on_coarse_grid(features):
    """The coarse branch as it is, the fine one in means of 4 x 4 pixels."""
    if features.shape[-1] == 4:
        return cka.pixels(features)
    return cka.pixels(features.unfold(2, 4, 4).unfold(3, 4, 4).mean((-2, -1)))


def test_energies_are_of_what_enters_the_head_and_cka_compares_every_layer(small_val, degrade6):
    torch.manual_seed(0)
    network = S3RNet.from_preset("tiny", len(small_val.cube), 6)
    model = FusionModel(network, degrade6, "band", "none", [small_val.cube]).eval()
    entered = []
    network.head.register_forward_pre_hook(lambda _module, inputs: entered.append(inputs[0]))
    left = []
    for branch in (network.mbfn.q, network.mbfn.z):
        branch.register_forward_hook(lambda _module, _inputs, output: left.append(output.detach()))
    found = inside(model, small_val)
    raw, centred = (
        energy.channel_energy(x)
        for x in (entered[0], entered[0] - entered[0].mean((-2, -1), keepdim=True))
    )
    assert found["energy"] == {"raw": energy.summary(raw), "centred": energy.summary(centred)}

    layers, matrix = found["cka"]["layers"], found["cka"]["matrix"]
    last = {name: max(i for i, layer in enumerate(layers) if layer[0] == name) for name in "QZ"}
    assert abs(matrix[last["Q"]][last["Z"]] - cka.linear_cka(*map(on_coarse_grid, left))) < 1e-3
    assert len(matrix) == len(layers) and matrix[0][0] == 1
