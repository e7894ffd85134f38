"""Sphinx extension: numbers, verdicts, tables and figures of a page come from results/, or the build fails."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pybtex.plugin
from docutils import nodes
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
    results_as_made,
    scale_table,
    section_search,
)
from results_in_text.claim_tables import ClaimsTable
from results_in_text.errata_list import ErrataList
from results_in_text.page_notes import line_of, note_problem
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
    results_as_made,
    scale_table,
    section_search,
)


def resolve_roots(app: Sphinx, config: Config) -> None:
    """Take the folders relative to the book's folder, as the configuration file means them, and all bibliographies."""
    for key in ("results_root", "figures_root", "replications_root"):
        config[key] = str(Path(app.srcdir, config[key]).resolve())
    found = sorted(Path(config.replications_root).glob("*/references.bib"))
    config.bibtex_bibfiles = [*config.bibtex_bibfiles, *map(str, found)]


# sphinxcontrib.bibtex asks it for each citation, and every time it reads the metadata of all installed packages.
pybtex.plugin.find_plugin = cache(pybtex.plugin.find_plugin)


def read_no_html(app: Sphinx, config: Config) -> None:  # noqa: ARG001 - an event
    """Take tags for text: much of a page is text of YAML files, and a tag in it would run on the page."""
    config.myst_disable_syntax = [*config.myst_disable_syntax, "html_inline", "html_block"]


def pass_no_html_on(app: Sphinx) -> None:
    """Switch off the directives of docutils that pass HTML on."""
    app.env.settings["raw_enabled"] = False


def declare_parallel(app: Sphinx, config: Config) -> None:  # noqa: ARG001 - an event
    """Say for sphinx-mathjax-offline, which does not, that pages may be read in several processes: it copies files."""
    if mathjax := app.extensions.get("sphinx-mathjax-offline"):
        mathjax.parallel_read_safe = mathjax.parallel_write_safe = True


def refuse_what_loads_or_runs(app: Sphinx, doctree: nodes.document) -> None:
    """Note images of other hosts, and mathematics that is a link or asks MathJax for more than mathematics."""
    for image in doctree.findall(nodes.image):
        if "://" in image["uri"]:
            note_problem(app.env, line_of(image), f"image {image['uri']} lies on another host; put it into the book")
    for formula in doctree.findall(lambda node: isinstance(node, nodes.math | nodes.math_block)):
        for command in re.findall(r"\\(?:href|require|style|class|cssId|data)\b", formula.astext()):
            note_problem(app.env, line_of(formula), f"{command} in mathematics: remove it, or write a link beside it")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register everything with Sphinx."""
    app.add_config_value("results_root", "../results", "env", str)
    app.add_config_value("figures_root", "../figures", "env", str)
    app.add_config_value("replications_root", "../replications", "env", str)
    app.connect("config-inited", resolve_roots)
    app.connect("config-inited", read_no_html)
    app.connect("config-inited", declare_parallel)
    app.connect("builder-inited", pass_no_html_on)
    app.connect("doctree-read", refuse_what_loads_or_runs)
    app.add_role("result", ResultRole())
    app.add_role("verdict", VerdictRole())
    app.add_role("reported", ReportedRole())
    app.add_role("constant", ConstantRole())
    app.add_directive("claims", ClaimsTable)
    app.add_directive("errata", ErrataList)
    for part in _PARTS:
        part.setup(app)
    return {"version": "1", "env_version": 3, "parallel_read_safe": True, "parallel_write_safe": True}
