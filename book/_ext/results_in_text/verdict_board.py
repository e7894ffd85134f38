"""The directives `answers` (one card a replication) and `verdict-board` (one row a claim, for all of them)."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from paperkit.answers import answer_of, primary_records, title_of
from paperkit.profiles import COMMITTED
from paperkit.results import ResultsError
from paperkit.written import measured_line
from results_in_text.checked_yaml import BookDataError
from results_in_text.claim_tables import claim_target, deciding_number
from results_in_text.page_notes import depend_on
from results_in_text.posts import Posts, page_of, read_posts
from results_in_text.results_files import ResultAddressError, Verdicts, by_id, read_verdicts
from results_in_text.tables import Row, facet_paragraph, paragraph, table
from results_in_text.verdict_badges import is_primary, verdict_badge

# In this order the board is sorted by verdict, so that what fell stands first.
VERDICT_ORDER = [
    "contradicted",
    "contradicted, fragile",
    "corrected",
    "inconclusive",
    "no difference, fragile",
    "no difference",
    "not tested at this scale",
    "holds, smaller, fragile",
    "holds, smaller",
    "holds, fragile",
    "holds",
    None,
]

_FIRST_FIGURE = re.compile(r"\{result-figure\} (\S+)\n:alt: (.+)")


class _OverAllReplications(SphinxDirective):
    """What both share: they read all verdicts on disk, and what each replication is about."""

    def _read(self) -> tuple[Posts, dict[str, Verdicts]]:
        root, path = Path(self.config.results_root), Path(self.env.srcdir, "posts.yaml")
        about, pages = Path(self.config.replications_root).glob("*/about.yaml"), path.parent.glob("replications/*.md")
        depend_on(self.env, path, *about, *pages, *root.glob("*/*verdicts.json"))
        return read_posts(path, root, Path(self.config.replications_root)), dict(_all_verdicts(root))

    def _stopped_by(self, error: Exception) -> ExtensionError:
        return ExtensionError(f"{self.get_location()}: directive {self.name}: {error}")

    def _title(self, name: str) -> list[nodes.Node]:
        # In its words, which the contents of this page would not look up.
        page = Path(self.env.srcdir, "replications", f"{page_of(name)}.md")
        return self.parse_inline(f"{{doc}}`{title_of(page)} </replications/{page_of(name)}>`")[0]

    def _link(self, name: str, claim: dict[str, Any]) -> list[nodes.Node]:
        return self.parse_inline(f"{{ref}}`{claim['id']} <{claim_target(name, claim['id'])}>`")[0]


class Answers(_OverAllReplications):
    """Directive `answers`: of each replication its question, answer, first figure, first primary claim and scale."""

    def run(self) -> list[nodes.Node]:
        """Count the verdicts, and make a section for each replication that has some on disk."""
        try:
            posts, every = self._read()
            cards = [self._card(posts, name, verdicts) for name, verdicts in every.items() if page_of(name) == name]
        except (BookDataError, ResultsError) as error:
            raise self._stopped_by(error) from error
        return [self._tally(every, len(cards)), *cards]

    def _tally(self, every: Mapping[str, Verdicts], replications: int) -> nodes.paragraph:
        """Count the verdicts of the primary claims, at every scale at which one was judged."""
        primary = [claim for verdicts in every.values() for claim in verdicts.claims if is_primary(claim)]
        words = Counter(claim["verdict"] for claim in primary)
        counted: list[nodes.Node] = []
        for word in sorted(words, key=VERDICT_ORDER.index, reverse=True):
            badge = verdict_badge(next(claim for claim in primary if claim["verdict"] == word))
            counted += [nodes.Text(f" {words[word]} "), badge]
        text = f"{replications} replications so far, {len(primary)} verdicts on primary claims:"
        return nodes.paragraph("", text, *counted, classes=["tally"])

    def _card(self, posts: Posts, name: str, verdicts: Verdicts) -> nodes.section:
        about = posts.about(name)
        answer = answer_of(Path(self.config.replications_root).parent, name)
        example = self._example(name, primary_records(about, by_id(verdicts)))
        blocks = [
            nodes.title("", "", *self._title(name)),
            self._line(about["question"], "question"),
            self._line(answer, "answer"),
            nodes.container("", *example, self._line(_scale(about), "scale"), classes=["evidence"]),
            *self._figure(name),
        ]
        card = nodes.section("", *blocks, ids=[nodes.make_id(f"answer-{name}")])
        card["classes"] = ["answer-card"]
        return card

    def _example(self, name: str, primary: Sequence[tuple[Mapping[str, str], dict[str, Any]]]) -> list[nodes.Node]:
        """Show the first primary claim with its verdict and its number, and the words of the others."""
        if not primary:
            return []
        (words, first), *others = primary
        said = self.parse_inline(words.get("claim", first["statement"].rstrip(".")))[0]
        claim = nodes.paragraph("", "", *said, nodes.Text(" ("), *self._link(name, first), nodes.Text("): "))
        claim += verdict_badge(first)
        shown: list[nodes.Node] = [claim, nodes.paragraph("", "", *deciding_number(self, name, words, first))]
        if others:
            badges = [
                part
                for _, one in others
                for part in (nodes.Text(" "), *self._link(name, one), nodes.Text(" "), verdict_badge(one))
            ]
            shown.append(nodes.paragraph("", "The other primary claims:", *badges, classes=["others"]))
        return shown

    def _figure(self, name: str) -> list[nodes.Node]:
        """Show the first figure of the page, with the page's description of it."""
        page = Path(self.env.srcdir, "replications", f"{name}.md")
        found = _FIRST_FIGURE.search(page.read_text(encoding="utf-8")) if page.is_file() else None
        if found is None:
            return []
        uri = os.path.relpath(Path(self.config.figures_root, found[1]), self.env.srcdir).replace(os.sep, "/")
        return [nodes.image(uri=uri, alt=found[2], classes=["result-figure", "dark-light"])]

    def _line(self, text: str, css_class: str) -> nodes.paragraph:
        return nodes.paragraph("", "", *self.parse_inline(text)[0], classes=[css_class])


class VerdictBoard(_OverAllReplications):
    """Directive `verdict-board`: one row for each claim of every replication; a script sorts and filters it."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        try:
            posts, every = self._read()
            rows = [
                self._row(posts, name, verdicts.profile, claim)
                for name, verdicts in every.items()
                for claim in verdicts.claims
                if "superseded_by" not in claim  # it stays on its page alone
            ]
        except (BookDataError, ResultsError) as error:
            raise self._stopped_by(error) from error
        headings = ["Verdict", "What is claimed", "Measured here", "Replication and scale"]
        return [table(headings, rows, css_class="board", widths=[16, 40, 22, 22])]

    def _row(self, posts: Posts, name: str, profile: str, claim: dict[str, Any]) -> Row:
        verdict, kind = claim["verdict"], "primary" if is_primary(claim) else claim["kind"]
        order = claim_order(claim["id"])
        badge = facet_paragraph(
            "verdict", verdict or "no verdict", verdict_badge(claim), order=f"{VERDICT_ORDER.index(verdict):02}{order}"
        )
        about, more = posts.about(name), len(claim["tests"]) - 1
        scale = nodes.paragraph("", f"{about['here'][profile]}", classes=["scale"])
        return [
            [badge, facet_paragraph("kind", kind, order=f"{kind != 'primary'}{kind}{order}")],
            [
                nodes.paragraph(
                    "", "", *self.parse_inline(claim["statement"])[0], nodes.Text(" "), *self._link(name, claim)
                )
            ],
            [paragraph(measured_line(claim["tests"][0])), *([paragraph(f"and {more} more")] if more else [])],
            [
                facet_paragraph("replication", page_of(name), *self._title(name)),
                facet_paragraph("topic", posts.topic_of(name)),
                facet_paragraph("profile", profile, nodes.Text(f"profile {profile}")),
                *([] if claim["kind"] == "identity" else [scale]),
            ],
        ]


def _scale(about: Mapping[str, Any]) -> str:
    """Say at which scale we ran, and at which the source did."""
    own = [text if profile == COMMITTED else f"{text} (profile {profile})" for profile, text in about["here"].items()]
    source = f" **The source:** {about['scale']['text'].rstrip('.')}." if "scale" in about else ""
    return f"**Scale here:** {'; '.join(own)}.{source}"


def claim_order(claim_id: str) -> str:
    """Return a key that sorts claims by their numbers, those of the source first."""
    return re.sub(r"\d+", lambda number: number[0].zfill(4), claim_id)


def _all_verdicts(root: Path) -> Iterator[tuple[str, Verdicts]]:
    """Read every folder's claims."""
    names = sorted(path.parent.name for path in root.glob("*/verdicts.json"))
    if not names:
        message = f"no verdicts below {root}; `dvc repro` makes them"
        raise ResultAddressError(message)
    for name in names:
        yield name, read_verdicts(root, name)
