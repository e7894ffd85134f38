"""Derivations that run: an equation of a page of results says its check, and a check that fails stops the build."""

import re
from importlib import import_module

import pytest
from sphinx.errors import ExtensionError

from paperkit.pages import page_sources
from paperkit.provenance import code_hash
from tests.built_book import ROOT
from tests.tiny_book import TinyBook, claim, identity, provenance, text_of

RULE = "def step(weight, gradient):\n    return weight - 0.1 * gradient\n"
# A check in the manner of replications/lion/checks.py, without torch; the rule stands in a module of its own.
DERIVATION = """
from typing import NamedTuple

from replications.toy.rule import step


class Check(NamedTuple):
    max_error: float
    control_error: float


def descent():
    'A step is $w - w_0$. Control: its sign turned.'
    errors = [abs((step(w, 2.0) - w) / 0.1 + 2.0) for w in (0.25, 1.0, 3.0)]
    return Check(max(errors), 4.0)


CHECKS = {"step_1_descent": descent, "step_2_refuted": lambda: Check(1.0, 2.0)}
"""
PAGE = "replications/toy"
EQUATION = ":::{equation} toy-step\n:check: toy:step_1_descent\n\nw' = w - \\eta g\n:::\n\n"
CHECK = "```{check} toy:step_1_descent\nThe control turns the sign.\n```\n\n"


@pytest.fixture
def book(tmp_path):
    """A tiny book beside a replication whose committed results belong to its code."""
    made = TinyBook(tmp_path)
    folder = tmp_path / "replications" / "toy"
    folder.mkdir(parents=True)
    for path in (folder.parent / "__init__.py", folder / "__init__.py"):
        path.write_text("")
    (folder / "rule.py").write_text(RULE)
    (folder / "checks.py").write_text(DERIVATION)
    (folder / "experiment.py").write_text("import replications.toy.checks\n")
    modules = ("__init__", "rule", "checks", "experiment")
    code = {f"replications/toy/{name}.py": code_hash(folder / f"{name}.py") for name in modules}
    made.write_result("toy/provenance", provenance(stage="toy", deps=code))
    judge(made, max_error=1.7763568394002505e-15)
    made.code = folder
    return made


def judge(book, tolerance=1e-12, control_error=4.0, **changes):
    first = identity(estimand="step_1_descent", tolerance=tolerance, control_error=control_error, **changes)
    second = identity(estimand="step_2_refuted", tolerance=0.0, max_error=1.0, control_error=2.0)
    corrected = {"statement": "It is.", "tests": [first]}
    book.write_verdicts(
        [
            claim("X1", kind="identity", family=None, tests=[first]),
            claim("C2", "corrected", kind="identity", family=None, tests=[second], correction=corrected),
        ],
        name="toy",
    )


def built(book, page=EQUATION + CHECK, index=""):
    book.write_page(PAGE, f"# Toy\n\n{page}")
    book.build(index)
    return (book.output / f"{PAGE}.html").read_text()


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def ran_checks(book):
    return any("max_error" in path.read_text() for path in (book.code.parents[1] / ".paperkit").rglob("*.json"))


def test_an_equation_is_numbered_and_shows_the_error_and_the_tolerance_of_its_check(book):
    html = built(book)
    assert 'id="equation-toy-step"' in html
    assert "(1)" in html
    line = text_of(re.search(r'<p class="equation-check">.*?</p>', html)[0])
    assert line == "✓ checked : step_1_descent , error 1.8e-15 , tolerance 1e-12"
    assert 'href="#check-toy-step-1-descent"' in html
    box = text_of(re.search(r'<div[^>]*id="check-toy-step-1-descent".*?</div>', html, re.DOTALL)[0])
    assert box.startswith("Check: step_1_descent (claim X1) holds Largest error 1.8e-15 , tolerance 1e-12 ,")
    assert box.endswith("with the control’s mistake 4 . The control turns the sign.")


def test_a_sign_flipped_in_the_code_or_in_the_formula_stops_the_build(book):
    changes = [
        ("rule.py", "weight - 0.1", "weight + 0.1"),
        ("checks.py", "/ 0.1 + 2.0", "/ 0.1 - 2.0"),
        ("checks.py", "max(errors), 4.0", "max(errors), 0.0"),  # a control that passes
        ("checks.py", "max(errors)", "float('nan')"),
    ]
    for file, old, new in changes:
        assert book.refusals([EQUATION + CHECK], PAGE) == [""]
        change(book.code / file, old, new)
        refused = r"toy\.md:\d+: check toy:step_1_descent: it (fails|is stale)"
        assert book.not_refused([(EQUATION + CHECK, refused)], PAGE) == []
        change(book.code / file, new, old)


def test_a_flipped_sign_stops_the_build_also_where_the_results_are_silent_about_it(book):
    """The committed outcome is not trusted once the code is another, even if it would look the same."""
    judge(book, tolerance=10.0, max_error=4.0, control_error=40.0)
    change(book.code / "rule.py", "weight - 0.1", "weight + 0.1")
    with pytest.raises(ExtensionError, match=r"is stale: replications/toy/rule\.py changed since; it errs by 4"):
        built(book)


def test_a_change_that_changes_nothing_runs_the_checks_and_builds(book):
    built(book)
    change(book.code / "rule.py", "def step", "UNUSED = 1\n\n\ndef step")
    book.build()
    assert ran_checks(book)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("experiment.py", "import", "ANOTHER = 1\nimport"),
        ("rule.py", "def step", "# A comment.\n\n\ndef step"),
    ],
    ids=["code that no check imports", "a comment"],
)
def test_what_cannot_change_a_check_runs_none(book, file, old, new):
    built(book)
    change(book.code / file, old, new)
    book.build()
    assert not ran_checks(book)


def test_an_identity_that_comes_out_of_runs_is_stale_when_any_code_of_its_stage_has_changed(book):
    out_of_runs = identity(estimand="excess_in_training", max_error=0.0)
    book.write_verdicts([claim("X3", kind="identity", family=None, tests=[out_of_runs])], name="toy")
    page = "```{check} toy:excess_in_training\nIn whole runs. The control has no decay.\n```\n"
    assert "Check: excess_in_training (claim X3)" in text_of(built(book, page))
    change(book.code / "experiment.py", "import", "ANOTHER = 1\nimport")
    with pytest.raises(
        ExtensionError, match=r"stale: replications/toy/experiment\.py changed since, and it is no entry"
    ):
        book.build()


def test_a_committed_check_that_fails_stops_the_build(book):
    cases = [
        ({"max_error": 1e-3}, r"check toy:step_1_descent: it fails: error 0\.001, tolerance 1e-12"),
        ({"control_error": 1e-13, "max_error": 0.0}, r"check toy:step_1_descent: it fails: .* control 1e-13"),
        ({"max_error": float("nan")}, r"check toy:step_1_descent: it fails: error nan"),
        ({"max_error": None, "control_error": None}, r"has not been run; run `dvc repro`"),
    ]
    for changes, complaint in cases:
        judge(book, **changes)
        assert book.not_refused([(EQUATION + CHECK, complaint)], PAGE) == []


BARE = "$$\nx = y\n$$ (toy-bare)\n\n"


REFUSED = [
    (BARE, r"toy\.md:\d+: equation toy-bare: use the directive equation"),
    ("$$x = y$$\n", r"equation x = y: use the directive equation"),
    ("```{math}\n:label: a\nx = y\n```\n", r"equation a: use the directive equation"),
    (f"````{{note}}\n{BARE}````\n", r"equation toy-bare: use the directive equation"),
    (":::{equation} toy-step\nx = y\n:::\n", r"equation toy-step: give either :check: name:check or :unchecked:"),
    (
        EQUATION.replace("descent\n", "descent\n:unchecked: no time\n") + CHECK,
        r"equation toy-step: give either :check: name:check or :unchecked:",
    ),
    (EQUATION, r"equation toy-step names toy:step_1_descent, which no directive check on this page describes"),
    (CHECK + CHECK, r"check toy:step_1_descent is described twice on this page"),
    (CHECK.replace("step_1", "step_9"), r"no identity of toy is called 'step_9_descent'; .*There are: step_1_des"),
    (CHECK.replace("toy:", "emu:"), r"check emu:step_1_descent: .*emu/verdicts\.json is missing"),
    (CHECK.replace("toy:", ""), r"'step_1_descent' is not an address"),
    ("```{check} toy:step_2_refuted\n:refuted:\n```\n", r"say what is checked, and .* here or in its docstring"),
    (
        "```{check} toy:step_2_refuted\nA.\n```\n",
        r"check toy:step_2_refuted: it fails: error 1, tolerance 0, control 2",
    ),
    (
        CHECK.replace("descent\n", "descent\n:refuted:\n"),
        r"is shown as refuted, but errs by 1\.8e-15, within 1e-12",
    ),
]


def test_an_equation_without_a_check_and_a_check_without_sense_stop_the_build(book):
    assert book.not_refused([*REFUSED, (EQUATION + CHECK, "^$")], PAGE) == []


def test_a_reason_stands_in_the_place_of_a_check_and_is_printed(book):
    html = built(book, ":::{equation} toy-step\n:unchecked: the *definition* of the rule.\n\nx = y\n:::\n")
    assert "Not checked: the definition of the rule." in text_of(html)


def test_a_check_without_words_has_those_of_its_function_and_follows_them(book):
    page = EQUATION + "```{check} toy:step_1_descent\n```\n"
    assert "A step is \\(w - w_0\\) . Control: its sign turned." in text_of(built(book, page))
    change(book.code / "checks.py", "Control: its", "Control: the")
    book.build()
    assert "Control: the sign turned." in text_of((book.output / f"{PAGE}.html").read_text())
    assert not ran_checks(book)
    change(book.code / "checks.py", "A step is", "A step of 0.5 is")
    with pytest.raises(ExtensionError, match=r"toy\.md:\d+: typed number '0\.5'"):
        book.build()


def test_a_statement_that_is_wrong_as_written_is_shown_as_refuted(book):
    html = built(book, "```{check} toy:step_2_refuted\n:refuted:\n:error: Share\n\nAs written.\n```\n")
    assert "Refuted: step_2_refuted (claim C2) corrected Share 1 , tolerance 0" in text_of(html)


def test_an_equation_stands_inside_a_proposition_and_names_two_checks(book):
    page = EQUATION.replace("toy:step_1_descent", "toy:step_1_descent toy:step_1_descent")
    assert built(book, f"```{{note}}\nSo:\n\n{page}```\n\n{CHECK}").count('class="equation-check"') == 2


def test_a_check_needs_a_derivation(book):
    (book.code / "checks.py").unlink()
    with pytest.raises(ExtensionError, match=r"toy/checks\.py is missing; a check stands there, in CHECKS"):
        built(book)


def test_code_that_cannot_be_run_says_how_it_ended(book):
    change(book.code / "checks.py", "def descent", "raise RuntimeError('no such step')\n\n\ndef descent")
    with pytest.raises(ExtensionError, match=r"the code of toy could not answer 'derivation'(?s:.*)no such step"):
        built(book)


def test_the_index_counts_equations_and_follows_the_pages(book):
    plain = ":::{equation} toy-two\n:unchecked: a definition.\n\nx = y\n:::\n"
    count = "Derived: {equations}`toy`, {equations}`all`, {equations}`lion`."
    built(book, EQUATION + CHECK + plain, index=count)
    index = (book.output / "index.html").read_text()
    assert "Derived: 1 of 2 equations checked , 1 of 2 equations checked , 0 of 0 equations checked ." in text_of(
        index
    )
    built(book, EQUATION + CHECK, index=count)
    assert "1 of 1 equations checked" in (book.output / "index.html").read_text()


# --- the real book -------------------------------------------------------------------------------------------


def test_every_check_of_a_derivation_is_on_a_page_of_its_replication():
    for name in sorted(path.parent.name for path in ROOT.glob("replications/*/checks.py")):
        pages = "\n".join(page.read_text() for page in page_sources(ROOT, name))
        described = set(re.findall(rf"^[`:]{{3,}}\{{check\}} {name}:(\S+)", pages, flags=re.MULTILINE))
        assert import_module(f"replications.{name}.checks").CHECKS.keys() <= described, name
