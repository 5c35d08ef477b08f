"""S3RNet (arXiv 2501.07953) rebuilt, questioned and run: hyperspectral and multispectral image fusion."""

from . import (
    adaptation,
    baselines,
    cka,
    comparison,
    complexity,
    degradation,
    energy,
    evaluation,
    formats,
    losses,
    metrics,
    networks,
    peers,
    robustness,
    scenes,
    sensors,
    training,
)
from .degradation import Degradation
from .dfab import DFAB
from .mbfn import MBFN
from .s3rnet import S3RNet
from .scenes import Scene
from .ssawb import SSAWB

__all__ = [
    "DFAB", "MBFN", "SSAWB", "Degradation", "S3RNet", "Scene",
    "adaptation", "baselines", "cka", "comparison", "complexity", "degradation", "energy", "evaluation", "formats", "losses", "metrics",
    "networks", "peers", "robustness", "scenes", "sensors", "training",
]  # fmt: skip
