"""Stored models: safetensors for the numbers, a JSON card beside them for everything else; used in
notebooks/00 and 06.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..files.atomic import read_tensors, write_json, write_tensors
from ..peers import registry
from ..sensing.degradation import Degradation
from .fusion import FusionModel

NETWORK_KEYS = ("name", "preset", "hsi_bands", "msi_bands")


def save_checkpoint(
    path: str | Path, model: FusionModel, preset: str, facts: dict, changes: dict | None = None
) -> None:
    """Write `model` to `path` (.safetensors) and its card to the same name with .json.

    Args:
        preset, changes: what `registry.build` made the network inside from.
        facts: what else belongs on the card: provenance, training settings, results.
    """
    path, network = Path(path), model.network
    card = {
        "network": {
            "name": registry.name_of(network),
            "preset": preset,
            "hsi_bands": network.hsi_bands,
            "msi_bands": network.msi_bands,
            "changes": changes or {},
        },
        "fusion": {
            "scaling": model.scaling,
            "skip": model.skip,
            "denoise": model.denoiser is not None,
        },
        "degradation": model.degrade.card(),
        "tensors": {name: list(tensor.shape) for name, tensor in model.state_dict().items()},
        **facts,
    }
    write_tensors(path, model.state_dict(), {})
    write_json(path.with_suffix(".json"), card)


def load_checkpoint(path: str | Path) -> FusionModel:
    """Rebuild the model that `save_checkpoint` wrote, in evaluation mode, to be called as
    `model(x_h, x_m)` on [0, 1] data.

    Raises:
        FileNotFoundError: the file or its card is missing.
        ValueError: the file is damaged or no safetensors file, or it and its card disagree (the
            message says in what).
    """
    path = Path(path)
    card_path = path.with_suffix(".json")
    for needed in (path, card_path):
        if not needed.exists():
            raise FileNotFoundError(
                f"{needed}: no such file; a checkpoint is a .safetensors file with a .json card beside it"
            )
    tensors, _ = read_tensors(path)
    try:
        card = json.loads(card_path.read_text())
        network, fusion = card["network"], card["fusion"]
        degrade = Degradation.from_card(card["degradation"])
        model = FusionModel(
            registry.build(
                **{key: network[key] for key in NETWORK_KEYS},
                scale=degrade.scale,
                **network.get("changes", {}),
            ),
            degrade,
            fusion["scaling"],
            fusion["skip"],
            denoise=fusion.get("denoise", False),
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{card_path}: not the card of a checkpoint ({type(error).__name__}: {error})"
        ) from error
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        differing = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        details = "; ".join(
            f"{name}: card {expected.get(name)}, file {found.get(name)}" for name in differing[:5]
        )
        raise ValueError(f"{path}: {len(differing)} tensors do not fit its card ({details})")
    model.load_state_dict(tensors)
    return model.eval()
