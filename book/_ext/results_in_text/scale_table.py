"""The directive `scale`: on what and at which size each profile of a replication ran, beside the source's scale."""

import json
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from paperkit.results import ResultsError, read_runs
from results_in_text.checked_yaml import BookDataError, read_checked_yaml
from results_in_text.claim_tables import source_text
from results_in_text.of_replication import OfReplication
from results_in_text.page_notes import depend_on
from results_in_text.provenance_files import read_provenance
from results_in_text.results_files import Verdicts, read_all_verdicts
from results_in_text.tables import Row, table
from results_in_text.verdict_badges import is_primary

_HEADINGS = ["Profile", "Where it ran", "Largest model", "Longest run", "Tokens a run", "Seeds", "Hours"]


class Scale(OfReplication):
    """Directive `scale`: a row for each profile with results, then what about.yaml says of the source's scale."""

    def run(self) -> list[nodes.Node]:
        """Make the table and note its files as dependencies of the page."""
        root, about = Path(self.config.results_root), Path(self.config.replications_root, self.folder, "about.yaml")
        try:
            every = read_all_verdicts(root, self.folder)
            rows = [_row(root / folder, verdicts) for folder, verdicts in every.items()]
            source = read_checked_yaml(about, "about.schema.json").get("scale")
        except (BookDataError, ResultsError) as error:
            message = f"{self.get_location()}: directive scale: {error}"
            raise ExtensionError(message) from error
        read = (root / folder / file for folder in every for file in ("verdicts.json", "provenance.json", "runs.csv"))
        depend_on(self.env, about, *read)
        made = table(_HEADINGS, rows, css_class="scales", widths=[10, 30, 14, 12, 14, 8, 12])
        if source is None:
            return [made]
        sentence = f"The source: {source['text'].rstrip('.')} ({source_text(source)})."
        return [made, nodes.paragraph("", "", *self.parse_inline(sentence)[0], generated=True)]


def _row(folder: Path, verdicts: Verdicts) -> Row:
    record, runs = read_provenance(folder / "provenance.json"), read_runs(folder / "runs.csv")
    configs = map(json.loads, runs["config"].unique())
    tokens = [
        config["batch"] * config["context"] * config["steps"]
        for config in configs
        if {"batch", "context", "steps"} <= config.keys()
    ]
    parameters = runs.loc[runs["metric"] == "parameters", "value"].dropna()
    # Of the primary claims; where none was judged at this scale, of all.
    claims = [claim for claim in verdicts.claims if is_primary(claim)] or verdicts.claims
    tests = (test for claim in claims for test in claim["tests"])
    seeds = sorted({test["n"] for test in tests if test.get("n")})
    cells = [
        verdicts.profile,
        (record.get("device") or {"name": record["machine_class"]})["name"],
        _largest(parameters.tolist(), "parameters"),
        _largest(runs["step"].tolist(), "steps"),
        _largest(tokens),
        " to ".join(map(str, dict.fromkeys([*seeds[:1], *seeds[-1:]]))) or "–",
        f"{record['wall_s'] / 3600:.2g}",
    ]
    return [[nodes.paragraph("", cell)] for cell in cells]


def _largest(values: list[float], unit: str = "") -> str:
    """Write the largest number; a dash where nothing has one."""
    largest = max(values, default=0)
    return f"{largest:,.0f} {unit}".strip() if largest else "–"


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("scale", Scale)
