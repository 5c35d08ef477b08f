"""Numbers are checked where they are read, outputs before a command runs."""

import argparse
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite.files import command_line
from s3rnet_lite.files.command_line import check_outputs, limited


@given(st.floats(), st.floats(-100, 0), st.floats(0, 100))
def test_a_number_is_finite_and_within_its_limits_or_refused(value, low, high):
    if math.isfinite(value) and low <= value <= high:
        assert limited(float, low, high)(repr(value)) == value
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="expected a number"):
            limited(float, low, high)(repr(value))


@pytest.mark.parametrize("text", ["", "one", "1.5", "nan", "inf", "0", "11"])
def test_what_is_no_whole_number_within_the_limits_is_quoted(text):
    message = f"expected a whole number from 1 to 10, got {text!r}"
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        limited(int, 1, 10)(text)


def test_outputs_are_compared_with_all_other_paths_of_the_command(tmp_path, monkeypatch):
    options = (
        command_line.path("--data", "read"),
        command_line.output("--out", "written", (".json",)),
    )
    monkeypatch.setitem(command_line.COMMANDS, "try", command_line.Command(print, options, "try"))
    (tmp_path / "a.json").touch()

    def arguments(out: str) -> argparse.Namespace:
        return argparse.Namespace(command="try", data=tmp_path / "a.json", out=tmp_path / out)

    check_outputs(arguments("b.json"))
    with pytest.raises(ValueError, match=r"a\.json: belongs to"):
        check_outputs(arguments("a.json"))
    with pytest.raises(ValueError, match=r"ends in \.json"):
        check_outputs(arguments("b.npy"))
