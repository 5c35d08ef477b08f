"""The house: few rooms, imports that run downwards, small files, types and public names."""

import subprocess
import sys
from pathlib import Path

import pytest

import s3rnet_lite
from s3rnet_lite.files.provenance import REPOSITORY

PACKAGE = REPOSITORY / "s3rnet_lite"
FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))


def test_the_listing_of_the_package_shows_the_course():
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert len(entries) <= 14
    rooms = {entry for entry in entries if (PACKAGE / entry).is_dir()}
    tested = {path.name for path in (REPOSITORY / "tests").iterdir() if path.is_dir()}
    assert rooms <= tested


def test_imports_run_downwards():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_types_are_right():
    command = [sys.executable, "-m", "mypy", "--no-incremental"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "path", [*FILES, *TESTS], ids=lambda path: str(path.relative_to(REPOSITORY))
)
def test_a_file_is_one_room(path):
    assert len(path.read_text().splitlines()) <= 300


def test_few_lines_are_kept_from_the_formatter():
    assert sum("fmt:" + " skip" in path.read_text() for path in [*FILES, *TESTS]) <= 2


@pytest.mark.parametrize("name", s3rnet_lite.__all__)
def test_public_names_load(name):
    assert getattr(s3rnet_lite, name).__doc__


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        s3rnet_lite.nothing  # noqa: B018
    assert s3rnet_lite.__version__.count(".") == 2


def test_importing_the_package_imports_no_library():
    code = "import sys, s3rnet_lite; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
