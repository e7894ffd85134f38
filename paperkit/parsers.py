"""From the files of a published package to the rows of a table; pure functions, one a format.

A parser is given (name, bytes) of the files that `data_sources.yaml` selects from one archive and yields dicts
with the columns of the table that the file itself holds (`split`, `source`, `licence` are added by the caller).
"""

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache

from bs4 import BeautifulSoup
from bs4.element import NavigableString, Tag
from opencc_purepy import OpenCC

Files = Iterable[tuple[str, bytes]]
Row = dict[str, object]

_HAN = "\u4e00-\u9fff"
_HAN_CHARACTER = re.compile(f"[{_HAN}]")
_WIDE = f"{_HAN}\u3000-\u303f\uff00-\uffef"
_WRAPPED = re.compile(rf"(?<=[{_WIDE}])[^\S\n]*\n\s*(?=[{_WIDE}])")

_NUMERALS = "一二三四五六七八九十百廿卅〇○零"

_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_BLOCKS = {
    "article",
    "aside",
    "blockquote",
    "br",
    "dd",
    "div",
    "dl",
    "dt",
    "figcaption",
    "figure",
    "hr",
    "item",
    "li",
    "note",
    "ol",
    "p",
    "pre",
    "section",
    "steps",
    "table",
    "td",
    "th",
    "tr",
    "ul",
}
_NOT_TEXT = {"script", "style", "nav", "header", "footer", "aside", "noscript", "info"}
_NOT_TEXT_CLASSES = {"headerlink", "navheader", "navfooter", "docnav", "toc", "nav_table", "node_prev", "toc_uplink"}

_ROFF_FONT = re.compile(r"\\f(?:\[[^]]*\]|\(..|.)")
_ROFF_SPACE = re.compile(r"\\[|^&/,%:c~0]|\\s[-+]?\d|\\h'[^']*'")
_ROFF_DEFINITION = re.compile(r"^\.(?:de|ig)\b.*?^\.\.$", re.MULTILINE | re.DOTALL)
_ROFF_NAMES = {r"\(bu": "*", r"\(em": "—", r"\(en": "–", r"\(aq": "'", r"\(dq": '"', r"\(co": "©", r"\(lq": "“"}
_ROFF_NAMES |= {r"\(rq": "”", r"\(ha": "^", r"\(ti": "~", r"\e": "\\", r"\-": "-", r"\ ": " ", r"\.": ".", r"\'": "'"}
_ROFF_TEXT_MACROS = {"B", "I", "BI", "BR", "IB", "IR", "RB", "RI", "R", "SM", "SB", "SH", "SS", "IP", "TP"}


def speeches(files: Files) -> Iterator[Row]:
    """Parse State of the Union addresses, one JSON object a file.

    Args:
        files: Names and bytes of the JSON files.

    Yields:
        Rows with year, president and text.

    Example:
        >>> raw = b'{"year": 1790, "name": "George Washington", "party": "none", "text": " Fellow-Citizens ..."}'
        >>> next(speeches([("1790.json", raw)]))
        {'year': 1790, 'president': 'George Washington', 'text': 'Fellow-Citizens ...'}
    """
    for _, raw in files:
        speech = json.loads(raw)
        yield {"year": speech["year"], "president": speech["name"], "text": speech["text"].strip()}


def sources(files: Files) -> Iterator[Row]:
    r"""Take the source of each page of a manual as it is.

    Args:
        files: Names and bytes of reStructuredText files.

    Yields:
        Rows with path and text.

    Example:
        >>> next(sources([("library/abc.rst", b"Title\n=====\n")]))
        {'path': 'library/abc.rst', 'text': 'Title\n====='}
    """
    for name, raw in files:
        yield {"path": name, "text": raw.decode("utf-8").strip()}


def sections(files: Files) -> Iterator[Row]:
    r"""Cut pages of HTML (or Mallard) at their headings; keep the sections that are in Chinese.

    A section is what stands between one heading and the next, whatever the level. Navigation, tables of contents,
    headers and scripts are left out; one line a block, without the line breaks of the source.

    Args:
        files: Names and bytes of the pages.

    Yields:
        Rows with document, heading, body and clean.

    Example:
        >>> page = "<h1>标题</h1><p>第一段，共<b>十</b>个\n汉字以上。</p><p>第二段。</p><h2>No</h2><p>No</p>"
        >>> next(sections([("page", page.encode())]))
        {'document': 'page', 'heading': '标题', 'body': '第一段，共十个汉字以上。\n第二段。', 'clean': False}
    """
    for name, raw in files:
        for heading, body in _headed_sections(raw.decode("utf-8")):
            if _is_chinese(body):
                yield {"document": name, "heading": heading, "body": body, "clean": is_clean(heading, body)}


def manual_pages(files: Files) -> Iterator[Row]:
    r"""Parse manual pages: the one-line summary of the NAME section is the heading, the rest is the body.

    Args:
        files: Names and bytes of gzip-compressed roff files.

    Yields:
        Rows with document, heading, body and clean. Pages that only refer to another page are left out.

    Example:
        >>> roff = ".TH CUT 1\n.SH 名称\ncut \\- 移除某些段\n.SH 描述\n从\\fB每个\\fP文件中输出指定的部分。\n"
        >>> next(manual_pages([("cut.1", gzip.compress(roff.encode()))]))["heading"]
        '移除某些段'
    """
    for name, raw in files:
        parts = _roff_sections(gzip.decompress(raw).decode("utf-8", errors="replace"))
        summary = parts[0][1].partition(" - ")[2].replace("\n", " ").strip() if parts else ""
        body = "\n".join(line for title, text in parts[1:] for line in (title, text) if line)
        if summary and _is_chinese(body):
            yield {"document": name, "heading": summary, "body": body, "clean": is_clean(summary, body)}


def descriptions(files: Files) -> Iterator[Row]:
    """Parse Debian's translated package descriptions: a long text with a one-line summary.

    Args:
        files: Name and bytes of one `Translation-zh_CN` index.

    Yields:
        Rows with package, family, long and short, where the summary has at least 2 Chinese characters and the long
        text at least 20.
    """
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
    """Reduce the name of a package to that of its family, whose descriptions follow one template.

    Args:
        name: Name of a Debian package.

    Returns:
        The name up to the first hyphen, full stop, plus or digit, without a leading "lib".

    Example:
        >>> [package_family(name) for name in ("aspell-de", "libpython3.11-dev", "gcc-12", "7zip", "lib32z1")]
        ['aspell', 'python', 'gcc', '7zip', '32z']
    """
    stem = re.sub(r"^lib(?=.)(?!re)", "", name)  # libdbus goes with dbus, but libreoffice is no library
    return re.match(r"\d*[^-.+\d]*", stem).group() or name  # pyright: ignore[reportOptionalMemberAccess]


def poems(files: Files) -> Iterator[Row]:
    """Parse Tang and Song poems, in simplified script.

    Kept are poems that can serve as (body, title) pairs: a body of 30 to 200 characters with no lost character (□),
    and a title of 2 to 20 that is not "untitled" (無題).

    Args:
        files: Names and bytes of JSON files `poet.<dynasty>.<number>.json`.

    Yields:
        Rows with dynasty, author, title, number (within a series, empty if none) and body.

    Raises:
        ValueError: If the dynasty cannot be told from the name.
    """
    for name, raw in files:
        dynasty = re.search(r"poet\.(tang|song)\.", name)
        if dynasty is None:
            msg = f"{name!r} does not name its dynasty; expected poet.tang.<number>.json or poet.song.<number>.json"
            raise ValueError(msg)
        for poem in json.loads(raw):
            title = (poem.get("title") or "").strip()
            body = "".join(poem.get("paragraphs") or []).strip()
            if 30 <= len(body) <= 200 and 2 <= len(title) <= 20 and "□" not in title + body and title != "無題":
                author, title, body = (_simplified(text) for text in (poem.get("author") or "", title, body))
                title, number = numbered_title(" ".join(title.split()))
                names = {"author": author, "title": title, "number": number}
                yield {"dynasty": dynasty.group(1), **names, "body": body}


def numbered_title(title: str) -> tuple[str, str]:
    """Part the title of a poem from its number within a series.

    Args:
        title: Title in simplified script.

    Returns:
        Title and number; the number is empty if there is none, or nothing but a number.

    Example:
        >>> [numbered_title(title) for title in ("首尾吟 其九八", "偈 十一", "其一", "登高")]
        [('首尾吟', '其九八'), ('偈', '十一'), ('其一', ''), ('登高', '')]
    """
    match = re.fullmatch(rf"(.*\S)(?:\s*(其[{_NUMERALS}]+)|\s([{_NUMERALS}]+))", title)
    return (match.group(1), match.group(2) or match.group(3)) if match else (title, "")


def is_clean(heading: str, body: str) -> bool:
    """Tell whether a section can serve as a pair (body, heading) of Chinese text.

    Args:
        heading: Title of the section.
        body: Its text.

    Returns:
        True if the heading has at least 2 Chinese characters, and the body at least 50, which are at least 40 % of
        what is not white space.

    Example:
        >>> is_clean("标题", "汉" * 50 + "a" * 75), is_clean("标题", "汉" * 50 + "a" * 76), is_clean("题", "汉" * 50)
        (True, False, False)
    """
    return _num_han(heading) >= 2 and _num_han(body) >= 50 and _han_share(body) >= 0.4


@cache
def _converter() -> OpenCC:
    return OpenCC("t2s")


def _simplified(text: str) -> str:
    return _converter().convert(text)


def _num_han(text: str) -> int:
    return len(_HAN_CHARACTER.findall(text))


def _han_share(text: str) -> float:
    return _num_han(text) / max(1, len(re.sub(r"\s", "", text)))


def _is_chinese(text: str) -> bool:
    """Tell a translated section from one that was left in English.

    Returns:
        True if there are at least 10 Chinese characters, and at least one in five.
    """
    return _num_han(text) >= 10 and _han_share(text) >= 0.2


def _headed_sections(page: str) -> Iterator[tuple[str, str]]:
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
    """Walk a page in reading order.

    Yields:
        Headings as tags; everything else as text, with a form feed where a block begins or ends.
    """
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
    attributes = element.attrs
    return (
        element.name in _NOT_TEXT
        or attributes.get("role") == "navigation"
        or attributes.get("id") == "toc"
        or "hidden" in attributes
        or not _NOT_TEXT_CLASSES.isdisjoint(attributes.get("class") or ())
    )


def _lines(text: str) -> str:
    """Put one block on a line, without the breaks that only wrapped its source.

    Returns:
        The lines that are not empty.
    """
    blocks = (" ".join(_WRAPPED.sub("", block).replace("¶", "").split()) for block in text.split("\f"))
    return "\n".join(block for block in blocks if block)


def _roff_sections(page: str) -> list[tuple[str, str]]:
    """Take the text out of a manual page.

    Returns:
        (title, text) of each section.
    """
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
    text = re.sub(r'\\".*', "", text)
    for escape, character in _ROFF_NAMES.items():
        text = text.replace(escape, character)
    return " ".join(_ROFF_SPACE.sub("", _ROFF_FONT.sub("", text)).split())


def _description_paragraphs(lines: Iterable[str]) -> str:
    """Join the lines of a long description; those indented by two spaces stand alone, " ." parts paragraphs.

    Returns:
        One paragraph a line.
    """
    text = ""
    for line in lines:
        if line.strip() == ".":
            text += "\f"
        elif line.startswith("  "):
            text += "\f" + line.strip() + "\f"
        else:
            text += "\n" + line.strip()
    return _lines(text)
