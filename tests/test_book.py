"""The book: its numbers come from results, anything missing stops the build, and no page asks another host."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from results_in_text.citations import interval, number
from results_in_text.claims import sentence
from results_in_text.records import (
    VERDICT_CLASSES,
    anchor,
    claim_order,
    formatted,
    page_of,
    reason_beside,
    split_address,
    value_at,
    written_test,
)
from sphinx.errors import ExtensionError

from paperkit.history import Commit, Dates
from paperkit.written import measured_line, named, rounded
from tests.built_book import BOOK, ROOT, PageReader, foreign, pages_of, source_pages
from tests.tiny_book import CLAIMS, DRAWING, EXTENSION, claim, effect, identity, rows_of

NATS = {"rule": "greater", "estimate": 0.1234, "low": 0.1, "high": 0.15, "n": 8, "unit": "nats"}
MEASURED = "95 % interval [1.1, 1.3], n = 8:"
CONTAINS, BOTH = "Exploratory: the interval contains 0.", "A gap: the estimate lies above 0. B: the word."
RULE, RESULT = Commit("0f4db5e3e60b80", "2026-11-22"), Commit("3b3823528976ff", "2026-11-23")


# --- the extension, on a tiny project ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "given", "gives"),
    [
        (split_address, ["lion/verdicts:C6.tests[0].n"], ("lion/verdicts", "C6.tests[0].n")),
        (value_at, [{"claims": [{"id": "C6", "tests": [{"n": 8}]}]}, "C6.tests[0].n"], 8),
        (formatted, [0.19934, ".2f"], "0.20"),
        (written_test, [NATS], "0.123 [0.100, 0.150] nats, n = 8"),
        (written_test, [NATS | {"unit": "share"}], "0.123 [0.100, 0.150], n = 8"),
        (named, [NATS | {"unit": "share of cells"}, "which is nearer"], "Which is nearer, share of the cells: "),
        (measured_line, [NATS | {"unit": "share"}], "0.123 [0.100, 0.150] share, n = 8"),
        (reason_beside, [f"Exploratory: a_gap = 1.2 nats, {MEASURED} it contains 0.", "interval"], CONTAINS),
        (
            reason_beside,
            [f"a_gap = 1.2 nats, {MEASURED} it lies above 0. b = 1, {MEASURED} the word.", "estimate"],
            BOTH,
        ),
        (rounded, [NATS], {"estimate": "0.123", "low": "0.100", "high": "0.150", "n": "8"}),
        (measured_line, [{"rule": "identity", "estimand": "step_1", "max_error": None}], "not run"),
        (claim_order, ["X10"], "X0010"),
        (anchor, ["C8a", "correction.tests[0]"], "c8a-correction-tests-0"),
        (number, ["-2.1e-14"], r"\ensuremath{-2.1\times 10^{-14}}"),
        (interval, ["-0.3", "0.1"], r"\ensuremath{[-0.3{,}\,0.1]}"),
        (
            sentence,
            [Dates(RULE, RESULT, ())],
            "Rule committed on 2026-11-22 (0f4db5e3e6), first result on 2026-11-23 (3b38235289).",
        ),
        (
            sentence,
            [Dates(Commit("", ""), None, ("It was ill-posed.",))],
            "Rule not yet committed, no result yet. Amended: It was ill-posed.",
        ),
    ],
)
def test_what_a_function_of_the_extension_writes(function, given, gives):
    assert function(*given) == gives


REFUSED = [
    ("{result}`lion/nothing:C6.verdict`", r"nothing\.json is missing; `dvc repro`"),
    ("{result}`lion/verdicts:C7.verdict`", r"no 'C7' in"),
    ("{result}`lion/verdicts:C6.test[0].n`", r"no 'test' in"),
    ("{result}`lion/verdicts:C6.tests[1].n`", r"no 1 in"),
    ("{result}`lion/verdicts:C6.tests[0].p_holm | .3f`", r"is null"),
    ("{result}`lion/float:y`", r"has no format"),
    ("{result}`lion/verdicts:C7.tests[0]`", r"no 'C7' in"),
    ("{result}`lion/verdicts:C6.tests`", r"not one number or text"),
    ("{reported}`3 %`", r"'' is not in the bibliography; write .*<chen2023lion, Table 2>"),
    ("{reported}`3 % <nobody1900>`", r"'nobody1900' is not in the bibliography"),
    ("{result}`lion/verdicts:C6.tests[0].estimate | .3q`", r"format '\.3q' does not fit"),
    ("{result}`lion/verdicts:C6.verdict | .3f`", r"format '\.3f' does not fit 'holds'"),
    ("{result}`lion/verdicts:C6.exploratory`", r"not one number or text"),
    ("{result}`lion/verdicts`", r"is not an address"),
    ("{result}`lion/verdicts:C6..verdict`", r"is not a path"),
    ("{result}`lion/damaged:C6`", r"damaged\.json is not JSON"),
    ("{verdict}`lion:C7`", r"no claim 'C7'.*there are C6"),
    ("{verdict}`tiger:C6`", r"tiger/verdicts\.json is missing"),
    ("```{claims} tiger\n```", r"tiger/verdicts\.json is missing"),
    ("```{result-figure} lion/no.svg\n:alt: A\n\nCaption.\n```", r"no\.svg is missing; `dvc repro`"),
    ("```{result-figure} lion/a.svg\n\nCaption.\n```", r"needs :alt: and a caption"),
    ("```{result-figure} lion/a.svg\n:alt: A\n```", r"needs :alt: and a caption"),
]


def test_whatever_cannot_be_printed_stops_the_build_and_says_where(tiny):
    tiny.write_result("lion/damaged", "{")
    tiny.write_result("lion/float", {"y": 0.5})
    tiny.write_figure("lion/a.svg", DRAWING)
    where = r"index\.md:\d+.*"
    assert tiny.not_refused([(page, where + complaint) for page, complaint in REFUSED]) == []
    shutil.rmtree(tiny.results)
    board = ("```{verdict-board}\n```", where + r"no verdicts below .*results; `dvc repro`")
    assert tiny.not_refused([board, ("It is so.", "^$")]) == []


def test_the_command_line_build_fails_too(tiny):
    tiny.write_page("index", "# Index\n\n{result}`lion/verdicts:C6.tests[0].m`\n")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", tiny.source, tiny.output]
    environment = {**os.environ, "PYTHONPATH": str(EXTENSION.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "index.md:3: role result" in done.stderr


def test_a_badge_shows_the_verdict_in_words_and_marks_what_is_exploratory_or_has_not_been_run(tiny):
    unrun = effect(n=0, estimate=None, low=None, high=None)
    words = [claim(f"C{place}", verdict) for place, verdict in enumerate(VERDICT_CLASSES)]
    others = [claim("X1", kind="exploratory"), claim("X4", "inconclusive", tests=[unrun])]
    tiny.write_verdicts([*words, *others])
    html = tiny.build(" ".join(f"{{verdict}}`lion:{one['id']}`" for one in (*words, *others)))
    assert re.findall(r'<span class="verdict verdict-([^"]+)">([^<]+)</span>', html) == [
        *((name, verdict or "no verdict") for verdict, name in VERDICT_CLASSES.items()),
        ("holds verdict-exploratory", "holds, exploratory"),
        ("inconclusive", "inconclusive, not yet run"),
    ]


def test_the_table_of_claims_puts_primary_claims_first_and_exploratory_ones_last(tiny):
    tiny.write_verdicts([
        claim("X1", None, kind="exploratory", family=None, source=None, reported=None),
        claim("C1", kind="identity", family=None, tests=[identity(), identity(estimand="step_two")]),
        claim("C6", "contradicted"),
    ])
    tiny.write_verdicts([claim("C3", kind="timing", family=None)], file="timing_verdicts")
    first, second, third, fourth = rows_of(tiny.build(CLAIMS))
    assert first.startswith("C6 primary contradicted It is")
    assert "[ One23 ]" in first
    assert "Reported: 3 %." in first
    assert "0.199 [0.110, 0.290] nats, n = 8" in first
    assert first.endswith("The interval lies above 0 .")
    assert second.startswith("C1 identity holds")
    assert "Step two: largest error 4.4e-16, tolerance 1e-12, control 0.3" in second
    assert third.startswith("C3 timing holds")
    assert fourth.startswith("X1 exploratory no verdict, exploratory")
    assert "Our own claim." in fourth


def test_the_table_of_claims_says_what_was_not_run_and_what_was_not_read(tiny):
    unrun = effect(n=0, estimate=None, low=None, high=None)
    reported = {"value": 2.5, "unit": None, "unverified": True}
    untested = identity(max_error=None, control_error=None, control_failed=None)
    ours = {"bib": None, "where": "ours; a bound by memory traffic"}
    correction = {"statement": "It is $x$ better.", "tests": [effect()]}
    tiny.write_verdicts([
        claim(tests=[unrun], reported=reported),
        claim("X2", source=ours, tests=[untested]),
        claim("X3", tests=[effect(n=1, low=None, high=None)]),
        claim("X4", "corrected", correction=correction),
    ])
    unrun_row, ours_row, single_row, corrected_row = rows_of(tiny.build(CLAIMS))
    assert "Reported: 2.5 . Not read in the original. not run" in unrun_row
    assert "Our own claim: a bound by memory traffic" in ours_row
    assert "not run" in ours_row
    assert "no interval, n = 1" in single_row
    assert corrected_row.startswith("X4 primary corrected It is")
    assert "Corrected: It is" in corrected_row


def test_a_claim_with_an_unknown_source_stops_the_build(tiny):
    tiny.write_verdicts([claim(source={"bib": "nobody1900", "where": "Table 1"})])
    with pytest.raises(Exception, match="nobody1900"):
        tiny.build(CLAIMS)


# --- incremental builds of the tiny project ------------------------------------------------------------------


def test_a_changed_result_changes_the_page_that_prints_it_and_no_other(tiny):
    tiny.write_page("other", "# Other\n")
    tiny.build("{result}`lion/verdicts:C6.tests[0].estimate | .2f` {verdict}`lion:C6`")
    before = (tiny.output / "other.html").stat().st_mtime_ns
    tiny.write_verdicts([claim(verdict="contradicted", tests=[effect(estimate=-0.5)])])
    html = tiny.build()
    assert ">-0.50</a>" in html
    assert ">contradicted</span>" in html
    assert (tiny.output / "other.html").stat().st_mtime_ns == before
    (tiny.results / "lion" / "verdicts.json").unlink()
    with pytest.raises(ExtensionError, match="is missing"):
        tiny.build()


def test_timing_verdicts_that_appear_later_enter_the_table_of_claims(tiny):
    assert len(rows_of(tiny.build(CLAIMS))) == 1
    tiny.write_verdicts([claim("C3", kind="timing", family=None)], file="timing_verdicts")
    assert len(rows_of(tiny.build())) == 2


def test_a_new_replication_enters_the_board(tiny):
    tiny.write_page("replications/lion", "# Lion\n\n" + CLAIMS)
    tiny.write_page("replications/emo", "# Emo\n\n```{claims} emo\n```\n")
    tiny.write_verdicts([claim()], name="emo")
    tiny.build("```{verdict-board}\n```")
    shutil.rmtree(tiny.results / "emo")
    tiny.write_page("replications/emo", "# Emo\n")
    assert len(rows_of(tiny.build())) == 1
    tiny.write_page("replications/emo", "# Emo\n\n```{claims} emo\n```\n")
    tiny.write_verdicts([claim()], name="emo")
    assert len(rows_of(tiny.build())) == 2


# --- the real book -------------------------------------------------------------------------------------------


def test_no_page_loads_anything_from_another_host(html_folder):
    for path in pages_of(html_folder):
        loaded = PageReader(path).loaded
        assert loaded
        assert not list(filter(foreign, loaded)), path.name


def test_no_script_in_a_page_names_another_host(html_folder):
    scripts = [script for path in pages_of(html_folder) for script in PageReader(path).scripts]
    assert scripts
    assert not [script for script in scripts if re.search(r"https?://", script)]


def test_no_stylesheet_loads_anything_from_another_host(html_folder):
    styles = sorted(html_folder.rglob("*.css"))
    assert len(styles) > 3
    for style in styles:
        addresses = re.findall(r"(?:url\(|@import\s+)\s*['\"]?([^'\")]+)", style.read_text())
        assert not list(filter(foreign, addresses)), style.name


def test_mathematics_is_typeset_by_the_local_copy(html_folder):
    loaded = PageReader(html_folder / "replications" / "lion.html").loaded
    (mathjax,) = [address for address in loaded if "mathjax" in address]
    assert (html_folder / "replications" / mathjax.split("?")[0]).resolve().is_file()


def test_every_claim_has_its_row_and_its_badge(html_folder):
    for verdicts in ROOT.glob("results/*/verdicts.json"):
        name = verdicts.parent.name
        page = PageReader(html_folder / "replications" / f"{page_of(name)}.html")
        for judged in json.loads(verdicts.read_text())["claims"]:
            assert f"claim-{name}-{judged['id']}".lower().replace("_", "-") in page.ids
            assert any(badge.startswith(judged["verdict"] or "no verdict") for badge in page.badges)


def test_every_page_on_disk_is_built_and_reachable_from_the_index(html_folder):
    front = PageReader(html_folder / "index.html").links
    for page in source_pages():
        assert (html_folder / page).with_suffix(".html").is_file(), f"{page} is not in _toc.yml"
        assert page.name == "index" or f"{page.as_posix()}.html" in front


def test_the_configuration_executes_nothing_and_shows_no_buttons_to_other_hosts():
    config = yaml.safe_load((BOOK / "_config.yml").read_text())
    assert config["execute"]["execute_notebooks"] == "off"
    assert not any(config["html"][key] for key in config["html"] if key.startswith("use_"))
    assert "sphinx_thebe" not in config["sphinx"]["config"]["extensions"]
