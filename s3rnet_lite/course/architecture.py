"""The drawing of S3RNet in chapter 00: branches, attention and gates, head."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

LOW, HIGH, PLAIN, DARK = "#F6CF7F", "#A9D8F4", "#FFFFFF", "0.35"  # coarse pixels, fine pixels
BRANCHES = {  # level, what enters, colour, groups, levels of its inputs
    "Q": (6.3, "$X_h$", LOW, 4, (5.6,)),
    "K": (4.9, "$X_m$", HIGH, 4, (2.2,)),
    "V": (3.5, "Cat($X_m$ ↓4, $X_h$)", LOW, 6, (5.6, 2.2)),
    "Z": (1.1, "Cat($X_h$ ↑4, $X_m$)", HIGH, 6, (5.6, 2.2)),
}


def draw() -> Figure:
    """The network with the paper's numbers, coarse pixels in orange and fine ones in blue."""
    figure, axis = plt.subplots(figsize=(8, 4.2), layout="constrained")
    with plt.rc_context({"font.size": 7}):
        _branches(axis)
        _block(axis)
        _head(axis)
        titles = {0.9: "inputs", 5.4: "MBFN (Eqs. 1, 2)", 11.35: "SSAWB (Eqs. 3–6)", 14.95: "head"}
        for x, text in titles.items():
            axis.text(x, 8.0, text, ha="center", fontsize=9, fontweight="bold")
    axis.set(xlim=(-0.35, 18.4), ylim=(-0.95, 8.45))
    axis.set_axis_off()
    return figure


def _branches(axis: plt.Axes) -> None:
    _box(axis, 0.9, 5.6, "LR-HSI\n$X_h$", LOW, 1.5, 1.1)
    _box(axis, 0.9, 2.2, "HR-MSI\n$X_m$", HIGH, 1.5, 1.1)
    for name, (level, entry, colour, groups, sources) in BRANCHES.items():
        for source in sources:
            _arrow(axis, (1.65, source), (2.9, level))
        _arrow(axis, (5.2, level), (5.6, level))
        _box(axis, 4.05, level, f"{entry}\n3×3 convolution", colour, 2.3)
        _box(axis, 6.6, level, f"{name}: {groups} groups\nof 3 DFABs", colour)
        if colour == LOW:  # back to fine pixels before the branches meet
            _arrow(axis, (7.6, level), (7.9, level))
            _box(axis, 8.2, level, "↑4", HIGH, 0.6)
        begin = 8.5 if colour == LOW else 7.6
        if name == "Z":
            _arrow(axis, (begin, level), (9.95, level))
            _arrow(axis, (10.5, level), (11.9, level))
        else:
            _arrow(axis, (begin, level), (11.9, level))
        axis.text(9.0, level + 0.12, f"$F_{name}$", fontsize=9)


def _block(axis: plt.Axes) -> None:
    """Attention, its sum with Z, and the gates of the SSAWB."""
    shape = "round,pad=0,rounding_size=0.15"
    colours = {"facecolor": "0.96", "edgecolor": "0.6"}
    axis.add_patch(FancyBboxPatch((8.85, 0.35), 5.0, 7.45, shape, zorder=-1, **colours))
    for x, level in ((9.75, 6.3), (10.25, 4.9), (10.75, 3.5)):
        _arrow(axis, (x, level), (x, 2.78))
        axis.plot(x, level, "o", markersize=3, color=DARK)
    _arrow(axis, (10.25, 1.8), (10.25, 1.38))
    _box(axis, 10.25, 2.3, "channel attention\nSoftmax($QK^T/\\sqrt{d}$) $V$", HIGH, 2.6, 0.96)
    _knob(axis, 10.25, 1.1, "+")
    axis.text(10.75, 1.22, "$Z'$", fontsize=9)
    _box(
        axis, 11.35, 7.2, "gates $W$ = sigmoid(1×1 convolution\nof $F_Q, F_K, F_V, Z'$)", HIGH, 4.6
    )
    _arrow(axis, (12.2, 6.78), (12.2, 1.38))
    for index, end in enumerate((4.25, 4.1, 3.75, 3.55), start=1):
        level = list(BRANCHES.values())[index - 1][0]
        _arrow(axis, (12.2, level), (13.15, end))
        _knob(axis, 12.2, level, "×")
        axis.text(11.85, level + 0.2, f"$W_{index}$", ha="right", fontsize=9)


def _head(axis: plt.Axes) -> None:
    """The two convolutions, and in dashes what only the small model of the course adds."""
    _arrow(axis, (13.3, 3.9), (16.95, 3.9))
    _knob(axis, 13.3, 3.9, "Σ")
    _box(axis, 14.97, 3.9, "head:\n2 convolutions", HIGH, 2.0, 1.0)
    _knob(axis, 16.35, 3.9, "+")
    _box(axis, 17.6, 3.9, "fused\nHR-HSI", HIGH, 1.3, 1.1)
    around = ((0.15, 5.6), (-0.15, 5.6), (-0.15, -0.45), (16.35, -0.45), (16.35, 3.6))
    _arrow(axis, *around, dashed=True)
    axis.plot([-0.15, 0.15], [2.2, 2.2], "--", color=DARK, linewidth=0.9)
    text = "only in our lite model: a closed-form fusion of both inputs"
    _box(axis, 7.6, -0.45, text, width=9.0, height=0.6)


def _box(axis, x, y, text, colour=PLAIN, width=2.0, height=0.85) -> None:
    corner, shape = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.1"
    axis.add_patch(
        FancyBboxPatch(corner, width, height, shape, facecolor=colour, edgecolor="0.3", lw=0.8)
    )
    axis.text(x, y, text, ha="center", va="center")


def _arrow(axis, *points, dashed=False) -> None:
    axis.plot(*zip(*points, strict=True), "--" if dashed else "-", color=DARK, lw=0.9, zorder=0)
    tip = {"arrowstyle": "-|>", "color": DARK, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9}
    axis.annotate("", points[-1], points[-2], arrowprops=tip | {"linewidth": 0})


def _knob(axis, x, y, text) -> None:
    axis.plot(x, y, "o", markersize=12, color="white", markeredgecolor="0.3")
    axis.text(x, y, text, ha="center", va="center_baseline", fontsize=9)
