"""A page that is being read: which replication it belongs to, what is noted of it, and when it is read again.

A book whose root is a replication's page holds its pages alone, as `paperkit.pages` builds them for `make check`.
"""

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import traverse_parent

from paperkit.config import ConfigError
from paperkit.history import environment_without_git
from paperkit.results import ResultsError
from results_in_text.nodes import block
from results_in_text.records import Verdicts, folders_of, judged_folders, page_of, read_verdicts, stop

_WANTS_DOWNLOADS = "links to downloads"


def replication_of(docname: str) -> str | None:
    """Name the replication whose results a page reports, such as lion for replications/lion/derivation."""
    folder, _, rest = docname.partition("/")
    return rest.partition("/")[0] if folder == "replications" else None


def shown_folders(app: Sphinx) -> list[str]:
    """List the folders of results with verdicts; in a book of one replication its own."""
    alone, judged = replication_of(app.config.root_doc), judged_folders(Path(app.config.results_root))
    return [folder for folder in judged if alone in (None, page_of(folder))]


@contextmanager
def stopping(what: str) -> Iterator[None]:
    """Stop the build where something is wrong with files, and say with what."""
    try:
        yield
    except (ResultsError, ConfigError, ExtensionError) as error:
        message = f"{what}: {error}"
        raise ExtensionError(message) from error


class FromFiles:
    """What prints what files hold: `_make` does, and notes them as dependencies of the page.

    A class that gives its `name` is registered: `class Scale(OfReplication, name="scale")`.
    """

    named: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, *, name: str = "") -> None:
        """Note the class under its name."""
        if name:
            FromFiles.named[name] = cls

    def made(self, asked: str) -> Any:
        """Make what was asked for, or say where it was."""
        with stopping(f"{self.get_location()}: {asked}"):
            return self._make()

    @property
    def results(self) -> Path:
        """The folder of all results."""
        return Path(self.config.results_root)

    @property
    def replications(self) -> Path:
        """The folder of all replications."""
        return Path(self.config.replications_root)

    def verdicts(self, folder: str) -> Verdicts:
        """Read all claims of a folder of results."""
        depend_on(self.env, *(self.results / folder).glob("*verdicts.json"))
        return read_verdicts(self.results, folder)


class BookDirective(FromFiles, SphinxDirective):
    """A directive that prints what files hold."""

    def run(self) -> list[nodes.Node]:
        """Make what the page shows."""
        return self.made(f"directive {self.name}")

    def inline(self, text: str) -> list[nodes.Node]:
        """Read a line of Markdown."""
        return self.parse_inline(text)[0]

    def line(self, text: str, css: str = "") -> nodes.paragraph:
        """Read a line of Markdown into a paragraph."""
        return block(*self.inline(text), css=css)

    def note_target(self, target: str, title: str) -> None:
        """Let any page refer to a place of this one, such as {ref}`text <claim-lion-c6>`."""
        self.env.get_domain("std").note_hyperlink_target(target, self.env.docname, target, title)


class OfReplication(BookDirective):
    """A directive whose argument is a folder of results; without one it is that of the page's replication."""

    optional_arguments: ClassVar[int] = 1

    @property
    def folder(self) -> str:
        """The folder below results/."""
        folder = self.arguments[0] if self.arguments else replication_of(self.env.docname)
        return folder or stop("this is no replication's page, so name a folder of results")

    @cached_property
    def every(self) -> dict[str, Verdicts]:
        """The verdicts of the replication at each of its profiles, by folder of results."""
        return {folder: self.verdicts(folder) for folder in folders_of(self.results, page_of(self.folder))}


def note_problem(env: BuildEnvironment, place: Any, sentence: str) -> None:
    """Note a problem at a node or in a line of the page that is being read; the build will stop after all pages."""
    # A build that stopped at the first problem would show an author one typed number at a time. What is metadata of a
    # page, Sphinx itself forgets when the page is read again, and merges. Not every node knows its line.
    lines = [place] if isinstance(place, int) else [around.line for around in traverse_parent(place) if around.line]
    problem = f"{env.doc2path(env.docname)}:{(lines or [1])[0]}: {sentence}"
    env.metadata[env.docname].setdefault("problems", []).append(problem)


def stop_on_problems(app: Sphinx, env: BuildEnvironment) -> None:  # noqa: ARG001 - an event
    """Stop the build if a page has problems, before the environment is kept: the next build reads the page again."""
    if problems := [problem for known in env.metadata.values() for problem in known.get("problems", [])]:
        message = "\n".join([f"{len(problems)} problems on pages of results", *problems])
        raise ExtensionError(message)


def depend_on(env: BuildEnvironment, *files: Path) -> None:
    """Read the page again when a file changes; Sphinx would read it at every build for one that is not there."""
    for file in files:
        if file.is_file():
            env.note_dependency(str(file))


def find_outdated(app: Sphinx, env: BuildEnvironment, *_: set[str]) -> set[str]:
    """Have all pages read again where a file came or went, or claims or results were committed."""
    roots = [Path(app.config[key]) for key in ("results_root", "figures_root", "replications_root")]
    git = ("git", "-C", str(roots[2].parent), "log", "-1", "--format=%H", "--", *map(str, roots))
    last = subprocess.run(git, env=environment_without_git(), capture_output=True, check=False).stdout
    now = last, sorted(env.found_docs), sorted(str(path) for root in roots for path in root.glob("*/*.*"))
    before, env.files_there = getattr(env, "files_there", None), now  # pyright: ignore[reportAttributeAccessIssue]
    return env.found_docs if now != before else set()


def is_made(app: Sphinx, made: Path, *sources: Path) -> bool:
    """Tell whether a file is newer than all that it is made from, in a build that goes on from the one before."""
    if app.fresh_env_used or not made.is_file():
        return False
    changes = [path.stat().st_mtime for path in (*sources, *Path(__file__).parent.iterdir()) if path.exists()]
    return made.stat().st_mtime > max(changes)


def unlink(app: Sphinx, doctree: nodes.document) -> None:
    """Show references to pages that a book of one replication leaves out as plain text."""
    name = replication_of(app.config.root_doc)
    if name is None:
        return
    of_others = re.compile(rf"cite-|(claim|erratum)-(?!{name.replace('_', '-')}-)")
    for node in list(doctree.findall(pending_xref)):
        target = node["reftarget"]
        is_page = node.get("refdomain") == "doc" and Path(app.srcdir, f"{target}.md").is_file()
        if of_others.match(target) or (is_page and target not in app.env.found_docs):
            node.replace_self(nodes.inline("", "", *(node.children or [nodes.Text(target)])))


def download_link(docname: str, path: str, text: str) -> nodes.reference:
    """Link to a file below downloads/, seen from a page."""
    address = f"{'../' * docname.count('/')}downloads/{path}"
    return nodes.reference("", text, refuri=address, internal=True, classes=["download"])


def download_links(env: BuildEnvironment, folder: str, names: Sequence[str]) -> list[nodes.Node]:
    """Link to files below downloads/, with commas between them, and note that the page does."""
    env.metadata[env.docname][_WANTS_DOWNLOADS] = "yes"
    links = [download_link(env.docname, f"{folder}/{name}", name.removeprefix("figures/")) for name in names]
    return [part for link in links for part in (nodes.Text(", "), link)][1:]


def downloads_are_written(app: Sphinx) -> bool:
    """Tell whether a page of the book links to downloads, so that they will be written."""
    return any(_WANTS_DOWNLOADS in page for page in app.env.metadata.values())
