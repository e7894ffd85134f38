"""The directive `claims`: every claim of a replication, with what was measured."""

from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from paperkit.results import ResultsError
from results_in_text.result_roles import live_value
from results_in_text.results_files import read_verdicts
from results_in_text.rule_dates import rule_dates
from results_in_text.tables import Row, paragraph, table
from results_in_text.verdict_badges import is_primary, verdict_badge
from results_in_text.written_values import has_numbers, measured_line


class ClaimsTable(SphinxDirective):
    """Directive `claims`: all claims of the replication named, primary ones first, exploratory ones last.

    Each row is a target, `claim-<name>-<id>` in small letters, so that one result can be cited.
    """

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        """Make the table and note its files as dependencies of the page.

        Returns:
            One table.

        Raises:
            ExtensionError: If there are no verdicts, or one is malformed.
        """
        name = self.arguments[0]
        try:
            verdicts = read_verdicts(Path(self.config.results_root), name)
            rows = [self._row(name, claim) for claim in sorted(verdicts.claims, key=_rank)]
        except ResultsError as error:
            message = f"{self.get_location()}: directive claims, {name!r}: {error}"
            raise ExtensionError(message) from error
        for path in verdicts.files:
            self.env.note_dependency(str(path))
        headings = ["Claim", "What is claimed, and where", "Measured here", "Reason"]
        return [table(headings, rows, css_class="claims", widths=[16, 34, 22, 28])]

    def _row(self, name: str, claim: dict[str, Any]) -> Row:
        return [
            self._claim(name, claim),
            self._statement(claim) + rule_dates(self.env, name, claim["id"]),
            self._measured(name, claim),
            [paragraph(claim["reason"])],
        ]

    def _claim(self, name: str, claim: dict[str, Any]) -> list[nodes.Node]:
        target = claim_target(name, claim["id"])
        # A label lets any page refer to the row: {ref}`text <claim-lion-c6>`.
        self.env.get_domain("std").note_hyperlink_target(target, self.env.docname, target, claim["id"])
        kind = claim["kind"] if not is_primary(claim) else "primary"
        heading = nodes.paragraph("", "", nodes.strong("", claim["id"]), nodes.Text(f" {kind}"), ids=[target])
        cell = [heading, nodes.paragraph("", "", verdict_badge(claim))]
        if "cite" in self.env.found_docs:
            cited = self._markdown(f"{{ref}}`cite {name}/{claim['id']} <{target.replace('claim-', 'cite-', 1)}>`")
            cell.append(nodes.paragraph("", "", *cited))
        return cell

    def _measured(self, name: str, claim: dict[str, Any]) -> list[nodes.Node]:
        file = f"{name}/{'timing_verdicts' if claim['kind'] == 'timing' else 'verdicts'}"
        paragraphs = []
        for place, test in enumerate(claim["tests"]):
            words = f"{test['estimand'].replace('_', ' ')}: " if len(claim["tests"]) > 1 else ""
            known = has_numbers(test)
            shown = (
                live_value(self.env, f"{file}:{claim['id']}.tests[{place}]")
                if known
                else nodes.Text(measured_line(test))
            )
            paragraphs.append(nodes.paragraph("", words, shown))
        return paragraphs

    def _statement(self, claim: dict[str, Any]) -> list[nodes.Node]:
        paragraphs = [nodes.paragraph("", "", *self._markdown(claim["statement"]))]
        if claim.get("correction"):
            corrected = self._markdown(claim["correction"]["statement"])
            paragraphs.append(nodes.paragraph("", "", nodes.strong("", "Corrected: "), *corrected))
        paragraphs.append(nodes.paragraph("", "", *self._markdown(source_text(claim["source"]))))
        return [*paragraphs, *map(paragraph, reported_lines(claim["reported"]))]

    def _markdown(self, text: str) -> list[nodes.Node]:
        return self.parse_inline(text)[0]


def claim_target(name: str, claim_id: str) -> str:
    """Return the anchor of a claim's row.

    Args:
        name: Folder of the replication.
        claim_id: Such as C6.

    Returns:
        Small letters and hyphens, as HTML and Sphinx want it.

    Example:
        >>> claim_target("lora_optimizer", "C6")
        'claim-lora-optimizer-c6'
    """
    return f"claim-{name}-{claim_id}".lower().replace("_", "-")


def source_text(source: dict[str, Any] | None) -> str:
    """Say where a claim stands.

    Args:
        source: Key in the bibliography (None where the claim is ours) and the place; None without either.

    Returns:
        Markdown, with a citation where there is a key.

    Example:
        >>> source_text({"bib": "chen2023lion", "where": "Table 2"})
        '{cite:t}`chen2023lion`, Table 2'
    """
    if source is None:
        return "Our own claim."
    return f"{{cite:t}}`{source['bib']}`, {source['where']}" if source["bib"] else f"Our own claim: {source['where']}"


def reported_lines(reported: dict[str, Any] | None) -> list[str]:
    """Say what the source reports.

    Args:
        reported: Value, unit, and whether the original was not read; None for a claim of our own.

    Returns:
        One line; none where there is neither a number nor a reservation.

    Example:
        >>> reported_lines({"value": "2 to 15", "unit": "%", "unverified": True})
        ['Reported: 2 to 15 %. Not read in the original.']
    """
    if not reported:
        return []
    number = " ".join(str(part) for part in (reported["value"], reported["unit"]) if part is not None)
    sentences = [f"Reported: {number}."] if reported["value"] is not None else []
    sentences += ["Not read in the original."] if reported["unverified"] else []
    return [" ".join(sentences)] if sentences else []


def _rank(claim: dict[str, Any]) -> int:
    return 0 if is_primary(claim) else 2 if claim["exploratory"] else 1
