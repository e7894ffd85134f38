"""What several test files share: a tiny book, the real book built once, a browser, a replication to judge."""

import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from filelock import FileLock
from playwright.sync_api import sync_playwright
from xdist.scheduler import LoadFileScheduling

from tests.built_book import BOOK, CHROMIUM, WIDTHS
from tests.made_up_claims import Toy
from tests.tiny_book import TinyBook

WATCHED = Path(__file__).parent / "fixtures/watched"
# Each keeps one process busy for minutes; started last, it would be what the others wait for.
LONGEST_FILES = ("test_smoke.py", "test_book_browser.py", "test_new.py", "test_verify.py")


class OneFileOneProcess(LoadFileScheduling):
    """Let one process test a file, but each smoke run any that is free: together they take minutes of one core."""

    def _split_scope(self, nodeid):
        return nodeid if "/test_smoke.py::" in nodeid else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return OneFileOneProcess(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST_FILES)


@pytest.fixture
def tiny(tmp_path):
    return TinyBook(tmp_path)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    toy = Toy(tmp_path)
    monkeypatch.setitem(sys.modules, toy.estimands.__name__, toy.estimands)
    monkeypatch.chdir(tmp_path)
    return toy


@pytest.fixture
def sockets(tmp_path, monkeypatch):
    """The file in which every Python that is started notes what it would ask another machine."""
    noted = tmp_path / "sockets"
    noted.touch()
    monkeypatch.setenv("WATCHED", str(noted))
    monkeypatch.setenv("PYTHONPATH", str(WATCHED))
    return noted


@pytest.fixture(scope="session")
def html_folder(tmp_path_factory):
    """Build the real book strictly, from the committed results: once, also where several processes test."""
    folder = tmp_path_factory.getbasetemp()
    # The processes of pytest-xdist have folders of their own in one that they share.
    output = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "book"
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [sys.executable, jupyter_book, "build", BOOK, "--path-output", output]
    strictly = ["--all", "-W", "-n", "--keep-going"]
    # It may ask no other machine: that would be an error, see `sockets`.
    watched = {"PYTHONPATH": str(WATCHED), "WATCHED": f"{output}.sockets"}
    with FileLock(f"{output}.lock"):
        if not (output / "built").exists():
            done = subprocess.run(
                [*command, *strictly], env={**os.environ, **watched}, capture_output=True, text=True, check=False,
                timeout=900,
            )  # fmt: skip
            assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            (output / "built").touch()
    return output / "_build" / "html"


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="session")
def address(html_folder):
    """Serve the built book on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=html_folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser():
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--no-first-run", *quiet]
        )
        yield started
        started.close()


@pytest.fixture(scope="session")
def new_page(browser):
    """Open a page, whose `requested` lists every address it asked for; whoever opens it closes its context."""

    def opened(address, theme="light", width="wide", *, scripts=True, offline=False):
        viewport = {"width": WIDTHS[width], "height": 900}
        # With reduced motion no colour is caught half-way between two themes.
        settings = {"java_script_enabled": scripts, "offline": offline, "reduced_motion": "reduce"}
        page = browser.new_context(color_scheme=theme, viewport=viewport, **settings).new_page()
        page.requested = []
        page.on("request", lambda request: page.requested.append(request.url))
        page.goto(address, wait_until="networkidle")
        if not scripts:
            return page
        # On a busy machine the network falls idle before MathJax has started: window.MathJax is settings till then.
        started = "!document.querySelector('script[src*=mathjax i]') || window.MathJax?.startup?.promise"
        page.wait_for_function(started, timeout=120_000)
        page.evaluate("window.MathJax?.startup?.promise?.then(() => null)")
        return page

    return opened


@pytest.fixture
def open_page(new_page):
    """Open pages as `new_page` does, and close them after the test."""
    pages = []

    def opened(*arguments, **named):
        pages.append(new_page(*arguments, **named))
        return pages[-1]

    yield opened
    for page in pages:
        page.context.close()
