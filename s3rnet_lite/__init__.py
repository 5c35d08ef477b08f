"""S3RNet (arXiv 2501.07953) rebuilt, questioned and run: hyperspectral and multispectral image
fusion.

Each chapter of `notebooks/` builds the room that it names:

====================================================  ===========================
01 degradation                                        `sensing`
02 metrics and baselines                              `metrics`, `baselines`
03 DFAB, 04 MBFN branches, 05 SSAWB, 06 training      `network`, `training`
07 channel energy, 08 CKA                             `analysis`
09 peers, 11 robustness                               `peers`, `experiments`
10 GPU training and pairs of one's own                `training`, `inference`
12 claims ledger                                      `course`
====================================================  ===========================

`files` reads and writes. Imports run downwards only: files, then sensing, metrics, analysis and
network, then baselines and peers, training, inference, experiments, course. Public names load when
first used.
"""

from __future__ import annotations

import importlib

MODULES = {
    "scenes": "sensing.scenes",
    "sensors": "sensing.sensors",
    "degradation": "sensing.degradation",
    "losses": "training.losses",
    "energy": "analysis.energy",
    "cka": "analysis.cka",
    "complexity": "analysis.complexity",
    "robustness": "experiments.robustness",
    "metrics": "metrics",
    "baselines": "baselines",
    "training": "training",
    "peers": "peers",
}
CLASSES = {
    "S3RNet": "network.s3rnet",
    "DFAB": "network.dfab",
    "MBFN": "network.mbfn",
    "SSAWB": "network.ssawb",
    "Degradation": "sensing.degradation",
    "Scene": "sensing.scene",
}
__all__ = [*CLASSES, *MODULES]


def __getattr__(name: str):
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("s3rnet-lite")
    if name in MODULES:
        return importlib.import_module(f".{MODULES[name]}", __name__)
    if name in CLASSES:
        return getattr(importlib.import_module(f".{CLASSES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
