"""The outcome of a check of a derivation: as committed where the code is still the code that made it, else run anew.

A check is a function in `CHECKS` of `replications/<name>/checks.py`; its tolerance is that of the identity in
claims.yaml which bears its name. Its committed outcome stands in verdicts.json, and belongs to the code as it is if
no file in provenance.json has changed, or none that the derivation imports. An identity that comes out of runs is no
entry of `CHECKS`: it belongs to all of the stage's code, and only the stage can run it anew.
"""

from pathlib import Path
from typing import Any, NamedTuple

from results_in_text.code_runner import CodeRunError, kept_answer
from results_in_text.provenance_files import current_hash, read_provenance
from results_in_text.results_files import ResultAddressError, read_verdicts, split_address


class CheckOutcome(NamedTuple):
    """What a page shows of a check."""

    name: str  # the replication
    check: str
    claim: dict[str, Any]  # the claim that it tests
    address: str  # of its test in verdicts.json, such as lion/verdicts:X3.tests[0]
    max_error: float | None  # None if it has not been run
    control_error: float | None  # the error with one ingredient wrong; None if it has not been run
    tolerance: float
    stale: str  # why the committed outcome does not belong to the code as it is; empty if it does

    @property
    def passes(self) -> bool:
        """Whether the statement stands and the control falls; an error that is no number does not pass."""
        if self.max_error is None or self.control_error is None:
            return False
        return self.max_error <= self.tolerance < self.control_error


class CheckLedger:
    """Outcomes of checks within one build; the code of a replication is asked once."""

    def __init__(self, results: Path, replications: Path) -> None:
        """Start with nothing known."""
        self.results, self.replications = results, replications
        self._changed: dict[str, list[str]] = {}
        self._code: dict[str, dict[str, Any]] = {}
        self._anew: dict[str, dict[str, dict[str, float]]] = {}

    def files(self, name: str) -> list[Path]:
        """Name results, provenance and code: the files that the outcomes of a replication's checks depend on."""
        folder = self.results / name
        code = [self.replications.parent / path for path in self._deps(name)]
        return [folder / "verdicts.json", folder / "provenance.json", *code]

    def outcome(self, address: str) -> CheckOutcome:
        """Find the outcome of `name:check`: as committed if the code is that of the results, else run anew."""
        name, check = split_address(address)
        claim, place, test = self._test(name, check)
        errors = test["max_error"], test["control_error"]
        known = CheckOutcome(
            name, check, claim, f"{name}/verdicts:{claim['id']}.{place}", *errors, test["tolerance"], ""
        )
        deps, differing = self._deps(name), self._differing(name)
        if not differing:
            return known
        code = self._code_of(name)
        if check not in code["checks"]:
            return known._replace(stale=f"{', '.join(differing)} changed since, and it is no entry of CHECKS to run")
        changed = [path for path, digest in code["closure"].items() if deps.get(path) != digest]
        if not changed:
            return known
        anew = self._run(name)[check]
        found = known._replace(max_error=anew["max_error"], control_error=anew["control_error"])
        if _shown(found) != _shown(known):
            stale = f"{', '.join(changed)} changed since; it errs by {_shown(found)} now, {_shown(known)} is committed"
            return found._replace(stale=stale)
        return found

    def docstring(self, outcome: CheckOutcome) -> str:
        """Return what the code says of a check; empty where its function says nothing."""
        return self._code_of(outcome.name)["docstrings"].get(outcome.check, "")

    def _test(self, name: str, check: str) -> tuple[dict[str, Any], str, dict[str, Any]]:
        known = []
        for claim in read_verdicts(self.results, name).claims:
            tests = [(f"tests[{number}]", test) for number, test in enumerate(claim["tests"])]
            corrected = (claim.get("correction") or {}).get("tests", [])
            tests += [(f"correction.tests[{number}]", test) for number, test in enumerate(corrected)]
            for place, test in tests:
                if test["rule"] == "identity":
                    known.append(test["estimand"])
                    if test["estimand"] == check:
                        return claim, place, test
        message = (
            f"no identity of {name} is called {check!r}; add a claim with this estimand and its tolerance to "
            f"claims.yaml and run `dvc repro`. There are: {', '.join(known)}"
        )
        raise ResultAddressError(message)

    def _deps(self, name: str) -> dict[str, str]:
        """Take the hashes of the code that ran; data are not in git, and are dvc's to compare."""
        deps = read_provenance(self.results / name / "provenance.json")["deps"]
        return {path: digest for path, digest in deps.items() if not path.startswith("data/")}

    def _differing(self, name: str) -> list[str]:
        """List the files of code that are not what they were when they ran."""
        if name not in self._changed:
            profile = read_provenance(self.results / name / "provenance.json")["profile"]
            now = {path: current_hash(self.replications.parent, path, profile) for path in self._deps(name)}
            self._changed[name] = [path for path, digest in self._deps(name).items() if now[path] != digest]
        return self._changed[name]

    def _code_of(self, name: str) -> dict[str, Any]:
        if name not in self._code:
            if not (self.replications / name / "checks.py").is_file():
                message = f"{self.replications / name / 'checks.py'} is missing; a check stands there, in CHECKS"
                raise CodeRunError(message)
            code = [*(self.replications / name).rglob("*.py"), *Path(__file__).parents[3].glob("paperkit/**/*.py")]
            self._code[name] = kept_answer(self.replications.parent, "derivation", name, depends=code)
        return self._code[name]

    def _run(self, name: str) -> dict[str, dict[str, float]]:
        """Run all checks of a replication whose code has changed; loading torch takes as long as they do."""
        if name not in self._anew:
            repository, code = self.replications.parent, self._code_of(name)
            depends = [repository / path for path in code["closure"]]
            self._anew[name] = kept_answer(repository, "checks", name, *code["checks"], depends=depends)
        return self._anew[name]


def problem_of(outcome: CheckOutcome, *, refuted: bool) -> str:
    """Say why a page may not show a check, or not as refuted; empty where nothing is wrong."""
    label = f"check {outcome.name}:{outcome.check}"
    if outcome.stale:
        return f"{label} is stale: {outcome.stale}; run `dvc repro`, or undo the change"
    if outcome.max_error is None or outcome.control_error is None:
        return f"{label} has not been run; run `dvc repro`"
    if refuted and outcome.max_error <= outcome.tolerance:
        return f"{label} is shown as refuted, but errs by {outcome.max_error:.2g}, within {outcome.tolerance:g}"
    if not refuted and not outcome.passes:
        return (
            f"{label} fails: error {outcome.max_error:.2g}, tolerance {outcome.tolerance:g}, control "
            f"{outcome.control_error:.2g}; mend the code or the equation (a source's statement that is wrong is shown "
            "by the directive check with the option refuted)"
        )
    return ""


def _shown(outcome: CheckOutcome) -> str:
    if outcome.max_error is None or outcome.control_error is None:
        return "not run"
    return f"{outcome.max_error:.2g} (control {outcome.control_error:.2g})"
