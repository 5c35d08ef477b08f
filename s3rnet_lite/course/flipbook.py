"""Pictures with controls that need no kernel: every setting is drawn beforehand; used in the
chapters.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

MOST_FRAMES, MOST_BYTES = 60, 400_000
COLOURS = 64  # of a picture's palette
STYLE = "max-width:100%"
KEYS = "data-lm-suppress-shortcuts"  # else JupyterLab takes the arrow keys to move between cells
# finds its own box, since a page may hold several
SCRIPT = """
const box = document.currentScript.parentElement;
const controls = [...box.querySelectorAll("input,select")];
const show = () => {
  let frame = 0;
  for (const c of controls) frame = frame * c.dataset.count + Number(c.value);
  box.querySelector("img").src = "data:image/png;base64," + FRAMES[frame];
  for (const c of controls)
    if (c.type == "range") c.nextElementSibling.textContent = JSON.parse(c.dataset.names)[c.value];
};
controls.forEach(c => c.addEventListener("input", show));
show();
"""


class Flipbook:
    """A picture that follows sliders (numbers) and lists (texts) in any browser, with a kernel or
    without; where scripts do not run (GitHub, an untrusted notebook), the first setting shows.

    >>> def draw(radius):
    ...     figure, axis = plt.subplots(figsize=(1, 1))
    ...     axis.plot(0, 0, "o", markersize=radius)
    ...     return figure
    >>> Flipbook(draw, radius=[5, 10, 20])
    Flipbook(radius: 5, 10, 20)

    Args:
        draw: called with one value of every control by name; returns a matplotlib figure.
        controls: the values of each, numbers or texts; the first ones show at the start.

    Raises:
        TypeError: `draw` returned something else than a figure.
        ValueError: a control without values, or more than `MOST_FRAMES` pictures or `MOST_BYTES` in
            all.
    """

    def __init__(self, draw: Callable[..., Figure], **controls: Sequence):
        self._controls = {name: list(values) for name, values in controls.items()}
        settings = list(itertools.product(*self._controls.values()))
        if not 1 <= len(settings) <= MOST_FRAMES:
            raise ValueError(f"controls: expected 1 to {MOST_FRAMES} pictures, got {len(settings)}")
        self._frames = [_png(draw(**dict(zip(controls, one, strict=True)))) for one in settings]
        size = sum(map(len, self._frames))
        if size > MOST_BYTES:
            raise ValueError(f"draw: expected at most {MOST_BYTES} bytes in all, got {size}")

    def __repr__(self) -> str:
        shown = (f"{name}: {', '.join(map(str, v))}" for name, v in self._controls.items())
        return f"Flipbook({'; '.join(shown)})"

    def _repr_png_(self) -> bytes:
        return self._frames[0]

    def _repr_html_(self) -> str:
        frames = json.dumps([base64.b64encode(frame).decode() for frame in self._frames])
        controls = " ".join(_control(name, v) for name, v in self._controls.items())
        first = base64.b64encode(self._frames[0]).decode()
        picture = f'<img src="data:image/png;base64,{first}" alt="{html.escape(repr(self))}"'
        script = f"<script>(() => {{ const FRAMES = {frames};{SCRIPT}}})()</script>"
        return f'<div class="flipbook">{controls}<br>{picture} style="{STYLE}">{script}</div>'


def _control(name: str, values: list) -> str:
    """A slider of numbers or a list of texts; its value is the position in `values`."""
    names = [str(value) for value in values]
    given = f'data-count="{len(values)}" aria-label="{html.escape(name)}" {KEYS}'
    if any(isinstance(value, str) for value in values):
        rows = (f'<option value="{i}">{html.escape(n)}</option>' for i, n in enumerate(names))
        box = f"<select {given}>{''.join(rows)}</select>"
    else:
        box = (
            f'<input type="range" min="0" max="{len(values) - 1}" value="0" {given} '
            f'data-names="{html.escape(json.dumps(names))}"><output>{names[0]}</output>'
        )
    return f"<label>{html.escape(name.replace('_', ' '))} {box}</label>"


def _png(figure: Figure) -> bytes:
    if not isinstance(figure, Figure):
        raise TypeError(
            f"draw: expected to return a matplotlib Figure, got {type(figure).__name__}"
        )
    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    plt.close(figure)  # else the notebook would show it a second time
    image = Image.open(buffer).convert("RGB")
    few = image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE)  # keeps the colours of thin lines
    few.save(small, format="png", optimize=True)
    return small.getvalue()
