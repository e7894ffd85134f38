"""Derivations that run: the directives `equation` and `check`, and the count of equations for other pages.

`equation` numbers an equation and names its check; `check` shows a check's errors and says what it does and what its
control gets wrong, by default in the words of its function's docstring. On a page of results every displayed equation
is an `equation`, with a check or a reason for none.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.directives.patches import MathDirective
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective, SphinxRole

from paperkit.results import ResultsError
from results_in_text.check_outcomes import CheckLedger, CheckOutcome, problem_of
from results_in_text.of_replication import replication_of
from results_in_text.page_notes import (
    COUNTS,
    DESCRIBED,
    EQUATIONS,
    depend_on,
    is_result_page,
    line_of,
    note,
    note_problem,
    notes,
)
from results_in_text.result_cards import anchor
from results_in_text.result_roles import live_value
from results_in_text.verdict_badges import verdict_badge

LEDGER = "check_ledger"


class Equation(NamedTuple):
    """A numbered equation of a page."""

    label: str
    checks: tuple[str, ...]  # none where a reason is given


class equation_count(nodes.inline):  # docutils finds a node's visitor by the name of its class
    """How many equations are checked; its text is known only when all pages have been read. Attribute `name`."""


class EquationDirective(MathDirective):
    """Directive `equation`: argument the label, option `check` or `unchecked`, content LaTeX."""

    required_arguments: ClassVar[int] = 1
    optional_arguments: ClassVar[int] = 0
    final_argument_whitespace: ClassVar[bool] = False
    option_spec: ClassVar[dict[str, Callable[[str], Any]]] = {
        "check": directives.unchanged_required,
        "unchecked": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        """Number the equation and show the outcome of its checks below it."""
        label, checks, reason = self.arguments[0], self.options.get("check", "").split(), self.options.get("unchecked")
        self.arguments, self.options = [], {"label": label}
        equation = super().run()
        for node in equation:
            if isinstance(node, nodes.math_block):
                node["says_its_check"] = True
        note(self.env, EQUATIONS, Equation(label, tuple(checks)))
        if bool(checks) == bool(reason):
            sentence = f"equation {label}: give either :check: name:check or :unchecked: and the reason"
            note_problem(self.env, self.lineno, sentence)
            return equation
        if reason:
            line = nodes.paragraph("", "Not checked: ", *self.parse_inline(reason)[0], classes=["equation-unchecked"])
            return [*equation, line]
        found = [_outcome(self, address) for address in checks]
        return [*equation, *(_badge(self, outcome) for outcome in found if outcome is not None)]


class CheckDirective(SphinxDirective):
    """Directive `check`: argument `name:check`, content what is checked and what the control gets wrong.

    Without content it is the docstring of the check's function.
    """

    required_arguments: ClassVar[int] = 1
    has_content: ClassVar[bool] = True
    option_spec: ClassVar[dict[str, Callable[[str], Any]]] = {
        # The check is of a statement that is wrong, as a source writes it, and has to fail.
        "refuted": directives.flag,
        # What the error is, such as "Largest relative error".
        "error": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        """Make a box with the check's errors and its description."""
        refuted = "refuted" in self.options
        note(self.env, DESCRIBED, self.arguments[0])
        outcome = _outcome(self, self.arguments[0], refuted=refuted)
        if outcome is None:
            return []
        described = self.parse_content_to_nodes() or self._docstring(outcome)
        title = f"{'Refuted' if refuted else 'Check'}: {outcome.check} (claim {outcome.claim['id']})"
        box = nodes.admonition("", classes=["check", "check-refuted" if refuted else "check-passed"])
        box["ids"].append(check_anchor(outcome))
        self.set_source_info(box)
        box += nodes.title("", title)
        box += nodes.paragraph("", "", *self._errors(outcome))
        box += described
        return [box]

    def _docstring(self, outcome: CheckOutcome) -> list[nodes.Node]:
        try:
            text = getattr(self.env.app, LEDGER).docstring(outcome)
        except ResultsError as error:
            note_problem(self.env, self.lineno, f"check {self.arguments[0]}: {error}")
            return []
        if not text:
            sentence = "say what is checked, and what the control gets wrong, here or in its docstring"
            note_problem(self.env, self.lineno, f"check {self.arguments[0]}: {sentence}")
        return self.parse_text_to_nodes(text)

    def _errors(self, outcome: CheckOutcome) -> list[nodes.Node]:
        error, tolerance, control = (
            live_value(self.env, f"{outcome.address}.{key}") for key in ("max_error", "tolerance", "control_error")
        )
        name = self.parse_inline(self.options.get("error", "Largest error"))[0]
        measured = [nodes.Text(" "), *name, nodes.Text(" "), error, nodes.Text(", tolerance "), tolerance]
        wrong = [nodes.Text(", with the control's mistake "), control, nodes.Text(".")]
        return [verdict_badge(outcome.claim), *measured, *wrong]


class EquationCountRole(SphinxRole):
    """Role `equations`: `name` (or `all`) becomes the number of equations and of those that are checked."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Leave a place, which is filled when all pages have been read."""
        note(self.env, COUNTS, self.text)
        return [equation_count("", "", name=self.text.strip())], []


def count_equations(env: BuildEnvironment, name: str = "all") -> tuple[int, int]:
    """Count a replication's numbered equations, and those with a check; complete once all pages have been read."""
    found = [
        equation
        for page, of_page in notes(env, EQUATIONS).items()
        if name in ("all", replication_of(page))
        for equation in of_page
    ]
    return len(found), sum(bool(equation.checks) for equation in found)


def check_anchor(outcome: CheckOutcome) -> str:
    """Name the box of a check on its page."""
    return anchor("check", outcome.name, outcome.check)


def demand_checks(app: Sphinx, doctree: nodes.document) -> None:
    """Note every displayed equation of a page of results without a check, and every check not described there."""
    env = app.env
    if not is_result_page(env):
        return
    for node in doctree.findall(nodes.math_block):
        if "says_its_check" not in node:
            label = node.get("label") or " ".join(node.astext().split())[:40]
            note_problem(
                env, line_of(node), f"equation {label}: use the directive equation, with :check: or :unchecked:"
            )
    described = notes(env, DESCRIBED).get(env.docname, [])
    for check in sorted({check for check in described if described.count(check) > 1}):
        note_problem(env, None, f"check {check} is described twice on this page; keep one")
    for equation in notes(env, EQUATIONS).get(env.docname, []):
        for check in equation.checks:
            if check not in described:
                sentence = f"equation {equation.label} names {check}, which no directive check on this page describes"
                note_problem(env, None, sentence)


def fill_counts(app: Sphinx, doctree: nodes.document, docname: str) -> None:  # noqa: ARG001 - an event
    """Fill the places of counts."""
    for node in list(doctree.findall(equation_count)):
        total, checked = count_equations(app.env, node["name"])
        text = f"{checked} of {total} equations checked"
        node.replace_self(nodes.inline(text, text, classes=["equation-count"], **{"equations": total}))


def start_ledger(app: Sphinx) -> None:
    """Forget what was known of the code: it may have changed since the last build."""
    ledger = CheckLedger(Path(app.config.results_root), Path(app.config.replications_root))
    setattr(app, LEDGER, ledger)


def setup(app: Sphinx) -> None:
    """Register the directives, and the events that count and demand."""
    app.add_directive("equation", EquationDirective)
    app.add_directive("check", CheckDirective)
    app.add_role("equations", EquationCountRole())
    app.connect("builder-inited", start_ledger)
    app.connect("doctree-read", demand_checks)
    app.connect("doctree-resolved", fill_counts)


def _outcome(directive: SphinxDirective, address: str, *, refuted: bool = False) -> CheckOutcome | None:
    """Ask for a check's outcome; note its files as dependencies, and whatever is wrong as a problem of the page."""
    env, ledger = directive.env, getattr(directive.env.app, LEDGER)
    try:
        outcome = ledger.outcome(address)
        files = ledger.files(outcome.name)
    except ResultsError as error:
        note_problem(env, directive.lineno, f"{directive.name} {address}: {error}")
        return None
    depend_on(env, *files)
    problem = problem_of(outcome, refuted=refuted)
    if problem:
        note_problem(env, directive.lineno, problem)
        return None
    return outcome


def _badge(directive: SphinxDirective, outcome: CheckOutcome) -> nodes.paragraph:
    link = nodes.reference("", outcome.check, internal=True, refid=check_anchor(outcome))
    error, tolerance = (live_value(directive.env, f"{outcome.address}.{key}") for key in ("max_error", "tolerance"))
    mark = nodes.inline("", "✓ checked", classes=["check-mark"])
    parts = [mark, nodes.Text(": "), link, nodes.Text(", error "), error, nodes.Text(", tolerance "), tolerance]
    return nodes.paragraph("", "", *parts, classes=["equation-check"])
