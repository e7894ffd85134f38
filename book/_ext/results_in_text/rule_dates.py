"""When a claim's rule was committed, and when its first result: a line for each claim, read from git."""

from pathlib import Path

from docutils import nodes
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from paperkit.history import Commit, Dates, no_history, read_history
from results_in_text.posts import page_of

_LOGGER = logging.getLogger(__name__)


def rule_dates(env: BuildEnvironment, folder: str, claim_id: str) -> list[nodes.Node]:
    """Make the line of a claim; nothing where there is no history to read, which the build says once a page."""
    name = page_of(folder)
    kept = f"rule dates of {name}"
    if kept not in env.temp_data:
        env.temp_data[kept] = _dates(Path(env.config.replications_root).parent, name)
    dates = env.temp_data[kept].get(claim_id)
    return [nodes.paragraph("", sentence(dates), classes=["rule-dates"])] if dates else []


def sentence(dates: Dates) -> str:
    """Say which came first, the rule or its result, and why the rule was amended where it was."""
    first = f"first result {_when(dates.result, 'on ')}" if dates.result else "no result yet"
    return " ".join([
        f"Rule {_when(dates.rule, 'committed on ')}, {first}.",
        *map("Amended: {}".format, dates.amended),
    ])


def _when(commit: Commit, before: str) -> str:
    return f"{before if commit.hash else ''}{commit}"


def _dates(repository: Path, name: str) -> dict[str, Dates]:
    reason = no_history(repository)
    if reason:
        _LOGGER.info("%s: the pages do not say when rules were committed: %s", name, reason)
        return {}
    return read_history(repository, name).dates
