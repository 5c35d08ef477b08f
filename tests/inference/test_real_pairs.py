"""Pairs of two real sensors, where their files are at hand."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from s3rnet_lite.files import formats
from s3rnet_lite.inference import adaptation

FOLDER = Path(os.environ.get("S3RNET_LITE_SCENES", Path(__file__).parents[3] / "shared" / "scenes"))


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs real scenes in {FOLDER}")
def test_hyperion_with_the_panchromatic_band_of_ali_is_fused_at_scale_three():
    file = FOLDER / "paris_data_hs_pan.mat"
    x_h, x_m = (torch.from_numpy(formats.open_cube(file, name).read()) for name in ("HSim", "PCim"))
    assert (x_h.shape, x_m.shape) == ((128, 72, 58), (1, 216, 174))
    config = replace(adaptation.CONFIG, steps=20, warmup_steps=5)
    found = adaptation.adapt(x_h, x_m, config=config, progress=False)
    scores = found.report["held_out"]["scores"]
    psnr = {name: row["psnr_pooled_scene_peak"] for name, row in scores.items()}
    assert psnr["blend"] > psnr["bicubic"] + 1 and psnr["blend"] > psnr["sylvester"] - 0.2
    assert found.report["pair"]["scale"] == 3
