"""Functions and commands run in a forked child: with limits, killed at a moment, or with less room
on the disk. A fork costs milliseconds where a new Python costs seconds.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from s3rnet_lite.__main__ import main

MEMORY = 2**30  # bytes beyond what the campaign has itself
NOBODY = 65534
PIPE = 2**20
COUNTED = ((os, ("fsync", "replace", "unlink", "rmdir")), (shutil, ("rmtree",)))


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    code: its exit status, 1 after an exception that nobody caught; minus the signal's number.
    calls: how often it flushed, renamed or removed something.
    """

    code: int
    text: str
    seconds: float
    calls: int

    @property
    def clean(self) -> bool:
        """Done, or refused with a message."""
        return self.code in (0, 2) and "Traceback" not in self.text


@dataclass(frozen=True)
class Child:
    """A function that runs in a process of its own."""

    pid: int
    pipe: int
    began: float

    def wait(self, kill_after: float = 120.0) -> Ended:
        """Its end, which comes after so many seconds at the latest."""
        text, deadline = b"", time.monotonic() + kill_after
        while select.select([self.pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            if not (part := os.read(self.pipe, PIPE)):
                break
            text += part
        else:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pipe)
        lines, _, calls = text.decode(errors="replace").rpartition("\ncalls ")
        seconds = time.monotonic() - self.began
        code = os.waitstatus_to_exitcode(status)
        if not calls.isdigit():
            return Ended(code, text.decode(errors="replace"), seconds, 0)
        return Ended(code, lines, seconds, int(calls))


def start(
    function: Callable[[], object],
    folder: Path,
    kill_at_call: int | None = None,
    largest_file: int | None = None,
    as_nobody: bool = False,
) -> Child:
    """Fork, limit the memory, and call the function with `folder` as the working folder.

    Args:
        kill_at_call: kill the child just before it flushes, renames or removes for the nth time.
        largest_file: bytes that a file may have; writing more fails as on a full disk.
    """
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE)
    began = time.monotonic()
    if pid := os.fork():
        os.close(writing)
        return Child(pid, reading, began)
    try:
        for stream in (1, 2):
            os.dup2(writing, stream)
        # new ones: the old may take what was a file for one that can be wound back
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", 1, closefd=False) for fd in (1, 2))
        os.chdir(folder)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        calls = count_calls(kill_at_call)
        if as_nobody:
            os.setuid(NOBODY)
        code = function() or 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(1, f"\ncalls {len(calls)}".encode())
    os._exit(code)


def count_calls(kill_at: int | None) -> list[str]:
    """A list that grows with every call; the process dies at that one of them."""
    calls: list[str] = []

    def counting(original: Callable) -> Callable:
        def call(*arguments, **settings):
            calls.append(original.__name__)
            if len(calls) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **settings)

        return call

    for module, names in COUNTED:
        for name in names:
            setattr(module, name, counting(getattr(module, name)))
    return calls


def command(*arguments) -> Callable[[], int]:
    """The command line with these arguments, to be run by `start`."""

    def run() -> int:
        sys.argv = ["s3rnet-lite", *map(str, arguments)]
        return main()

    return run


def run(function: Callable[[], object], folder: Path, **settings) -> Ended:
    """`start` and `wait`."""
    seconds = settings.pop("kill_after", 120.0)
    return start(function, folder, **settings).wait(seconds)
