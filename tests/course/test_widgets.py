"""The explorer: its picture follows the controls; a page without a kernel shows the first one."""

import base64
import io

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from s3rnet_lite.course.widgets import Explorer


def grey(level: int):
    """A picture that is as bright as the slider says."""
    return plt.figure(figsize=(1, 1), facecolor=str(level / 10))


def brightness(png: bytes) -> float:
    return float(np.asarray(Image.open(io.BytesIO(png)).convert("L")).mean()) / 255


def explorer() -> tuple[Explorer, ipywidgets.IntSlider]:
    slider = ipywidgets.IntSlider(2, 0, 10)
    return Explorer(grey, level=slider), slider


def test_the_picture_follows_the_control():
    shown, slider = explorer()
    picture = shown.children[-1]
    assert brightness(picture.value) == pytest.approx(0.2, abs=0.01)
    slider.value = 7
    assert brightness(picture.value) == pytest.approx(0.7, abs=0.01)


def test_a_page_without_a_kernel_shows_the_first_setting():
    shown, slider = explorer()
    slider.value = 7
    bundle = shown._repr_mimebundle_()
    assert brightness(base64.b64decode(bundle["image/png"])) == pytest.approx(0.2, abs=0.01)
    assert bundle["text/plain"] == repr(shown) == "Explorer(level)"


def test_no_figure_stays_open():
    _, slider = explorer()
    slider.value = 7
    assert plt.get_fignums() == []


def test_a_function_that_draws_nothing_is_refused():
    with pytest.raises(TypeError, match=r"draw: .* got NoneType"):
        Explorer(lambda level: None, level=ipywidgets.IntSlider())
