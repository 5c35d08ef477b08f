"""Does it hold on other scenes? On every real scene at hand, one half to learn from and the other
to be tested on, and zero-shot; shown in data/results/README.md, with the network of
notebooks/09_peers_table1.ipynb.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .. import baselines, metrics, training
from ..files import atomic, provenance
from ..inference import adaptation
from ..network import s3rnet
from ..sensing import scenes
from ..sensing.degradation import Degradation, simulated
from ..sensing.scene import Scene
from ..training.fusion import FusionModel

FILE = provenance.RESULTS_FOLDER / "scenes.json"
MSI_BANDS = (1, 4, 6)
SEEDS = (0, 1, 2)
# what a CPU does in about a minute
CONFIG = replace(training.CONFIGS["lite"], steps=400, validate_every=400)
SCORES = ("psnr_pooled_scene_peak", "psnr_band_mean_scene_peak", "psnr_band_mean_band_peak")
SCORES += ("sam_degrees", "ergas", "ssim", "uiqi", "q2n")
# what is compared with the best classical method, and what is best of it
METRICS = {SCORES[0]: max, SCORES[1]: max, "sam_degrees": min}
METHODS = (*baselines.NAMES, "zero-shot", "lite", "adapt")


@dataclass(frozen=True)
class Case:
    """One half of a scene to learn from, the other to be tested on, and so many MSI bands."""

    learn: Scene
    test: Scene
    msi_bands: int
    degrade: Degradation

    @property
    def key(self) -> dict:
        """What tells it from other cases in the stored rows."""
        scene, half = self.test.name.split("/")
        return {"scene": scene, "tested": half, "msi_bands": self.msi_bands}


def halves(scene: Scene, scale: int = 4) -> tuple[Scene, Scene]:
    """The left and the right half, of heights and widths that the scale divides."""
    height, width = scene.cube.shape[1:]
    rows, half = slice(0, height // scale * scale), width // 2 // scale * scale
    left = scene.crop(rows, slice(0, half), f"{scene.name}/left half")
    return left, scene.crop(rows, slice(width - half, width), f"{scene.name}/right half")


def cases(found: list[Scene]) -> Iterator[Case]:
    """Both halves of every scene, with those numbers of MSI bands that its wavelengths allow."""
    for scene in found:
        yield from both_ways(*halves(scene))


def both_ways(one: Scene, other: Scene) -> Iterator[Case]:
    """Learn from the one and test on the other, and the reverse."""
    for learn, test in ((one, other), (other, one)):
        for bands in MSI_BANDS:
            try:
                yield Case(learn, test, bands, simulated(test, bands))
            except ValueError:  # visible and near infrared only, say
                continue


def find(folder: Path) -> tuple[list[Scene], dict[str, str]]:
    """Indian Pines and the scenes of `scenes.PUBLIC` whose known files lie in a folder, and the
    checksums of the files.

    Raises:
        FileNotFoundError: no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    found, checksums = [scenes.indian_pines()], {}
    for known in scenes.PUBLIC.values():
        paths = [folder] if known.kind == "tiles" else sorted(folder.glob("*"))
        for path in paths:
            if path.is_file() and known.is_the_known_copy(path):
                checksums[known.name] = known.sha256 or ""
            elif not (known.kind == "tiles" and any(path.glob("*.tif"))):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # bands without data
                found.append(scenes.public(known.name, path))
            break
    return found, checksums


def lite(case: Case, seed: int) -> torch.Tensor:
    """The lite model, trained on one half, of the other."""
    config = replace(CONFIG, seed=seed)
    torch.manual_seed(seed)
    network = s3rnet.S3RNet.from_preset("lite", len(case.learn.cube), case.msi_bands)
    crop = min(config.crop, *(side // 4 * 4 for side in case.learn.cube.shape[1:]))
    config = replace(config, crop=crop)
    history = training.fit(network, case.learn, case.learn, config, case.degrade, progress=False)
    return training.predict(history.model, case.test)[0]


def adapted(case: Case, seed: int) -> torch.Tensor:
    """`adapt` on the pair alone, which knows neither PSF nor SRF."""
    x_h, x_m = case.degrade(case.test.cube)
    config = replace(adaptation.CONFIG, seed=seed)
    return adaptation.adapt(x_h, x_m, config=config, progress=False).y_hat


def zero_shot(case: Case, others: list[Scene]) -> torch.Tensor:
    """A model that has learnt from the other scenes only, their bands nearest to this scene's,
    applied as it is; its network says nothing, since it knows these bands only.
    """
    seen = [matched(other, case.test) for other in others]
    network = s3rnet.S3RNet.from_preset("tiny", len(case.test.cube), case.msi_bands)
    model = FusionModel(network, case.degrade, "band", "details", seen)
    model.output_spread.zero_()
    return training.predict(model.eval(), case.test)[0]


def matched(other: Scene, scene: Scene) -> torch.Tensor:
    """The cube (C, H, W) of `other` with the bands nearest to those of `scene`."""
    distance = (other.wavelengths_nm - scene.wavelengths_nm[:, None]).abs()
    height, width = (side // 4 * 4 for side in other.cube.shape[1:])
    return other.cube[distance.argmin(1), :height, :width]


def covers(other: Scene, scene: Scene) -> bool:
    """Whether every band of `scene` has one of `other` within 15 nm."""
    distance = (other.wavelengths_nm - scene.wavelengths_nm[:, None]).abs()
    return bool((distance.min(1).values < 15).all())


def methods(case: Case, found: list[Scene]) -> Iterator[tuple[dict, Callable[[], torch.Tensor]]]:
    """What identifies a row beside the case, and what computes its image."""
    x_h, x_m = case.degrade(case.test.cube)
    for name in baselines.NAMES:
        yield {"method": name}, lambda name=name: baselines.run(name, x_h, x_m, case.degrade)
    own = case.key["scene"]
    others = [scene for scene in found if scene.name != own and covers(scene, case.test)]
    if others:
        yield {"method": "zero-shot"}, lambda: zero_shot(case, others)
    for seed in SEEDS:
        yield {"method": "lite", "seed": seed}, lambda seed=seed: lite(case, seed)
    yield {"method": "adapt", "seed": 0}, lambda: adapted(case, 0)


def run(folder: Path, out: Path = FILE, only: tuple[str, ...] = ()) -> dict:
    """Measure what is not stored yet, row by row, cheapest first; on one thread.

    Args:
        folder: with the files of `scenes.PUBLIC`.
        only: methods; all if empty.

    Raises:
        FileNotFoundError, ValueError: no such folder or method; `out` holds something else.
    """
    torch.set_num_threads(1)
    if unknown := set(only) - set(METHODS):
        raise ValueError(f"--method: expected some of {', '.join(METHODS)}, got {unknown.pop()!r}")
    content = atomic.resume(out) or {"rows": []}
    if "rows" not in content:
        raise ValueError(f"{out}: expected a file of earlier rows, got JSON without any")
    found, checksums = find(Path(folder))
    done = {_identity(row) for row in content["rows"]}
    jobs = [
        (order, case, row, work)
        for case in cases(found)
        for order, (row, work) in enumerate(methods(case, found))
        if not only or row["method"] in only
    ]
    for _, case, row, work in sorted(jobs, key=lambda job: job[0]):
        key = case.key | row
        if _identity(key) in done:
            continue
        began = time.process_time()
        try:
            y_hat = work()
        except ValueError as error:  # too small a pair, say
            result = {"refused": str(error)}
        else:
            scores = metrics.evaluate(y_hat, case.test.cube, case.degrade.scale)
            scores |= metrics.similarity(y_hat, case.test.cube)
            result = {name: scores[name] for name in SCORES}
        seconds = time.process_time() - began
        content["rows"].append(key | result | {"cpu_seconds": round(seconds, 2)})
        content |= {"sha256": checksums, "provenance": provenance.facts(list(SEEDS), seconds)}
        atomic.write_sealed(out, content)
        shown = {k: f"{v:.2f}" if isinstance(v, float) else v for k, v in result.items()}
        print(*key.values(), *list(shown.values())[:4], flush=True)
    return content


def _identity(row: dict) -> tuple:
    return tuple(row.get(name) for name in ("scene", "tested", "msi_bands", "method", "seed"))


def summary(rows: list[dict]) -> list[dict]:
    """By MSI bands and method: the number of halves, and mean and worst difference to the best
    classical method of each half and metric (dB; degrees of SAM: larger is worse).
    """
    by_half: dict[tuple, dict[str, list[dict]]] = {}
    for row in rows:
        if "refused" not in row:
            half = by_half.setdefault((row["msi_bands"], row["scene"], row["tested"]), {})
            half.setdefault(row["method"], []).append(row)
    found: dict[tuple, dict[str, list[float]]] = {}
    for (bands, _, _), half in by_half.items():
        for method, own in half.items():
            for metric, better in METRICS.items():
                classical = [half[name][0][metric] for name in baselines.NAMES if name in half]
                mean = sum(row[metric] for row in own) / len(own)
                gain = mean - better(classical)
                found.setdefault((bands, method), {}).setdefault(metric, []).append(gain)
    summaries = []
    for (bands, method), gains in sorted(found.items(), key=str):
        row = {"msi_bands": bands, "method": method, "halves": len(gains[SCORES[0]])}
        for name, values in gains.items():
            row[f"mean_{name}"] = sum(values) / len(values)
            row[f"worst_{name}"] = min(values) if METRICS[name] is max else max(values)
        summaries.append(row)
    return summaries


def table(path: Path = FILE) -> str:
    """`summary` of a stored file as text."""
    head = f"{'MSI bands, method':<28}{'halves':>7}" + "".join(
        f"{n:>22}" for n in ("pooled PSNR", "band-mean PSNR", "SAM")
    )
    lines = ["difference to the best classical method of each half: mean (worst)", head]
    for row in summary(json.loads(Path(path).read_text(encoding="utf-8"))["rows"]):
        cells = (f"{row[f'mean_{name}']:+.2f} ({row[f'worst_{name}']:+.2f})" for name in METRICS)
        name = f"{row['msi_bands']}, {row['method']}"
        lines.append(f"{name:<28}{row['halves']:>7}" + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)
