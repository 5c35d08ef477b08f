"""Attack whatever writes and reads for some minutes, and count what came of it: `make campaign`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import torch
from campaigns import attacks, children, damage, subjects

from s3rnet_lite.files import atomic, provenance

SHARE = {"kill": 4, "no room": 2}  # of the time; the others: 1


def jobs(inputs: Path, folder: Path, quick: bool) -> dict[str, Callable[[Random], Iterator]]:
    """Name of the attack -> what runs it once."""
    known = [s for s in subjects.subjects(inputs) if not quick or s.name in subjects.QUICK]
    for subject in known:
        subject.learn(folder)
    resumable = [s for s in known if s.resumable]
    on_subjects = {
        "kill": (attacks.kills, known),
        "two at once": (attacks.crowds, known),
        "no room": (attacks.no_room, known),
        "damaged state": (attacks.damaged_states, resumable),
    }
    found = {
        name: lambda chance, a=attack, which=which: a(chance.choice(which), folder, chance)
        for name, (attack, which) in on_subjects.items()
    }
    return found | {
        "damaged image": lambda chance: damage.damaged_images(folder, chance),
        "damaged store": lambda chance: damage.damaged_stores(inputs, folder, chance),
        "nonsense": lambda chance: attacks.nonsense(inputs, folder, chance),
    }


def campaign(given: argparse.Namespace, root: Path) -> tuple[dict, list[str]]:
    """Counts by attack and outcome, and the faults found."""
    inputs, folder = root / "inputs", root / "work"
    inputs.mkdir()
    for made in (lambda: subjects.make_inputs(inputs), subjects.make_data_set(inputs)):
        if (ended := children.run(made, root)).code:
            raise RuntimeError(ended.text)
    todo = jobs(inputs, folder, given.quick)
    todo = {name: todo[name] for name in given.attack or todo}
    counts: dict[str, Counter] = {name: Counter() for name in todo}
    spent = dict.fromkeys(todo, 0.0)
    faults, end, number = [], time.monotonic() + 60 * given.minutes, 0
    while time.monotonic() < end:
        name, number = min(spent, key=lambda name: spent[name] / SHARE.get(name, 1)), number + 1
        began = time.monotonic()
        for word, fault in todo[name](Random(f"{given.seed} {number}")):
            counts[name][word] += 1
            if fault:
                faults.append(f"{name}, seed {given.seed}, number {number}: {word}: {fault}")
                print(faults[-1], flush=True)
        spent[name] += time.monotonic() - began
    return {name: dict(sorted(found.items())) for name, found in counts.items()}, faults


def main() -> int:
    """Read the arguments; 1 if a fault was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="leave out commands that take long")
    parser.add_argument("--attack", nargs="+", help="these only: kill, nonsense, ...")
    parser.add_argument("--out", type=Path, help="JSON file for the counts")
    given, began = parser.parse_args(), time.perf_counter()
    torch.set_num_threads(1)
    os.umask(0o022)
    print(f"seed {given.seed}, {given.minutes:g} minutes", flush=True)
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)  # a child gives up its rights and still enters
        counts, faults = campaign(given, Path(root))
    for name, found in counts.items():
        print(f"{name:15}", ", ".join(f"{word} {count}" for word, count in found.items()))
    if given.out:
        facts = provenance.facts(given.seed, time.perf_counter() - began)
        facts["command"] = "make campaign"
        content = {"counts": counts, "faults": len(faults), "provenance": facts}
        atomic.write_json(given.out, content)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
