"""The front door: what README.md and its neighbours say is generated from what is stored, their
links and commands lead somewhere, and their code runs.
"""

import ast
import fnmatch
import re
import subprocess
import sys

import pytest
import torch
import yaml

from s3rnet_lite import S3RNet
from s3rnet_lite.course import form_results, readme, results
from s3rnet_lite.files.provenance import DATA_FOLDER, REPOSITORY

PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "notebooks/LECTURERS.md")
PAGES += ("data/README.md", "data/results/README.md", "data/results/paper_form.md")
every_page = pytest.mark.parametrize("page", PAGES)
README = readme.FILE.read_text()


@pytest.mark.parametrize("name", readme.PARTS)
def test_the_generated_parts_of_the_readme_are_current(name):
    begin, end = readme.markers(name)
    assert README.split(begin)[1].split(end)[0].strip() == readme.PARTS[name]()


@pytest.mark.parametrize("page", [results, form_results])
def test_the_pages_of_results_are_current(page):
    assert page.FILE.read_text() == page.page()


def test_pages_stay_short():
    assert len(README.splitlines()) <= 120
    assert len(results.FILE.read_text().splitlines()) <= 300
    assert len(form_results.FILE.read_text().splitlines()) <= 300


@every_page
def test_links_lead_somewhere(page):
    path = REPOSITORY / page
    for target, anchor in re.findall(r"\]\(([^)#:]+)(#[^)]*)?\)", path.read_text()):
        found = path.parent / target
        assert found.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert anchor[1:] in {head.lower().replace(" ", "-") for head in heads}, anchor


@every_page
def test_the_make_targets_exist(page):
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", (REPOSITORY / page).read_text(), re.MULTILINE))
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert named <= set(targets)


def test_the_commands_exist():
    text = "".join((REPOSITORY / page).read_text() for page in PAGES)
    command = [sys.executable, "-m", "s3rnet_lite", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"s3rnet-lite ([a-z][a-z-]+)", text))
    assert named <= set(re.findall(r"^ +([a-z-]+)", shown, re.MULTILINE))


def test_the_six_lines_of_python_give_the_stored_score(capsys):
    [code] = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    assert len(ast.parse(code).body) == 6
    with torch.no_grad():
        exec(code, {})
    printed = ast.literal_eval(capsys.readouterr().out)
    stored = results.read("lite_6bands.json")["networks"][0]
    for metric, value in printed.items():
        if metric != "rmse":  # stored in radiance
            assert value == pytest.approx(stored[metric], rel=1e-3)


def test_the_paper_preset_has_the_size_that_the_readme_gives():
    with torch.device("meta"):
        network = S3RNet.from_preset("paper", hsi_bands=172, msi_bands=4)
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert f"{millions:.2f} million" in README


def test_the_tables_of_data_name_every_file_once():
    tables = (DATA_FOLDER / "README.md").read_text().split("## The scene")[0]
    patterns = re.findall(r"^\| `([^`]+)` \|", tables, re.MULTILINE)
    listed = subprocess.run(
        ["git", "-C", DATA_FOLDER, "ls-files"], capture_output=True, text=True, check=True
    ).stdout.split()
    matches = {file: [one for one in patterns if fnmatch.fnmatch(file, one)] for file in listed}
    assert {file: found for file, found in matches.items() if len(found) != 1} == {}
    assert {one for found in matches.values() for one in found} == set(patterns)


def test_the_citation_file_names_this_version_and_the_paper():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    project = (REPOSITORY / "pyproject.toml").read_text()
    assert citation["cff-version"] == "1.2.0" and citation["title"] and citation["message"]
    assert f'version = "{citation["version"]}"' in project
    assert f'license = "{citation["license"]}"' in project
    [holder] = re.findall(r"Copyright \(c\) \d+ (.+)", (REPOSITORY / "LICENSE").read_text())
    assert citation["authors"] == [{"name": holder}]
    [paper] = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Lee", "Lin", "Kang", "Hsu"]
    assert paper["url"] in README
