"""What the README says of the replications: their answers, and a picture of the verdicts on their primary claims."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from paperkit.answers import Judged, Record, answer_of, primary_claims, read_about, title_of, word_of
from paperkit.claims.rules import FRAGILE, Verdict
from paperkit.profiles import replication_and_profile
from paperkit.written import lead_of, margin_note, shown_line

BOARD = "book/board.svg"
# Ink and ground of a badge, as in book/_static/verdicts.css.
_COLOURS = {
    Verdict.HOLDS: ("#0b5227", "#dcf2e2"),
    Verdict.HOLDS_SMALLER: ("#3d5407", "#ecf4d4"),
    Verdict.CONTRADICTED: ("#8a1616", "#fbe2e0"),
    Verdict.NO_DIFFERENCE: ("#174a78", "#dfebf7"),
    Verdict.INCONCLUSIVE: ("#5c4600", "#fcf0c3"),
    Verdict.CORRECTED: ("#56247f", "#eee2f9"),
    Verdict.NOT_TESTED: ("#424242", "#eaeaea"),
}
_TITLE, _BADGE, _ROW = 370, 172, 30  # widths and a height in pixels


def answers_table(root: Path, names: Sequence[str]) -> str:
    """List what each replication found, and the first of its primary claims with the number that decided it.

    Args:
        root: The repository.
        names: The replications; those without results are left out.

    Returns:
        Lines of Markdown: a table, then the picture of the board.

    Raises:
        ResultsError: If the verdicts are not those for which an answer was written.
    """
    rows = ["| question | what we found | for example |", "|---|---|---|"]
    for name in names:
        if (root / "results" / name / "verdicts.json").is_file():
            example = next((_example(words, record) for words, _, record in primary_claims(root, name)), "")
            question = f"[{_title(root, name)}](book/replications/{name}.md): {read_about(root, name)['question']}"
            rows.append(f"| {question} | {answer_of(root, name)} | {example} |")
    words = Counter(word_of(record) for _, claims in _rows(root, names) for *_, record in claims)
    counted = ", ".join(f"{count} {word}" for word, count in sorted(words.items()))
    return "".join(f"{row}\n" for row in [*rows, "", f"![The board of primary claims: {counted}.]({BOARD})"])


def _example(words: Mapping[str, str], record: Record) -> str:
    claim, test = words.get("claim", record["statement"]), record["tests"][0]
    said = f"*{claim}* ({record['id']}): **{word_of(record)}**. {lead_of(words, test)}{shown_line(test)}"
    return ". ".join(filter(None, [said, margin_note(record)]))


def board_picture(root: Path, names: Sequence[str]) -> str:
    """Draw the verdicts on all primary claims as SVG, one row for each replication."""
    rows = _rows(root, names)
    width = _TITLE + _BADGE * max((len(claims) for _, claims in rows), default=0)
    drawn = [part for place, row in enumerate(rows) for part in _drawn(root, place, *row)]
    size = f'width="{width}" height="{_ROW * len(rows) + 10}"'
    font = 'font-family="sans-serif" font-size="13"'
    ground = f'<rect {size} fill="#ffffff"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>', ground, *drawn, "</svg>\n"])


def _rows(root: Path, names: Sequence[str]) -> list[tuple[str, list[Judged]]]:
    there = [name for name in names if (root / "results" / name / "verdicts.json").is_file()]
    return [(name, claims) for name in there if (claims := primary_claims(root, name))]


def _drawn(root: Path, place: int, name: str, claims: Sequence[Judged]) -> Iterator[str]:
    top = 5 + _ROW * place
    yield f'<text x="10" y="{top + 19}">{escape(_title(root, name).partition(":")[0])}</text>'
    for column, (_, folder, record) in enumerate(claims):
        left, word = _TITLE + _BADGE * column, word_of(record)
        ink, ground = _COLOURS[Verdict(word.removesuffix(FRAGILE))]
        dots = ' stroke-dasharray="2"' if word.endswith(FRAGILE) else ""
        profile = f", {replication_and_profile(folder)[1]}" if folder != name else ""
        box = f'x="{left}" y="{top + 3}" width="{_BADGE - 8}" height="{_ROW - 6}" rx="5"'
        yield f'<rect {box} fill="{ground}" stroke="{ink}"{dots}/>'
        yield f'<text x="{left + 7}" y="{top + 19}" font-size="11" fill="{ink}">{record["id"]} {word}{profile}</text>'


def _title(root: Path, name: str) -> str:
    return title_of(root / f"book/replications/{name}.md")
