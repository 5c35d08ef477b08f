"""Models on scenes that they do not know: the guard of `fuse`, here and on real scenes."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from s3rnet_lite import baselines, metrics, scenes, training
from s3rnet_lite.inference import tiling
from s3rnet_lite.training.checkpoints import SHIPPED

FOLDER = Path(os.environ.get("S3RNET_LITE_SCENES", Path(__file__).parents[3] / "shared" / "scenes"))


def strange(scene):
    """A place with other relations between its bands: the same pictures in reversed order."""
    return replace(scene, cube=scene.cube.flip(0).contiguous())


@pytest.mark.parametrize("name", SHIPPED)
def test_no_shipped_model_is_far_below_the_closed_form_where_it_knows_nothing(
    name, indian_pines_split
):
    model, scene = training.load_checkpoint(name), strange(indian_pines_split[2])
    x_h, x_m = model.degrade(scene.cube)
    plain, guarded = (tiling.fuse(model, x_h, x_m, guard=guard) for guard in (False, True))
    closed = baselines.sylvester(x_h, x_m, model.degrade)
    psnr = [metrics.pooled_psnr(image, scene.cube) for image in (plain, guarded, closed)]
    assert psnr[1] > psnr[2] - 0.05
    if model.skip == "details":  # guards itself
        assert psnr[0] > psnr[2] - 0.05
    else:
        assert psnr[0] < psnr[2] - 1


def test_at_home_the_model_keeps_most_of_its_image(indian_pines_split):
    model, scene = training.load_checkpoint("lite-4bands"), indian_pines_split[1]
    x_h, x_m = model.degrade(scene.cube)
    plain, guarded = (tiling.fuse(model, x_h, x_m, guard=guard) for guard in (False, True))
    psnr = [metrics.pooled_psnr(image, scene.cube) for image in (plain, guarded)]
    assert psnr[1] > psnr[0] - 0.1


def test_a_pair_of_another_sensor_has_no_closed_form_and_is_left_to_the_model(indian_pines_split):
    model, scene = training.load_checkpoint("lite-4bands"), indian_pines_split[1]
    x_h, x_m = model.degrade(scene.cube)
    plain, guarded = (tiling.fuse(model, x_h, 1.5 * x_m, guard=guard) for guard in (False, True))
    assert torch.equal(plain, guarded)


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs real scenes in {FOLDER}")
@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize(
    ("scene", "file"),
    [("jasper_ridge", "jasperRidge2_R198.mat"), ("san_diego", "sandiego_plane.mat")],
)
def test_on_real_scenes_neither(name, scene, file, indian_pines):
    """With the bands nearest to those of Indian Pines."""
    model, found = training.load_checkpoint(name), scenes.public(scene, FOLDER / file)
    nearest = (found.wavelengths_nm - indian_pines.wavelengths_nm[:, None]).abs().argmin(1)
    y = found.cube[nearest]
    x_h, x_m = model.degrade(y)
    guarded = metrics.pooled_psnr(tiling.fuse(model, x_h, x_m, guard=True), y)
    assert guarded > metrics.pooled_psnr(baselines.sylvester(x_h, x_m, model.degrade), y) - 0.05
    assert np.isfinite(guarded)
