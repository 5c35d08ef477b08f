"""Any of the eleven networks by name: S3RNet and its ten peers; used in
notebooks/09_peers_table1.ipynb.
"""

from __future__ import annotations

from torch import nn

from .. import peers
from ..network.s3rnet import S3RNet

NAMES = ("s3rnet", *peers.NAMES)


def build(name: str, preset: str, hsi_bands: int, msi_bands: int, **changes) -> nn.Module:
    """A network with new weights; `changes` are arguments of its constructor.

    Raises:
        ValueError: an unknown name or preset.
    """
    if name not in NAMES:
        raise ValueError(f"name: expected one of {NAMES}, got {name!r}")
    if name == "s3rnet":
        return S3RNet.from_preset(preset, hsi_bands, msi_bands, **changes)
    return peers.build(name, preset, hsi_bands, msi_bands, **changes)


def without_own_skip(name: str, skip: str) -> dict:
    """What to change in a network around which a `FusionModel` has this skip: one that adds the
    upsampled LR-HSI by itself leaves that to it.
    """
    return {"global_skip": False} if name in peers.WITH_GLOBAL_SKIP and skip != "none" else {}


def name_of(network: nn.Module) -> str:
    """The name that `build` knows this network by."""
    classes = {
        "S3RNet": "s3rnet",
        **{class_name: name for name, class_name in peers.CLASSES.items()},
    }
    names = [kind.__name__ for kind in type(network).__mro__]  # a sped-up S3RNet is a subclass
    return next(classes[name] for name in names if name in classes)
