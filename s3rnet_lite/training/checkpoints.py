"""Stored models: safetensors for the numbers, a JSON metadata file beside them for everything else;
used in notebooks/00 and 06.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from ..files.atomic import (
    CHECKSUM,
    check_digest,
    digest,
    read_json,
    read_tensors,
    together,
    write_sealed,
    write_tensors,
)
from ..files.provenance import DATA_FOLDER
from ..network.fast import speed_up
from ..network.s3rnet import S3RNet, S3RNetConfig
from ..peers import registry
from ..sensing.degradation import Degradation
from .fusion import FusionModel

SHIPPED = {  # name -> file in `data/`
    "lite-4bands": "s3rnet_lite_4bands.safetensors",
    "lite-6bands": "s3rnet_lite_6bands.safetensors",
    "lite-6bands-robust": "s3rnet_lite_6bands_robust.safetensors",
}


def save_checkpoint(
    path: str | Path, model: FusionModel, preset: str, facts: dict, changes: dict | None = None
) -> None:
    """Write `model` to `path` (.safetensors) and its metadata to the same name with .json.

    Args:
        preset, changes: what `registry.build` made the network inside from.
        facts: what else belongs to the metadata: provenance, training settings, results.
    """
    path, network = Path(path), model.network
    design = {
        "name": registry.name_of(network),
        "preset": preset,
        "hsi_bands": network.hsi_bands,
        "msi_bands": network.msi_bands,
        "changes": changes or {},
    }
    if isinstance(network, S3RNet):
        design["config"] = asdict(network.config)
    denoise = model.denoiser is not None
    metadata = {
        "network": design,
        "fusion": {"scaling": model.scaling, "skip": model.skip, "denoise": denoise},
        "degradation": model.degrade.card(),
        CHECKSUM: digest(model.state_dict()),
        "tensors": {name: list(tensor.shape) for name, tensor in model.state_dict().items()},
        **facts,
    }
    with together(path.parent) as folder:
        write_tensors(folder / path.name, model.state_dict(), {})
        write_sealed(folder / path.with_suffix(".json").name, metadata)


def load_checkpoint(path: str | Path) -> FusionModel:
    """Rebuild the model that `save_checkpoint` wrote, in evaluation mode, to be called as
    `model(x_h, x_m)` on [0, 1] data. On a CPU it computes with fewer copies
    (`network.fast.speed_up`).

    >>> model = load_checkpoint("lite-6bands")
    >>> model(torch.rand(1, 170, 12, 12), torch.rand(1, 6, 48, 48)).shape
    torch.Size([1, 170, 48, 48])

    Args:
        path: a .safetensors file, or the name of a shipped model, one of `SHIPPED`.

    Raises:
        FileNotFoundError: the file or its metadata is missing.
        ValueError: the file is damaged or no safetensors file, or it and its metadata disagree (the
            message says in what).
    """
    path = DATA_FOLDER / SHIPPED[path] if path in SHIPPED else Path(path)
    for needed in (path, path.with_suffix(".json")):
        if not needed.exists():
            raise FileNotFoundError(
                f"{needed}: no such file; expected a .safetensors file with its .json metadata "
                f"beside it, or one of {tuple(SHIPPED)}"
            )
    tensors, _ = read_tensors(path)
    metadata = read_json(path.with_suffix(".json"))
    model = _build(path.with_suffix(".json"), metadata)
    _check_shapes(path, model.state_dict(), tensors)
    check_digest(path, tensors, metadata.get(CHECKSUM))
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise ValueError(f"{path}: expected finite weights, got others in {', '.join(broken)}")
    model.load_state_dict(tensors)
    return speed_up(model).eval()


def _build(path: Path, metadata: dict) -> FusionModel:
    """The model that a metadata file describes, its weights not set yet."""
    try:
        degrade = Degradation.from_card(metadata["degradation"])
        network = _network(metadata["network"], degrade.scale)
        fusion = metadata["fusion"]
        denoise = fusion.get("denoise", False)
        return FusionModel(network, degrade, fusion["scaling"], fusion["skip"], denoise=denoise)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{path}: not the metadata of a checkpoint ({type(error).__name__}: {error})"
        ) from error


def _network(design: dict, scale: int) -> nn.Module:
    bands = design["hsi_bands"], design["msi_bands"]
    if "config" in design:  # of an S3RNet; files of before S3RNetConfig name preset and changes
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in design["config"].items()}
        return S3RNet(*bands, S3RNetConfig(**fields), scale)
    changes = design.get("changes", {})
    return registry.build(design["name"], design["preset"], *bands, scale=scale, **changes)


def _check_shapes(
    path: Path, expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]
) -> None:
    """Raise ValueError if a file holds other tensors than its metadata says."""
    described, stored = ({k: tuple(x.shape) for k, x in kind.items()} for kind in (expected, found))
    names = sorted(described.keys() | stored.keys())
    differing = [name for name in names if described.get(name) != stored.get(name)]
    if differing:
        details = "; ".join(
            f"{name}: metadata {described.get(name)}, file {stored.get(name)}"
            for name in differing[:5]
        )
        raise ValueError(f"{path}: {len(differing)} tensors do not fit its metadata ({details})")
