"""What the book's own pages show of all replications: answers, the board of verdicts, posts, errata, citations."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from pybtex.richtext import Text
from sphinx.application import Sphinx

from paperkit.answers import Judged, Record, answer_of, primary_claims, title_of, word_of
from paperkit.profiles import COMMITTED
from paperkit.written import named, shown_line
from results_in_text import citations, pages, records, yaml_files
from results_in_text.citations import Citation
from results_in_text.claims import deciding_number, favours
from results_in_text.nodes import Row, block, bullets, facet_paragraph, fold, paragraph, table, verdict_badge
from results_in_text.numbers_changed import Change, read_changes
from results_in_text.pages import BookDirective, depend_on, download_links
from results_in_text.records import Verdicts, is_primary, page_of, target_of
from results_in_text.reruns import RECEIPTS
from results_in_text.yaml_files import SCHEMAS, Erratum, Evidence, Posts

_FIRST_FIGURE = re.compile(r"\{result-figure\} (\S+)\n:alt: (.+)")
_STATES = ["done", "in work", "next", "later", "nothing to run"]


class _OverAllReplications(BookDirective):
    """A directive that reads what all replications are about, and all verdicts on disk."""

    @cached_property
    def _posts(self) -> Posts:
        path = Path(self.env.srcdir, "posts.yaml")
        depend_on(self.env, path, *self.replications.glob("*/about.yaml"))
        return yaml_files.read_posts(path, self.results, self.replications)

    @cached_property
    def _verdicts(self) -> dict[str, Verdicts]:
        folders = records.judged_folders(self.results)
        if not folders:
            records.stop(f"no verdicts below {self.results}; `dvc repro` makes them")
        depend_on(self.env, *Path(self.env.srcdir).glob("replications/*.md"))
        return {folder: self.verdicts(folder) for folder in folders}

    def _title(self, folder: str) -> list[nodes.Node]:
        # In its words, which the contents of this page would not look up.
        name = page_of(folder)
        title = title_of(Path(self.env.srcdir, "replications", f"{name}.md"))
        return self.inline(f"{{doc}}`{title} </replications/{name}>`")

    def _link(self, folder: str, claim: Record) -> list[nodes.Node]:
        return self.inline(f"{{ref}}`{claim['id']} <{target_of(folder, claim['id'])}>`")


class Answers(_OverAllReplications, name="answers"):
    """Directive `answers`: of each replication its question, answer, first figure, first primary claim and scale."""

    def _make(self) -> list[nodes.Node]:
        names = [name for name in self._verdicts if page_of(name) == name]
        primary = {name: primary_claims(self.replications.parent, name) for name in names}
        cards = [self._card(name, claims) for name, claims in primary.items()]
        claims = [claim for of_name in primary.values() for *_, claim in of_name]
        examples = {claim["verdict"]: claim for claim in reversed(claims)}
        words = Counter(claim["verdict"] for claim in claims)
        counted: list[nodes.Node | str] = []
        for word in sorted(words, key=records.VERDICT_ORDER.index, reverse=True):
            counted += [f" {words[word]}\N{NO-BREAK SPACE}", verdict_badge(examples[word])]
        said = f"{len(cards)} replications so far, {len(claims)} primary claims:"
        return [block(said, *counted, css="tally"), *cards]

    def _card(self, name: str, primary: Sequence[Judged]) -> nodes.section:
        about, example = self._posts.about(name), self._example(name, primary)
        own = [
            text if profile == COMMITTED else f"{text} (profile {profile})" for profile, text in about["here"].items()
        ]
        source = f" **The source:** {about['scale']['text'].rstrip('.')}." if "scale" in about else ""
        scale = f"**Scale here:** {'; '.join(own)}.{source}"
        return nodes.section(
            "",
            nodes.title("", "", *self._title(name)),
            self.line(about["question"], "question"),
            self.line(answer_of(self.replications.parent, name), "answer"),
            nodes.container("", *example, self.line(scale, "scale"), classes=["evidence"]),
            *self._figure(name),
            ids=[nodes.make_id(f"answer-{name}")],
            classes=["answer-card"],
        )

    def _example(self, name: str, primary: Sequence[Judged]) -> list[nodes.Node]:
        """Show the first primary claim with its verdict and its number, and the others with their verdicts."""
        if not primary:
            return []
        said = []
        for words, folder, claim in primary:
            profile = "" if folder == name else f" (profile {self._verdicts[folder].profile})"
            text = self.inline(words.get("claim", claim["statement"].rstrip(".")))
            said.append(block(*text, " (", *self._link(folder, claim), "): ", verdict_badge(claim), profile))
        words, folder, first = primary[0]
        shown = [said[0], block(*deciding_number(self, folder, words, first))]
        lead = block("The other primary claims:", css="others")
        return [*shown, lead, bullets(*said[1:], classes=["others"])] if said[1:] else shown

    def _figure(self, name: str) -> list[nodes.Node]:
        """Show the first figure of the page, with the page's description of it."""
        page = Path(self.env.srcdir, "replications", f"{name}.md")
        found = _FIRST_FIGURE.search(page.read_text(encoding="utf-8")) if page.is_file() else None
        if found is None:
            return []
        uri = os.path.relpath(Path(self.config.figures_root, found[1]), self.env.srcdir).replace(os.sep, "/")
        # What has a width, Sphinx links to the file.
        return [nodes.image(uri=uri, alt=found[2], width="100%", classes=["result-figure", "dark-light"])]


class VerdictBoard(_OverAllReplications, name="verdict-board"):
    """Directive `verdict-board`: one row for each claim of every replication; a script sorts and filters it."""

    def _make(self) -> list[nodes.Node]:
        rows = [
            self._row(name, verdicts.profile, claim)
            for name, verdicts in self._verdicts.items()
            for claim in verdicts.claims.values()
            if "superseded_by" not in claim  # it stays on its page alone
        ]
        headings = ["Verdict", "What is claimed", "Measured here", "Replication and scale"]
        return [table(headings, rows, css_class="board", widths=[16, 40, 22, 22])]

    def _row(self, name: str, profile: str, claim: Record) -> Row:
        order, kind = records.claim_order(claim["id"]), "primary" if is_primary(claim) else claim["kind"]
        place = f"{records.VERDICT_ORDER.index(claim['verdict']):02}{order}"
        first, more = claim["tests"][0], len(claim["tests"]) - 1
        scale = block(self._posts.about(name)["here"][profile], css="scale")
        return [
            [
                facet_paragraph("verdict", word_of(claim), verdict_badge(claim), order=place),
                facet_paragraph("kind", kind, order=f"{kind != 'primary'}{kind}{order}"),
            ],
            [block(*self.inline(claim["statement"]), " ", *self._link(name, claim))],
            [
                block(*paragraph(f"{named(first)}{shown_line(first)}"), *favours(first)),
                *([block(f"and {more} more")] if more else []),
            ],
            [
                facet_paragraph("replication", page_of(name), *self._title(name)),
                facet_paragraph("topic", self._posts.topic_of(name)),
                facet_paragraph("profile", profile, nodes.Text(f"profile {profile}")),
                *([] if claim["kind"] == "identity" else [scale]),
            ],
        ]


class PostsMap(_OverAllReplications, name="posts-map"):
    """Directive `posts-map`: all posts with their state, their topic, and the replication where there is one."""

    def _make(self) -> list[nodes.Node]:
        rows = [self._row(post) for post in self._posts.posts]
        headings = ["State", "Post", "Topic", "What there is to replicate"]
        return [table(headings, rows, css_class="posts", widths=[18, 46, 16, 20])]

    def _row(self, post: Mapping[str, Any]) -> Row:
        state, name = post["state"], post.get("replication")
        shown = nodes.inline(state, state, classes=["state", f"state-{state.replace(' ', '-')}"])
        place = [facet_paragraph("state", state, shown, order=f"{_STATES.index(state)}{post['date']}")]
        if f"replications/{name}" in self.env.found_docs:
            place.append(self.line(f"{{doc}}`{name.replace('_', ' ')} </replications/{name}>`"))
        elif name:
            place.append(block(nodes.literal(name, name)))
        address = f"https://kexue.fm/archives/{post['archive']}"
        title = nodes.reference("", post["title"], refuri=address, internal=False)
        chinese = nodes.inline("", post["chinese"], classes=["chinese"])
        return [
            place,
            [block(title), block(nodes.inline("", post["date"], classes=["date"]), " ", chinese)],
            [facet_paragraph("topic", self._posts.topics[post["topic"]])],
            [facet_paragraph("kind", kind) for kind in post["kinds"]] or [block("nothing: an essay")],
        ]


class ErrataList(BookDirective, name="errata"):
    """Directive `errata`: those of the replication named, or of the page's; on any other page all by source."""

    optional_arguments: ClassVar[int] = 1

    def _make(self) -> list[nodes.Node]:
        bibliography = self.env.get_domain("cite").bibdata.data.entries
        own = self.arguments[0] if self.arguments else pages.replication_of(self.env.docname)
        known = yaml_files.names_with_errata(self.replications, self.results)
        names = known if own is None else [own] * bool(self.arguments or own in known)
        read = (yaml_files.read_errata(self.replications, self.results, name, set(bibliography)) for name in names)
        errata = [one for of_name in read for one in of_name]
        for name in names:
            depend_on(self.env, self.replications / name / "errata.yaml")
            self.verdicts(name)
        if own and not names:
            return [block("We found no error in the sources.")]
        if own:
            return [self._block(erratum, at_home=True) for erratum in errata]
        sources = sorted({erratum.content["source"]["bib"] for erratum in errata})
        return [self._section(key, bibliography[key].fields["title"], errata) for key in sources]

    def _section(self, key: str, title: str, errata: Sequence[Erratum]) -> nodes.section:
        """Make the section of one source, the gravest errors first."""
        found = [erratum for erratum in errata if erratum.content["source"]["bib"] == key]
        found.sort(key=lambda erratum: yaml_files.SEVERITIES.index(erratum.content["severity"]))
        heading, target = nodes.title("", str(Text.from_latex(title))), nodes.make_id(f"errata-of-{key}")
        blocks = [self._block(erratum, at_home=False) for erratum in found]
        return nodes.section("", heading, self.line(f"{{cite:t}}`{key}`"), *blocks, ids=[target], names=[target])

    def _block(self, erratum: Erratum, *, at_home: bool) -> nodes.container:
        entry, target = erratum.content, target_of(erratum.replication, erratum.content["id"], "erratum")
        source, severity, name = entry["source"], entry["severity"], f"{erratum.replication}/{entry['id']}"
        if at_home:
            self.note_target(target, entry["id"])
        with pages.stopping(f"{self.replications / erratum.replication / 'errata.yaml'}, {entry['id']}"):
            written, right, effect = map(self.parse_text_to_nodes, (entry["written"], entry["right"], entry["effect"]))
        evidence = [self._evidence(erratum.replication, one) for one in erratum.evidence]
        fields = {"Written": written, "Right": right, "Evidence": evidence, "Effect": effect}
        shown = [
            nodes.field("", nodes.field_name("", name), nodes.field_body("", *body)) for name, body in fields.items()
        ]
        number = [nodes.Text(name)] if at_home else self.inline(f"{{ref}}`{name} <{target}>`")
        badge = nodes.inline(severity, severity, classes=["severity", f"severity-{severity}"])
        citation = f"{{cite:t}}`{source['bib']}`, {source['where']}" if at_home else source["where"]
        place = self.inline(citation + (". Not read in the original." if source["unverified"] else ""))
        heading = block(nodes.strong("", "", *number), " ", badge, " ", *place)
        return nodes.container("", heading, nodes.field_list("", *shown), ids=[target], classes=["erratum"])

    def _evidence(self, name: str, evidence: Evidence) -> nodes.Node:
        if evidence.claim is None:
            return block("Derived: " if evidence.kind == "derivation" else "Read: ", *self.inline(evidence.text))
        claim = evidence.claim["id"]
        link = self.inline(f"{{ref}}`claim {claim} <{target_of(name, claim)}>`")
        what = ["Judged: "] if evidence.kind == "claim" else ["Executed: ", nodes.literal("", evidence.text), ", "]
        return block(*what, *link, " ", verdict_badge(evidence.claim))


class Citations(BookDirective, name="citations"):
    """Directive `citations`: a section for each folder of results, and in it how to cite each of its claims."""

    def _make(self) -> list[nodes.Node]:
        edition, changes = _edition(self.config), read_changes(Path(self.config.numbers_changed))
        folders = records.judged_folders(self.results)
        cited = [citations.read_citations(self.results, folder, edition) for folder in folders]
        files = map(Path, (self.config.citation_file, self.config.numbers_changed))
        depend_on(self.env, *files, *self.results.glob("*/*.json"))
        schemas = download_links(self.env, "schemas", [path.name for path in sorted(SCHEMAS.glob("*.json"))])
        return [block("Schemas: ", *schemas), *(self._section(of_folder, changes) for of_folder in cited)]

    def _section(self, of_folder: Sequence[Citation], changes: Sequence[Change]) -> nodes.section:
        folder = of_folder[0].folder
        target = nodes.make_id(f"cite-{folder}")
        self.note_target(target, folder)
        page = self.inline(f"{{doc}}`/{of_folder[0].page}`")
        lead = block(*page, ". ", "Files: ", *download_links(self.env, folder, list(citations.OFFERED)))
        claims = [self._claim(citation, changes) for citation in of_folder]
        return nodes.section("", nodes.title("", folder), lead, *claims, ids=[target], names=[target])

    def _claim(self, citation: Citation, changes: Sequence[Change]) -> nodes.Element:
        claim, target = citation.claim, target_of(citation.folder, citation.claim["id"], "cite")
        self.note_target(target, citation.id)
        statement, badge = self.inline(claim["statement"]), verdict_badge(claim)
        line = nodes.strong("", citation.id), nodes.Text(" "), badge, nodes.Text(" "), *statement
        row = self.inline(f"{{ref}}`{citation.id} <{citation.anchor}>`")
        measured = "; ".join(records.measured_lines(claim["tests"]))
        version = f" at version {citation.edition.version}, commit {citation.commit}: {measured}"
        # What it said before, the newest first.
        earlier = [
            f"Until {change['date']}: {'; '.join(change['old']['measured'])}, {change['old']['verdict']}, commit "
            f"{change['old']['commit']} (files in {change['old']['kept_in']}). Changed: {change['why']}."
            for change in reversed(changes)
            if change["claim"] == citation.id
        ]
        to_be_copied = {
            "bibtex": citations.bibtex(citation),
            "latex": f"{citations.LOOK_UP}\n{citations.macros(citation)}",
        }
        return fold(
            line,
            block(*row, version, ids=[target]),
            *([bullets(*map(block, earlier))] if earlier else []),
            # Without colours: of hundreds of entries they were half of the page's bytes.
            *(
                nodes.literal_block(text, text, language="text", classes=[f"highlight-{language}"], to_be_copied=True)
                for language, text in to_be_copied.items()
            ),
            css="citation-of-claim",
        )


def _edition(config: Any) -> citations.Edition:
    return citations.read_edition(Path(config.citation_file), config.html_baseurl)


def write_all_downloads(app: Sphinx, results: Path, out: Path) -> None:
    """Write downloads/ beside the pages of a built HTML book."""
    edition, changes = _edition(app.config), read_changes(Path(app.config.numbers_changed))
    roots = results, app.config.figures_root, app.config.replications_root, results.with_name(RECEIPTS)
    for folder in pages.shown_folders(app):
        sources = [Path(root, folder) for root in roots]
        files = [path for source in sources for path in (source, *source.glob("*"))]
        records_of_all = map(Path, (app.config.citation_file, app.config.numbers_changed))
        if pages.is_made(app, out / folder / "table.tex", *files, *records_of_all):
            continue
        cited = citations.read_citations(results, folder, edition)
        profile = records.read_verdicts(results, folder).profile
        citations.write_downloads(out / folder, cited, changes, profile=profile, sources=sources)
