"""Derivations that run: the directives `equation` and `check`, and the count of equations for other pages.

A check is a function in `CHECKS` of `replications/<name>/checks.py`; its tolerance is that of the identity in
claims.yaml which bears its name. Its committed outcome stands in verdicts.json, and belongs to the code as it is if no
file in provenance.json has changed, or none that the derivation imports; else it is run anew. An identity that comes
out of runs is no entry of `CHECKS`: it belongs to all of the stage's code, and only the stage can run it anew.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.directives.patches import MathDirective
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from paperkit.answers import Record
from paperkit.results import ResultsError
from results_in_text.code_runner import about_derivation, kept_answer
from results_in_text.nodes import block, verdict_badge
from results_in_text.pages import (
    COUNTS,
    DESCRIBED,
    EQUATIONS,
    depend_on,
    is_result_page,
    line_of,
    note,
    note_problem,
    notes,
    replication_of,
)
from results_in_text.records import (
    BookDataError,
    anchor,
    code_of,
    current_hash,
    identities,
    read_provenance,
    read_verdicts,
    split_address,
)
from results_in_text.roles import BookRole, live_value

_LEDGER = "check_ledger"


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
        return anchor("check", self.name, self.check)

    @property
    def shown(self) -> str:
        """Its errors, with two digits."""
        if self.max_error is None or self.control_error is None:
            return "not run"
        return f"{self.max_error:.2g} (control {self.control_error:.2g})"


class CheckLedger:
    """Outcomes of checks within one build; the code of a replication is asked once."""

    def __init__(self, results: Path, replications: Path) -> None:
        """Start with nothing known."""
        self.results, self.repository = results, replications.parent
        self._changed: dict[str, list[str]] = {}
        self._code: dict[str, dict[str, Any]] = {}
        self._anew: dict[str, dict[str, dict[str, float]]] = {}

    def files(self, name: str) -> list[Path]:
        """Name results, provenance and code: the files that the outcomes of a replication's checks depend on."""
        folder = self.results / name
        code = [self.repository / path for path in self._deps(name)]
        return [folder / "verdicts.json", folder / "provenance.json", *code]

    def outcome(self, address: str) -> CheckOutcome:
        """Find the outcome of `name:check`: as committed if the code is that of the results, else run anew."""
        name, check = split_address(address)
        known_checks = identities(read_verdicts(self.results, name).claims)
        if check not in known_checks:
            message = (
                f"no identity of {name} is called {check!r}; add a claim with this estimand and its tolerance to "
                f"claims.yaml and run `dvc repro`. There are: {', '.join(known_checks)}"
            )
            raise BookDataError(message)
        claim, place, test = known_checks[check]
        errors = test["max_error"], test["control_error"]
        known = CheckOutcome(name, check, claim, f"{name}/verdicts:{claim['id']}.{place}", *errors, test["tolerance"])
        if not (differing := self._differing(name)):
            return known
        code, deps = self._code_of(name), self._deps(name)
        if check not in code["checks"]:
            return known._replace(stale=f"{', '.join(differing)} changed since, and it is no entry of CHECKS to run")
        changed = [path for path, digest in code["closure"].items() if deps.get(path) != digest]
        if not changed:
            return known
        found = known._replace(**self._run(name)[check])
        if found.shown == known.shown:
            return found
        stale = f"{', '.join(changed)} changed since; it errs by {found.shown} now, {known.shown} is committed"
        return found._replace(stale=stale)

    def docstring(self, outcome: CheckOutcome) -> str:
        """Return what the code says of a check; empty where its function says nothing."""
        return self._code_of(outcome.name)["docstrings"].get(outcome.check, "")

    def _deps(self, name: str) -> dict[str, str]:
        return code_of(read_provenance(self.results / name / "provenance.json"))

    def _differing(self, name: str) -> list[str]:
        """List the files of code that are not what they were when they ran."""
        if name not in self._changed:
            profile = read_provenance(self.results / name / "provenance.json")["profile"]
            deps = self._deps(name).items()
            changed = [path for path, digest in deps if current_hash(self.repository, path, profile) != digest]
            self._changed[name] = changed
        return self._changed[name]

    def _code_of(self, name: str) -> dict[str, Any]:
        if name not in self._code:
            self._code[name] = about_derivation(self.repository, name)
        return self._code[name]

    def _run(self, name: str) -> dict[str, dict[str, float]]:
        """Run all checks of a replication whose code has changed; loading torch takes as long as they do."""
        if name not in self._anew:
            code = self._code_of(name)
            depends = [self.repository / path for path in code["closure"]]
            self._anew[name] = kept_answer(self.repository, "checks", name, *code["checks"], depends=depends)
        return self._anew[name]


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


class EquationDirective(MathDirective):
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
        note(self.env, EQUATIONS, Equation(label, tuple(checks)))
        if bool(checks) == bool(reason):
            sentence = f"equation {label}: give either :check: name:check or :unchecked: and the reason"
            note_problem(self.env, self.lineno, sentence)
            return equation
        if reason:
            return [*equation, block("Not checked: ", *self.parse_inline(reason)[0], css="equation-unchecked")]
        found = [_outcome(self, address) for address in checks]
        return [*equation, *(self._badge(outcome) for outcome in found if outcome is not None)]

    def _badge(self, outcome: CheckOutcome) -> nodes.paragraph:
        link = nodes.reference("", outcome.check, internal=True, refid=outcome.anchor)
        error, tolerance = (live_value(self.env, f"{outcome.address}.{key}") for key in ("max_error", "tolerance"))
        mark = nodes.inline("", "✓ checked", classes=["check-mark"])
        return block(mark, ": ", link, ", error ", error, ", tolerance ", tolerance, css="equation-check")


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
        classes = ["check", "check-refuted" if refuted else "check-passed"]
        parts = [nodes.title("", title), self._errors(outcome), *described]
        box = nodes.admonition("", *parts, classes=classes, ids=[outcome.anchor])
        self.set_source_info(box)
        return [box]

    def _docstring(self, outcome: CheckOutcome) -> list[nodes.Node]:
        try:
            text = getattr(self.env.app, _LEDGER).docstring(outcome)
        except ResultsError as error:
            note_problem(self.env, self.lineno, f"check {self.arguments[0]}: {error}")
            return []
        if not text:
            sentence = "say what is checked, and what the control gets wrong, here or in its docstring"
            note_problem(self.env, self.lineno, f"check {self.arguments[0]}: {sentence}")
        return self.parse_text_to_nodes(text)

    def _errors(self, outcome: CheckOutcome) -> nodes.paragraph:
        error, tolerance, control = (
            live_value(self.env, f"{outcome.address}.{key}") for key in ("max_error", "tolerance", "control_error")
        )
        name = self.parse_inline(self.options.get("error", "Largest error"))[0]
        measured = (" ", *name, " ", error, ", tolerance ", tolerance)
        return block(verdict_badge(outcome.claim), *measured, ", with the control's mistake ", control, ".")


def _outcome(directive: SphinxDirective, address: str, *, refuted: bool = False) -> CheckOutcome | None:
    """Ask for a check's outcome; note its files as dependencies, and whatever is wrong as a problem of the page."""
    env, ledger = directive.env, getattr(directive.env.app, _LEDGER)
    try:
        outcome = ledger.outcome(address)
    except ResultsError as error:
        note_problem(env, directive.lineno, f"{directive.name} {address}: {error}")
        return None
    depend_on(env, *ledger.files(outcome.name))
    if problem := problem_of(outcome, refuted=refuted):
        note_problem(env, directive.lineno, problem)
        return None
    return outcome


class EquationCountRole(BookRole):
    """Role `equations`: `name` (or `all`) becomes the number of equations and of those that are checked."""

    def make(self) -> nodes.Node:
        """Leave a place, which is filled when all pages have been read."""
        note(self.env, COUNTS, self.text)
        return equation_count("", "", name=self.text.strip())


def count_equations(env: BuildEnvironment, name: str = "all") -> tuple[int, int]:
    """Count a replication's numbered equations, and those with a check; complete once all pages have been read."""
    by_page = notes(env, EQUATIONS).items()
    found = [one for page, of_page in by_page if name in ("all", replication_of(page)) for one in of_page]
    return len(found), sum(bool(equation.checks) for equation in found)


def fill_counts(app: Sphinx, doctree: nodes.document, docname: str) -> None:  # noqa: ARG001 - an event
    """Fill the places of counts."""
    for node in list(doctree.findall(equation_count)):
        total, checked = count_equations(app.env, node["name"])
        text = f"{checked} of {total} equations checked"
        node.replace_self(nodes.inline(text, text, classes=["equation-count"], **{"equations": total}))


def demand_checks(app: Sphinx, doctree: nodes.document) -> None:
    """Note every displayed equation of a page of results without a check, and every check not described there."""
    env = app.env
    if not is_result_page(env):
        return
    for node in doctree.findall(nodes.math_block):
        if "says_its_check" not in node:
            label = node.get("label") or " ".join(node.astext().split())[:40]
            sentence = f"equation {label}: use the directive equation, with :check: or :unchecked:"
            note_problem(env, line_of(node), sentence)
    described = notes(env, DESCRIBED).get(env.docname, [])
    for check in sorted({check for check in described if described.count(check) > 1}):
        note_problem(env, None, f"check {check} is described twice on this page; keep one")
    for equation in notes(env, EQUATIONS).get(env.docname, []):
        for check in equation.checks:
            if check not in described:
                sentence = f"equation {equation.label} names {check}, which no directive check on this page describes"
                note_problem(env, None, sentence)


def start_ledger(app: Sphinx) -> None:
    """Forget what was known of the code: it may have changed since the last build."""
    setattr(app, _LEDGER, CheckLedger(Path(app.config.results_root), Path(app.config.replications_root)))


def setup(app: Sphinx) -> None:
    """Register the directives, and the events that count and demand."""
    app.add_directive("equation", EquationDirective)
    app.add_directive("check", CheckDirective)
    app.add_role("equations", EquationCountRole())
    app.connect("builder-inited", start_ledger)
    app.connect("doctree-read", demand_checks)
    app.connect("doctree-resolved", fill_counts)
