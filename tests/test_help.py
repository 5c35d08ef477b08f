"""What the command line says of itself."""

import json
import re
import shlex
import subprocess
import sys
from importlib import metadata

import pytest

from s3rnet_lite import robustness, sensors, training
from s3rnet_lite.__main__ import main
from s3rnet_lite.experiments import commands, comparison
from s3rnet_lite.files import command_line
from s3rnet_lite.files.command_line import COMMANDS
from s3rnet_lite.files.provenance import REPOSITORY
from s3rnet_lite.inference import adaptation, tiling
from s3rnet_lite.network.s3rnet import PRESETS
from s3rnet_lite.peers import registry
from s3rnet_lite.training import flight_lines, fusion


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["s3rnet-lite", command, "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    text = capsys.readouterr().out
    assert f"usage: s3rnet-lite {command} " in text and f"\nExample: s3rnet-lite {command}" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_example_of_a_command_is_a_line_that_it_takes():
    for one in COMMANDS.values():
        assert command_line.parser("s3rnet-lite", "").parse_args(one.example.split())


@pytest.mark.parametrize(
    "chapter", sorted((REPOSITORY / "notebooks").glob("[0-9]*.ipynb")), ids=lambda x: x.stem
)
def test_the_commands_that_a_chapter_shows_are_lines_that_are_taken(chapter):
    for cell in json.loads(chapter.read_text(encoding="utf-8"))["cells"]:
        for block in re.findall(r"```bash\n(.*?)```", "".join(cell["source"]), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("s3rnet-lite "):
                    arguments = command_line.parser("", "").parse_args(shlex.split(line)[1:])
                    command_line.check_outputs(arguments)


def test_without_a_command_the_commands_are_listed(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["s3rnet-lite"])
    assert main() == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^    {command}\b", text, re.MULTILINE) for command in COMMANDS)


def test_the_commands_stand_in_groups_the_main_ones_first():
    listed = [name for names in command_line.GROUPS.values() for name in names]
    assert sorted(listed) == sorted(COMMANDS)
    text = command_line.parser("s3rnet-lite", "").format_help()
    places = [text.index(f"\n    {name}") for name in listed]
    titles = [text.index(f"\n  {title}:\n") for title in command_line.GROUPS]
    assert places == sorted(places) and titles == sorted(titles)
    firsts = [names[0] for names in command_line.GROUPS.values()]
    assert all(a < text.index(f"\n    {b}") for a, b in zip(titles, firsts, strict=True))


def test_the_version_is_the_packages(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["s3rnet-lite", "--version"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert capsys.readouterr().out == f"{metadata.version('s3rnet-lite')}\n"


def test_help_needs_no_heavy_package():
    code = "import sys; sys.argv[1:] = ['--help']\nfrom s3rnet_lite.__main__ import main\n"
    code += "try: main()\nexcept SystemExit: print(sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "robustness" in shown.stdout and "'s3rnet_lite.files'" in shown.stdout
    heavy = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "tqdm", "nbformat")
    assert not any(f"'{name}'" in shown.stdout for name in heavy)


def test_the_choices_are_those_of_the_package():
    assert set(command_line.PRESETS) == set(PRESETS) == set(training.CONFIGS)
    assert command_line.SKIPS == fusion.SKIPS
    assert sensors.MSI_BANDS == command_line.MSI_BANDS
    assert command_line.NETWORKS == registry.NAMES
    assert tuple(comparison.RECIPES) == commands.RECIPES
    assert tuple(robustness.RECIPES) == commands.NOISES
    [scaling] = [how for names, how in COMMANDS["prepare"].options if names == ("--scaling",)]
    assert scaling["choices"] == tuple(flight_lines.SCALINGS)
    assert all(str(share) in scaling["help"] for share in flight_lines.SCALINGS["percentile"])
    defaults = {
        names[0]: settings.get("default")
        for names, settings in COMMANDS["fuse"].options + COMMANDS["adapt"].options
    }
    assert defaults["--tile"] == tiling.TILE and defaults["--steps"] == adaptation.CONFIG.steps
