"""Pages made from files when the book is written: where numbers come from, and the code behind them, highlighted.

`provenance/<name>.html`, one a folder of results, says of each number which runs and which code made it; a number on
any page links to the part about it. `code/<path>.html` has an anchor for each definition and claim. What a name of the
results stands for (an estimand, an experiment, a figure) is found by reading the code, not by running it.
"""

import ast
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from paperkit.history import decoded
from paperkit.provenance import file_md5
from paperkit.results import ResultsError, read_runs
from results_in_text.claims import WANTS_DOWNLOADS
from results_in_text.code_runner import about_results
from results_in_text.pages import is_left_out
from results_in_text.records import (
    SHORT_COMMIT,
    anchor,
    as_test,
    commit_text,
    current_hash,
    judged_folders,
    page_of,
    read_provenance,
    read_verdicts,
    target_of,
    tests_of,
    verdict_words,
    written_test,
)
from results_in_text.reruns import expected_next

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
    """Name the page of a file, as an address from the book's root, and on it a definition or a claim."""
    return f"code/{path}.html" + (f"#{anchor}" if anchor else "")


def shown_code(app: Sphinx) -> dict[str, list[str]]:
    """Name the files that have a page, and for each the folders of results that it made; data are not code."""
    results, repository = Path(app.config.results_root), Path(app.config.replications_root).parent
    shown: dict[str, list[str]] = {}
    for folder in (folder for folder in judged_folders(results) if not is_left_out(app, folder)):
        records = [read_provenance(path) for path in sorted((results / folder).glob("*provenance.json"))]
        own = [file.path for file in Code(repository, page_of(folder)).files]
        for path in dict.fromkeys([*own, *(path for record in records for path in record["deps"])]):
            if not path.startswith("data/") and (repository / path).is_file():
                shown.setdefault(path, []).append(folder)
    return shown


def code_pages(app: Sphinx) -> Iterator[Page]:
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


def _anchor(file: CodeFile, name: str) -> str:
    return name if file.path.endswith(".py") else name.lower()


def _lines(node: ast.stmt) -> tuple[int, int]:
    decorators: Iterable[ast.expr] = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return first, (node.end_lineno or node.lineno) + 1


# --- provenance ------------------------------------------------------------------------------------------------

# Tables with more rows are summarised: experiments, arms and seeds. The whole table is a file to fetch.
_STAGES = (("provenance", "runs.csv", "params.yaml"), ("timing_provenance", "timings.csv", "timing.yaml"))
_TEMPLATE = "provenance_page.html"


def provenance_pages(app: Sphinx) -> Iterator[Page]:
    """Make one page for each folder of results with verdicts."""
    root = Path(app.config.results_root)
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    for name in (name for name in judged_folders(root) if not is_left_out(app, name)):
        try:
            content = provenance_content(app, name)
        except ResultsError as error:
            message = f"provenance page of {name}: {error}"
            raise ExtensionError(message) from error
        body = templates.get_template(_TEMPLATE).render(content)
        yield f"provenance/{name}", {"title": f"Provenance of {name}", "body": body}, "page.html"


def provenance_content(app: Sphinx, name: str) -> dict[str, Any]:
    """Collect what the page of a replication says."""
    root = Path(app.config.results_root)
    repository = Path(app.config.replications_root).parent
    # The first record must be there; that of clock readings only where there are some.
    files = [files for files in _STAGES if files is _STAGES[0] or (root / name / f"{files[0]}.json").is_file()]
    stages = [_stage(app, root / name, repository, *of_stage) for of_stage in files]
    claims, page = read_verdicts(root, name).claims.values(), page_of(name)
    behind = about_results(root, repository, name)["behind"]
    code = Code(repository, page)
    return {
        "name": name,
        "code": f"replications/{page}/estimands.py",
        "page": f"../replications/{page}.html",
        "stages": stages,
        "stage_of": {claim["kind"]: stages[-1 if claim["kind"] == "timing" else 0] for claim in claims},
        "data": {stage["id"]: [dep for dep in stage["deps"] if dep["path"].startswith("data/")] for stage in stages},
        "downloads": f"../downloads/{name}/" if downloads_are_written(app) else "",
        "claims": [_claim(name, claim, behind, code) for claim in claims],
        "recompute": f"python -m paperkit.claims {name}",
    }


def code_link(template: str, commit: str, path: str) -> str:
    """Say where a file of a commit can be read; the template is `code_url`, empty where no host is known."""
    return template.format(commit=commit, path=path)


def runs_summary(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Summarise a table of runs, one entry for each arm of each experiment."""
    summary = []
    for (experiment, arm), rows in runs.groupby(["experiment", "arm"]):
        diverged = rows[rows["status"] == "diverged"].drop_duplicates(["seed", "config"])
        summary.append({
            "experiment": experiment,
            "arm": arm,
            "seeds": _ranges(sorted(rows["seed"].unique().tolist())),
            "configs": rows["config"].nunique(),
            "metrics": ", ".join(sorted(rows["metric"].unique())),
            "rows": len(rows),
            "diverged": len(diverged),
        })
    return summary


def _stage(app: Sphinx, folder: Path, repository: Path, stem: str, table: str, params: str) -> dict[str, Any]:
    record = read_provenance(folder / f"{stem}.json")
    commit, shown = record["commit"] or "", shown_code(app)
    deps = [
        {
            "path": path,
            "hash": digest,
            "now": _comparison(current_hash(repository, path, record["profile"]), digest),
            "page": _above(code_page(path)) if path in shown else "",
            "show": f"git show {commit[:SHORT_COMMIT]}:{path}" if commit and not path.startswith("data/") else "",
            "link": code_link(app.config.code_url, commit, path) if commit else "",
        }
        for path, digest in sorted(record["deps"].items())
    ]
    tables = [folder / file for file in (table, table.replace("runs", "trials")) if (folder / file).is_file()]
    return {
        "id": anchor("stage", stem),
        "record": record,
        "commit": commit_text(record),
        "show": f"git show --stat {commit[:SHORT_COMMIT]}" if commit else "",
        "deps": deps,
        "params": _params(repository, record, params),
        "table": table,
        "tables": [_table(path, repository) for path in dict.fromkeys(tables)],
        "summary": runs_summary(read_runs(folder / table)) if (folder / table).is_file() else [],
        "versions": record.get("versions", {}),
    }


def _comparison(now: str | None, then: str) -> str:
    if now is None:
        return "not here"
    return "the same" if now == then else "changed since"


def _table(path: Path, repository: Path) -> dict[str, Any]:
    lines = path.read_text(encoding="utf-8").count("\n") - 1
    return {"path": os.path.relpath(path, repository), "rows": lines, "md5": file_md5(path)}


def _params(repository: Path, record: Mapping[str, Any], file: str) -> dict[str, str]:
    """Take the parameters from dvc.lock, which holds those of the run, not those of today's file."""
    lock = repository / "dvc.lock"
    stages = _stages(lock, lock.stat().st_mtime_ns) if lock.is_file() else {}
    params = stages.get(record["stage"], {}).get("params", {})
    return {
        path: yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
        for path, content in params.items()
        if path.endswith(file)
    }


@cache
def _stages(lock: Path, _changes_with: int) -> dict[str, Any]:
    return decoded(lock.read_bytes())["stages"]


def _claim(name: str, claim: dict[str, Any], behind: Mapping[str, Any], code: Code) -> dict[str, Any]:
    varied = enumerate(claim.get("robustness", []))
    places = [
        *tests_of(claim),
        *((f"robustness[{number}]", as_test(claim, variation)) for number, variation in varied),
    ]
    return {
        "id": claim["id"],
        "target": target_of(name, claim["id"]),
        "kind": claim["kind"],
        "verdict": verdict_words(claim),
        "tests": [
            _test(claim["id"], place, test, behind.get(f"{claim['id']}.{place}", {}), code) for place, test in places
        ],
    }


def _test(claim: str, place: str, test: Mapping[str, Any], behind: Mapping[str, Any], code: Code) -> dict[str, Any]:
    try:
        written = written_test(test)
    except ResultsError:
        written = "not run"
    rule = {
        key: test[key]
        for key in ("bound", "margin", "interval", "tolerance", "p", "p_holm")
        if test.get(key) is not None
    }
    values = behind.get("values") or {}
    return {
        "anchor": anchor(claim, place),
        "address": f"{claim}.{place}",
        "estimand": test["estimand"],
        "code": _above(code.estimand(test["estimand"], claim)),
        "rule": test["rule"],
        "settings": ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in rule.items()
        ),
        "written": written,
        "values": [(seed, "diverged" if value is None else f"{value:.6g}") for seed, value in values.items()],
        "next": expected_next(behind.get("values")) if test["rule"] != "identity" else "",
        "identity": test["rule"] == "identity",
        "experiments": [
            (experiment, arms, _above(page), [(path.rsplit("/", 1)[1], _above(code_page(path))) for path in methods])
            for experiment, arms in behind.get("arms", {}).items()
            for page, methods in [code.experiment(experiment)]
        ],
        "rows": behind.get("rows", 0),
    }


def _above(address: str) -> str:
    """Write an address from the book's root as it is seen from a page of provenance; none stays none."""
    return f"../{address}" if address else ""


def _ranges(seeds: list[int]) -> str:
    """Write sorted numbers shortly: 0 to 9, 12."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts)


def downloads_are_written(app: Sphinx) -> bool:
    """Tell whether a page of the book links to downloads, so that they will be written."""
    return any(WANTS_DOWNLOADS in page for page in app.env.metadata.values())


def setup(app: Sphinx) -> None:
    """Register the pages and the address of the code."""
    app.add_config_value("code_url", "", "html", str)
    app.connect("html-collect-pages", provenance_pages)
    app.connect("html-collect-pages", code_pages)
