"""Damaged files, and what comes of reading them."""

from __future__ import annotations

import re
import shutil
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from campaigns.children import run
from campaigns.subjects import image_writers

from s3rnet_lite import training
from s3rnet_lite.files import formats
from s3rnet_lite.training import dataset

Outcome = tuple[str, str]  # what came of a try, and the fault's description, "" if it is none
BATCH = 25  # damaged files a child


def damage(content: bytes, chance: Random) -> bytes:
    """A few bytes flipped, left out, inserted or repeated, or the end cut off."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8))):
        place = chance.choice((len(changed), 64, 512))
        place = chance.randrange(max(1, min(place, len(changed))))
        length = chance.choice((1, 4, 100))
        how = chance.choice(("flip", "set", "insert", "leave out", "repeat", "cut"))
        if how == "flip" and changed:
            changed[place] ^= 1 << chance.randrange(8)
        elif how == "set":
            changed[place : place + length] = bytes([chance.choice((0, 255))]) * length
        elif how == "insert":
            changed[place:place] = chance.randbytes(length)
        elif how == "leave out":
            del changed[place : place + length]
        elif how == "repeat":
            changed[place:place] = changed[place : place + length]
        elif how == "cut":
            del changed[place:]
    return bytes(changed)


def damaged_images(folder: Path, chance: Random) -> Iterator[Outcome]:
    """Damaged files of one image format are read, or refused by name."""
    name, write = chance.choice(list(image_writers().items()))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = write(folder)
    files = [one for one in folder.iterdir() if one.is_file()]
    yield from tries(name, lambda: formats.open_cube(path).read().sum(), files, chance)


def damaged_stores(inputs: Path, folder: Path, chance: Random) -> Iterator[Outcome]:
    """A damaged model or prepared data set is refused by name, or gives what a whole one gives."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(inputs, folder)

    def model() -> str:
        one = training.load_checkpoint(folder / "model.safetensors")
        return repr((one.state_dict(), one.degrade.card(), one.scaling, one.skip, one.network))

    def prepared() -> str:
        data = dataset.load(folder / "set")
        patches = [dataset.references(folder / "set", part) for part in ("train", "val", "test")]
        scene = dataset.scene(folder / "set", "val", 0)
        return repr((patches, data.parts, data.degradation(4).card(), scene))

    if chance.random() < 0.5:
        files = [folder / "model.safetensors", folder / "model.json"]
        yield from tries("model", model, files, chance, model())
    else:
        files = [p for p in (folder / "set").rglob("*") if p.suffix in (".npy", ".json")]
        yield from tries("prepared", prepared, files, chance, prepared())


def tries(
    name: str, use: Callable, files: list[Path], chance: Random, right: str | None = None
) -> Iterator[Outcome]:
    """Damage one of the files and use them, many times in one child; if it is known what is right,
    other results are faults.
    """
    whole = {path: path.read_bytes() for path in files}

    def child() -> None:
        for _ in range(BATCH):
            path = chance.choice(files)
            content = damage(whole[path], chance)
            path.write_bytes(content)
            print(f"\x1etrying {path.name}, damaged: {content[:3000]!r}\x1f", end="", flush=True)
            print("\x1e" + used(use, path, right), end="\x1f", flush=True)
            path.write_bytes(whole[path])

    ended = run(child, files[0].parent)
    lines = re.findall("\x1e(.*?)\x1f", ended.text, re.DOTALL)
    for trying, result in zip(lines[::2], lines[1::2], strict=False):
        word, _, text = result.partition("|")
        yield word, f"{name}: {text} ({trying})" if text else ""
    if ended.code:
        yield "crashed", f"{name}: {ended.code}, {ended.text[-1500:]} ({lines[-1:]})"


def used(use: Callable, path: Path, right: str | None) -> str:
    """What came of using a damaged file: a word, | and the fault, if any."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = use()
    except (ValueError, OSError) as error:
        named = any(part in str(error) for part in (path.name, path.stem))
        return "refused|" if named else f"unnamed|{type(error).__name__}: {error}"
    except BaseException as error:
        where = traceback.format_exc()[-1200:]
        return f"other exception|{type(error).__name__}: {error} {where}"
    if right is not None and found != right:
        return "believed|gave something else"
    return "read|"
