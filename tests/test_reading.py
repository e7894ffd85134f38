"""How the pages read: their length, words of the workshop, and terms that the glossary defines."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST = 6_000  # words of a replication's main page; more belongs to its derivation
PAGES = sorted((ROOT / "book").glob("*.md")) + sorted((ROOT / "book/replications").rglob("*.md"))
TEXTS = [*PAGES, *(path for kind in ("about", "errata") for path in sorted(ROOT.glob(f"replications/*/{kind}.yaml")))]
WORKSHOP = {
    "brief": r"\b(?:our|the|two|in|these) briefs?\b(?! \w+ing)",
    "card": r"\b(?:the|our|a) cards?\b|\bon (?:one|any) card\b",
    "house": r"\bthe house\b",
    "prototype": r"\bprototype\b",
    "ledger": r"\bledger\b",
    "mend": r"\bmend(?:s|ed|ing)?\b",
    "stands in for": r"\bstands? in for\b|\bstand-in\b",
    "strongest self": r"\bstrongest self\b",
    "slip": r"\bslip(?:s|ped)?\b",
    "peer": r"\bthe peer\b|\btheir peer\b|\bas peer\b",
    "second derivation": r"\ba second derivation\b",
    "our own claim: ours": r"\bown claim: ours\b",
    "whoever": r"\bwhoever\b",
    "knob": r"\bknob\b",
    "a key in prose": r"\b(?:su|chen|ren|kwon|song|hu)20\d\d[a-z]+\b",
}
# What is no prose, in this order: code and equations, roles with their addresses, mathematics, keys of citations.
NO_PROSE = (
    r"^(?P<fence>```+|:::+)\{?(?:run-cell|python|bash|latex|equation|math)\b.*?^(?P=fence)$|^(?:`{3,}|:{3,}).*?$",
    r"\{[\w:-]+\}`[^`]*`|`[^`]*`",
    r"\$[^$]*\$|\bbib: \w+",
)


def prose_of(text: str) -> str:
    for pattern in NO_PROSE:
        text = re.sub(pattern, lambda found: "\n" * found[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    return text


def workshop_words(text: str) -> list[str]:
    """Name each word of the workshop in a text, with its line."""
    lines = enumerate(prose_of(text).splitlines(), 1)
    return [
        f"{number}: {name}"
        for number, line in lines
        for name, pattern in WORKSHOP.items()
        if re.search(pattern, line, re.IGNORECASE)
    ]


def terms_of(text: str) -> set[str]:
    """Name the terms that a text takes from the glossary."""
    return {re.sub(r".*<(.+)>$", r"\1", term, flags=re.DOTALL) for term in re.findall(r"\{term\}`([^`]+)`", text)}


def glossary() -> set[str]:
    content = re.search(r"```\{glossary\}\n(.*?)```", (ROOT / "book/how_to_read.md").read_text(), re.DOTALL)
    return set(re.findall(r"^(\S.*)$", content[1], re.MULTILINE))


def test_texts_for_readers_have_no_words_of_the_workshop():
    found = {str(path.relative_to(ROOT)): workshop_words(path.read_text()) for path in TEXTS}
    assert {path: words for path, words in found.items() if words} == {}


def test_a_main_page_can_be_read_in_one_sitting():
    lengths = {path.stem: len(path.read_text().split()) for path in ROOT.glob("book/replications/*.md")}
    assert {name: words for name, words in lengths.items() if words > LONGEST} == {}


def test_the_glossary_has_every_term_and_nothing_else():
    assert set().union(*(terms_of(path.read_text()) for path in PAGES)) == glossary()


def test_steps_are_numbered_without_gaps():
    for path in ROOT.glob("book/replications/*/derivation.md"):
        numbers = [int(number) for number in re.findall(r"^## Step (\d+)", path.read_text(), re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1)), path


FOUND = [
    ("As the brief of this page has it.", ["1: brief"]),
    ("A brief remark, and a postcard of a prototypical housewife.", []),
    ("Not run\non one card.", ["2: card"]),
    ("as is the custom of the house", ["1: house"]),
    ("The prototype had more.", ["1: prototype"]),
    ("The ledger says so.", ["1: ledger"]),
    ("A temperature mends it.", ["1: mend"]),
    ("It stands in for the model.", ["1: stands in for"]),
    ("The table stands in a figure.", []),
    ("each its strongest self", ["1: strongest self"]),
    ("The inner product, and a slip", ["1: slip"]),
    ("the peer of the theorem", ["1: peer"]),
    ("**A second derivation.**", ["1: second derivation"]),
    ("Our own claim: ours; by a run.", ["1: our own claim: ours"]),
    ("Whoever needs it", ["1: whoever"]),
    ("no knob of its own", ["1: knob"]),
    ("su2023lion doubts it", ["1: a key in prose"]),
    ("{cite:t}`su2023lion` doubts it, source: {bib: su2023lion}", []),
    ("```{run-cell}\nledger = 1\n```\nIt mends.", ["4: mend"]),
]


def test_words_of_the_workshop_are_found():
    assert [(text, workshop_words(text)) for text, _ in FOUND] == FOUND
