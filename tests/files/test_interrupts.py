"""A signal waits for the end of a step, and then interrupts; a second one does at once."""

import signal

import pytest

from s3rnet_lite.files import interrupts


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, interrupts.Terminated)],
)
def test_the_step_is_finished_first(number, error):
    before, done = signal.getsignal(number), []
    with pytest.raises(error) as raised, interrupts.after_the_step() as asked:
        assert not asked
        signal.raise_signal(number)
        assert asked == [number]
        done.append("step")
    assert done == ["step"] and type(raised.value) is error
    assert signal.getsignal(number) is before


def test_who_asks_twice_does_not_wait():
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts.after_the_step():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("step")
    assert not done


def test_without_a_signal_nothing_happens():
    before = signal.getsignal(signal.SIGINT)
    with interrupts.after_the_step() as asked:
        pass
    assert not asked and signal.getsignal(signal.SIGINT) is before
