"""The directives `verdict-table` (one row a replication) and `verdict-board` (one row a claim, for all of them)."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from results_in_text.checked_yaml import BookDataError
from results_in_text.claim_tables import claim_target
from results_in_text.posts import Posts, page_of, read_posts
from results_in_text.results_files import ResultAddressError, Verdicts, read_verdicts
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


class _OverAllReplications(SphinxDirective):
    """What both tables share: they read all verdicts on disk, and questions and topics."""

    def _table(self, make_rows: Callable[[Posts, str, Verdicts], list[Row]], **form: Any) -> list[nodes.Node]:
        root, path = Path(self.config.results_root), Path(self.env.srcdir, "posts.yaml")
        # A new replication is a new folder, which no dependency on a file would notice.
        self.env.note_reread()
        try:
            posts = read_posts(path, root, Path(self.config.replications_root))
            rows = [row for name, verdicts in _all_verdicts(root) for row in make_rows(posts, name, verdicts)]
        except (BookDataError, ResultAddressError) as error:
            message = f"{self.get_location()}: directive {self.name}: {error}"
            raise ExtensionError(message) from error
        return [table(rows=rows, **form)]

    def _title(self, name: str) -> list[nodes.Node]:
        return self.parse_inline(f"{{doc}}`/replications/{page_of(name)}`")[0]

    def _link(self, name: str, claim: dict[str, Any]) -> list[nodes.Node]:
        return self.parse_inline(f"{{ref}}`{claim['id']} <{claim_target(name, claim['id'])}>`")[0]


class VerdictTable(_OverAllReplications):
    """Directive `verdict-table`: one row for each replication that has verdicts on disk."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        headings = ["Replication and its question", "Primary claims", "Other claims, equations", "Profile"]
        return self._table(self._rows, headings=headings, css_class="replications", widths=[34, 28, 28, 10])

    def _rows(self, posts: Posts, name: str, verdicts: Verdicts) -> list[Row]:
        title = nodes.paragraph("", "", *self._title(name))
        badges = [
            nodes.paragraph("", "", *self._link(name, claim), nodes.Text(" "), verdict_badge(claim))
            for claim in verdicts.claims
            if is_primary(claim)
        ]
        counts = [paragraph(line) for line in count_lines(verdicts.claims)]
        equations = nodes.paragraph("", "", *self.parse_inline(f"{{equations}}`{page_of(name)}`")[0])
        return [
            [[title, paragraph(posts.question_of(name))], badges, [*counts, equations], [paragraph(verdicts.profile)]]
        ]


class VerdictBoard(_OverAllReplications):
    """Directive `verdict-board`: one row for each claim of every replication; a script sorts and filters it."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        headings = ["Replication", "Claim", "What is claimed", "Verdict"]
        return self._table(self._rows, headings=headings, css_class="board", widths=[20, 14, 44, 22])

    def _rows(self, posts: Posts, name: str, verdicts: Verdicts) -> list[Row]:
        return [self._row(posts.topic_of(name), name, verdicts.profile, claim) for claim in verdicts.claims]

    def _row(self, topic: str, name: str, profile: str, claim: dict[str, Any]) -> Row:
        verdict, kind = claim["verdict"], "primary" if is_primary(claim) else claim["kind"]
        order = claim_order(claim["id"])
        badge = facet_paragraph(
            "verdict", verdict or "no verdict", verdict_badge(claim), order=f"{VERDICT_ORDER.index(verdict):02}{order}"
        )
        return [
            [facet_paragraph("replication", page_of(name), *self._title(name)), facet_paragraph("topic", topic)],
            [
                nodes.paragraph("", "", *self._link(name, claim)),
                facet_paragraph("kind", kind, order=f"{kind != 'primary'}{kind}{order}"),
            ],
            [nodes.paragraph("", "", *self.parse_inline(claim["statement"])[0])],
            [badge, facet_paragraph("profile", profile, nodes.Text(f"profile {profile}"))],
        ]


def claim_order(claim_id: str) -> str:
    """Return a key that sorts claims by their numbers, those of the source first."""
    return re.sub(r"\d+", lambda number: number[0].zfill(4), claim_id)


def count_lines(claims: list[dict[str, Any]]) -> list[str]:
    """Count the verdicts of the claims that are not primary, one line a kind, such as "identity: 4 holds"."""
    others = [claim for claim in claims if not is_primary(claim)]
    lines = []
    for kind in dict.fromkeys(claim["kind"] for claim in others):
        words = Counter(claim["verdict"] or "no verdict" for claim in others if claim["kind"] == kind)
        lines.append(f"{kind}: " + ", ".join(f"{count} {word}" for word, count in words.items()))
    return lines or ["none"]


def _all_verdicts(root: Path) -> Iterator[tuple[str, Verdicts]]:
    """Read every folder's claims, without those that another one supersedes: they stay on their page alone."""
    names = sorted(path.parent.name for path in root.glob("*/verdicts.json"))
    if not names:
        message = f"no verdicts below {root}; `dvc repro` makes them"
        raise ResultAddressError(message)
    for name in names:
        verdicts = read_verdicts(root, name)
        yield name, verdicts._replace(claims=[claim for claim in verdicts.claims if "superseded_by" not in claim])
