"""The book: built without a warning, complete in itself, and no link leads nowhere."""

import subprocess
import sys
from html.parser import HTMLParser

import pytest

from s3rnet_lite.files.provenance import REPOSITORY

for needed in ("sphinx", "myst_nb", "furo"):
    pytest.importorskip(needed, reason=f"{needed} comes with `make book`")

pytestmark = pytest.mark.slow  # twenty seconds
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src"}


class Page(HTMLParser):
    """What one page fetches, links to, and can be linked at, and its pictures' alt texts."""

    def __init__(self, path):
        super().__init__()
        self.path, self.fetched, self.links, self.anchors, self.alts = path, [], [], {""}, []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors.add(found.get("id"))
        if FETCHED.get(tag) in found:
            self.fetched.append(found[FETCHED[tag]])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "img":
            self.alts.append(found.get("alt"))


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """All pages by their paths."""
    out = tmp_path_factory.mktemp("book")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-c", "notebooks/book"]
    command += ["-d", out / "cache", ".", out / "site"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {path: Page(path) for path in (out / "site").rglob("*.html")}


def test_nothing_comes_from_another_site(pages):
    fetched = {target for page in pages.values() for target in page.fetched}
    assert any("mathjax" in target for target in fetched)
    assert [target for target in fetched if target.startswith(("http:", "https:", "//"))] == []


def test_links_lead_somewhere(pages):
    for path, page in pages.items():
        for link in [*page.links, *page.fetched]:
            if link.startswith(("http", "data:")):
                continue
            target, _, anchor = link.partition("#")
            found = (path.parent / target.partition("?")[0]).resolve() if target else path
            assert found.exists(), f"{path}: {link}"
            if found in pages:
                assert anchor in pages[found].anchors, f"{path}: {link}"


def test_pictures_have_a_text_and_flipbooks_their_script(pages):
    [chapter] = [page for path, page in pages.items() if path.name == "07_energy_fig1.html"]
    assert len(chapter.alts) >= 3 and all(chapter.alts)
    assert not any(alt.endswith(".png") for alt in chapter.alts)
    text = chapter.path.read_text()
    assert "const FRAMES" in text and 'class="math' in text


def test_the_front_page_is_also_the_index(pages):
    names = {path.name for path in pages}
    assert {"index.html", "README.html", "search.html"} <= names
