"""The generated parts of README.md, its picture, and data/results/README.md; `make notebooks`
writes them and tests compare them.
"""

from __future__ import annotations

import re
import statistics

import nbformat

from .. import baselines
from ..experiments import elsewhere, robustness
from ..files import atomic
from ..files.provenance import REPOSITORY
from . import form_results, picture, results, studies
from .markdown import paragraph, table
from .notebooks import chapters
from .results import mean_and_deviation
from .studies import PSNR, read

FILE = REPOSITORY / "README.md"
FIGURE = REPOSITORY / "figures" / "readme.png"


def finding() -> str:
    """What fusion gained, in two sentences."""
    four, six = (read(f"lite_{bands}bands.json") for bands in (4, 6))
    skips = [stored["summary_of_skip"][PSNR]["mean"] for stored in (six, four)]
    gains = [
        one["summary"][PSNR]["mean"] - skip for one, skip in zip((six, four), skips, strict=True)
    ]
    return paragraph(
        "**The finding.** On a region of one scene on which nothing was fitted (Indian Pines, "
        "144 × 44 pixels; scale 4, no noise), S³RNet `lite` reaches "
        f"{mean_and_deviation(six['summary'][PSNR])} dB of pooled PSNR with six Landsat bands and "
        f"{mean_and_deviation(four['summary'][PSNR])} dB with four "
        f"({len(six['networks'])} seeds each), where bicubic interpolation has "
        f"{six['baselines']['bicubic'][PSNR]:.2f} dB and the best of {len(baselines.NAMES)} "
        "classical methods "
        f"{results.best_classical(6)[1]:.2f} and {results.best_classical(4)[1]:.2f} dB. Most of "
        "that is the work of a closed form inside the model, which alone has "
        f"{skips[0]:.2f} and {skips[1]:.2f} dB: the network adds {gains[0]:.1f} and "
        f"{gains[1]:.1f} dB. {_elsewhere()}"
    )


def _elsewhere() -> str:
    lite = [
        row for row in elsewhere.summary(read("scenes.json")["rows"]) if row["method"] == "lite"
    ]
    means = ", ".join(f"{row[f'mean_{PSNR}']:+.1f}" for row in lite)
    bands = ", ".join(str(row["msi_bands"]) for row in lite)
    worst = min(row[f"worst_{PSNR}"] for row in lite)
    return (
        f"On six real scenes (one half to learn, one to test; {len(elsewhere.SEEDS)} seeds; "
        f"settings from left halves) `lite` leads the best classical method by {means} dB on "
        f"average with {bands} bands, at worst by {worst:+.1f}."
    )


def index() -> str:
    """The chapters: title, question, measured run time."""
    rows = []
    for path in chapters():
        notebook = nbformat.read(path, as_version=4)
        head = notebook.cells[0].source
        title = re.search(r"^# (.+)$", head, re.MULTILINE)[1]
        question = re.search(r"^\*\*Question\.\*\* (.+)$", head, re.MULTILINE)[1]
        seconds = f"{notebook.metadata['measured_seconds']} s"
        rows.append([f"[{title}](notebooks/{path.name})", question, seconds])
    return table(["chapter", "question", "on two cores"], rows, 2)


def findings() -> str:
    """Five findings with their scope and a link to the chapter of each."""
    texts = (_damage, _three_psnrs, _eleven_networks, _noise, _energy)
    return "\n".join(paragraph(text(), f"{number}. ") for number, text in enumerate(texts, start=1))


def _damage() -> str:
    return (
        "**The copy of Indian Pines in `tensorly` is damaged.** Every byte 13 became a 10, so "
        "2.5 % of its numbers are 768 too small. Chapter [01](notebooks/01_degradation.ipynb) "
        "repairs them; [data/README.md](data/README.md) has a check for other copies."
    )


def _three_psnrs() -> str:
    shipped = read("lite_6bands.json")["networks"][0]
    low, middle, high = sorted(value for key, value in shipped.items() if key.endswith("_peak"))
    return (
        f"**One image has {low:.2f}, {middle:.2f} or {high:.2f} dB**, by the definition of PSNR "
        "(the shipped model's, six bands). Chapter [02](notebooks/02_metrics_and_baselines.ipynb) "
        "shows rankings that change with it."
    )


def _eleven_networks() -> str:
    (first, best, _), (second, next_best, _), *_, (_, worst, _) = studies.ranking("common", 4)
    (_, published, _), *_, (_, published_worst, _) = studies.ranking("published", 4)
    return (
        "**Here the closed form in the recipe decides more than the network.** After 60 "
        "CPU-seconds with four bands and one recipe, eleven networks lie between "
        f"{worst:.2f} and {best:.2f} dB; the closed form alone has {studies.skip_alone(4):.2f} dB. "
        f"With their papers' recipes they lie between {published_worst:.2f} and {published:.2f} "
        f"dB. {first} leads {second} by {best - next_best:.2f} dB, and was tuned more than its "
        "peers. Chapter [09](notebooks/09_peers_table1.ipynb)."
    )


def _noise() -> str:
    (rank35, own35, *_), (rank15, own15, *_) = (
        studies.rank_with_noise("bare", "35 dB", snr) for snr in (35, 15)
    )
    control = studies.noisy_psnr(studies.methods()[robustness.CONTROL], None)
    filtered = studies.noise_runs("denoised", "random").values()
    return (
        "**Trained with 35 dB noise, S³RNet does well; a filter does more.** Without the closed "
        f"form (six bands, 60 CPU-seconds, one seed) it ranks {rank35} of 11 at 35 dB "
        f"({own35:.2f} dB) and {rank15} of 11 at 15 dB ({own15:.2f} dB). A regression that never "
        f"sees the noisy image has {control:.2f} dB. Behind a Wiener filter and with the closed "
        "form, all eleven have "
        f"{min(studies.noisy_psnr(run, 15) for run in filtered):.2f} dB or more at 15 dB. Chapter "
        "[11](notebooks/11_robustness_table2.ipynb)."
    )


def _energy() -> str:
    known = read("demands.json")
    own, bare = (
        [row["psnr_under_noise"][-1] for row in known["rows"] if row["name"] == name]
        for name in ("energy concentrated", "bare")
    )
    return (
        "**Energy in few channels (Fig. 1) is no property of what a network computes.** Channels "
        "rotated, and turned back in the next layer, change energies and not the image. "
        f"Trained to concentrate ({len(own)} seeds, no skip): "
        f"{statistics.fmean(own) - statistics.fmean(bare):+.1f} dB at {known['snr_db'][-1]:.0f} dB "
        "noise. Chapter [07](notebooks/07_energy_fig1.ipynb)."
    )


PARTS = {"finding": finding, "chapter index": index, "findings": findings}


def markers(name: str) -> tuple[str, str]:
    """The comments between which a generated part stands."""
    return f"<!-- {name}: generated by `make notebooks` -->", f"<!-- end of {name} -->"


def write() -> None:
    """Write figures/readme.png, the generated parts of README.md, and the pages of results."""
    drawn, metadata = picture.draw(), {"Software": None}
    atomic.write_file(FIGURE, lambda name: drawn.savefig(name, dpi=110, metadata=metadata))
    text = FILE.read_text(encoding="utf-8")
    for name, part in PARTS.items():
        begin, end = markers(name)
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{part()}\n{end}{rest.split(end)[1]}"
    atomic.write_text(FILE, text)
    atomic.write_text(results.FILE, results.page())
    atomic.write_text(form_results.FILE, form_results.page())
