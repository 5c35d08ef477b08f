"""Pictures with sliders that also read on paper; used in chapters 01 and 05."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import ipywidgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure


class Explorer(ipywidgets.VBox):
    """Controls above a picture that follows them. Where no kernel runs (GitHub, HTML), the picture
    of the first setting shows.

    Args:
        draw: called with the value of every control by name; returns a matplotlib figure.
        controls: ipywidgets that have a `value`, by the name that `draw` gives them.

    Raises:
        TypeError: `draw` returned something else than a figure.
    """

    def __init__(self, draw: Callable[..., Figure], **controls: ipywidgets.ValueWidget):
        self._draw, self._controls = draw, controls
        self._picture = ipywidgets.Image(
            format="png", layout=ipywidgets.Layout(max_width="100%", object_fit="contain")
        )
        self._redraw()
        self._first = self._picture.value
        for control in controls.values():
            if hasattr(control, "continuous_update"):
                control.continuous_update = False  # one picture when the slider is let go
            control.observe(self._redraw, names="value")
        row = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__([ipywidgets.HBox(list(controls.values()), layout=row), self._picture])

    def _redraw(self, _change=None) -> None:
        figure = self._draw(**{name: control.value for name, control in self._controls.items()})
        if not isinstance(figure, Figure):
            raise TypeError(
                f"draw: expected to return a matplotlib Figure, got {type(figure).__name__}"
            )
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=80, metadata={"Software": None})
        plt.close(figure)  # else the notebook would show it a second time
        self._picture.value = buffer.getvalue()

    def __repr__(self) -> str:
        # without the random identity, so that stored outputs can be compared
        return f"Explorer({', '.join(self._controls)})"

    def _repr_mimebundle_(self, **kwargs) -> dict:
        return {
            **super()._repr_mimebundle_(**kwargs),
            "image/png": base64.b64encode(self._first).decode(),
        }
