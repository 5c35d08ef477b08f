"""Libraries that only some readers need: `pip install s3rnet-lite[formats]`."""

from __future__ import annotations

import importlib
from types import ModuleType


def load(module: str, extra: str = "formats") -> ModuleType:
    """Import a module that an optional extra brings.

    Raises:
        ModuleNotFoundError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{module.split('.')[0]}: not installed; pip install 's3rnet-lite[{extra}]'"
        ) from error
