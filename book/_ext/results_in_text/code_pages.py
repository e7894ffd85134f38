"""The code behind the numbers, highlighted: `code/<path>.html`, and in it an anchor for each definition and claim.

Pages are made from files when the book is written, as those of provenance are. What a name of the results stands for
(an estimand, an experiment, a figure) is found by reading the code, not by running it.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from results_in_text.lone_page import is_left_out
from results_in_text.posts import page_of
from results_in_text.provenance_files import read_provenance

Page = tuple[str, dict[str, Any], str]

_LEAD = (
    "<p>As it stands in the repository now. Whether it has changed since a result was made is said by the record of "
)
# In claims.yaml a claim, in params.yaml a profile: from its name to the next one.
_OF_YAML = re.compile(r"^(?:- id: )?(\w+)\b.*\n(?:(?!- id: |\w).*\n?)*", re.MULTILINE)


class CodeFile:
    """A file of the repository: what it defines, and where it names something."""

    def __init__(self, repository: Path, path: str) -> None:
        """Read the file."""
        self.path, self.text = path, (repository / path).read_text(encoding="utf-8")

    @cached_property
    def definitions(self) -> dict[str, tuple[int, int]]:
        """First line and the one after the last, by name."""
        if self.path.endswith(".py"):
            return {name: _lines(node) for name, node in self._nodes}
        found = {}
        for block in _OF_YAML.finditer(self.text):
            first = self.text.count("\n", 0, block.start()) + 1
            found[block[1]] = first, first + block[0].count("\n")
        return found

    def naming(self, text: str) -> str | None:
        """Name the definition in which a text stands, whole or as a formatted string that can give it."""
        texts, patterns = self._texts
        return texts.get(text) or next((name for form, name in patterns.items() if re.fullmatch(form, text)), None)

    @cached_property
    def imports(self) -> list[str]:
        """The files of this repository of which names are imported."""
        nodes = ast.parse(self.text).body if self.path.endswith(".py") else []
        modules = [(node.module or "", node.names) for node in nodes if isinstance(node, ast.ImportFrom)]
        # from replications.lion.studies import arms: the name may be a module.
        names = [f"{module}.{alias.name}" for module, aliases in modules for alias in aliases]
        return [f"{name.replace('.', '/')}.py" for name in [*(module for module, _ in modules), *names]]

    @cached_property
    def _texts(self) -> tuple[dict[str, str], dict[str, str]]:
        """By text the definition that is called with it, else that around it; the same by formatted strings."""
        around, called, patterns = {}, {}, {}
        for name, node in self._nodes:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    around.setdefault(inner.value, name)
                elif isinstance(inner, ast.JoinedStr) and isinstance(inner.values[0], ast.Constant):
                    parts = (re.escape(p.value) if isinstance(p, ast.Constant) else ".+" for p in inner.values)
                    patterns.setdefault("".join(parts), name)
                elif isinstance(inner, ast.Call) and getattr(inner.func, "id", None) in self.definitions:
                    constants = (part.value for part in ast.walk(inner) if isinstance(part, ast.Constant))
                    called |= {text: ast.unparse(inner.func) for text in constants if isinstance(text, str)}
        return around | called, patterns

    @cached_property
    def _nodes(self) -> list[tuple[str, ast.stmt]]:
        found = []
        for node in ast.parse(self.text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.append((node.name, node))
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found += [(target.id, node) for target in targets if isinstance(target, ast.Name)]
        return found


class Code:
    """The files of one replication, in the order in which a name is looked for in them."""

    def __init__(self, repository: Path, name: str) -> None:
        """Find the files; none where there is no such folder."""
        folder = repository / "replications" / name
        paths = [folder / "estimands.py", *sorted(folder.glob("checks*.py")), *sorted(folder.glob("studies/*.py"))]
        paths += [folder / "experiment.py", folder / "timing.py", folder / "figures.py", folder / "claims.yaml"]
        paths += sorted(folder.glob("*.py"))
        self.name = name
        self.files = [
            CodeFile(repository, path.relative_to(repository).as_posix())
            for path in dict.fromkeys(paths)
            if path.is_file() and not path.name.startswith(("test_", "__init__"))
        ]

    def estimand(self, name: str, claim: str) -> str:
        """Name the place of an estimand or check: its function, else what names it, else its claim."""
        found = self._place(("estimands", "checks"), name)
        return found or self._page("claims.yaml", claim.lower())

    def experiment(self, name: str) -> tuple[str, list[str]]:
        """Name the place where an experiment is made, and the files of the methods that it runs."""
        for file in self._of(("studies", "experiment", "timing")):
            if (place := file.naming(name)) is not None:
                return code_page(file.path, place), self._methods(file)
        return self._page("experiment.py"), []

    def figure(self, file: str) -> str:
        """Name the function that draws a figure."""
        drawn = self._place(("figures",), f"draw_{file.removesuffix('.svg')}") or self._place(("figures",), file)
        return drawn or self._page("figures.py")

    def _methods(self, file: CodeFile) -> list[str]:
        """Follow imports within the replication to what is neither a study nor a check."""
        known, reached = {one.path: one for one in self.files}, {file.path: file}
        while new := {path for one in reached.values() for path in one.imports if path in known} - reached.keys():
            reached |= {path: known[path] for path in new}
        others = ("studies", "experiment", "timing", "checks", "estimands")
        return sorted(path for path in reached if not path.split("/")[2].startswith(others))

    def _page(self, file: str, anchor: str = "") -> str:
        path = f"replications/{self.name}/{file}"
        return code_page(path, anchor) if any(one.path == path for one in self.files) else ""

    def _of(self, kinds: tuple[str, ...]) -> list[CodeFile]:
        return [file for file in self.files if file.path.split("/")[2].startswith(kinds)]

    def _place(self, kinds: tuple[str, ...], name: str) -> str:
        files = self._of(kinds)
        defined = [code_page(file.path, name) for file in files if name in file.definitions]
        named = [code_page(file.path, place) for file in files if (place := file.naming(name)) is not None]
        return next(iter(defined + named), "")


def code_page(path: str, anchor: str = "") -> str:
    """Name the page of a file, as an address from the book's root.

    Args:
        path: Of the file, from the root of the repository.
        anchor: Of a definition or a claim in it; none for the whole file.

    Returns:
        The address.

    Example:
        >>> code_page("replications/lion/estimands.py", "lm_gap")
        'code/replications/lion/estimands.py.html#lm_gap'
    """
    return f"code/{path}.html" + (f"#{anchor}" if anchor else "")


def shown_code(app: Sphinx) -> dict[str, list[str]]:
    """Name the files that have a page, and for each the folders of results that it made; data are not code."""
    results, repository = Path(app.config.results_root), Path(app.config.replications_root).parent
    shown: dict[str, list[str]] = {}
    for folder in sorted(path.parent.name for path in results.glob("*/verdicts.json")):
        if is_left_out(app, folder):
            continue
        records = [read_provenance(path) for path in sorted((results / folder).glob("*provenance.json"))]
        own = [file.path for file in Code(repository, page_of(folder)).files]
        for path in dict.fromkeys([*own, *(path for record in records for path in record["deps"])]):
            if not path.startswith("data/") and (repository / path).is_file():
                shown.setdefault(path, []).append(folder)
    return shown


def collect_pages(app: Sphinx) -> Iterator[Page]:
    """Make a page for each file that is not older than its page."""
    repository = Path(app.config.replications_root).parent
    for path, folders in shown_code(app).items():
        made, source = Path(app.outdir, code_page(path)), repository / path
        if not app.fresh_env_used and made.is_file() and made.stat().st_mtime > source.stat().st_mtime:
            continue
        root = "../" * (path.count("/") + 1)
        links = ", ".join(f'<a href="{root}provenance/{name}.html">{name}</a>' for name in folders)
        body = f"<section><h1>{escape(path)}</h1>\n{_LEAD}{links}.</p>\n"
        body += highlighted(app, CodeFile(repository, path)) + "</section>"
        yield code_page(path).removesuffix(".html"), {"title": path, "body": body}, "page.html"


def highlighted(app: Sphinx, file: CodeFile) -> str:
    """Write a file as HTML, each definition in an element of its own."""
    language = "python" if file.path.endswith(".py") else "yaml"
    html = app.builder.highlighter.highlight_block(file.text, language)  # pyright: ignore[reportAttributeAccessIssue]
    lines = html.split("\n")
    head, start, first = lines[0].partition("<pre>")
    lines[0] = first
    for name, (begin, _) in file.definitions.items():
        lines[begin - 1] = f'<span class="definition" id="{_anchor(file, name)}">{lines[begin - 1]}'
    for _, end in file.definitions.values():  # after all have begun: one ends where the next begins
        lines[end - 1] = f"</span>{lines[end - 1]}"
    return f'<div class="highlight-{language} notranslate">{head}{start}' + "\n".join(lines) + "</div>"


def setup(app: Sphinx) -> None:
    """Register the pages."""
    app.connect("html-collect-pages", collect_pages)


def _anchor(file: CodeFile, name: str) -> str:
    return name if file.path.endswith(".py") else name.lower()


def _lines(node: ast.stmt) -> tuple[int, int]:
    decorators: Iterable[ast.expr] = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return first, (node.end_lineno or node.lineno) + 1
