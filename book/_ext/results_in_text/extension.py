"""Sphinx extension: numbers, verdicts, tables and figures of a page come from results/, or the build fails.

Addresses and records (`records`, `yaml_files`, `citations`, `code_runner`) know nothing of Sphinx; nodes, roles and
directives show them; here is what concerns a build as a whole.
"""

import gc
import os
import re
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from html import escape
from pathlib import Path
from shutil import copytree
from typing import Any, ClassVar

import pybtex.plugin
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.directives.patches import Figure
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

from results_in_text import code_files, lint, pages, provenance, search
from results_in_text import nodes as book_nodes
from results_in_text.boards import write_all_downloads
from results_in_text.code_files import Code
from results_in_text.code_runner import about_results, run_cell
from results_in_text.equations import demand_checks
from results_in_text.latex_book import FigureAsPdf
from results_in_text.nodes import figure_files
from results_in_text.notebooks import offer_notebook
from results_in_text.pages import BookDirective, FromFiles, depend_on, downloads_are_written, shown_folders, stopping
from results_in_text.records import stop
from results_in_text.roles import BookRole
from results_in_text.yaml_files import SCHEMAS

_PATHS = {
    "results_root": "../results",
    "figures_root": "../figures",
    "replications_root": "../replications",
    "citation_file": "../CITATION.cff",
    "numbers_changed": "../numbers_changed.yaml",
}
# paperkit.style.WIDTH_IN in points; on a phone the page is narrower, and the image with it.
_FIGURE_WIDTH = "460.8pt"
_DESCRIPTION_LENGTH = 300  # characters
_CELL = re.compile(r"^```\{run-cell\}\n(.*?)\n```$", re.DOTALL | re.MULTILINE)
_RUNNING: dict[tuple[str, Path], "Future[str]"] = {}
# What the theme and docutils write, and what WCAG 2.1 wants instead.
_REPAIRS = {
    # ARIA 1.2 has given this role up; the entries stand in a list.
    'role="doc-biblioentry"': 'role="listitem"',
    # What scrolls has to be reachable by keyboard.
    '<div class="pst-scrollable-table-container">': '<div class="pst-scrollable-table-container" tabindex="0">',
    # What unfolds in the contents has an icon alone.
    '<summary><span class="toctree-toggle"': '<summary aria-label="Pages below this one"><span class="toctree-toggle"',
}

# sphinxcontrib.bibtex asks it for each citation, and every time it reads the metadata of all installed packages.
pybtex.plugin.find_plugin = cache(pybtex.plugin.find_plugin)


def configure(app: Sphinx, config: Config) -> None:
    """Take paths relative to the book's folder, as the configuration file means them, and all bibliographies."""
    for key in _PATHS:
        config[key] = str(Path(app.srcdir, config[key]).resolve())
    found = sorted(Path(config.replications_root).glob("*/references.bib"))
    config.bibtex_bibfiles = [*config.bibtex_bibfiles, *map(str, found)]
    # Tags are text: much of a page is text of YAML files, and a tag in it would run on the page.
    config.myst_disable_syntax = [*config.myst_disable_syntax, "html_inline", "html_block"]
    # It copies files, and does not say that pages may be read in several processes.
    if mathjax := app.extensions.get("sphinx-mathjax-offline"):
        mathjax.parallel_read_safe = mathjax.parallel_write_safe = True


def refuse_what_was_not_made(app: Sphinx) -> None:
    """Stop the build before a page is read where verdicts or tables were edited by hand, or are out of date."""
    app.env.settings["raw_enabled"] = False  # the directives of docutils that pass HTML on
    root, repository = Path(app.config.results_root), Path(app.config.replications_root).parent
    # Each asks a process, and waits for it.
    with stopping("results cannot be judged again"), ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = list(pool.map(lambda folder: about_results(root, repository, folder), shown_folders(app)))
    if found := [problem for answer in answers for problem in answer["problems"]]:
        message = "\n".join(["results are not what their runs give, and no page is made of them:", *found])
        raise ExtensionError(message)


class RunCell(BookDirective, name="run-cell"):
    """Directive `run-cell`: content is Python that imports a replication and prints something."""

    has_content = True

    def _make(self) -> list[nodes.Node]:
        code, repository = "\n".join(self.content), self.replications.parent
        running = _RUNNING.pop((code, repository), None)
        printed = running.result() if running else run_cell(code, repository)
        imported = [f"replications/{name}/**/*.py" for name in re.findall(r"replications\.(\w+)", code)]
        for pattern in imported + re.findall(r'"(results/[^"]+)"', code):
            depend_on(self.env, *repository.glob(pattern))
        shown = nodes.literal_block(code, code, language="python")
        output = nodes.literal_block(printed, printed, language="none", classes=["run-cell-output"])
        how = "Run when this book was built, and by you: paste it into `python` in a clone, after `make repro`."
        return [nodes.container("", shown, self.line(f"{how} It prints:"), output, classes=["run-cell"])]


def run_ahead(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Begin with the cells of all pages that will be read, beside the reading, which waits for the one it comes to."""
    repository = Path(app.config.replications_root).parent
    if app.parallel > 1:  # each of several reading processes runs its own: threads do not live on in them
        return
    pool = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1))
    for name in docnames:
        for code in _CELL.findall(Path(env.doc2path(name)).read_text(encoding="utf-8")):
            _RUNNING[code, repository] = pool.submit(run_cell, code, repository)
    pool.shutdown(wait=False)


class ResultFigure(BookDirective, Figure, name="result-figure"):
    """Directive `result-figure`: argument `name/file.svg` below the figures root, content the caption.

    Its label follows from the path: lion/loss_curves.svg is figure-lion-loss-curves.
    """

    option_spec: ClassVar[dict[str, Any]] = {"alt": directives.unchanged_required}

    def _make(self) -> list[nodes.Node]:
        path, page = Path(self.config.figures_root, self.arguments[0]), self.env.doc2path(self.env.docname)
        if not path.is_file():
            stop(f"figure {path} is missing; `dvc repro` draws it")
        if "alt" not in self.options or not self.content:
            stop(f"figure {self.arguments[0]} needs :alt: and a caption")
        self.options["name"] = nodes.make_id(f"figure-{self.arguments[0].removesuffix('.svg')}")
        # Sphinx itself copies the file, notes it as a dependency of the page, and links what has a width to the file.
        self.arguments[0] = os.path.relpath(path, Path(page).parent).replace(os.sep, "/")
        self.options |= {"class": ["result-figure", "dark-light"], "width": _FIGURE_WIDTH}
        figure, *others = Figure.run(self)
        script, numbers = Code(self.replications.parent, path.parent.name).figure(path.name), ""
        if path.with_suffix(".csv").is_file():
            file, _ = self.env.relfn2path(self.arguments[0].removesuffix(".svg") + ".csv")
            self.env.note_dependency(file)
            numbers = self.env.dlfiles.add_file(self.env.docname, file)
        figure += figure_files(script=script, numbers=numbers)
        return [figure, *others]


def describe(app: Sphinx, doctree: nodes.document) -> None:
    """Take a page's first paragraph for its description."""
    first = next((node for node in doctree.findall(nodes.paragraph) if isinstance(node.parent, nodes.section)), None)
    words = " ".join(first.astext().replace("\\", "").split()) if first is not None else ""
    cut = words[:_DESCRIPTION_LENGTH].rpartition(" ")[0] + " …"
    app.env.metadata[app.env.docname]["description"] = words if len(words) <= _DESCRIPTION_LENGTH else cut


def keep_contents(app: Sphinx, pagename: str, _: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Make the contents once for all pages of one depth that are made from files: none of them is in it."""
    if doctree is None:
        made, kept = context["toctree"], app.env.temp_data.setdefault("contents", {})

        def shared(**options: Any) -> str:
            key = pagename.count("/"), *options.items()
            if key not in kept:
                kept[key] = made(**options)
            return kept[key]

        context["toctree"] = shared


def finish_page(app: Sphinx, pagename: str, _: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Mend what leaves out readers with a keyboard or a screen reader, and write title and description (OpenGraph)."""

    def repaired(html: str) -> str:
        for found, wanted in _REPAIRS.items():
            html = html.replace(found, wanted)
        return html

    context["body"] = repaired(context.get("body", ""))
    if contents := context.get("generate_toctree_html"):
        context["generate_toctree_html"] = lambda *names, **options: repaired(str(contents(*names, **options)))
    if doctree is None:
        return
    description = app.env.metadata[pagename].get("description", "")
    said = {"og:type": "article", "og:site_name": app.config.html_title}
    said |= {"og:title": app.env.titles[pagename].astext(), "og:description": description}
    if app.config.html_baseurl:
        said["og:url"] = _address(app, pagename)
    tags = [f'<meta property="{name}" content="{escape(text)}" />' for name, text in said.items()]
    tags.append(f'<meta name="description" content="{escape(description)}" />')
    context["metatags"] = "\n".join([context.get("metatags", ""), *tags])


def write_files(app: Sphinx, exception: Exception | None) -> None:
    """Write downloads/ if a page links there, llms.txt, and where the book has an address the sitemap."""
    while _RUNNING:  # cells of pages that a build which stops has not come to
        _RUNNING.popitem()[1].cancel()
    if exception or app.builder.format != "html":
        return
    downloads, pages_there, titles = Path(app.outdir, "downloads"), sorted(app.env.found_docs), app.env.titles
    said = {page: app.env.metadata[page]["description"] for page in pages_there}
    lines = [f"# {app.config.html_title}", "", f"> {said[app.config.root_doc]}", "", "## Pages", ""]
    lines += [f"- [{titles[page].astext()}]({_address(app, page)}): {words}" for page, words in said.items()]
    if downloads_are_written(app):
        with stopping("downloads"):
            write_all_downloads(app, Path(app.config.results_root), downloads)
        copytree(SCHEMAS, downloads / "schemas", dirs_exist_ok=True)
        folders = [file.parent.name for file in sorted(downloads.glob("*/claims.json"))]
        lines += ["", "## All claims, verdicts, intervals and seeds", ""]
        lines += [f"- [{folder}](downloads/{folder}/claims.json)" for folder in folders]
    Path(app.outdir, "llms.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
    if app.config.html_baseurl:
        addresses = "".join(f"<url><loc>{escape(_address(app, page))}</loc></url>\n" for page in pages_there)
        text = f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{addresses}</urlset>\n'
        Path(app.outdir, "sitemap.xml").write_text(text, encoding="utf-8")


def _address(app: Sphinx, page: str) -> str:
    return f"{app.config.html_baseurl.rstrip('/')}/{page}.html".lstrip("/")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register everything with Sphinx."""
    # A build makes millions of objects, of which next to none are garbage: to look for it took a third of the time.
    gc.set_threshold(100_000, 20, 100)
    for key, path in _PATHS.items():
        app.add_config_value(key, path, "env", str)
    app.add_config_value("code_url", "", "html", str)  # the address of the code
    app.connect("config-inited", configure)
    app.connect("builder-inited", refuse_what_was_not_made)
    app.connect("env-before-read-docs", run_ahead)
    app.connect("env-get-outdated", pages.find_outdated)
    app.connect("env-updated", pages.stop_on_problems)
    readers = describe, demand_checks, lint.lint_findings, lint.lint_numbers, lint.refuse_what_loads_or_runs
    for reader in (*readers, pages.unlink):
        app.connect("doctree-read", reader)
    app.connect("doctree-resolved", offer_notebook)
    app.connect("html-collect-pages", provenance.provenance_pages)
    app.connect("html-collect-pages", code_files.code_pages)
    app.connect("html-page-context", keep_contents, priority=400)  # before the theme takes the contents
    app.connect("html-page-context", finish_page, priority=900)  # after the theme has made them
    app.connect("build-finished", write_files)
    for name, made in FromFiles.named.items():
        app.add_role(name, made()) if issubclass(made, BookRole) else app.add_directive(name, made)
    app.add_builder(search.BuilderWithSections, override=True)
    app.add_search_language(search.SearchEnglishAndChinese)
    app.add_post_transform(FigureAsPdf)  # for builders that cannot show SVG
    book_nodes.setup(app)
    return {"version": "1", "env_version": 6, "parallel_read_safe": True, "parallel_write_safe": True}
