"""A small model in which everything counts, pairs for it, and short settings of an adaptation."""

from dataclasses import replace

import torch

from s3rnet_lite import Degradation, S3RNet
from s3rnet_lite.inference import adaptation
from s3rnet_lite.training.fusion import FusionModel

BANDS, MSI_BANDS = 7, 3
TINY = replace(adaptation.CONFIG, steps=3, batch_size=2)


def build(preset: str = "tiny", scale: int = 4, skip: str = "injection", **changes) -> FusionModel:
    """A model in which everything counts: no weight is zero, gates are half open, attention is
    neither flat nor one-hot.
    """
    torch.manual_seed(0)
    network = S3RNet.from_preset(preset, BANDS, MSI_BANDS, scale=scale, **changes)
    model = FusionModel(
        network, Degradation(scale, 1.7, torch.rand(MSI_BANDS, BANDS).softmax(1)), "band", skip
    ).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.5 if "attention.to_" in name else 0.1)
    attention = network.ssawb.attention
    if attention.normalise:
        torch.nn.init.uniform_(attention.temperature, 3, 8)
    else:
        attention.to_q.weight.data *= 0.01  # sums over thousands of pixels
    if skip == "injection":
        model.regression.normal_()
    if skip == "details":
        model.details.product.normal_()
    return model


def pair(height: int, width: int, scale: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """In LR pixels. Brightness changes across the image, so that a tile's statistics are not the
    image's.
    """
    light = torch.linspace(0.1, 1, width).repeat_interleave(scale)
    return torch.rand(BANDS, height, width) * light[::scale], torch.rand(
        MSI_BANDS, height * scale, width * scale
    ) * light
