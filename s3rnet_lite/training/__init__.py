"""Everything around a network that learns: data, loss, loop, checkpoints; built in
notebooks/06_training.ipynb.
"""

from .checkpoints import load_checkpoint, save_checkpoint
from .config import CONFIGS, TrainingConfig
from .crops import CropSampler
from .loop import fit, wrap
from .run import History
from .validation import predict, validate

__all__ = [
    "CONFIGS",
    "CropSampler",
    "History",
    "TrainingConfig",
    "fit",
    "load_checkpoint",
    "predict",
    "save_checkpoint",
    "validate",
    "wrap",
]
