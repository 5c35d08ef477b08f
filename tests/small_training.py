"""A small network and short settings that several tests train."""

import os
import sys
from dataclasses import replace

import torch

from s3rnet_lite import S3RNet
from s3rnet_lite.files.atomic import read_tensors
from s3rnet_lite.training import CONFIGS

QUICK = replace(
    CONFIGS["tiny"],
    steps=3,
    batch_size=4,
    crop=16,
    warmup_steps=0,
    validate_every=3,
    snr_db=(20.0, 40.0),
)
COMMAND = [sys.executable, "-m", "s3rnet_lite"]
COMMAND += ["train", "--preset", "tiny", "--crop", "16", "--batch-size", "4"]
COMMAND += ["--snr-db", "20", "40"]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def tiny(seed: int = 0) -> S3RNet:
    torch.manual_seed(seed)
    return S3RNet.from_preset("tiny", 170, 6)


def train_command(state, out, steps: int) -> list[str]:
    """The command that trains `tiny` as QUICK says, with as many steps."""
    return [*COMMAND, "--steps", str(steps), "--state", str(state), "--out", str(out)]


def first_gradient(path) -> torch.Tensor:
    """After Adam's first step, its first moment is a tenth of the gradient, in the state file: no
    test can look closer.
    """
    tensors, _ = read_tensors(path)
    return torch.cat(
        [tensor.flatten() for name, tensor in sorted(tensors.items()) if name.endswith("exp_avg")]
    )


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())
