"""Derivations that run: the directives `equation` and `check`, and the count of equations for other pages.

A check is a function in `CHECKS` of `replications/<name>/checks.py`; its tolerance is that of the identity in
claims.yaml which bears its name. Its committed outcome stands in verdicts.json, and belongs to the code as it is if no
file in provenance.json has changed, or none that the derivation imports; else it is run anew. An identity that comes
out of runs is no entry of `CHECKS`: it belongs to all of the stage's code, and only the stage can run it anew.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.directives.patches import MathDirective

from paperkit.answers import Record
from paperkit.results import ResultsError
from results_in_text import pages, records
from results_in_text.code_runner import about_derivation, kept_answer
from results_in_text.nodes import block, verdict_badge
from results_in_text.pages import BookDirective, line_of, note, note_problem, notes
from results_in_text.roles import BookRole, live_value


class CheckOutcome(NamedTuple):
    """What a page shows of a check."""

    name: str  # the replication
    check: str
    claim: Record  # the claim that it tests
    address: str  # of its test in verdicts.json, such as lion/verdicts:X3.tests[0]
    max_error: float | None  # None if it has not been run
    control_error: float | None  # the error with one ingredient wrong; None if it has not been run
    tolerance: float
    stale: str = ""  # why the committed outcome does not belong to the code as it is; empty if it does

    @property
    def anchor(self) -> str:
        """The name of its box on its page."""
        return records.anchor("check", self.name, self.check)

    @property
    def shown(self) -> str:
        """Its errors, with two digits."""
        if self.max_error is None or self.control_error is None:
            return "not run"
        return f"{self.max_error:.2g} (control {self.control_error:.2g})"


class CheckedCode:
    """The checks of one replication within one build: what was committed, and what its code, asked once, says now."""

    def __init__(self, results: Path, replications: Path, name: str) -> None:
        """Read what was committed."""
        self.name, self.folder, self.repository = name, results / name, replications.parent
        self.known = records.identities(records.read_verdicts(results, name).claims)
        self.record = records.read_provenance(self.folder / "provenance.json")
        self.deps = records.code_of(self.record)

    @property
    def files(self) -> list[Path]:
        """Results, provenance and code: the files that the outcomes of the checks depend on."""
        code = [self.repository / path for path in self.deps]
        return [self.folder / "verdicts.json", self.folder / "provenance.json", *code]

    @cached_property
    def differing(self) -> list[str]:
        """The files of code that are not what they were when they ran."""
        now = {path: records.current_hash(self.repository, path, self.record["profile"]) for path in self.deps}
        return [path for path, digest in self.deps.items() if now[path] != digest]

    @cached_property
    def code(self) -> dict[str, Any]:
        """What the code says of its checks."""
        return about_derivation(self.repository, self.name)

    @cached_property
    def anew(self) -> dict[str, dict[str, float]]:
        """The outcomes of all checks of the code as it is; loading torch takes as long as they do."""
        depends = [self.repository / path for path in self.code["closure"]]
        return kept_answer(self.repository, "checks", self.name, *self.code["checks"], depends=depends)

    def outcome(self, check: str) -> CheckOutcome:
        """Find the outcome of a check: as committed if the code is that of the results, else run anew."""
        if check not in self.known:
            records.stop(
                f"no identity of {self.name} is called {check!r}; add a claim with this estimand and its tolerance to "
                f"claims.yaml and run `dvc repro`. There are: {', '.join(self.known)}"
            )
        claim, place, test = self.known[check]
        address, errors = f"{self.name}/verdicts:{claim['id']}.{place}", (test["max_error"], test["control_error"])
        known = CheckOutcome(self.name, check, claim, address, *errors, test["tolerance"])
        if not self.differing:
            return known
        if check not in self.code["checks"]:
            stale = f"{', '.join(self.differing)} changed since, and it is no entry of CHECKS to run"
            return known._replace(stale=stale)
        changed = [path for path, digest in self.code["closure"].items() if self.deps.get(path) != digest]
        found = known._replace(**self.anew[check]) if changed else known
        if found.shown == known.shown:
            return found
        stale = f"{', '.join(changed)} changed since; it errs by {found.shown} now, {known.shown} is committed"
        return found._replace(stale=stale)


def problem_of(outcome: CheckOutcome, *, refuted: bool) -> str:
    """Say why a page may not show a check, or not as refuted; empty where nothing is wrong."""
    label = f"check {outcome.name}:{outcome.check}"
    error, control, tolerance = outcome.max_error, outcome.control_error, outcome.tolerance
    if outcome.stale:
        return f"{label} is stale: {outcome.stale}; run `dvc repro`, or undo the change"
    if error is None or control is None:
        return f"{label} has not been run; run `dvc repro`"
    if refuted and error <= tolerance:
        return f"{label} is shown as refuted, but errs by {error:.2g}, within {tolerance:g}"
    # The statement stands and the control falls; an error that is no number does not pass.
    if not refuted and not error <= tolerance < control:
        return (
            f"{label} fails: error {error:.2g}, tolerance {tolerance:g}, control {control:.2g}; mend the code or the "
            "equation (a source's statement that is wrong is shown by the directive check with the option refuted)"
        )
    return ""


class Equation(NamedTuple):
    """A numbered equation of a page."""

    label: str
    checks: tuple[str, ...]  # none where a reason is given


class equation_count(nodes.inline):  # docutils finds a node's visitor by the name of its class
    """How many equations are checked; its text is known only when all pages have been read. Attribute `name`."""


class _OfChecks(BookDirective):
    """A directive that shows outcomes of checks; whatever is wrong with one is a problem of its page."""

    def code_of(self, name: str) -> CheckedCode:
        """Ask about the checks of a replication once in a build."""
        known: dict[str, CheckedCode] = self.env.app.checked_code  # type: ignore[attr-defined]
        if name not in known:
            known[name] = CheckedCode(self.results, self.replications, name)
        return known[name]

    def outcome(self, address: str, *, refuted: bool = False) -> CheckOutcome | None:
        """Find the outcome of `name:check`, and note its files as dependencies; None if there is none to be shown."""
        try:
            name, check = records.split_address(address)
            outcome, files = self.code_of(name).outcome(check), self.code_of(name).files
        except ResultsError as error:
            note_problem(self.env, self.lineno, f"{self.name} {address}: {error}")
            return None
        pages.depend_on(self.env, *files)
        if problem := problem_of(outcome, refuted=refuted):
            note_problem(self.env, self.lineno, problem)
            return None
        return outcome


class EquationDirective(MathDirective, _OfChecks, name="equation"):
    """Directive `equation`: argument the label, option `check` or `unchecked`, content LaTeX.

    On a page of results every displayed equation is one, with a check or a reason for none.
    """

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
        note(self.env, pages.EQUATIONS, Equation(label, tuple(checks)))
        if bool(checks) == bool(reason):
            sentence = f"equation {label}: give either :check: name:check or :unchecked: and the reason"
            note_problem(self.env, self.lineno, sentence)
            return equation
        if reason:
            return [*equation, block("Not checked: ", *self.inline(reason), css="equation-unchecked")]
        return [*equation, *(self._badge(outcome) for outcome in map(self.outcome, checks) if outcome)]

    def _badge(self, outcome: CheckOutcome) -> nodes.paragraph:
        link = nodes.reference("", outcome.check, internal=True, refid=outcome.anchor)
        error, tolerance = (live_value(self.env, f"{outcome.address}.{key}") for key in ("max_error", "tolerance"))
        mark = nodes.inline("", "✓ checked", classes=["check-mark"])
        return block(mark, ": ", link, ", error ", error, ", tolerance ", tolerance, css="equation-check")


class CheckDirective(_OfChecks, name="check"):
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

    def make(self) -> list[nodes.Node]:
        """Make a box with the check's errors and its description."""
        refuted = "refuted" in self.options
        note(self.env, pages.DESCRIBED, self.arguments[0])
        outcome = self.outcome(self.arguments[0], refuted=refuted)
        if outcome is None:
            return []
        title = f"{'Refuted' if refuted else 'Check'}: {outcome.check} (claim {outcome.claim['id']})"
        error, tolerance, control = (
            live_value(self.env, f"{outcome.address}.{key}") for key in ("max_error", "tolerance", "control_error")
        )
        measured = (*self.inline(self.options.get("error", "Largest error")), " ", error, ", tolerance ", tolerance)
        badge = verdict_badge(outcome.claim)
        errors = block(badge, " ", *measured, ", with the control's mistake ", control, ".")
        described = self.parse_content_to_nodes() or self._docstring(outcome)
        classes = ["check", "check-refuted" if refuted else "check-passed"]
        parts = [nodes.title("", title), errors, *described]
        box = nodes.admonition("", *parts, classes=classes, ids=[outcome.anchor])
        self.set_source_info(box)
        return [box]

    def _docstring(self, outcome: CheckOutcome) -> list[nodes.Node]:
        try:
            text = self.code_of(outcome.name).code["docstrings"].get(outcome.check, "")
        except ResultsError as error:
            note_problem(self.env, self.lineno, f"check {self.arguments[0]}: {error}")
            return []
        if not text:
            sentence = "say what is checked, and what the control gets wrong, here or in its docstring"
            note_problem(self.env, self.lineno, f"check {self.arguments[0]}: {sentence}")
        return self.parse_text_to_nodes(text)


class EquationCountRole(BookRole, name="equations"):
    """Role `equations`: `name` (or `all`) becomes the number of equations and of those that are checked."""

    def make(self) -> nodes.Node:
        """Leave a place, which is filled when all pages have been read."""
        note(self.env, pages.COUNTS, self.text)
        return equation_count("", "", name=self.text.strip())


def fill_counts(app: Sphinx, doctree: nodes.document, docname: str) -> None:  # noqa: ARG001 - an event
    """Fill the places of counts, once all pages have been read."""
    for node in list(doctree.findall(equation_count)):
        found = [
            equation
            for page, of_page in notes(app.env, pages.EQUATIONS).items()
            for equation in of_page
            if node["name"] in ("all", pages.replication_of(page))
        ]
        text = f"{sum(bool(equation.checks) for equation in found)} of {len(found)} equations checked"
        node.replace_self(nodes.inline(text, text, classes=["equation-count"], equations=len(found)))


def demand_checks(app: Sphinx, doctree: nodes.document) -> None:
    """Note every displayed equation of a page of results without a check, and every check not described there."""
    env = app.env
    if not pages.is_result_page(env):
        return
    for node in doctree.findall(nodes.math_block):
        if "says_its_check" not in node:
            label = node.get("label") or " ".join(node.astext().split())[:40]
            sentence = f"equation {label}: use the directive equation, with :check: or :unchecked:"
            note_problem(env, line_of(node), sentence)
    described = notes(env, pages.DESCRIBED).get(env.docname, [])
    for check in sorted({check for check in described if described.count(check) > 1}):
        note_problem(env, None, f"check {check} is described twice on this page; keep one")
    for equation in notes(env, pages.EQUATIONS).get(env.docname, []):
        for check in equation.checks:
            if check not in described:
                sentence = f"equation {equation.label} names {check}, which no directive check on this page describes"
                note_problem(env, None, sentence)


def ask_anew(app: Sphinx) -> None:
    """Forget what was known of the code: it may have changed since the last build."""
    app.checked_code = {}  # type: ignore[attr-defined]


def setup(app: Sphinx) -> None:
    """Connect the events that count and demand."""
    app.connect("builder-inited", ask_anew)
    app.connect("doctree-read", demand_checks)
    app.connect("doctree-resolved", fill_counts)
