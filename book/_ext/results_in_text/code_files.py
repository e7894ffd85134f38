"""Pages of the code behind the results, and what a name of the results stands for in it.

`code/<path>.html` has an anchor for each definition and claim. What an estimand, an experiment or a figure stands for
is found by reading the code, not by running it.
"""

import ast
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import cache, cached_property
from html import escape
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from paperkit.history import decoded
from paperkit.profiles import replication_and_profile
from results_in_text.pages import is_made, shown_folders
from results_in_text.records import read_json

Page = tuple[str, dict[str, Any], str]
Mentions = Callable[[ast.AST, bool], bool]  # whether code mentions an experiment, by its name or loosely

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
            started = {name: [node, *getattr(node, "decorator_list", [])] for name, node in self.nodes}
            return {name: (min(one.lineno for one in of), of[0].end_lineno + 1) for name, of in started.items()}
        starts = {block: self.text.count("\n", 0, block.start()) + 1 for block in _OF_YAML.finditer(self.text)}
        return {block[1]: (first, first + block[0].count("\n")) for block, first in starts.items()}

    @cached_property
    def imports(self) -> list[str]:
        """The files of this repository of which names are imported."""
        nodes = ast.parse(self.text).body if self.path.endswith(".py") else []
        modules = [(node.module or "", node.names) for node in nodes if isinstance(node, ast.ImportFrom)]
        # from replications.lion.studies import arms: the name may be a module.
        names = [f"{module}.{alias.name}" for module, aliases in modules for alias in aliases]
        return [f"{name.replace('.', '/')}.py" for name in [*(module for module, _ in modules), *names]]

    @cached_property
    def naming(self) -> dict[str, str]:
        """By text the definition that is called with it, else that in which it stands."""
        around, called = {}, {}
        for name, node in self.nodes:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    around.setdefault(inner.value, name)
                elif isinstance(inner, ast.Call) and getattr(inner.func, "id", None) in self.definitions:
                    constants = (part.value for part in ast.walk(inner) if isinstance(part, ast.Constant))
                    called |= {text: ast.unparse(inner.func) for text in constants if isinstance(text, str)}
        return around | called

    def function(self, name: str, key: str = "") -> str:
        """Follow `name = partial(gain, …)` or a key of the mapping `name` to the function that it stands for."""
        node = dict(self.nodes)[name]
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            return name
        pairs = [pair for one in ast.walk(node.value) if isinstance(one, ast.Dict) for pair in _pairs(one)]
        start = next((value for of, value in pairs if getattr(of, "value", None) == key), node.value)
        names = dict.fromkeys(map(_name, ast.walk(start)))
        reached = dict.fromkeys(self.function(one) for one in names if one in self.definitions and one != name)
        found = [one for one in reached if isinstance(dict(self.nodes)[one], ast.FunctionDef)]
        # Of `a, b = (partial(one) for one in (gain, slope))` the second is the second.
        place = [of for of, other in self.nodes if other is node].index(name)
        return found[min(place, len(found) - 1)] if found else name

    @cached_property
    def measuring(self) -> list[str]:
        """The functions of a run that report: the first argument is a Run, and the name is not that of a trial."""
        return re.findall(r"^def (?!\w*trial)(\w+)\(\w+: Run\b", self.text, re.MULTILINE)

    def given(self, functions: Container[str], mentions: Mentions) -> Iterator[tuple[tuple[int, ...], str]]:
        """Find functions to which an experiment is mapped, or that are called with its runs; the least key is best."""
        # Runs are followed back through assignments to what mentions the experiment: the fewer, the better.
        for _, definition in self.nodes:
            made = [node for node in ast.walk(definition) if hasattr(node, "target") or hasattr(node, "targets")]
            for node in ast.walk(definition):
                # In a mapping the function for a report may stand beside that for a trial.
                pairs = _pairs(node) if isinstance(node, ast.Dict) else ()
                groups = [[key, *getattr(value, "elts", [value])] for key, value in pairs if key]
                groups += [node.args] if isinstance(node, ast.Call) else []
                groups += [node.elts] if isinstance(node, ast.Tuple) else []
                for group in groups:
                    known = next((name for name in map(_name, group) if name in functions), "")
                    for loosely in (False, True) if known else ():
                        if (far := _distance(group, made, mentions, loosely)) is not None:
                            yield (not isinstance(node, ast.Dict), loosely, far), known

    @cached_property
    def nodes(self) -> list[tuple[str, ast.stmt]]:
        """Definitions by name, in order; one statement may have several."""
        found = []
        for node in ast.parse(self.text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.append((node.name, node))
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                names = [inner for target in _targets(node) for inner in ast.walk(target)]
                found += [(name.id, node) for name in names if isinstance(name, ast.Name)]
        return found


def _form(text: ast.JoinedStr) -> str:
    """Write what a formatted string can give as a regular expression."""
    return "".join(re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in text.values)


def _pairs(node: ast.Dict) -> Iterator[tuple[ast.expr | None, ast.expr]]:
    return zip(node.keys, node.values, strict=True)


def _targets(node: ast.AST) -> list[ast.AST]:
    return getattr(node, "targets", None) or [node.target]


def _name(node: ast.AST) -> str:
    """Return the name of a variable or attribute."""
    return getattr(node, "attr", getattr(node, "id", ""))


def _distance(nodes: Sequence[ast.AST], made: Sequence[ast.AST], mentions: Mentions, loosely: bool) -> int | None:
    """Count the assignments between nodes and what mentions an experiment; None where nothing does."""
    level, known, distance, line = list(nodes), set(), 0, nodes[0].lineno
    while level:
        inner = [part for node in level for part in ast.walk(node)]
        if any(mentions(part, loosely) for part in inner):
            return distance
        names = {part.id for part in inner if isinstance(part, ast.Name)} - known
        known, distance = known | names, distance + 1
        level = [
            getattr(node, "iter", node)  # of a loop not its body
            for node in made
            for target in _targets(node)
            if target.lineno <= line and names & set(map(_name, ast.walk(target)))
        ]
    return None


class Code:
    """The files behind a folder of results, in the order in which a name is looked for in them."""

    def __init__(self, repository: Path, results: str) -> None:
        """Find the files; none where there is no such folder."""
        name, self.profile = replication_and_profile(results)
        folder = repository / "replications" / name
        paths = [folder / "estimands.py", *sorted(folder.glob("checks*.py")), *sorted(folder.glob("studies/*.py"))]
        paths += [folder / f"{stem}.py" for stem in ("experiment", "timing", "figures")]
        paths += [folder / "claims.yaml", folder / "params.yaml", *sorted(folder.glob("*.py"))]
        self.files = {
            path.relative_to(folder).as_posix(): CodeFile(repository, path.relative_to(repository).as_posix())
            for path in dict.fromkeys(paths)
            if path.is_file() and not path.name.startswith(("test_", "__init__"))
        }
        self.experiment = cache(self.experiment)  # asked for each number

    def estimand(self, name: str) -> str:
        """Name the function of an estimand or check, else what names it; nothing where its claim says it in place."""
        return self._defined(("estimands", "checks"), name) or self._named(("checks",), name)

    def claim(self, name: str) -> str:
        """Name the place where a claim is stated."""
        return self._page("claims.yaml", name.lower())

    def measured_by(self, experiments: Iterable[str]) -> list[str]:
        """Name the functions that measure experiments, each once."""
        return list(dict.fromkeys(self.experiment(name)[0] for name in experiments))

    def experiment(self, name: str) -> tuple[str, list[str]]:
        """Name the function that measures an experiment, and the files of the methods that it runs."""
        # A study of which this profile has no settings, and another has, measures nothing here.
        own = self._blocks.get(self.profile, {})
        others = {f"studies/{key}.py" for block in self._blocks.values() for key in block.keys() - own.keys()}
        files = [file for file in self._of(("studies", "experiment", "timing")) if not file.path.endswith((*others,))]
        home = {function: file for file in reversed(files) for function in file.measuring}

        def mentions(node: ast.AST, loosely: bool) -> bool:
            if isinstance(node, ast.JoinedStr):
                return isinstance(node.values[0], ast.Constant) and bool(re.fullmatch(_form(node), name))
            if isinstance(node, ast.Constant):
                return node.value == name or (loosely and name.startswith(f"{node.value}_"))
            return loosely and _name(node) in named

        # Its name may stand in params.yaml alone, or in a constant.
        parts = [(key, entry) for block in self._blocks.values() for key, part in block.items() for entry in part]
        named = {key for key, entry in parts if f"{name}_".startswith(f"{entry}_")}
        named |= {
            of for file in files for of, node in file.nodes if any(mentions(one, False) for one in ast.walk(node))
        }
        named -= {"run"}
        if found := [(*one, file) for file in files for one in file.given(home, mentions)]:
            _, function, file = min(found, key=lambda one: one[0])
            file = file if function in file.measuring else home[function]
            return code_page(file.path, function), self._methods(file)
        if naming := [file for file in files if file.measuring and name in file.naming]:
            return code_page(naming[0].path, naming[0].measuring[0]), self._methods(naming[0])
        # What no function of a run measures, the stage does: it runs the checks.
        return self._page("checks.py", "CHECKS") or self._page("experiment.py"), []

    @cached_property
    def _blocks(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The settings of each profile that have parts, by name."""
        params = self.files.get("params.yaml")
        blocks = decoded(params.text.encode()) if params else {}
        return {
            profile: {key: part for key, part in block.items() if isinstance(part, dict)}
            for profile, block in blocks.items()
            if isinstance(block, dict)
        }

    def figure(self, file: str) -> str:
        """Name the function that draws a figure."""
        drawn = self._defined(("figures",), f"draw_{file.removesuffix('.svg')}")
        return drawn or self._named(("figures",), file) or self._page("figures.py")

    def _methods(self, file: CodeFile) -> list[str]:
        """Follow imports within the replication to what is neither a study nor a check."""
        known, reached = {one.path: one for one in self.files.values()}, {file.path: file}
        while new := {path for one in reached.values() for path in one.imports if path in known} - reached.keys():
            reached |= {path: known[path] for path in new}
        others = ("studies", "experiment", "timing", "checks", "estimands")
        return sorted(reached.keys() - {one.path for one in self._of(others)})

    def _page(self, file: str, anchor: str = "") -> str:
        return code_page(self.files[file].path, anchor) if file in self.files else ""

    def _of(self, kinds: tuple[str, ...]) -> list[CodeFile]:
        return [file for name, file in self.files.items() if name.startswith(kinds)]

    def _defined(self, kinds: tuple[str, ...], name: str) -> str:
        found = (code_page(file.path, file.function(name)) for file in self._of(kinds) if name in file.definitions)
        return next(found, "")

    def _named(self, kinds: tuple[str, ...], text: str) -> str:
        naming = (file for file in self._of(kinds) if text in file.naming)
        return next((code_page(file.path, file.function(file.naming[text], text)) for file in naming), "")


def code_page(path: str, anchor: str = "") -> str:
    """Name the page of a file, as an address from the book's root, and on it a definition or a claim."""
    return f"code/{path}.html" + (f"#{anchor}" if anchor else "")


def shown_code(app: Sphinx) -> dict[str, list[str]]:
    """Name the files that have a page, and for each the folders of results that it made; data are not code."""
    results, repository = Path(app.config.results_root), Path(app.config.replications_root).parent
    shown: dict[str, list[str]] = {}
    for folder in shown_folders(app):
        made_with = [read_json(path)["deps"] for path in sorted((results / folder).glob("*provenance.json"))]
        own = [file.path for file in Code(repository, folder).files.values()]
        for path in dict.fromkeys([*own, *(path for deps in made_with for path in deps)]):
            if not path.startswith("data/") and (repository / path).is_file():
                shown.setdefault(path, []).append(folder)
    return shown


def code_pages(app: Sphinx) -> Iterator[Page]:
    """Make a page for each file that is not older than its page."""
    repository = Path(app.config.replications_root).parent
    for path, folders in shown_code(app).items():
        if is_made(app, Path(app.outdir, code_page(path)), repository / path):
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
        place = name if language == "python" else name.lower()
        lines[begin - 1] = f'<span class="definition" id="{place}">{lines[begin - 1]}'
    for _, end in file.definitions.values():  # after all have begun: one ends where the next begins
        lines[end - 1] = f"</span>{lines[end - 1]}"
    return f'<div class="highlight-{language} notranslate">{head}{start}' + "\n".join(lines) + "</div>"
