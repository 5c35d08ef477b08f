"""The campaign, half a minute of it: nothing half-written, nothing believed, no traceback."""

import json
import subprocess
import sys

import pytest
from small_training import ONE_THREAD

from s3rnet_lite.files.provenance import REPOSITORY

QUICK = ["-m", "campaigns", "--quick", "--minutes", "0.5", "--seed", "3", "--out"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, limits memory and mounts small disks")
def test_half_a_minute_of_the_campaign_finds_nothing(tmp_path):
    path = f"{REPOSITORY}:{REPOSITORY / 'tests'}"
    command = [sys.executable, *QUICK, str(tmp_path / "counts.json")]
    environment = {**ONE_THREAD, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads((tmp_path / "counts.json").read_text())["counts"]
    assert all(sum(found.values()) for found in counts.values()) and len(counts) == 7
