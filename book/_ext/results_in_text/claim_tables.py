"""The directive `claims`: every claim of a replication, with what was measured."""

import math
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from results_in_text.results_files import ResultAddressError, read_verdicts
from results_in_text.tables import Row, paragraph, table
from results_in_text.verdict_badges import is_primary, verdict_badge


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
        except ResultAddressError as error:
            message = f"{self.get_location()}: directive claims, {name!r}: {error}"
            raise ExtensionError(message) from error
        for path in verdicts.files:
            self.env.note_dependency(str(path))
        headings = ["Claim", "What is claimed, and where", "Measured here", "Reason"]
        return [table(headings, rows, css_class="claims", widths=[16, 34, 22, 28])]

    def _row(self, name: str, claim: dict[str, Any]) -> Row:
        return [
            self._claim(name, claim),
            self._statement(claim),
            [paragraph(line) for line in measured_lines(claim["tests"])],
            [paragraph(claim["reason"])],
        ]

    def _claim(self, name: str, claim: dict[str, Any]) -> list[nodes.Node]:
        target = claim_target(name, claim["id"])
        # A label lets any page refer to the row: {ref}`text <claim-lion-c6>`.
        self.env.get_domain("std").note_hyperlink_target(target, self.env.docname, target, claim["id"])
        kind = claim["kind"] if not is_primary(claim) else "primary"
        heading = nodes.paragraph("", "", nodes.strong("", claim["id"]), nodes.Text(f" {kind}"), ids=[target])
        return [heading, nodes.paragraph("", "", verdict_badge(claim))]

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


def measured_lines(tests: list[dict[str, Any]]) -> list[str]:
    """Say what we measured, one line a test.

    Args:
        tests: The claim's tests; several are told apart by the names of their estimands.

    Returns:
        Estimate, 95 % interval, unit and number of seeds; errors and tolerance for identities.

    Example:
        >>> gap = {"estimand": "gap", "estimate": 0.1234, "low": 0.1, "high": 0.15, "n": 8, "unit": "nats"}
        >>> measured_lines([gap | {"rule": "greater"}])
        ['0.123 [0.100, 0.150] nats, n = 8']
    """
    lines = [_identity_line(test) if test["rule"] == "identity" else _interval_line(test) for test in tests]
    if len(tests) == 1:
        return lines
    return [f"{test['estimand'].replace('_', ' ')}: {line}" for test, line in zip(tests, lines, strict=True)]


def rounded(test: dict[str, Any]) -> dict[str, str]:
    """Round the numbers of a test as every page, citation and table prints them.

    Args:
        test: One test of a claim.

    Returns:
        Texts of estimate, low and high, to two digits of the interval's half width, and n; of max_error, tolerance
        and control_error for an identity. What was not measured is left out.

    Example:
        >>> rounded({"rule": "greater", "estimate": 0.1234, "low": 0.1, "high": 0.15, "n": 8})
        {'estimate': '0.123', 'low': '0.100', 'high': '0.150', 'n': '8'}
    """
    if test["rule"] == "identity":
        if test["max_error"] is None:
            return {}
        errors = {key: f"{test[key]:.2g}" for key in ("max_error", "control_error")}
        return errors | {"tolerance": f"{test['tolerance']:g}"}
    seeds = {"n": str(test["n"])} if test["n"] else {}
    if test["low"] is None or test["high"] is None:
        return seeds
    spec = _spec_for((test["high"] - test["low"]) / 2)
    return {key: f"{test[key]:{spec}}" for key in ("estimate", "low", "high")} | seeds


def _rank(claim: dict[str, Any]) -> int:
    return 0 if is_primary(claim) else 2 if claim["exploratory"] else 1


def _identity_line(test: dict[str, Any]) -> str:
    text = rounded(test)
    if not text:
        return "not run"
    return f"largest error {text['max_error']}, tolerance {text['tolerance']}, control {text['control_error']}"


def _interval_line(test: dict[str, Any]) -> str:
    text = rounded(test)
    if "estimate" not in text:
        return f"no interval, n = {text['n']}" if text else "not run"
    measured = f"{text['estimate']} [{text['low']}, {text['high']}]"
    return ", ".join([" ".join(filter(None, [measured, test["unit"]])), f"n = {text['n']}"])


def _spec_for(half_width: float) -> str:
    """Choose a format that shows two digits of the interval's half width."""
    if half_width < 1e-6:
        return ".4g"
    return f".{max(0, 1 - math.floor(math.log10(half_width)))}f"
