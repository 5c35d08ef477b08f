"""A library that an extra brings is imported, or the extra is named."""

import pytest

from s3rnet_lite.files import extras


def test_a_missing_library_names_its_extra():
    assert extras.load("json").dumps([1]) == "[1]"
    with pytest.raises(ModuleNotFoundError, match=r"no_such_thing.*s3rnet-lite\[formats\]"):
        extras.load("no_such_thing.inner")
