"""The directive `errata`: errors in the sources of the page's replication, or, elsewhere, all of them by source."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from pybtex.richtext import Text
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from paperkit.results import ResultsError
from results_in_text.checked_yaml import BookDataError
from results_in_text.claim_tables import claim_target
from results_in_text.errata import SEVERITIES, Erratum, Evidence, names_with_errata, read_errata
from results_in_text.of_replication import replication_of
from results_in_text.page_notes import depend_on
from results_in_text.verdict_badges import verdict_badge


class ErrataList(SphinxDirective):
    """Directive `errata`: those of the replication named, or of the page's; on any other page all of them."""

    optional_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        """Make one block an erratum (without argument one section a source), and note its files as dependencies."""
        replications, results = Path(self.config.replications_root), Path(self.config.results_root)
        bibliography = self.env.get_domain("cite").bibdata.data.entries
        try:
            own = self.arguments[0] if self.arguments else replication_of(self.env.docname)
            known = names_with_errata(replications, results)
            names = known if own is None else [own] * bool(self.arguments or own in known)
            errata = [one for name in names for one in read_errata(replications, results, name, set(bibliography))]
        except (BookDataError, ResultsError) as error:
            message = f"{self.get_location()}: directive errata: {error}"
            raise ExtensionError(message) from error
        for name in names:
            verdicts = (results / name / f"{stem}.json" for stem in ("verdicts", "timing_verdicts"))
            depend_on(self.env, replications / name / "errata.yaml", *verdicts)
        if own and not names:
            return [nodes.paragraph("", "We found no error in the sources.")]
        if own:
            return [self._block(erratum, at_home=True) for erratum in errata]
        sources = sorted({erratum.content["source"]["bib"] for erratum in errata})
        return [self._section(key, bibliography[key].fields["title"], errata) for key in sources]

    def _section(self, key: str, title: str, errata: Sequence[Erratum]) -> nodes.section:
        """Make the section of one source, the gravest errors first."""
        found = [erratum for erratum in errata if erratum.content["source"]["bib"] == key]
        found.sort(key=lambda erratum: SEVERITIES.index(erratum.content["severity"]))
        heading = nodes.title("", str(Text.from_latex(title)))
        citation = nodes.paragraph("", "", *self._inline(f"{{cite:t}}`{key}`"))
        target = nodes.make_id(f"errata-of-{key}")
        blocks = [self._block(erratum, at_home=False) for erratum in found]
        return nodes.section("", heading, citation, *blocks, ids=[target], names=[target])

    def _block(self, erratum: Erratum, *, at_home: bool) -> nodes.container:
        entry = erratum.content
        if at_home:
            # A label lets any page refer to the entry: {ref}`text <erratum-lion-e3>`.
            domain = self.env.get_domain("std")
            domain.note_hyperlink_target(erratum.target, self.env.docname, erratum.target, entry["id"])
        try:
            fields = [
                _field("Written", self.parse_text_to_nodes(entry["written"])),
                _field("Right", self.parse_text_to_nodes(entry["right"])),
                _field("Evidence", [self._evidence(erratum, one) for one in erratum.evidence]),
                _field("Effect", self.parse_text_to_nodes(entry["effect"])),
            ]
        except ExtensionError as error:
            message = (
                f"{Path(self.config.replications_root, erratum.replication, 'errata.yaml')}, {entry['id']}: {error}"
            )
            raise ExtensionError(message) from error
        heading = self._heading(erratum, at_home=at_home)
        return nodes.container("", heading, nodes.field_list("", *fields), ids=[erratum.target], classes=["erratum"])

    def _heading(self, erratum: Erratum, *, at_home: bool) -> nodes.paragraph:
        entry = erratum.content
        source, severity = entry["source"], entry["severity"]
        name = f"{erratum.replication}/{entry['id']}"
        number = [nodes.Text(name)] if at_home else self._inline(f"{{ref}}`{name} <{erratum.target}>`")
        badge = nodes.inline(severity, severity, classes=["severity", f"severity-{severity}"])
        citation = f"{{cite:t}}`{source['bib']}`, {source['where']}" if at_home else source["where"]
        place = self._inline(citation + (". Not read in the original." if source["unverified"] else ""))
        return nodes.paragraph("", "", nodes.strong("", "", *number), nodes.Text(" "), badge, nodes.Text(" "), *place)

    def _evidence(self, erratum: Erratum, evidence: Evidence) -> nodes.Node:
        if evidence.claim is None:
            word = "Derived: " if evidence.kind == "derivation" else "Read: "
            return nodes.paragraph("", "", nodes.Text(word), *self._inline(evidence.text))
        link = self._claim_link(erratum.replication, evidence.claim["id"])
        badge = verdict_badge(evidence.claim)
        if evidence.kind == "claim":
            return nodes.paragraph("", "", nodes.Text("Judged: "), *link, nodes.Text(" "), badge)
        check = nodes.literal(evidence.text, evidence.text)
        return nodes.paragraph(
            "", "", nodes.Text("Executed: "), check, nodes.Text(", "), *link, nodes.Text(" "), badge
        )

    def _claim_link(self, name: str, claim_id: str) -> list[nodes.Node]:
        return self._inline(f"{{ref}}`claim {claim_id} <{claim_target(name, claim_id)}>`")

    def _inline(self, text: str) -> list[nodes.Node]:
        return self.parse_inline(text)[0]


def _field(name: str, body: list[Any]) -> nodes.field:
    return nodes.field("", nodes.field_name("", name), nodes.field_body("", *body))
