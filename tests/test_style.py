"""`make format` has nothing left to do, in code and in notebooks."""

import subprocess
import sys

import pytest

from s3rnet_lite.files.provenance import REPOSITORY


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_agrees(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
