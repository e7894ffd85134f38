"""From the files of a published package to the rows of a table; pure functions, one a format.

A parser is given (name, bytes) of the files that `data_sources.yaml` selects from one archive and yields dicts
with the columns of the table that the file itself holds (`split`, `source`, `licence` are added by the caller).
"""

import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache

from bs4 import BeautifulSoup
from bs4.element import NavigableString, Tag
from opencc_purepy import OpenCC

Files = Iterable[tuple[str, bytes]]
Row = dict[str, object]

MAX_PAGE_BYTES = 1 << 24

_HAN = "\u4e00-\u9fff"
_HAN_CHARACTER = re.compile(f"[{_HAN}]")
_WIDE = f"{_HAN}\u3000-\u303f\uff00-\uffef"
_WRAPPED = re.compile(rf"(?<=[{_WIDE}])[^\S\n]*\n\s*(?=[{_WIDE}])")

_NUMERALS = "一二三四五六七八九十百廿卅〇○零"

_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_BLOCKS = {"article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "figcaption", "figure", "hr", "item", "li"}
_BLOCKS |= {"note", "ol", "p", "pre", "section", "steps", "table", "td", "th", "tr", "ul"}
_NOT_TEXT = {"script", "style", "nav", "header", "footer", "aside", "noscript", "info"}
_NOT_TEXT_CLASSES = {"headerlink", "navheader", "navfooter", "docnav", "toc", "nav_table", "node_prev", "toc_uplink"}

_ROFF_FONT = re.compile(r"\\f(?:\[[^]]*\]|\(..|.)")
_ROFF_SPACE = re.compile(r"\\[|^&/,%:c~0]|\\s[-+]?\d|\\h'[^']*'")
_ROFF_DEFINITION = re.compile(r"^\.(?:de|ig)\b.*?^\.\.$", re.MULTILINE | re.DOTALL)
_ROFF_NAMES = {r"\(bu": "*", r"\(em": "—", r"\(en": "–", r"\(aq": "'", r"\(dq": '"', r"\(co": "©", r"\(lq": "“"}
_ROFF_NAMES |= {r"\(rq": "”", r"\(ha": "^", r"\(ti": "~", r"\e": "\\", r"\-": "-", r"\ ": " ", r"\.": ".", r"\'": "'"}
_ROFF_TEXT_MACROS = {"B", "I", "BI", "BR", "IB", "IR", "RB", "RI", "R", "SM", "SB", "SH", "SS", "IP", "TP"}


def speeches(files: Files) -> Iterator[Row]:
    """Parse State of the Union addresses, one JSON object a file."""
    for _, raw in files:
        speech = json.loads(raw)
        yield {"year": speech["year"], "president": speech["name"], "text": speech["text"].strip()}


def sources(files: Files) -> Iterator[Row]:
    """Take the reStructuredText source of each page of a manual as it is."""
    for name, raw in files:
        yield {"path": name, "text": raw.decode("utf-8").strip()}


def sections(files: Files) -> Iterator[Row]:
    """Cut pages of HTML or Mallard at their headings, whatever the level; keep the sections that are in Chinese."""
    for name, raw in files:
        for heading, body in _headed_sections(raw.decode("utf-8")):
            if _is_chinese(body):
                yield {"document": name, "heading": heading, "body": body, "clean": is_clean(heading, body)}


def manual_pages(files: Files) -> Iterator[Row]:
    """Parse gzipped manual pages: the one-line summary of the NAME section is the heading, the rest is the body."""
    for name, raw in files:
        parts = _roff_sections(_unpacked(name, raw).decode("utf-8", errors="replace"))
        summary = parts[0][1].partition(" - ")[2].replace("\n", " ").strip() if parts else ""
        body = "\n".join(line for title, text in parts[1:] for line in (title, text) if line)
        if summary and _is_chinese(body):  # a page that only refers to another one has no summary
            yield {"document": name, "heading": summary, "body": body, "clean": is_clean(summary, body)}


def descriptions(files: Files) -> Iterator[Row]:
    """Parse Debian's translated package descriptions, each a long text with a one-line summary."""
    for _, raw in files:
        for stanza in raw.decode("utf-8").split("\n\n"):
            package = re.search(r"^Package: (.+)", stanza, re.MULTILINE)
            text = re.search(r"^Description-zh_CN: (.*(?:\n .*)*)", stanza, re.MULTILINE)
            if package is None or text is None:
                continue
            short, *lines = text.group(1).split("\n")
            long = _description_paragraphs(lines)
            if _num_han(short) >= 2 and _num_han(long) >= 20:
                name = package.group(1).strip()
                yield {"package": name, "family": package_family(name), "long": long, "short": short.strip()}


def package_family(name: str) -> str:
    """Reduce the name of a Debian package to that of its family, whose descriptions follow one template."""
    stem = re.sub(r"^lib(?=.)(?!re)", "", name)  # libdbus goes with dbus, but libreoffice is no library
    return re.match(r"\d*[^-.+\d]*", stem).group() or name  # pyright: ignore[reportOptionalMemberAccess]


def poems(files: Files) -> Iterator[Row]:
    """Parse the Tang and Song poems that can serve as pairs of body and title, in simplified script."""
    for name, raw in files:
        dynasty = re.search(r"poet\.(tang|song)\.", name)
        if dynasty is None:
            msg = f"{name!r} does not name its dynasty; expected poet.tang.<number>.json or poet.song.<number>.json"
            raise ValueError(msg)
        for poem in json.loads(raw):
            title = (poem.get("title") or "").strip()
            body = "".join(poem.get("paragraphs") or []).strip()
            # □ is a lost character, 無題 means untitled
            if 30 <= len(body) <= 200 and 2 <= len(title) <= 20 and "□" not in title + body and title != "無題":
                author, title, body = (_simplified(text) for text in (poem.get("author") or "", title, body))
                title, number = numbered_title(" ".join(title.split()))
                names = {"author": author, "title": title, "number": number}
                yield {"dynasty": dynasty.group(1), **names, "body": body}


def numbered_title(title: str) -> tuple[str, str]:
    """Part the title of a poem, in simplified script, from its number within a series, which may be empty."""
    match = re.fullmatch(rf"(.*\S)(?:\s*(其[{_NUMERALS}]+)|\s([{_NUMERALS}]+))", title)
    return (match.group(1), match.group(2) or match.group(3)) if match else (title, "")


def is_clean(heading: str, body: str) -> bool:
    """Tell whether a section can serve as a pair (body, heading) of Chinese text."""
    return _num_han(heading) >= 2 and _num_han(body) >= 50 and _han_share(body) >= 0.4


@cache
def _converter() -> OpenCC:
    return OpenCC("t2s")


def _simplified(text: str) -> str:
    return _converter().convert(text)


def _num_han(text: str) -> int:
    return len(_HAN_CHARACTER.findall(text))


def _han_share(text: str) -> float:
    """Divide the number of Chinese characters by that of all that are not white space."""
    return _num_han(text) / max(1, len(re.sub(r"\s", "", text)))


def _is_chinese(text: str) -> bool:
    """Tell a translated section from one that was left in English."""
    return _num_han(text) >= 10 and _han_share(text) >= 0.2


def _headed_sections(page: str) -> Iterator[tuple[str, str]]:
    """Yield heading and text of each section; what stands before the first heading is dropped."""
    page = re.sub(r"^\s*<\?xml[^>]*\?>", "", page)
    if "projectmallard.org" in page[:1000]:
        # Mallard's <title> is a heading; under its HTML meaning the parser would not look inside it.
        page = re.sub(r"<(/?)title\b", r"<\1h1", page)
    soup = BeautifulSoup(page, "html.parser")
    heading, pieces = None, []
    for piece in _pieces(soup.find(role="main") or soup.body or soup):
        if isinstance(piece, Tag):
            if heading is not None:
                yield heading, _lines("".join(pieces))
            heading, pieces = _lines(piece.get_text()).replace("\n", " "), []
        else:
            pieces.append(piece)
    if heading is not None:
        yield heading, _lines("".join(pieces))


def _pieces(element: Tag) -> Iterator[Tag | str]:
    """Walk a page in reading order: headings as tags, the rest as text with a form feed at the edges of a block."""
    for child in element.children:
        if isinstance(child, Tag):
            if child.name in _HEADINGS:
                yield child
            if child.name in _HEADINGS or _is_apparatus(child):
                continue
            edge = "\f" if child.name in _BLOCKS else ""
            yield edge
            yield from _pieces(child)
            yield edge
        elif type(child) is NavigableString:
            yield str(child)


def _is_apparatus(element: Tag) -> bool:
    """Tell navigation, tables of contents, headers and scripts from text."""
    attributes = element.attrs
    return (
        element.name in _NOT_TEXT
        or attributes.get("role") == "navigation"
        or attributes.get("id") == "toc"
        or "hidden" in attributes
        or not _NOT_TEXT_CLASSES.isdisjoint(attributes.get("class") or ())
    )


def _lines(text: str) -> str:
    """Put one block on a line, without the breaks that only wrapped its source, and drop empty lines."""
    blocks = (" ".join(_WRAPPED.sub("", block).replace("¶", "").split()) for block in text.split("\f"))
    return "\n".join(block for block in blocks if block)


def _unpacked(name: str, raw: bytes) -> bytes:
    page = gzip.GzipFile(fileobj=io.BytesIO(raw)).read(MAX_PAGE_BYTES + 1)
    if len(page) > MAX_PAGE_BYTES:
        msg = f"{name} unpacks to more than {MAX_PAGE_BYTES >> 20} MiB; no manual page is so long"
        raise ValueError(msg)
    return page


def _roff_sections(page: str) -> list[tuple[str, str]]:
    """Take (title, text) of each section out of a manual page."""
    found: list[tuple[str, list[str]]] = []
    for line in _ROFF_DEFINITION.sub("", page).splitlines():
        macro, _, argument = line[1:].strip().partition(" ") if line.startswith((".", "'")) else ("", "", line)
        if macro.startswith("\\") or (macro and macro not in _ROFF_TEXT_MACROS):
            continue
        text = _roff_text(argument.replace('"', "") if macro else argument)
        if macro == "SH":
            found.append((text, []))
        elif found and text:
            found[-1][1].append(text)
    return [(title, _WRAPPED.sub("", "\n".join(lines))) for title, lines in found]


def _roff_text(text: str) -> str:
    """Take comments, fonts and escapes out of a line of roff."""
    text = re.sub(r'\\".*', "", text)
    for escape, character in _ROFF_NAMES.items():
        text = text.replace(escape, character)
    return " ".join(_ROFF_SPACE.sub("", _ROFF_FONT.sub("", text)).split())


def _description_paragraphs(lines: Iterable[str]) -> str:
    """Join lines to one paragraph a line; those indented by two spaces stand alone, " ." parts paragraphs."""
    text = ""
    for line in lines:
        if line.strip() == ".":
            text += "\f"
        elif line.startswith("  "):
            text += "\f" + line.strip() + "\f"
        else:
            text += "\n" + line.strip()
    return _lines(text)
