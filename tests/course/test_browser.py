"""A reader in JupyterLab: runs a chapter, moves its slider, saves, and finds it again tomorrow."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest

from s3rnet_lite.course.notebooks import chapters
from s3rnet_lite.files.provenance import REPOSITORY

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright comes with `make browser-test`"
)
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="neither chromium nor google-chrome on the path"),
]
SETTINGS = {  # every cell on the page, and no question to another site
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
TOKEN = secrets.token_hex()
KERNEL = "jupyterapp.shell.currentWidget.sessionContext"
LOADED = "images => images.every(one => one.complete && one.naturalWidth > 0)"


def chosen():
    """The two chapters that run fastest; all of them where ALL_CHAPTERS is set."""
    seconds = {p: nbformat.read(p, as_version=4).metadata["measured_seconds"] for p in chapters()}
    return (
        sorted(seconds) if os.environ.get("ALL_CHAPTERS") else sorted(seconds, key=seconds.get)[:2]
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The folder and the address of a JupyterLab that knows no settings but ours."""
    folder, own = tmp_path_factory.mktemp("course"), tmp_path_factory.mktemp("jupyter")
    for name, values in SETTINGS.items():
        file = own / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(values))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    places = {f"JUPYTER_{kind}_DIR": str(own / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    places |= {
        f"JUPYTERLAB_{kind.upper()}_DIR": str(own / kind) for kind in ("settings", "workspaces")
    }
    options = [f"--port={port}", "--port-retries=0", f"--IdentityProvider.token={TOKEN}"]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", *options]
    server = subprocess.Popen(
        [*command, "--expose-app-in-browser"],
        cwd=folder,
        env={**os.environ, **places, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stderr=(own / "log").open("w"),
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/api", server)
        yield folder, address
    finally:
        server.terminate()
        server.wait(timeout=60)


def wait_for(address, server, seconds=120):
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            return urllib.request.urlopen(address, timeout=5)
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(f"no answer from {address}")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        # Chromium refuses to start for root with its sandbox on
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        opened = started.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=not root)
        yield opened
        opened.close()


def open_chapter(browser, address, name):
    """A window that knows nothing of earlier ones, with the chapter in it and its kernel ready."""
    page = browser.new_context(viewport={"width": 1300, "height": 900}).new_page()
    page.set_default_timeout(300_000)
    page.goto(f"{address}/lab/tree/{name}?token={TOKEN}&reset")
    page.wait_for_selector(".jp-NotebookPanel-notebook .jp-Cell")
    page.wait_for_function(f"{KERNEL}?.session?.kernel?.connectionStatus == 'connected'")
    return page


def execute(page, command):
    """Run one of JupyterLab's commands to its end."""
    told = f"window.done = '{command}'"
    page.evaluate(f"void jupyterapp.commands.execute('{command}').then(() => {told})")
    page.wait_for_function(told.replace("=", "=="))


def looks_right(page, has_equations):
    text = page.inner_text("body").lower()
    assert "model not found" not in text and "error displaying widget" not in text
    page.wait_for_function("() => !document.querySelector('.jp-RenderedMarkdown:empty')")
    assert page.locator("mjx-merror, .MathJax_Error").count() == 0
    assert not has_equations or page.locator("mjx-container").count() > 0
    pictures = page.locator(".jp-OutputArea img")
    assert pictures.count() > 1 and pictures.evaluate_all(LOADED)


def move_by_keyboard(page):
    """The last flipbook's picture before and after an arrow key on its first control."""
    box = page.locator(".flipbook").last
    picture, control = box.locator("img"), box.locator("input, select").first
    before = picture.get_attribute("src")
    kind = control.evaluate("one => one.tagName")
    control.press("ArrowDown" if kind == "SELECT" else "ArrowRight")
    return before, picture.get_attribute("src")


@pytest.mark.parametrize("path", chosen(), ids=lambda path: path.stem)
def test_a_chapter_lives_in_jupyterlab(path, lab, browser):
    folder, address = lab
    shutil.copy(path, folder)
    sources = "".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    page = open_chapter(browser, address, path.name)
    execute(page, "notebook:run-all-cells")
    looks_right(page, "$$" in sources)
    before, after = move_by_keyboard(page)
    assert before != after
    execute(page, "docmanager:save")
    execute(page, "kernelmenu:shutdown")
    page.context.close()

    saved = nbformat.read(folder / path.name, as_version=4)
    kinds = [one.output_type for cell in saved.cells for one in cell.get("outputs", [])]
    assert kinds and "error" not in kinds
    again = open_chapter(browser, address, path.name)
    looks_right(again, "$$" in sources)
    before, after = move_by_keyboard(again)
    assert before != after
    again.context.close()
