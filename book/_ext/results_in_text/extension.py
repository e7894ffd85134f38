"""Sphinx extension: numbers, verdicts, tables and figures of a page come from results/, or the build fails."""

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

from results_in_text import (
    citation_list,
    code_pages,
    equation_checks,
    for_machines,
    given_verdicts,
    lone_page,
    number_linter,
    page_frame,
    page_notes,
    provenance_pages,
    reading,
    result_cards,
    result_figures,
    scale_table,
    section_search,
)
from results_in_text.claim_tables import ClaimsTable
from results_in_text.errata_list import ErrataList
from results_in_text.result_roles import ConstantRole, ReportedRole, ResultRole, VerdictRole

_PARTS = (
    citation_list,
    code_pages,
    equation_checks,
    for_machines,
    given_verdicts,
    lone_page,
    number_linter,
    page_frame,
    page_notes,
    provenance_pages,
    reading,
    result_cards,
    result_figures,
    scale_table,
    section_search,
)


def resolve_roots(app: Sphinx, config: Config) -> None:
    """Take the folders relative to the book's folder, as the configuration file means them, and all bibliographies."""
    for key in ("results_root", "figures_root", "replications_root"):
        config[key] = str(Path(app.srcdir, config[key]).resolve())
    found = sorted(Path(config.replications_root).glob("*/references.bib"))
    config.bibtex_bibfiles = [*config.bibtex_bibfiles, *map(str, found)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register everything with Sphinx."""
    app.add_config_value("results_root", "../results", "env", str)
    app.add_config_value("figures_root", "../figures", "env", str)
    app.add_config_value("replications_root", "../replications", "env", str)
    app.connect("config-inited", resolve_roots)
    app.add_role("result", ResultRole())
    app.add_role("verdict", VerdictRole())
    app.add_role("reported", ReportedRole())
    app.add_role("constant", ConstantRole())
    app.add_directive("claims", ClaimsTable)
    app.add_directive("errata", ErrataList)
    for part in _PARTS:
        part.setup(app)
    return {"version": "1", "env_version": 3, "parallel_read_safe": True, "parallel_write_safe": True}
