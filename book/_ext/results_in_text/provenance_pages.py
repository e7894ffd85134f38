"""One page a replication that says where its numbers come from: `provenance/<name>.html`.

It is made from files when the book is written (Sphinx's event `html-collect-pages`), so it needs no source page and
no entry in the table of contents. A number on any page links to the part of it that is about that number.
"""

import os
from collections.abc import Iterator, Mapping
from functools import cache
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
from results_in_text.citation_list import downloads_are_written
from results_in_text.claim_tables import claim_target
from results_in_text.code_pages import Code, code_page, shown_code
from results_in_text.lone_page import is_left_out
from results_in_text.posts import page_of
from results_in_text.provenance_files import SHORT_COMMIT, commit_text, current_hash, read_provenance
from results_in_text.result_cards import anchor
from results_in_text.results_as_made import answer_about
from results_in_text.results_files import read_verdicts
from results_in_text.verdict_badges import verdict_words
from results_in_text.verdict_strength import as_test
from results_in_text.written_values import written_test

Page = tuple[str, dict[str, Any], str]

# Tables with more rows are summarised: experiments, arms and seeds. The whole table is a file to fetch.
_STAGES = (("provenance", "runs.csv", "params.yaml"), ("timing_provenance", "timings.csv", "timing.yaml"))
_TEMPLATE = "provenance_page.html"


def collect_pages(app: Sphinx) -> Iterator[Page]:
    """Make one page for each folder of results with verdicts."""
    root = Path(app.config.results_root)
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    for name in sorted(path.parent.name for path in root.glob("*/verdicts.json")):
        if is_left_out(app, name):
            continue
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
    verdicts = read_verdicts(root, name)
    page = page_of(name)
    behind = answer_about(root, repository, name)["behind"]
    code = Code(repository, page)
    return {
        "name": name,
        "code": f"replications/{page}/estimands.py",
        "page": f"../replications/{page}.html",
        "stages": stages,
        "stage_of": {claim["kind"]: stages[-1 if claim["kind"] == "timing" else 0] for claim in verdicts.claims},
        "data": {stage["id"]: [dep for dep in stage["deps"] if dep["path"].startswith("data/")] for stage in stages},
        "downloads": f"../downloads/{name}/" if downloads_are_written(app.env) else "",
        "claims": [_claim(name, claim, behind, code) for claim in verdicts.claims],
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


def setup(app: Sphinx) -> None:
    """Register the pages and the address of the code."""
    app.add_config_value("code_url", "", "html", str)
    app.connect("html-collect-pages", collect_pages)


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


def _claim(name: str, claim: Mapping[str, Any], behind: Mapping[str, Any], code: Code) -> dict[str, Any]:
    places = [(f"tests[{number}]", test) for number, test in enumerate(claim["tests"])]
    corrected = (claim.get("correction") or {}).get("tests", [])
    places += [(f"correction.tests[{number}]", test) for number, test in enumerate(corrected)]
    varied = claim.get("robustness", [])
    places += [(f"robustness[{number}]", as_test(claim, variation)) for number, variation in enumerate(varied)]
    return {
        "id": claim["id"],
        "target": claim_target(name, claim["id"]),
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
