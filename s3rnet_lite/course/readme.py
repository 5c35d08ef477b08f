"""The tables of README.md, made from what is stored; `make notebooks` refreshes them and a test
compares them.
"""

from __future__ import annotations

import json
import re

import nbformat

from .. import baselines
from ..experiments import comparison, robustness
from ..experiments.evaluation import SKIP_ALONE, TRAINED_CLOSED_FORM
from ..files.provenance import REPOSITORY, RESULTS_FOLDER
from ..inference import adaptation
from .notebooks import chapters


def index() -> str:
    """The README's table of chapters: title, question, measured run time."""
    lines = ["| chapter | question | run time |", "|---|---|---|"]
    for path in chapters():
        notebook = nbformat.read(path, as_version=4)
        head = notebook.cells[0].source
        title = re.search(r"^# (.+)$", head, re.MULTILINE)[1]
        question = re.search(r"^\*\*Question\.\*\* (.+)$", head, re.MULTILINE)[1]
        seconds = notebook.metadata["measured_seconds"]
        lines.append(f"| [{title}](notebooks/{path.name}) | {question} | {seconds} s |")
    return "\n".join(lines)


def scores() -> str:
    """The README's table of results on the test region, from the stored JSON files."""
    columns = {
        "pooled PSNR [dB]": ("psnr_pooled_scene_peak", 2),
        "band-mean PSNR [dB]": ("psnr_band_mean_band_peak", 2),
        "SAM [°]": ("sam_degrees", 3),
        "ERGAS": ("ergas", 3),
    }
    lines = [f"| HR-MSI | method | {' | '.join(columns)} |", "|---|---|" + "---|" * len(columns)]
    for bands in (4, 6):
        stored = json.loads((RESULTS_FOLDER / f"lite_{bands}bands.json").read_text())
        rows = {
            "bicubic": stored["baselines"]["bicubic"],
            "detail injection (regression of the training region)": stored["baselines"][
                TRAINED_CLOSED_FORM
            ],
            "the same, injected twice: the model's own skip": stored["baselines"][SKIP_ALONE],
            f"S³RNet `lite`, {len(stored['networks'])} seeds": stored["summary"],
            "noise ceiling (about 2 dB)": stored["noise_ceiling"],
        }
        for name, row in rows.items():
            cells = (_number(row[key], digits) for key, digits in columns.values())
            lines.append(f"| {bands} bands | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float | dict[str, float], digits: int) -> str:
    if isinstance(value, dict):
        return f"{value['mean']:.{digits}f} ± {value['standard_deviation']:.{digits}f}"
    return f"{value:.{digits}f}"


def classical() -> str:
    """The README's table of classical methods on the test region: seconds, then scores with 4 and
    with 6 HR-MSI bands.
    """
    columns = {"psnr_pooled_scene_peak": 2, "psnr_band_mean_band_peak": 2, "sam_degrees": 3}
    heads = [
        f"{bands} bands: {name}"
        for bands in (4, 6)
        for name in ("pooled PSNR [dB]", "band-mean PSNR [dB]", "SAM [°]")
    ]
    stored = [
        json.loads((RESULTS_FOLDER / f"classical_{bands}bands.json").read_text())
        for bands in (4, 6)
    ]
    lines = [f"| method | time [s] | {' | '.join(heads)} |", "|---|---|" + "---|" * len(heads)]
    for name in (*baselines.NAMES, "noise ceiling"):
        rows = [
            one["noise_ceiling"] if name == "noise ceiling" else one["baselines"][name]
            for one in stored
        ]
        seconds = f"{rows[0]['seconds']:.2g}" if "seconds" in rows[0] else ""
        cells = (_number(row[key], digits) for row in rows for key, digits in columns.items())
        lines.append(
            f"| `{name}` | {seconds} | {' | '.join(cells)} |".replace(
                "`noise ceiling`", "noise ceiling"
            )
        )
    return "\n".join(lines)


def eleven_networks() -> str:
    """The README's table of S3RNet and its peers, from the stored runs."""
    runs = comparison.stored()
    return "\n\n".join(comparison.format_table(runs, bands) for bands in (4, 6))


def noise() -> str:
    """The README's table of pooled PSNR with noise on the LR-HSI, from the stored runs of the
    robustness study.
    """
    levels = (None, 35, 25, 15, 5)
    others = json.loads((robustness.FOLDER / "others.json").read_text())["methods"]
    runs = {
        (run["recipe"], run["network"], run["noise"]): run
        for run in robustness.stored()
        if run["seed"] == 0
    }
    rows = [
        ("the control: regression on the HR-MSI alone", "none", others[robustness.CONTROL]),
        ("`sylvester`", "none", others["sylvester"]),
    ]
    labels = {
        "published": "the paper's form",
        "bare": "no skip",
        "common": "injection skip",
        "denoised": "Wiener filter",
    }
    for recipe, label in labels.items():
        for training_noise in robustness.RECIPES[recipe]:
            rows.append(
                (f"S³RNet, {label}", training_noise, runs[recipe, "s3rnet", training_noise])
            )
            peer = max(
                comparison.peers.NAMES,
                key=lambda name: sum(_psnr(runs[recipe, name, training_noise], levels)),
            )
            title = comparison.table1()[peer]["title"].split(" (")[0]
            rows.append(
                (f"best peer, {label}: {title}", training_noise, runs[recipe, peer, training_noise])
            )
    rows.append(
        (
            "**S³RNet `lite`, Wiener filter (shipped)**",
            "5–80 dB",
            others["s3rnet_lite_6bands_robust"],
        )
    )
    lines = [
        "| 6 MSI bands | noise in training | no noise | 35 dB | 25 dB | 15 dB | 5 dB |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for name, training_noise, entry in rows:
        shown = "5–40 dB" if training_noise == "random" else training_noise
        lines.append(
            f"| {name} | {shown} | "
            + " | ".join(f"{value:.2f}" for value in _psnr(entry, levels))
            + " |"
        )
    return "\n".join(lines)


def _psnr(entry: dict, levels: tuple[float | None, ...]) -> list[float]:
    """Pooled PSNR of a stored run with noise of these SNRs on the LR-HSI."""
    return [
        entry["curves"]["lr_hsi"][robustness.METRICS[0]][robustness.SNR_DB.index(level)]
        for level in levels
    ]


def speed() -> str:
    """The README's table of the fast path against the plain equations."""
    heads = (
        "threads",
        "plain [s]",
        "fast [s]",
        "plain / fast, pair by pair",
        "of the convolution ceiling",
        "memory, fast / plain",
    )
    lines = [f"| preset | what | {' | '.join(heads)} |", "|---|---|" + "--:|" * len(heads)]
    for name in ("benchmark_cpu.json", "benchmark_cpu_one_thread.json"):
        stored = json.loads((RESULTS_FOLDER / name).read_text())
        for row in stored["rows"]:
            seconds, ratio = row["seconds"], row["ratio"]
            cells = [
                f"`{row['preset']}`",
                f"{row['what']}, {row['batch']} × {row['size']} × {row['size']} px",
                str(stored["threads"]),
                f"{seconds['plain']:.3f}",
                f"{seconds['fast']:.3f}",
                f"{ratio['median']:.2f} ({ratio['lowest']:.2f}–{ratio['highest']:.2f})",
                "",
                "",
            ]
            if row["what"] == "forward":
                memory = row["memory_growth_bytes"]
                cells[-2:] = (
                    f"{row['share_of_convolution_ceiling']['fast']:.0%}",
                    f"{memory['fast'] / memory['plain']:.0%}",
                )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def any_size() -> str:
    """The README's table of fusion in tiles."""
    lines = [
        "| HR image, 172 bands | time [s] | CPU seconds a megapixel | peak memory of the process [MiB] |",
        "|---|--:|--:|--:|",
    ]
    for row in json.loads((RESULTS_FOLDER / "tiling.json").read_text())["scaling"]:
        lines.append(
            f"| {row['pixels']} | {row['seconds']:.0f} | {row['cpu_seconds_per_megapixel']:.0f} | {row['peak_mib']:,} |"
        )
    return "\n".join(lines)


def own_pair() -> str:
    """The README's table of `adapt` on pairs whose truth is known: pooled PSNR at full size, and
    what the held-out pixels said.
    """
    lines = [
        "| pair | noise on the LR-HSI | network, held out [dB] | network [dB] | its skip alone [dB] | best classical method [dB] "
        "| first on the held-out pixels, and what it lacks of the best [dB] | rank correlation | QNR: network, truth |",
        "|---|---|--:|--:|--:|---|---|--:|--:|",
    ]
    for case in json.loads((RESULTS_FOLDER / "adaptation.json").read_text())["cases"]:
        scores = case["scores"]
        psnr, held_out = (
            {name: row[key] for name, row in scores.items()}
            for key in ("full_size_psnr", "held_out_psnr")
        )
        classical, chosen = max(baselines.NAMES, key=psnr.get), max(held_out, key=held_out.get)
        noise = "none" if case["snr_db"] is None else f"{case['snr_db']:.0f} dB"
        lines.append(
            f"| {case['scene']}, {' × '.join(map(str, case['pixels']))} px | {noise} | {held_out[adaptation.NETWORK]:.2f} "
            f"| {psnr[adaptation.NETWORK]:.2f} | {psnr[adaptation.SKIP]:.2f} | {psnr[classical]:.2f} (`{classical}`) "
            f"| `{chosen}`, {max(psnr.values()) - psnr[chosen]:.2f} | {case['rank_correlation']:.2f} "
            f"| {scores[adaptation.NETWORK]['qnr']:.3f}, {case['qnr_of_the_truth']:.3f} |"
        )
    return "\n".join(lines)


TABLES = {
    "chapter index": index,
    "results": scores,
    "classical methods": classical,
    "eleven networks": eleven_networks,
    "noise": noise,
    "speed": speed,
    "any size": any_size,
    "own pair": own_pair,
}


def write() -> None:
    """Put the current tables between their markers in README.md."""
    readme = REPOSITORY / "README.md"
    text = readme.read_text()
    for name, table in TABLES.items():
        begin, end = markers(name)
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{table()}\n{end}{rest.split(end)[1]}"
    readme.write_text(text)


def markers(name: str) -> tuple[str, str]:
    """The comments between which a generated table stands."""
    return f"<!-- {name}: generated by `make notebooks` -->", f"<!-- end of {name} -->"
