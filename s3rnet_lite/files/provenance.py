"""Where a stored number comes from."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import torch

_PACKAGE = Path(__file__).resolve().parent.parent
REPOSITORY = _PACKAGE.parent
DATA_FOLDER = (
    _PACKAGE / "data" if (_PACKAGE / "data").is_dir() else REPOSITORY / "data"
)  # in a wheel, or in a checkout
RESULTS_FOLDER = REPOSITORY / "data" / "results"
IN_PLACE = "S3RNET_LITE_IN_PLACE"  # set while `make notebooks` writes into the repository


def facts(seed: int | list[int], seconds: float, device: str = "cpu") -> dict:
    """The facts that every result stored by the command line carries: command, git commit, seed,
    device, versions, wall time, date.

    Of absolute paths in the command only the last part is kept: where they began is nobody's
    concern. `git_commit` ends in "+changes" if the working tree differed from it, and is "unknown"
    outside a git checkout.
    """
    return {
        "command": shlex.join(["python", "-m", "s3rnet_lite", *map(_without_root, sys.argv[1:])]),
        "git_commit": _git_commit(),
        "seed": seed,
        "device": torch.cuda.get_device_name()
        if device == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "wall_seconds": round(seconds, 1),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def stored(pattern: str) -> list[dict]:
    """What lies in `data/results/` under names like this ("gpu_timing_*.json", say); one empty
    dictionary if nothing does.
    """
    return [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(RESULTS_FOLDER.glob(pattern))
    ] or [{}]


def origin(result: dict) -> str:
    """Device, torch, date and commit of a stored result in a line, or "not measured" for an empty
    one.
    """
    known = result.get("provenance")
    if not known:
        return "not measured"
    commit = known["git_commit"][:7]
    return f"{known['device']}, torch {known['torch']}, {known['date']}, commit {commit}"


def _without_root(argument: str) -> str:
    return Path(argument).name if Path(argument).is_absolute() else argument


def _git_commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", REPOSITORY, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no", "--", "s3rnet_lite")
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def course_folder(name: str) -> Path:
    """Where a chapter writes: `name` in the repository while `make notebooks` runs, otherwise
    `runs/name` in the reader's own working folder, which is made if need be.
    """
    if os.environ.get(IN_PLACE):
        return REPOSITORY / name
    folder = Path("runs", name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
