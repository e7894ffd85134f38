"""Roles for use inside a sentence: `result`, `verdict`, and for numbers that are not ours `reported`, `constant`."""

import re
from pathlib import Path

from docutils import nodes
from pybtex.database import Entry
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxRole

from paperkit.results import ResultsError
from results_in_text.page_notes import depend_on
from results_in_text.provenance_files import provenance_file, read_provenance, stage_facts, value_facts
from results_in_text.result_cards import anchor, quoted_value, result_value
from results_in_text.results_files import claim_with_id, read_verdicts, split_address
from results_in_text.verdict_badges import verdict_badge
from results_in_text.written_values import written_value

# text <key, where>: the form of a link, since a bar would end the cell of a table.
_QUOTED = re.compile(r"(.+?)\s*<\s*([^<>,\s]+)\s*(?:,\s*([^<>]+?)\s*)?>")

Output = tuple[list[nodes.Node], list[nodes.system_message]]


def live_value(env: BuildEnvironment, address: str, spec: str | None = None) -> result_value:
    """Make the node of a number that comes from results/, and note its files as dependencies of the page."""
    # Without a format it is rounded as its interval implies, and has its unit.
    root = Path(env.config.results_root)
    value = written_value(root, address, spec)
    source = provenance_file(root, value.file)
    facts = [("address", address), *value_facts(value), *stage_facts(read_provenance(source))]
    if value.test:
        # Estimate and ends of one interval share a card.
        facts[0] = ("address", f"{value.file}:{value.claim}.{value.place}")
    depend_on(env, root / f"{value.file}.json", source)
    folder = value.file.partition("/")[0]
    place = anchor(value.claim, value.place) if value.test else anchor("stage", source.stem)
    return result_value(
        value.text,
        value.text,
        address=address,
        spec=spec or "",
        page=f"provenance/{folder}",
        anchor=place,
        facts=facts,
    )


class ResultRole(SphinxRole):
    """Role `result`: `name/file:path | format` becomes the formatted value."""

    def run(self) -> Output:
        """Read the value and note its files as dependencies of the page."""
        address, _, spec = (part.strip() for part in self.text.partition("|"))
        try:
            return [live_value(self.env, address, spec or None)], []
        except ResultsError as error:
            raise ExtensionError(_complaint(self, error)) from error


class VerdictRole(SphinxRole):
    """Role `verdict`: `name:claim` becomes the badge of the claim's verdict."""

    def run(self) -> Output:
        """Read the verdict and note its files as dependencies of the page."""
        try:
            name, claim_id = split_address(self.text)
            verdicts = read_verdicts(Path(self.config.results_root), name)
            badge = verdict_badge(claim_with_id(verdicts, claim_id))
            badge["judged"] = (name, claim_id)
        except ResultsError as error:
            raise ExtensionError(_complaint(self, error)) from error
        depend_on(self.env, *verdicts.files)
        return [badge], []


class ReportedRole(SphinxRole):
    """Role `reported`: `text <key, where>` is a number that a source reports and we did not measure."""

    def run(self) -> Output:
        """Look the source up; refuse a number without one."""
        match = _QUOTED.fullmatch(self.text.strip())
        text, key, where = match.groups() if match else (self.text, "", "")
        entries = self.env.get_domain("cite").data["bibdata"].data.entries
        if key not in entries:
            message = (
                f"{key!r} is not in the bibliography; write the number, then the source's key and the place, such as "
                "{reported}`77.44 % <chen2023lion, Table 2>`"
            )
            raise ExtensionError(_complaint(self, message))
        content, messages = self.inliner.parse(text, self.lineno, self.inliner, self.inliner.parent)  # type: ignore[attr-defined]
        facts = [("reported by", _authors(entries[key])), ("key", key)]
        facts += [("place", where)] if where else []
        return [quoted_value(text, "", *content, facts=[*facts, ("measured here", "no")])], messages


class ConstantRole(SphinxRole):
    """Role `constant`: a number that belongs to the text, such as a setting or the value of a formula."""

    def run(self) -> Output:
        """Parse the content, which may hold mathematics; the linter of typed numbers lets it pass."""
        content, messages = self.inliner.parse(self.text, self.lineno, self.inliner, self.inliner.parent)  # type: ignore[attr-defined]
        return [nodes.inline(self.text, "", *content, classes=["constant"])], messages


def _authors(entry: Entry) -> str:
    names = [" ".join(person.last_names) for person in entry.persons.get("author", [])]
    who = names[0] if len(names) == 1 else f"{names[0]} et al." if names else entry.key
    return " ".join(filter(None, [who, entry.fields.get("year")]))


def _complaint(role: SphinxRole, problem: object) -> str:
    source, line = role.get_source_info()
    return f"{source}:{line}: role {role.name}, {role.text!r}: {problem}"
