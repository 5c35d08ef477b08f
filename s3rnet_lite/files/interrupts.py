"""Ctrl-C and SIGTERM: at once, or, where work has to end whole, after the step at hand."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, taken as Ctrl-C is."""


def raise_for(number: int, _frame=None) -> None:
    """Raise what a signal means: what to give `signal.signal`."""
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def hear_sigterm() -> None:
    """Let SIGTERM interrupt this program as Ctrl-C does."""
    if threading.current_thread() is threading.main_thread():  # which alone hears signals
        signal.signal(signal.SIGTERM, raise_for)


@contextmanager
def after_the_step() -> Iterator[list[int]]:
    """A list that a signal joins instead of interrupting; at the end it does. A second signal
    interrupts at once.
    """
    asked: list[int] = []

    def note(number: int, frame) -> None:
        if asked:
            raise_for(number, frame)
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if asked:
        raise_for(asked[0])
