"""Kills, nonsense, crowds and full disks; every attack yields what came of each try."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from campaigns import children
from campaigns.children import Ended, command, run
from campaigns.damage import Outcome, damage
from campaigns.subjects import STALE, Subject

from s3rnet_lite.files.command_line import COMMANDS


def kills(subject: Subject, folder: Path, chance: Random) -> Iterator[Outcome]:
    """Killed at a random moment, or at a random call: what is there is old, new or nothing; going
    on gives what an undisturbed run gives, and nothing else is left.
    """
    prepare_folder(subject, folder, chance)
    at_call = chance.random() < 0.7
    if at_call:
        ended = run(subject.run, folder, kill_at_call=chance.randint(1, subject.calls[0]))
    else:
        ended = run(subject.run, folder, kill_after=chance.uniform(0, 1.1 * subject.seconds[0]))
    where = f"{subject.name} killed at call {ended.calls}" if at_call else subject.name
    if fault := half_written(subject, folder):
        yield "half written", f"{where}: {fault}"
    unfinished = any((folder / name).exists() for name in subject.resumable)
    again = run(subject.run, folder)
    yield gone_on(subject, folder, again, "gone on" if unfinished else "begun anew")


def prepare_folder(subject: Subject, folder: Path, chance: Random) -> None:
    """An empty folder, or one with older output."""
    if not os.path.ismount(folder):
        empty(folder)
    if subject.other is not None and chance.random() < 0.5:
        run(subject.other, folder)


def empty(folder: Path) -> None:
    """Make it an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def half_written(subject: Subject, folder: Path) -> str:
    """What is neither old nor new nor away, if anything; nor may old and new be mixed where a
    header or metadata file says that they belong together.
    """
    try:
        found = subject.content(folder)
    except Exception as error:
        return f"unreadable output ({type(error).__name__}: {error})"
    for group in subject.outputs:
        own = {name: found[name] for name in group if name in found}
        if set(own) & set(subject.resumable):
            continue
        for name, value in own.items():
            if value not in (subject.old.get(name), subject.new.get(name)):
                return f"{name} is neither old nor new"
        described = any(name.endswith((".hdr", ".json")) for name in own)
        if described and not any(own.items() <= one.items() for one in (subject.old, subject.new)):
            return f"old and new mixed in {sorted(own)}"
    return ""


def gone_on(subject: Subject, folder: Path, ended: Ended, word: str) -> Outcome:
    """Whether a later run came to the right end."""
    if ended.code:
        return "later run failed", f"{subject.name}: {ended.code}, {ended.text[-1500:]}"
    found = subject.content(folder)
    if found != subject.new:
        differing = [name for name, value in subject.new.items() if found.get(name) != value]
        return "other end", f"{subject.name}: {differing}"
    if left := stale(folder):
        return "stale files", f"{subject.name}: {left}"
    return word, ""


def stale(folder: Path) -> list[str]:
    """Temporary files that are left."""
    return [path.name for pattern in STALE for path in folder.rglob(pattern)]


def crowds(subject: Subject, folder: Path, chance: Random) -> Iterator[Outcome]:
    """Two at once with one output: one is refused, or the output is wholly that of one."""
    empty(folder)
    both = [children.start(run, folder) for run in (subject.run, subject.other or subject.run)]
    ends = [child.wait() for child in both]
    for ended in ends:
        if not ended.clean:
            yield "failed", f"two {subject.name}: {ended.text[-1500:]}"
    if all(ended.code for ended in ends):
        yield "both refused", f"two {subject.name}: {ends}"
    elif fault := half_written(subject, folder):
        yield "mixed", f"two {subject.name}: {fault}"
    elif left := [name for name in stale(folder) if not name.endswith(".partial")]:
        yield "stale files", f"two {subject.name}: {left}"
    else:
        yield "one refused" if any(ended.code for ended in ends) else "one after the other", ""


def no_room(subject: Subject, folder: Path, chance: Random) -> Iterator[Outcome]:
    """A small disk, a limit on the size of a file, or a read-only folder: a message, the old output
    whole, nothing half; with room it works.
    """
    with small_disk(folder) as resize:
        prepare_folder(subject, folder, chance)
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        words = ("full disk", "large file", "read-only")
        denied = os.geteuid() == 0 and subject.name != "labs"  # which import late
        word = chance.choice(words if denied else words[:2])
        limits = {"large file": {"largest_file": chance.randint(0, max(sizes, default=20_000))}}
        limits["read-only"] = {"as_nobody": True}
        if word == "full disk":
            if resize is None:
                return
            resize(sum(sizes) // 1024 + chance.randint(8, 2 * max(sizes, default=200_000) // 1024))
        ended = run(subject.run, folder, **limits.get(word, {}))
        if not ended.clean:
            yield "failed", f"{subject.name}, {word}: code {ended.code}, {ended.text[-1500:]}"
        if fault := half_written(subject, folder):
            yield "half written", f"{subject.name}, {word}: {fault}"
        if resize is not None:
            resize(2**16)
        again = run(subject.run, folder)
        yield gone_on(subject, folder, again, f"{word}, {'refused' if ended.code else 'enough'}")


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[int], object] | None]:
    """A disk of its own in this folder, and what gives it so many KiB; None where none may be
    mounted.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        yield None
        return

    def resize(kibibytes: int) -> None:
        options = f"remount,size={kibibytes}k"
        subprocess.run(["mount", "-o", options, str(folder)], check=True, capture_output=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def damaged_states(subject: Subject, folder: Path, chance: Random) -> Iterator[Outcome]:
    """Killed, and what the unfinished run keeps is damaged: refused, or the right end."""
    empty(folder)
    run(subject.run, folder, kill_at_call=chance.randint(1, subject.calls[0]))
    kept = [p for name in subject.resumable for p in (folder / name).parent.iterdir()]
    kept = [path for path in kept if path.suffix in (".json", ".safetensors", ".npy", ".img")]
    if not kept:
        return
    path = chance.choice(kept)
    path.write_bytes(content := damage(path.read_bytes(), chance))
    ended = run(subject.run, folder)
    if not ended.clean:
        yield "failed", f"{subject.name}, {path.name}: {ended.text[-1500:]}"
    elif ended.code:
        yield "refused", ""
    elif subject.content(folder) != subject.new:
        yield "believed", f"{subject.name}, {path.name}: {content[:3000]!r}"
    else:
        yield "right end", ""


BAD = ("", " ", "x", "-1", "0", "1", "3", "0.5", "nan", "inf", "-inf", "1e400", "9" * 30, "1e-400")
BAD += (".", "..", "none.npy", "none.hdr", "a b.json", "\n.json", "ü.safetensors", "x" * 300)
BAD += ("empty.npy", "folder.json", "text.hdr", "%s%n", "--", "-", "h.npy", "m.npy", "lite-6bands")
WRITE_ELSEWHERE = ("notebooks", "labs", "compare", "robustness", "deafness", "gpu", "skip-search")


def nonsense(inputs: Path, folder: Path, chance: Random) -> Iterator[Outcome]:
    """A command with bad values among its arguments: a usage message or one line of error."""
    empty(folder)
    shutil.copy(inputs / "h.npy", folder)
    shutil.copy(inputs / "m.npy", folder)
    (folder / "empty.npy").touch()
    (folder / "folder.json").mkdir()
    (folder / "text.hdr").write_text("ENVI\nsamples = x\n")
    name, arguments = chance.choice([*COMMANDS]), []
    for names, settings in COMMANDS[name].options:
        likely = 0.9 if settings.get("required") or not names[0].startswith("-") else 0.25
        if name == "compare-scenes" and names[0] == "--out":
            likely = 1  # else it writes into the repository
        if chance.random() < likely:
            arguments += [names[0]] if names[0].startswith("-") else []
            if settings.get("action") != "store_true":
                good = list(map(str, settings.get("choices") or [settings.get("default")]))
                arguments += [chance.choice(good if chance.random() < 0.3 else BAD)]

    def call() -> int:
        if name in WRITE_ELSEWHERE:

            def nothing(_arguments) -> None:
                """Nothing."""

            COMMANDS[name] = replace(COMMANDS[name], run=nothing)
        return command(name, *arguments)()

    ended = run(call, folder, kill_after=5)
    if ended.code == -9:
        yield "worked on until stopped", ""
    elif not ended.clean:
        yield "failed", f"{name} {arguments}: {ended.code}, {ended.text[-2500:]}"
    elif ended.code and "usage:" not in ended.text and len(errors(ended)) != 1:
        yield "not one line", f"{name} {arguments}: {ended.text[-1500:]}"
    else:
        yield "refused" if ended.code else "done", ""


def errors(ended: Ended) -> list[str]:
    """The lines of a message."""
    return [line for line in ended.text.splitlines() if line.startswith("error: ")]
