"""The course as a web site, made by Sphinx and MyST-NB from the files as they lie: `make book`."""

import json
import shutil
from pathlib import Path
from s3rnet_lite import CLASSES, MODULES

project = "S³RNet, rebuilt and questioned"
copyright = "MIT licence"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx-mathjax-offline"]
root_doc = "README"
include_patterns = [
    "README.md",
    "notebooks/[0-9]*.ipynb",
    "notebooks/LECTURERS.md",
    "notebooks/book/api.md",
    "data/README.md",
    "data/results/README.md",
    "data/results/paper_form.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
]
exclude_patterns = [".venv", "runs"]
nb_execution_mode = "off"  # what is stored is shown
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_inherit_docstrings = False
html_theme = "furo"
html_title = project
html_theme_options = {"light_css_variables": {"code-font-size": "74%"}}  # 100 letters a line
html_static_path = html_css_files = ["book.css"]
html_show_sphinx = False
html_copy_source = False

CONTENTS = """
```{toctree}
:hidden:
:caption: Chapters
:glob:
notebooks/[0-9]*
```
```{toctree}
:hidden:
:caption: Tables and package
data/results/README
data/results/paper_form
data/README
notebooks/book/api
notebooks/LECTURERS
CONTRIBUTING
CHANGELOG
```
"""


def add_contents(app, page: str, source: list[str]) -> None:
    """Give the front page a table of contents, the API page its names, and pictures their alt."""
    if page == "README":
        labs = "[notebooks/labs](notebooks/labs)"  # a folder, which a site cannot show
        source[0] = source[0].replace(labs, "`notebooks/labs`") + CONTENTS
    elif page == "notebooks/book/api":
        names = {**CLASSES, **MODULES}
        source[0] += "".join(_documented(name, path) for name, path in names.items())
    elif str(app.env.doc2path(page)).endswith(".ipynb"):
        source[0] = _with_alt_texts(source[0])


def _documented(name: str, path: str) -> str:
    """A heading and the directive that reads the docstrings."""
    kind, full = ("class", f"{path}.{name}") if name in CLASSES else ("module", path)
    options = f"   :members:\n   :exclude-members: {', '.join(CLASSES)}"
    return f"\n## {name}\n\n```{{eval-rst}}\n.. auto{kind}:: s3rnet_lite.{full}\n{options}\n```\n"


def as_written(app, what, name, obj, options, lines: list[str]) -> None:
    """Show docstrings as `help()` does: they are plain text, no markup."""
    lines[:] = [".. code-block:: text", "", *(f"   {line}" for line in lines), ""]


def _with_alt_texts(source: str) -> str:
    """Hand the alt text that a figure carries to MyST-NB, which looks for it in the cell."""
    notebook = json.loads(source)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                alt = output["metadata"].get("image/png", {}).get("alt", "figure")
                cell["metadata"]["mystnb"] = {"image": {"alt": alt}}
    return json.dumps(notebook)


def copy_front_page(app, exception) -> None:
    """Servers look for index.html."""
    if not exception:
        folder = Path(app.outdir)
        shutil.copy(folder / "README.html", folder / "index.html")


def setup(app) -> None:
    app.connect("source-read", add_contents)
    app.connect("autodoc-process-docstring", as_written)
    app.connect("build-finished", copy_front_page)
