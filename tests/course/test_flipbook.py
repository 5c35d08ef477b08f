"""A flipbook draws every setting beforehand, and shows the first where no script runs."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from s3rnet_lite.course.flipbook import MOST_FRAMES, Flipbook


def grey(level, tint="none"):
    """A picture as bright as the slider says."""
    return plt.figure(
        figsize=(1, 1), facecolor=str(level / 10 if tint == "none" else 1 - level / 10)
    )


def brightness(png: bytes) -> float:
    return float(np.asarray(Image.open(io.BytesIO(png)).convert("L")).mean()) / 255


def test_every_setting_is_drawn_in_the_order_of_the_script():
    book = Flipbook(grey, level=[2, 7], tint=["none", "reversed"])
    drawn = [brightness(frame) for frame in book._frames]
    assert drawn == pytest.approx([0.2, 0.8, 0.7, 0.3], abs=0.01)
    page = book._repr_html_()
    assert page.count("iVBOR") == 5  # four frames, and the first once more as the picture
    assert page.count("data-lm-suppress-shortcuts") == 2  # JupyterLab leaves them the arrow keys
    assert 'type="range"' in page and "<select" in page and ">reversed</option>" in page


def test_a_page_without_scripts_shows_the_first_setting():
    assert brightness(Flipbook(grey, level=[2, 7])._repr_png_()) == pytest.approx(0.2, abs=0.01)


def test_its_text_can_be_compared_and_names_in_html_are_escaped():
    book = Flipbook(lambda kind: grey(5), kind=["a", "<b>"])
    assert repr(book) == "Flipbook(kind: a, <b>)"
    assert "<b>" not in book._repr_html_()


def test_no_figure_stays_open():
    Flipbook(grey, level=[1, 2, 3])
    assert plt.get_fignums() == []


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(TypeError, match=r"draw: .* got NoneType"):
        Flipbook(lambda level: None, level=[1])
    for values in ([], range(MOST_FRAMES + 1)):
        with pytest.raises(ValueError, match="controls: expected 1 to"):
            Flipbook(grey, level=values)
