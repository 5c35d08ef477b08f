"""S³RNet in the paper's form at several learning rates, and what the paper's text asks for beside
its equations, as tables and sentences.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable

from ..experiments import demands as experiment
from ..experiments.demands import STEPS
from ..files.provenance import RESULTS_FOLDER
from .markdown import paragraph, table
from .studies import PSNR, read

__all__ = ["STEPS", "deafness", "demands", "reading_of_deafness", "readings_of_demands", "trained"]

SIZES = ("small", "long", "full")


def trained() -> dict[tuple[str, float], list[dict]]:
    """(size, learning rate) -> stored trainings of the paper's form."""
    found: dict[tuple[str, float], list[dict]] = {}
    paths = sorted((RESULTS_FOLDER / "deafness").glob("*.json"))
    for run in map(json.loads, (path.read_text() for path in paths)):
        if "scores" in run:
            found.setdefault((run["size"], run["learning_rate"]), []).append(run)
    return dict(sorted(found.items(), key=lambda item: (SIZES.index(item[0][0]), item[0][1])))


def foreign(run: dict) -> float:
    """Change of the output by an LR-HSI from elsewhere, in standard deviations of the scene."""
    return run["dependence"][0]["lr_hsi_elsewhere"]["change"]


def deafness() -> str:
    """The paper's form by size and learning rate."""
    rows = []
    for (size, rate), runs in trained().items():
        gates = runs[0]["dependence"][0]["gate_means"]
        rows.append(
            [
                size,
                f"{rate:g}",
                str(len(runs)),
                f"{statistics.fmean(run['steps'] for run in runs):,.0f}",
                _spread([run["scores"][PSNR] for run in runs], 2),
                _spread([foreign(run) for run in runs], 3),
                ", ".join(f"{gate:.2f}" for gate in gates),
            ]
        )
    heads = ["size", "learning rate", "seeds", "steps", "pooled PSNR [dB]", "foreign"]
    return table([*heads, "gates of Q, K, V, Z (seed 0)"], rows)


def _spread(values: list[float], digits: int) -> str:
    """Least to largest."""
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def reading_of_deafness() -> str:
    """What may be concluded."""
    small = {key: runs for key, runs in trained().items() if key[0] != "full"}
    best = max(small, key=lambda key: statistics.fmean(r["scores"][PSNR] for r in small[key]))
    deafest = min(small, key=lambda key: statistics.fmean(map(foreign, small[key])))
    full = " ".join(
        _inside(run) for key, runs in trained().items() if key[0] == "full" for run in runs
    )
    return paragraph(
        f"""A *small* training takes about a CPU-minute, a *long* one ten. Best is {best[0]} at
        {best[1]:g}; least use of the LR-HSI is made by {deafest[0]} at {deafest[1]:g}. So deafness
        to the LR-HSI is no property of the form alone: it comes and goes with learning rate and
        length. {full}"""
    )


def _inside(run: dict) -> str:
    """Energies and CKA of the full-size network (chapters 07 and 08)."""
    cka, energy = run["inside"]["cka"], run["inside"]["energy"]
    kinds: dict[bool, list[float]] = {True: [], False: []}
    for i, one in enumerate(cka["layers"]):
        for j, other in enumerate(cka["layers"][:i]):
            kinds[one[0] == other[0]].append(cka["matrix"][i][j])
    within, across = (statistics.fmean(kinds[same]) for same in (True, False))
    return (
        f"The full-size network, after {run['steps']:,} steps of two crops of 64 × 64 "
        f"({run['training_seconds'] / 60:.0f} minutes of one core): Gini of the fused feature "
        f"{energy['raw']['gini']:.2f}, around the channels' means {energy['centred']['gini']:.2f}; "
        f"mean unbiased CKA within a branch {within:.2f}, across branches {across:.2f}."
    )


def demands() -> str:
    """Variants of the bare network: quality, robustness, concentration of energy."""
    rows, stored = [], read("demands.json")
    level = stored["snr_db"].index(15.0)
    numbers: dict[str, Callable[[dict], float]] = {
        "pooled PSNR [dB]": lambda row: row["validation"][PSNR],
        "SAM [°]": lambda row: row["validation"]["sam_degrees"],
        "pooled PSNR at 15 dB noise [dB]": lambda row: row["psnr_under_noise"][level],
        "Gini of the fused feature": lambda row: row["energy"]["raw"]["gini"],
    }
    for name in experiment.VARIANTS:
        own = [row for row in stored["rows"] if row["name"] == name]
        if own:
            cells = [_spread([number(row) for row in own], 2) for number in numbers.values()]
            rows.append([name, str(len(own)), *cells])
    return table(["variant", "seeds", *numbers], rows)


def readings_of_demands() -> str:
    """What the variants say of the paper's sentences."""
    mean = {
        name: row["mean"] for name, row in experiment.summary(read("demands.json")["rows"]).items()
    }
    change = {name: value - mean["bare"] for name, value in mean.items()}
    plain, sam = (
        experiment.summary(read("demands.json")["rows"], "sam_degrees")[name]["mean"]
        for name in ("plain L1", "plain L1 + 0.1 SAM")
    )
    return paragraph(
        f"""From least to largest over the seeds. Against *bare*, on average: groups in Q
        {change["Q in groups"]:+.2f} dB, a softmax over the gates
        {change["softmax over the gates"]:+.2f}, without Q and V {change["K and Z"]:+.2f}, Z alone
        {change["Z alone"]:+.2f}, energy pushed into few channels
        {change["energy concentrated"]:+.2f}, spread {change["energy spread"]:+.2f}. The SAM term of
        weight 0.1 changes the spectral angle from {plain:.3f} to {sam:.3f}°. Skips: bilinear
        {change["bilinear skip"]:+.2f} dB, injection {change["injection skip"]:+.2f}; the published
        form gains {mean["published, injection skip"] - mean["published"]:+.2f} dB by the injection
        skip. Steps are equal, not seconds; one learning rate (0.003). The four gates of a softmax
        start at 0.25 each, those of the sigmoid at 0.88, and both learn slowly, so their
        difference is partly one of scale."""
    )
