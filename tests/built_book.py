"""Readers of the real book: its source pages, and what the built HTML says. Nothing of the extension is used."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"


class PageReader(HTMLParser):
    """Collects what a page loads, what its scripts say, its live numbers, its anchors and its badges."""

    def __init__(self, path):
        super().__init__()
        self.loaded, self.scripts, self.numbers, self.links, self.ids, self.badges = [], [], [], [], set(), []
        self.provenance = []
        self.capture = None
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "embed", "object", "video", "audio", "link"):
            self.loaded += [attributes[key] for key in ("src", "href", "data", "srcset") if attributes.get(key)]
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        self.ids.add(attributes.get("id"))
        classes = (attributes.get("class") or "").split()
        self.capture = None
        if tag == "script":
            self.capture = self.scripts.append
        elif "data-address" in attributes:
            address, spec = attributes["data-address"], attributes["data-format"]
            self.capture = lambda text: self.numbers.append((address, spec, text))
            self.provenance.append(attributes.get("href"))
        elif "verdict" in classes:
            self.capture = self.badges.append

    def handle_data(self, data):
        if self.capture:
            self.capture(data)
            self.capture = None


def pages_of(folder):
    return sorted(path for path in folder.rglob("*.html") if "_static" not in path.parts)


def foreign(address):
    return re.match(r"(?:[a-z]+:)?//", address) is not None


def source_pages():
    pages = [path.relative_to(BOOK) for path in BOOK.rglob("*.md") if "_build" not in path.parts]
    return sorted(page.with_suffix("") for page in pages)


def written_text(page):
    """Return what was written for a page: its source and the errata that a directive prints on it."""
    text = (BOOK / page).with_suffix(".md").read_text()
    owner = page.name if page.parts[0] == "replications" else "*"
    files = sorted(ROOT.glob(f"replications/{owner}/errata.yaml")) if "```{errata}" in text else []
    return "\n".join([text, *(path.read_text() for path in files)])


def looked_up(address):
    """Read an address by other means than the extension: replace the claim's id by its place, then index."""
    file, path = address.split(":")
    content = json.loads((ROOT / "results" / f"{file}.json").read_text())
    steps = re.findall(r"[\w-]+", path)
    # A record of provenance has claims too: the hash of claims.yaml.
    claims = content.get("claims", [])
    ids = [claim["id"] for claim in claims] if isinstance(claims, list) else []
    if steps[0] in ids:
        content, steps = content["claims"][ids.index(steps[0])], steps[1:]
    for step in steps:
        content = content[int(step) if isinstance(content, list) else step]
    return content


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no browser: install Chromium (chromium, chromium-browser or google-chrome on PATH)"
)
THEMES = ("light", "dark")
WIDTHS = {"wide": 1400, "phone": 360}
