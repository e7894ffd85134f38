"""Roles for use inside a sentence: our numbers and verdicts, a source's numbers, constants, counts of equations."""

import re
from pathlib import Path

from docutils import nodes
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxRole

from paperkit.answers import changed_words, given_verdicts
from results_in_text import records
from results_in_text.nodes import quoted_value, result_value, verdict_badge
from results_in_text.pages import FromFiles, depend_on, note_problem

# text <key, where>: the form of a link, since a bar would end the cell of a table.
_QUOTED = re.compile(r"(.+?)\s*<\s*([^<>,\s]+)\s*(?:,\s*([^<>]+?)\s*)?>")


def live_value(env: BuildEnvironment, address: str, spec: str | None = None) -> result_value:
    """Make the node of a number that comes from results/, and note its files as dependencies of the page."""
    # Without a format it is rounded as its interval implies, and has its unit.
    root = Path(env.config.results_root)
    value = records.written_value(root, address, spec)
    source = records.provenance_file(root, value.file)
    # Estimate and ends of one interval share a card.
    shown = f"{value.file}:{value.claim}.{value.place}" if value.test else address
    facts = [("address", shown), *records.value_facts(value), *records.stage_facts(source)]
    depend_on(env, root / f"{value.file}.json", source)
    place = records.anchor(value.claim, value.place) if value.test else records.anchor("stage", source.stem)
    page = f"provenance/{value.file.partition('/')[0]}"
    return result_value("", value.text, address=address, spec=spec or "", page=page, anchor=place, facts=facts)


class BookRole(FromFiles, SphinxRole):
    """A role that prints what files hold."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Make what the page shows."""
        self.messages: list[nodes.system_message] = []
        return [self.made(f"role {self.name}, {self.text!r}")], self.messages

    def inline(self, text: str) -> list[nodes.Node]:
        """Read the content, which may hold mathematics."""
        content, self.messages = self.inliner.parse(text, self.lineno, self.inliner, self.inliner.parent)  # type: ignore[attr-defined]
        return content


class ResultRole(BookRole, name="result"):
    """Role `result`: `name/file:path | format` becomes the formatted value."""

    def _make(self) -> nodes.Node:
        address, _, spec = (part.strip() for part in self.text.partition("|"))
        return live_value(self.env, address, spec or None)


class VerdictRole(BookRole, name="verdict"):
    """Role `verdict`: `name:claim` becomes the badge of the claim's verdict."""

    def _make(self) -> nodes.Node:
        name, claim_id = records.split_address(self.text)
        badge = verdict_badge(records.claim_with_id(self.verdicts(name).claims, claim_id))
        badge["judged"] = (name, claim_id)
        return badge


class ReportedRole(BookRole, name="reported"):
    """Role `reported`: `text <key, where>` is a number that a source reports and we did not measure."""

    def _make(self) -> nodes.Node:
        match = _QUOTED.fullmatch(self.text.strip())
        text, key, where = match.groups() if match else (self.text, "", "")
        entries = self.env.get_domain("cite").data["bibdata"].data.entries
        if key not in entries:
            form = "write the number, then the source's key and the place, such as "
            records.stop(f"{key!r} is not in the bibliography; {form}{{reported}}`77.44 % <chen2023lion, Table 2>`")
        names = [" ".join(person.last_names) for person in entries[key].persons.get("author", [])]
        who = names[0] if len(names) == 1 else f"{names[0]} et al." if names else key
        by = " ".join(filter(None, [who, entries[key].fields.get("year")]))
        facts = [("reported by", by), ("key", key), ("place", where), ("measured here", "no")]
        return quoted_value("", "", *self.inline(text), facts=[fact for fact in facts if fact[1]])


class ConstantRole(BookRole, name="constant"):
    """Role `constant`: a number that belongs to the text, such as a setting or the value of a formula."""

    def _make(self) -> nodes.Node:
        return nodes.inline("", "", *self.inline(self.text), classes=["constant"])


class given(nodes.inline):  # named like the role
    """Verdicts (attribute `verdicts`) for which the block around it was written; nobody sees it."""


class GivenRole(BookRole, name="given"):
    """Role `given`: verdicts such as `lion:C6 contradicted; lion:C4 holds`, after what was written for them."""

    def _make(self) -> nodes.Node:
        verdicts = [(folder, claim) for folder, claim, _ in given_verdicts(self.text)]
        for sentence in changed_words(self.results, self.text):
            note_problem(self.env, self.lineno, f"this line states an outcome, and {sentence}")
        for folder, _ in verdicts:
            self.verdicts(folder)
        return given(verdicts=verdicts)
