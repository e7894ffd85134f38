"""Derivations that run: the directives `equation` and `check`, and the count of equations for other pages.

A check is a function in `CHECKS` of `replications/<name>/checks.py`; its tolerance is that of the identity in
claims.yaml which bears its name. Its committed outcome stands in verdicts.json, and belongs to the code as it is if no
file in provenance.json has changed, or none that the derivation imports; else it is run anew. An identity that comes
out of runs is no entry of `CHECKS`: it belongs to all of the stage's code, and only the stage can run it anew.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.directives.patches import MathDirective

from paperkit.results import ResultsError
from results_in_text import pages, records
from results_in_text.code_runner import about_derivation, kept_answer
from results_in_text.nodes import block, verdict_badge
from results_in_text.pages import BookDirective, note_problem
from results_in_text.roles import BookRole, live_value

_EQUATION = re.compile(r"^[`:]{3,}\{equation\} \S+\n(?::(check|unchecked):)?", re.MULTILINE)


class Check:
    """A check of a derivation: what was committed of it, and what its code says now."""

    def __init__(self, directive: BookDirective, address: str) -> None:
        """Look a check up by `name:check`, and note its files as dependencies of the page."""
        self.replication, self.name = records.split_address(address)
        self.repository = directive.replications.parent
        known = records.identities(directive.verdicts(self.replication).claims)
        if self.name not in known:
            records.stop(
                f"no identity of {self.replication} is called {self.name!r}; add a claim with this estimand and its "
                f"tolerance to claims.yaml and run `dvc repro`. There are: {', '.join(known)}"
            )
        self.claim, place, self.test = known[self.name]
        self.address = f"{self.replication}/verdicts:{self.claim['id']}.{place}"
        self.anchor = records.anchor("check", self.replication, self.name)
        file = directive.results / self.replication / "provenance.json"
        record = records.read_json(file)
        self.deps = records.code_of(record)
        pages.depend_on(directive.env, file, *(self.repository / path for path in self.deps))
        now = {path: records.current_hash(self.repository, path, record["profile"]) for path in self.deps}
        self.differing = [path for path, digest in self.deps.items() if now[path] != digest]

    @cached_property
    def code(self) -> dict[str, Any]:
        """What the code says of all its checks."""
        return about_derivation(self.repository, self.replication)

    def refuse(self, *, refuted: bool) -> None:
        """Stop where a page may not show the check, or not as refuted."""
        error, control = self._errors(self.test["max_error"], self.test["control_error"])
        tolerance = self.test["tolerance"]
        if error is None or control is None:
            records.stop("it has not been run; run `dvc repro`")
        if refuted and error <= tolerance:
            records.stop(f"it is shown as refuted, but errs by {error:.2g}, within {tolerance:g}")
        # The statement stands and the control falls; an error that is no number does not pass.
        if not refuted and not error <= tolerance < control:
            records.stop(
                f"it fails: error {error:.2g}, tolerance {tolerance:g}, control {control:.2g}; mend the code or the "
                "equation (a source's statement that is wrong is shown by the directive check with the option refuted)"
            )

    def _errors(self, *committed: float | None) -> tuple[float | None, ...]:
        """Return its error and its control's: as committed if the code is that of the results, else run anew."""
        if not self.differing:
            return committed
        closure, known, mend = self.code["closure"], self.code["checks"], "run `dvc repro`, or undo the change"
        if self.name not in known:
            which = ", ".join(self.differing)
            records.stop(f"it is stale: {which} changed since, and it is no entry of CHECKS to run; {mend}")
        changed = [path for path, digest in closure.items() if self.deps.get(path) != digest]
        if not changed:
            return committed
        # All together: loading torch takes as long as they do.
        depends = [self.repository / path for path in closure]
        anew = kept_answer(self.repository, "checks", self.replication, *known, depends=depends)[self.name]
        errors = anew["max_error"], anew["control_error"]
        if _shown(*errors) != _shown(*committed):
            said = f"it errs by {_shown(*errors)} now, {_shown(*committed)} is committed"
            records.stop(f"it is stale: {', '.join(changed)} changed since; {said}; {mend}")
        return errors


def _shown(error: float | None, control: float | None) -> str:
    return "not run" if error is None or control is None else f"{error:.2g} (control {control:.2g})"


def checked(directive: BookDirective, address: str, *, refuted: bool = False) -> Check | None:
    """Find a check; None, and a problem of the page, if it may not be shown."""
    try:
        check = Check(directive, address)
        check.refuse(refuted=refuted)
        return check
    except ResultsError as error:
        note_problem(directive.env, directive.lineno, f"check {address}: {error}")
        return None


class EquationDirective(MathDirective, BookDirective, name="equation"):
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
                node["checks"] = checks
        if bool(checks) == bool(reason):
            sentence = f"equation {label}: give either :check: name:check or :unchecked: and the reason"
            note_problem(self.env, self.lineno, sentence)
            return equation
        if reason:
            return [*equation, block("Not checked: ", *self.inline(reason), css="equation-unchecked")]
        found = (checked(self, address) for address in checks)
        return [*equation, *(self._badge(check) for check in found if check)]

    def _badge(self, check: Check) -> nodes.paragraph:
        link = nodes.reference("", check.name, internal=True, refid=check.anchor)
        error, tolerance = (live_value(self.env, f"{check.address}.{key}") for key in ("max_error", "tolerance"))
        mark = nodes.inline("", "✓ checked", classes=["check-mark"])
        return block(mark, ": ", link, ", error ", error, ", tolerance ", tolerance, css="equation-check")


class CheckDirective(BookDirective, name="check"):
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

    def _make(self) -> list[nodes.Node]:
        refuted = "refuted" in self.options
        check = checked(self, self.arguments[0], refuted=refuted)
        if check is None:
            return [nodes.comment("", describes=self.arguments[0])]
        title = f"{'Refuted' if refuted else 'Check'}: {check.name} (claim {check.claim['id']})"
        error, tolerance, control = (
            live_value(self.env, f"{check.address}.{key}") for key in ("max_error", "tolerance", "control_error")
        )
        measured = (*self.inline(self.options.get("error", "Largest error")), " ", error, ", tolerance ", tolerance)
        badge = verdict_badge(check.claim)
        errors = block(badge, " ", *measured, ", with the control's mistake ", control, ".")
        described = self.parse_content_to_nodes()
        if not described:
            text = check.code["docstrings"].get(check.name, "")
            described = self.parse_text_to_nodes(text)
            if not text:
                sentence = "say what is checked, and what the control gets wrong, here or in its docstring"
                note_problem(self.env, self.lineno, f"check {self.arguments[0]}: {sentence}")
        classes = ["check", "check-refuted" if refuted else "check-passed"]
        parts = [nodes.title("", title), errors, *described]
        box = nodes.admonition("", *parts, classes=classes, ids=[check.anchor], describes=self.arguments[0])
        self.set_source_info(box)
        return [box]


class EquationCountRole(BookRole, name="equations"):
    """Role `equations`: `name` (or `all`) becomes the number of equations and of those that are checked."""

    def _make(self) -> nodes.Node:
        name = self.text.strip()
        counted = [page for page in sorted(self.env.found_docs) if name in ("all", pages.replication_of(page))]
        files = [Path(self.env.doc2path(page)) for page in counted]
        pages.depend_on(self.env, *files)
        said = [option for file in files for option in _EQUATION.findall(file.read_text(encoding="utf-8"))]
        text = f"{said.count('check')} of {len(said)} equations checked"
        return nodes.inline(text, text, classes=["equation-count"])


def demand_checks(app: Sphinx, doctree: nodes.document) -> None:
    """Note every displayed equation of a page of results without a check, and every check not described there."""
    env = app.env
    if not pages.replication_of(env.docname):
        return
    described = Counter(node["describes"] for node in doctree.findall(nodes.Element) if "describes" in node)
    for check in (check for check, times in described.items() if times > 1):
        note_problem(env, 1, f"check {check} is described twice on this page; keep one")
    for node in doctree.findall(nodes.math_block):
        label = node.get("label") or " ".join(node.astext().split())[:40]
        if "checks" not in node:
            note_problem(env, node, f"equation {label}: use the directive equation, with :check: or :unchecked:")
        for check in (check for check in node.get("checks", []) if check not in described):
            sentence = f"equation {label} names {check}, which no directive check on this page describes"
            note_problem(env, node, sentence)
