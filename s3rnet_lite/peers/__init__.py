"""The ten networks that Table I compares S3RNet with, one file each; compared in
notebooks/09_peers_table1.ipynb.

All are called as `y_hat = network(x_h, x_m)`, like S3RNet, on images of any size whose sides are
multiples of the scale unless their error message says otherwise.
"""

from __future__ import annotations

import importlib

from torch import nn

CLASSES = {
    "pzres_net": "PZResNet",
    "mssjfl": "MSSJFL",
    "dual_unet": "DualUNet",
    "dhif_net": "DHIFNet",
    "fusformer": "FusFormer",
    "hypertransformer": "HyperTransformer",
    "hyperrefiner": "HyperRefiner",
    "u2net": "U2Net",
    "qrcode": "QRCODE",
    "fusion_mamba": "FusionMamba",
}
NAMES = tuple(CLASSES)  # in the order of Table I
# These add the upsampled LR-HSI to what they have learnt, unless built with global_skip=False.
WITH_GLOBAL_SKIP = (
    "pzres_net",
    "dual_unet",
    "dhif_net",
    "fusformer",
    "hyperrefiner",
    "u2net",
    "fusion_mamba",
)
PRESETS = ("paper", "lite")


def build(
    name: str, preset: str = "paper", hsi_bands: int = 172, msi_bands: int = 4, **changes
) -> nn.Module:
    """A network by its name, with new weights.

    >>> import torch
    >>> network = build("mssjfl", preset="lite", hsi_bands=9, msi_bands=3)
    >>> network(torch.rand(1, 9, 8, 8), torch.rand(1, 3, 32, 32)).shape
    torch.Size([1, 9, 32, 32])

    Args:
        name: one of `NAMES`.
        preset: "paper" (the published design, as near to Table I's size as a natural setting comes)
            or "lite" (trains on a laptop CPU in minutes).
        changes: any argument of the network's constructor, by name.

    Raises:
        ValueError: an unknown name or preset.
    """
    if name not in CLASSES:
        raise ValueError(f"name: expected one of {NAMES}, got {name!r}")
    if preset not in PRESETS:
        raise ValueError(f"preset: expected one of {PRESETS}, got {preset!r}")
    module = importlib.import_module(f".{name}", __name__)
    return getattr(module, CLASSES[name])(
        hsi_bands, msi_bands, **{**module.PRESETS[preset], **changes}
    )
