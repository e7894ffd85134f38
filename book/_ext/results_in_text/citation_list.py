"""The directive `citations` (how to cite each claim), and the files of a replication that can be fetched."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator
from sphinx.writers.latex import LaTeXTranslator

from paperkit.results import ResultsError
from results_in_text.checked_yaml import SCHEMAS, BookDataError
from results_in_text.citations import LOOK_UP, Citation, Edition, bibtex, macros, read_citations, read_edition
from results_in_text.claim_tables import claim_target
from results_in_text.downloads import copy_schemas, write_downloads
from results_in_text.lone_page import is_left_out
from results_in_text.numbers_changed import Change, read_changes
from results_in_text.page_notes import depend_on
from results_in_text.result_cards import pass_through
from results_in_text.results_files import read_verdicts
from results_in_text.verdict_badges import verdict_badge

_WANTED = "links to downloads"
_OFFERED = {
    "claims.json": "every claim, test, citation and earlier value",
    "claims.csv": "one row a test, in full precision",
    "claims.bib": "a BibTeX entry for each claim",
    "claims.tex": "LaTeX macros with all numbers",
    "table.tex": "the table of verdicts, for booktabs",
}


class folded(nodes.General, nodes.Element):  # docutils finds a node's visitor by the name of its class
    """Content that opens on a click; its first child is the line that is always seen."""


class always_seen(nodes.General, nodes.TextElement):
    """The line of a `folded` that is always seen."""


def visit_element(translator: HTML5Translator, node: folded | always_seen) -> None:
    """Open the HTML element of a folded block or of its line."""
    translator.body.append(translator.starttag(node, _ELEMENTS[type(node)], ""))


def depart_element(translator: HTML5Translator, node: folded | always_seen) -> None:
    """Close it."""
    translator.body.append(f"</{_ELEMENTS[type(node)]}>\n")


def end_line(translator: LaTeXTranslator, node: always_seen) -> None:  # noqa: ARG001 - docutils calls it so
    """End the line that stands above what HTML folds."""
    translator.body.append("\n\n")


_ELEMENTS = {folded: "details", always_seen: "summary"}
_LATEX = {folded: (pass_through, pass_through), always_seen: (pass_through, end_line)}


class Citations(SphinxDirective):
    """Directive `citations`: a section for each folder of results, and in it all its claims."""

    def run(self) -> list[nodes.Node]:
        """Make the list and note its files as dependencies of the page."""
        results = Path(self.config.results_root)
        try:
            edition, changes = _edition(self.config), read_changes(Path(self.config.numbers_changed))
            cited = [read_citations(results, folder, edition) for folder in _folders(results)]
            sections = [self._section(citations, changes) for citations in cited]
        except (BookDataError, ResultsError) as error:
            message = f"{self.get_location()}: directive citations: {error}"
            raise ExtensionError(message) from error
        depend_on(
            self.env, Path(self.config.citation_file), Path(self.config.numbers_changed), *results.glob("*/*.json")
        )
        _want_downloads(self.env)
        schemas = [_link(self.env, "schemas", path.name) for path in sorted(SCHEMAS.glob("*.json"))]
        lead = nodes.paragraph("", "", nodes.Text("Schemas: "), *_separated(schemas))
        return [lead, *sections]

    def _section(self, citations: Sequence[Citation], changes: Sequence[Change]) -> nodes.section:
        folder = citations[0].folder
        target = nodes.make_id(f"cite-{folder}")
        self.env.get_domain("std").note_hyperlink_target(target, self.env.docname, target, folder)
        page = self.parse_inline(f"{{doc}}`/{citations[0].page}`")[0]
        files = [nodes.Text("Files: "), *_separated([_link(self.env, folder, name) for name in _OFFERED])]
        blocks = [self._claim(citation, changes) for citation in citations]
        heading, lead = nodes.title("", folder), nodes.paragraph("", "", *page, nodes.Text(". "), *files)
        return nodes.section("", heading, lead, *blocks, ids=[target], names=[target])

    def _claim(self, citation: Citation, changes: Sequence[Change]) -> folded:
        # A label lets any page refer to the entry: {ref}`text <cite-lion-c6>`.
        anchor = _cite_target(citation)
        self.env.get_domain("std").note_hyperlink_target(anchor, self.env.docname, anchor, citation.id)
        statement = self.parse_inline(citation.claim["statement"])[0]
        badge = verdict_badge(citation.claim)
        line = always_seen("", "", nodes.strong("", citation.id), nodes.Text(" "), badge, nodes.Text(" "), *statement)
        row = self.parse_inline(f"{{ref}}`{citation.id} <{citation.anchor}>`")[0]
        version = f" at version {citation.edition.version}, commit {citation.commit}: {'; '.join(citation.measured)}"
        earlier = [change for change in changes if change["claim"] == citation.id]
        return folded(
            "",
            line,
            nodes.paragraph("", "", *row, nodes.Text(version), ids=[anchor]),
            *([_earlier_values(earlier)] if earlier else []),
            _code(bibtex(citation), "bibtex"),
            _code(f"{LOOK_UP}\n{macros(citation)}", "latex"),
            classes=["citation-of-claim"],
        )


def download_list(env: BuildEnvironment, folder: str) -> nodes.bullet_list:
    """List the files of one folder of results, and note that the page being read links to downloads."""
    results, figures = (Path(root, folder) for root in (env.config.results_root, env.config.figures_root))
    _want_downloads(env)
    raw = [path.name for path in sorted(results.glob("*")) if path.suffix in (".csv", ".json")]
    drawn = [f"figures/{path.name}" for path in sorted(figures.glob("*.svg"))]
    items = [[_link(env, folder, name), nodes.Text(f": {text}")] for name, text in _OFFERED.items()]
    items += [[nodes.Text("Results: "), *_separated([_link(env, folder, name) for name in raw])]]
    if drawn:
        items += [[nodes.Text("Figures: "), *_separated([_link(env, folder, name) for name in drawn])]]
    entries = [nodes.list_item("", nodes.paragraph("", "", *item)) for item in items]
    return nodes.bullet_list("", *entries, classes=["downloads"])


def write_all_downloads(app: Sphinx, exception: Exception | None) -> None:
    """Write downloads/ beside the pages of a built HTML book, if a page links there."""
    if exception or app.builder.format != "html" or not downloads_are_written(app.env):
        return
    results, out = Path(app.config.results_root), Path(app.outdir, "downloads")
    try:
        edition, changes = _edition(app.config), read_changes(Path(app.config.numbers_changed))
        for folder in _folders(results):
            if is_left_out(app, folder):
                continue
            sources = [Path(root, folder) for root in (results, app.config.figures_root, app.config.replications_root)]
            citations = read_citations(results, folder, edition)
            profile = read_verdicts(results, folder).profile
            write_downloads(out / folder, citations, changes, profile=profile, sources=sources)
        copy_schemas(out / "schemas")
    except (BookDataError, ResultsError) as error:
        message = f"downloads: {error}"
        raise ExtensionError(message) from error


def resolve_files(app: Sphinx, config: Config) -> None:
    """Take the files relative to the book's folder, as the configuration file means them."""
    for key in ("citation_file", "numbers_changed"):
        config[key] = str(Path(app.srcdir, config[key]).resolve())


def setup(app: Sphinx) -> None:
    """Register the directive, and the files of the built book."""
    app.add_config_value("citation_file", "../CITATION.cff", "env", str)
    app.add_config_value("numbers_changed", "../numbers_changed.yaml", "env", str)
    for node in _ELEMENTS:
        app.add_node(node, html=(visit_element, depart_element), latex=_LATEX[node], text=(pass_through, pass_through))
    app.add_directive("citations", Citations)
    app.connect("config-inited", resolve_files)
    app.connect("build-finished", write_all_downloads)


def _want_downloads(env: BuildEnvironment) -> None:
    """Note with the page, for as long as it says so, that it links to downloads."""
    env.metadata[env.docname][_WANTED] = "yes"


def downloads_are_written(env: BuildEnvironment) -> bool:
    """Tell whether a page of the book links to downloads, so that they will be written."""
    return any(_WANTED in page for page in env.metadata.values())


def _edition(config: Any) -> Edition:
    return read_edition(Path(config.citation_file), config.html_baseurl)


def _folders(results: Path) -> list[str]:
    return sorted(path.parent.name for path in results.glob("*/verdicts.json"))


def _cite_target(citation: Citation) -> str:
    return claim_target(citation.folder, citation.claim["id"]).replace("claim-", "cite-", 1)


def _earlier_values(changes: Sequence[Change]) -> nodes.bullet_list:
    """List what a claim said before, the newest first."""
    items = [
        f"Until {change['date']}: {'; '.join(change['old']['measured'])}, {change['old']['verdict']}, commit "
        f"{change['old']['commit']} (files in {change['old']['kept_in']}). Changed: {change['why']}."
        for change in reversed(changes)
    ]
    return nodes.bullet_list("", *[nodes.list_item("", nodes.paragraph("", item)) for item in items])


def _code(text: str, language: str) -> nodes.literal_block:
    # Without colours: of hundreds of entries they were half of the page's bytes.
    return nodes.literal_block(text, text, language="text", classes=[f"highlight-{language}"], to_be_copied=True)


def _link(env: BuildEnvironment, folder: str, name: str) -> nodes.reference:
    """Link to a file below downloads/, seen from the page that is being read."""
    address = f"{'../' * env.docname.count('/')}downloads/{folder}/{name}"
    shown = name.removeprefix("figures/")
    return nodes.reference("", shown, refuri=address, internal=True, classes=["download"])


def _separated(links: Sequence[nodes.Node]) -> list[nodes.Node]:
    return [node for link in links for node in (nodes.Text(", "), link)][1:]
