"""Pages that say where numbers come from, made when the book is written.

`provenance/<name>.html`, one a folder of results, says of each number which runs and which code made it; a number on
any page links to the part about it.
"""

import os
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sphinx.application import Sphinx

from paperkit.history import decoded
from paperkit.provenance import file_md5
from paperkit.results import read_runs
from paperkit.written import named, shown_line
from results_in_text import records
from results_in_text.code_files import Code, Page, code_page, shown_code
from results_in_text.code_runner import about_results
from results_in_text.pages import downloads_are_written, is_made, shown_folders, stopping
from results_in_text.records import SHORT_COMMIT, anchor, page_of, read_json
from results_in_text.reruns import expected_next

# Tables with more rows are summarised: experiments, arms and seeds. The whole table is a file to fetch.
_STAGES = (("provenance", "runs.csv", "params.yaml"), ("timing_provenance", "timings.csv", "timing.yaml"))
_TEMPLATE = "provenance_page.html"


def provenance_pages(app: Sphinx) -> Iterator[Page]:
    """Make one page for each folder of results with verdicts."""
    loader = FileSystemLoader(Path(__file__).parent)
    templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    templates.globals |= {function.__name__: function for function in (anchor, code_page, named, shown_line)}
    templates.globals |= {"expected_next": expected_next, "records": records}
    # From the book's root to a page of provenance; no address stays none.
    templates.filters["above"] = lambda address: f"../{address}" if address else ""
    template, shown = templates.get_template(_TEMPLATE), shown_code(app)
    root, repository = Path(app.config.results_root), Path(app.config.replications_root).parent
    for name in shown_folders(app):
        code = [repository / path for path, folders in shown.items() if name in folders]
        sources = repository / "dvc.lock", *(root / name).iterdir(), *code
        if is_made(app, Path(app.outdir, f"provenance/{name}.html"), *sources):
            continue
        with stopping(f"provenance page of {name}"):
            body = template.render(provenance_content(app, name, shown))
        yield f"provenance/{name}", {"title": f"Provenance of {name}", "body": body}, "page.html"


def provenance_content(app: Sphinx, name: str, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what the page of a replication says."""
    root, repository = Path(app.config.results_root), Path(app.config.replications_root).parent
    # The first record must be there; that of clock readings only where there are some.
    files = [files for files in _STAGES if files is _STAGES[0] or (root / name / f"{files[0]}.json").is_file()]
    stages = [_stage(root / name, repository, *of_stage) for of_stage in files]
    return {
        "name": name,
        "page_name": page_of(name),
        "stages": stages,
        "shown": shown,
        "code_url": app.config.code_url,
        "downloads": f"../downloads/{name}/" if downloads_are_written(app) else "",
        "claims": records.read_verdicts(root, name).claims.values(),
        "behind": about_results(root, repository, name)["behind"],
        "code": Code(repository, name),
    }


def runs_summary(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Summarise a table of runs, one entry for each arm of each experiment."""
    arm = ["experiment", "arm"]
    diverged = runs[runs["status"] == "diverged"].drop_duplicates([*arm, "seed", "config"])
    summary = runs.groupby(arm).agg(
        seeds=("seed", lambda seeds: _ranges(sorted(seeds.unique()))),
        configs=("config", "nunique"),
        metrics=("metric", lambda metrics: ", ".join(sorted(metrics.unique()))),
        rows=("metric", "size"),
    )
    summary["diverged"] = diverged.groupby(arm).size().reindex(summary.index, fill_value=0)
    return summary.reset_index().to_dict("records")


def _stage(folder: Path, repository: Path, stem: str, table: str, params: str) -> dict[str, Any]:
    record = read_json(folder / f"{stem}.json")
    now = {path: records.current_hash(repository, path, record["profile"]) for path in record["deps"]}
    files = [folder / file for file in dict.fromkeys([table, table.replace("runs", "trials")])]
    lock = repository / "dvc.lock"
    # Parameters from dvc.lock, which holds those of the run, not those of today's file.
    locked = _stages(lock).get(record["stage"], {}).get("params", {}) if lock.is_file() else {}
    return {
        "id": anchor("stage", stem),
        "record": record,
        "commit": records.commit_text(record),
        "short": (record["commit"] or "")[:SHORT_COMMIT],
        "now": {
            path: "not here" if now[path] is None else "the same" if now[path] == digest else "changed since"
            for path, digest in record["deps"].items()
        },
        "params": {
            path: yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
            for path, content in locked.items()
            if path.endswith(params)
        },
        "table": table,
        "tables": [
            {
                "path": os.path.relpath(path, repository),
                "rows": path.read_text(encoding="utf-8").count("\n") - 1,
                "md5": file_md5(path),
            }
            for path in files
            if path.is_file()
        ],
        "summary": runs_summary(read_runs(folder / table)) if (folder / table).is_file() else [],
    }


@records.once_a_file
def _stages(lock: Path) -> dict[str, Any]:
    return decoded(lock.read_bytes())["stages"]


def _ranges(seeds: list[int]) -> str:
    """Write sorted numbers shortly: 0 to 9, 12."""
    # Neighbours are as far from their places.
    runs = groupby(enumerate(seeds), key=lambda numbered: numbered[1] - numbered[0])
    parts = [[seed for _, seed in run] for _, run in runs]
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts)
