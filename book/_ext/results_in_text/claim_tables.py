"""The directive `claims`: every claim of a replication, with what was measured, and what its verdict survives."""

from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from paperkit.results import ResultsError
from paperkit.written import has_numbers, measured_line
from results_in_text.of_replication import OfReplication
from results_in_text.page_notes import depend_on
from results_in_text.posts import page_of
from results_in_text.result_roles import live_value
from results_in_text.results_files import Verdicts, claim_address, read_all_verdicts, read_verdicts
from results_in_text.rule_dates import rule_dates
from results_in_text.tables import Row, paragraph, table
from results_in_text.verdict_badges import is_primary, verdict_badge
from results_in_text.verdict_strength import as_test, conclusion, outcome, seeds_left_out, share


class ClaimsTable(OfReplication):
    """Directive `claims`: all claims of a replication at each of its profiles, or of the folder of results named.

    Primary ones come first, superseded ones last. Each row is a target, `claim-<name>-<id>` in small letters, so that
    one result can be cited, and shows the verdict of every profile that has judged the claim. Where claims declare
    variations, primary claims have a table of their own, and each claim's variations follow: `strength-<name>-<id>`.
    """

    def run(self) -> list[nodes.Node]:
        """Make the table and note its files as dependencies of the page.

        Returns:
            The tables.

        Raises:
            ExtensionError: If there are no verdicts, or one is malformed.
        """
        root, name = Path(self.config.results_root), self.folder
        try:
            self.every = read_all_verdicts(root, page_of(name))
            depend_on(self.env, *(file for verdicts in self.every.values() for file in verdicts.files))
            shown = {name: read_verdicts(root, name)} if self.arguments else self.every
            return [node for folder, verdicts in shown.items() for node in self._of_folder(folder, verdicts)]
        except ResultsError as error:
            message = f"{self.get_location()}: directive claims, {name!r}: {error}"
            raise ExtensionError(message) from error

    def _of_folder(self, name: str, verdicts: Verdicts) -> list[nodes.Node]:
        claims = sorted(verdicts.claims, key=_rank)
        varied = any("robustness" in claim for claim in claims)
        groups = groupby(claims, key=lambda claim: varied and is_primary(claim))
        tables = [node for _, group in groups for node in self._tables(name, list(group))]
        return tables if name == page_of(name) else [nodes.rubric("", f"At profile {verdicts.profile}"), *tables]

    def _tables(self, name: str, claims: list[dict[str, Any]]) -> list[nodes.Node]:
        headings = ["Claim", "What is claimed, and where", "Measured here", "Reason"]
        rows = [self._row(name, claim) for claim in claims]
        varied = [node for claim in claims if "robustness" in claim for node in self._variations(name, claim)]
        return [table(headings, rows, css_class="claims", widths=[16, 34, 22, 28]), *varied]

    def _row(self, name: str, claim: dict[str, Any]) -> Row:
        return [
            self._claim(name, claim),
            self._statement(claim) + rule_dates(self.env, name, claim["id"]),
            self._measured(name, claim),
            self._reason(claim),
        ]

    def _claim(self, name: str, claim: dict[str, Any]) -> list[nodes.Node]:
        target = claim_target(name, claim["id"])
        # A label lets any page refer to the row: {ref}`text <claim-lion-c6>`.
        self.env.get_domain("std").note_hyperlink_target(target, self.env.docname, target, claim["id"])
        kind = claim["kind"] if not is_primary(claim) else "primary"
        heading = nodes.paragraph("", "", nodes.strong("", claim["id"]), nodes.Text(f" {kind}"), ids=[target])
        cell = [heading, *verdicts_by_profile(self, self.every, claim)]
        if "superseded_by" in claim:
            successor = claim["superseded_by"]
            cell.append(self._line(f"judged again as {{ref}}`{successor} <{claim_target(name, successor)}>`"))
        if "robustness" in claim:
            cell.append(self._line(f"{{ref}}`{share(claim)} <{_strength_target(target)}>`"))
        if "cite" in self.env.found_docs:
            cell.append(self._line(f"{{ref}}`cite {name}/{claim['id']} <{target.replace('claim-', 'cite-', 1)}>`"))
        return cell

    def _measured(self, name: str, claim: dict[str, Any]) -> list[nodes.Node]:
        paragraphs = []
        for place, test in enumerate(claim["tests"]):
            address = f"{claim_address(name, claim)}.tests[{place}]"
            words = f"{test['estimand'].replace('_', ' ')}: " if len(claim["tests"]) > 1 else ""
            paragraphs.append(nodes.paragraph("", words, _numbers(self.env, address, test)))
            if "flip" in test:
                paragraphs.append(self._flip_distance(address, test))
        return paragraphs

    def _flip_distance(self, address: str, test: dict[str, Any]) -> nodes.paragraph:
        flip = test["flip"]
        words = seeds_left_out(flip)
        if flip["value"] is None:
            return nodes.paragraph("", f"{words}.", classes=["flip-distance"])
        value = live_value(self.env, f"{address}.flip.value")
        declared = " to ".join(f"{end:g}" for end in test.get("range", [test[flip["threshold"]]]))
        parts = (
            nodes.Text(f"; it falls at a {flip['threshold']} of "),
            value,
            nodes.Text(f" (declared: {declared})."),
        )
        return nodes.paragraph("", words, *parts, classes=["flip-distance"])

    def _reason(self, claim: dict[str, Any]) -> list[nodes.Node]:
        if "underpowered" not in claim:
            return [paragraph(claim["reason"])]
        why = self._markdown(claim["underpowered"])
        return [paragraph(claim["reason"]), nodes.paragraph("", "", nodes.strong("", "Underpowered: "), *why)]

    def _variations(self, name: str, claim: dict[str, Any]) -> list[nodes.Node]:
        target, address = _strength_target(claim_target(name, claim["id"])), claim_address(name, claim)
        self.env.get_domain("std").note_hyperlink_target(target, self.env.docname, target, claim["id"])
        heading = nodes.paragraph("", "", nodes.strong("", claim["id"]), nodes.Text(" "), verdict_badge(claim))
        heading += nodes.Text(" under the variations that were declared before its results:")
        heading["ids"] = [target]
        rows: list[Row] = [
            [
                [self._line(variation["name"])],
                [paragraph(outcome(variation))],
                [nodes.paragraph("", "", _numbers(self.env, f"{address}.robustness[{place}]", test))],
                [paragraph(variation["why"])],
            ]
            for place, variation in enumerate(claim["robustness"])
            for test in [as_test(claim, variation)]
        ]
        varied = table(
            ["Variation", "The word", "Measured", "Why"], rows, css_class="variations", widths=[26, 12, 28, 34]
        )
        end = nodes.paragraph("", "", *self._markdown(conclusion(claim)), generated=True)
        return [heading, varied, end]

    def _statement(self, claim: dict[str, Any]) -> list[nodes.Node]:
        paragraphs = [self._line(claim["statement"])]
        if claim.get("correction"):
            corrected = self._markdown(claim["correction"]["statement"])
            paragraphs.append(nodes.paragraph("", "", nodes.strong("", "Corrected: "), *corrected))
        paragraphs.append(self._line(source_text(claim["source"])))
        return [*paragraphs, *map(paragraph, reported_lines(claim["reported"]))]

    def _line(self, text: str) -> nodes.paragraph:
        return nodes.paragraph("", "", *self._markdown(text))

    def _markdown(self, text: str) -> list[nodes.Node]:
        return self.parse_inline(text)[0]


def verdicts_by_profile(
    directive: SphinxDirective, every: Mapping[str, Verdicts], claim: dict[str, Any]
) -> list[nodes.paragraph]:
    """Make the badge of a claim; where several profiles have judged it, one for each, with a link to its row."""
    judged = [
        (verdict_badge(found), f"{{ref}}`{verdicts.profile} <{claim_target(of, found['id'])}>`")
        for of, verdicts in every.items()
        for found in verdicts.claims
        if found["id"] == claim["id"]
    ]
    if len(judged) == 1:
        return [nodes.paragraph("", "", judged[0][0])]
    return [nodes.paragraph("", "", badge, nodes.Text(" "), *directive.parse_inline(row)[0]) for badge, row in judged]


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


def deciding_number(
    directive: SphinxDirective, folder: str, words: Mapping[str, str], record: dict[str, Any]
) -> list[nodes.Node]:
    """Show the number of a claim's first test, after its name in about.yaml where it has one."""
    name = words.get("number", "")
    said = directive.parse_inline(f"{name[:1].upper()}{name[1:]}: ")[0] if name else []
    return [*said, _numbers(directive.env, f"{claim_address(folder, record)}.tests[0]", record["tests"][0])]


def _numbers(env: BuildEnvironment, address: str, test: dict[str, Any]) -> nodes.Node:
    return live_value(env, address) if has_numbers(test) else nodes.Text(measured_line(test))


def _strength_target(target: str) -> str:
    return target.replace("claim-", "strength-", 1)


def _rank(claim: dict[str, Any]) -> tuple[bool, bool, bool]:
    return "superseded_by" in claim, claim["exploratory"], not is_primary(claim)
