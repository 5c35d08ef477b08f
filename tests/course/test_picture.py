"""The README's picture is backed by arrays: these are checked."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytest
import torch

from s3rnet_lite import training
from s3rnet_lite.course import picture


@pytest.fixture(scope="module")
def model():
    return training.load_checkpoint("lite-6bands")


def test_no_band_of_the_sharp_camera_sees_the_one_shown(model, indian_pines):
    band = (indian_pines.wavelengths_nm - picture.BAND_NM).abs().argmin()
    assert model.degrade.srf[:, band].max() < 1e-6


def test_fused_is_nearer_to_the_truth_than_bicubic_in_that_band(model, indian_pines_split):
    scene = indian_pines_split[2]
    views = picture.views(model, scene)
    band = (scene.wavelengths_nm - picture.BAND_NM).abs().argmin()
    truth, x_h, bicubic, fused = (cube[band] for cube in views.values())
    assert torch.equal(truth, scene.cube[band]) and 4 * x_h.shape[0] == truth.shape[0]
    assert (fused - truth).abs().mean() < (bicubic - truth).abs().mean() / 2


def test_the_worst_pixel_is_found_inside_the_rim():
    truth = torch.zeros(20, 30)
    image = truth.clone()
    image[0, 5], image[12, 25] = 9.0, -2.0
    assert picture.worst_pixel(truth, image) == (12, 25)


def test_the_figure_is_small_and_its_text_large_enough():
    figure = picture.draw()
    assert figure.get_size_inches()[0] <= 8
    figure.canvas.draw()
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    assert min(text.get_fontsize() for text in texts) >= 9
    plt.close(figure)
