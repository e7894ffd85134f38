"""What a page says of reruns and of the next run, and the record of what was broken on purpose."""

import ast
import json
from pathlib import Path

import pytest
from sphinx.errors import ExtensionError

from paperkit.config import parse, read_yaml
from tests import tiny_book  # puts the book's extension on the path
from tests.recorded import RECORD
from tests.tiny_book import provenance

from results_in_text.reruns import FAULTS, Faults, expected_next, reruns_text  # isort: skip

ROOT = Path(__file__).resolve().parents[1]
STARTED = provenance()["started"]

pytestmark = pytest.mark.filterwarnings("ignore:.*OptionParser.*:DeprecationWarning")


def receipt(outcome="identical", drift=0.0, started=STARTED, machine="Intel x86_64"):
    moved = {"C6.tests[0]": {"drift_sd": drift}, "C7.tests[0]": {"drift_sd": None}}
    return {"outcome": outcome, "machine_class": machine, "device": None, "metrics": moved} | {
        "against": {"started": started}
    }


@pytest.mark.parametrize(
    ("receipts", "said"),
    [
        ([], "not yet rerun from a clean clone"),
        ([receipt()], "Rerun 1 time from a clean clone on 1 class of machines, with the outcome *identical*; largest"),
        (
            [receipt(), receipt("as expected", 0.31, machine="AMD x86_64")],
            "Rerun 2 times from a clean clone on 2 clas",
        ),
        (
            [receipt(), receipt("as expected", 0.31)],
            "*identical, as expected*; largest drift of a seed: 0.31 standard",
        ),
    ],
)
def test_reruns_are_counted_by_class_of_machines_with_their_largest_drift(receipts, said):
    assert said in reruns_text(receipts)


def test_the_next_run_has_an_interval_where_all_seeds_have_numbers():
    assert expected_next({"0": 0.1, "1": 0.3, "2": 0.2}) == "[-0.2968, 0.6968]"
    assert [expected_next(each) for each in (None, {}, {"0": 1.0}, {"0": 1.0, "1": None})] == [""] * 4


@pytest.mark.parametrize(("started", "is_shown"), [(STARTED, True), ("2026-01-01T00:00:00+00:00", False)])
def test_a_page_shows_and_links_the_receipts_of_its_results_and_not_those_of_earlier_ones(started, is_shown, tiny):
    folder = tiny.results.with_name("receipts") / "lion"
    folder.mkdir(parents=True)
    (folder / "2026-11-28-intel.json").write_text(json.dumps(receipt(started=started)))
    tiny.write_verdicts([tiny_book.claim(tests=[tiny_book.FULL])])
    html = tiny.build("(cite-lion)=\n## Cite\n\n```{rerun} lion\n```\n")
    assert ("Rerun 1 time" in html) == is_shown
    assert ("not yet rerun" in html) != is_shown
    assert ('href="downloads/lion/2026-11-28-intel.json"' in html) == is_shown
    assert (tiny.output / "downloads/lion/2026-11-28-intel.json").is_file()


# --- the page "What we broke on purpose" -----------------------------------------------------------------------------

FAULT = {"tried": "A kill.", "then": "It went on.", "now": "It ends.", "tests": ["tests/test_a.py::test_a"]}
OUTCOME = {
    "passed": 3,
    "failed": 1,
    "skipped": 0,
    "seconds": 61.2,
    "soak": True,
    "commit": "a" * 40,
    "on": "2026-11-28",
}


SKIPPED = OUTCOME | {"passed": 0, "failed": 0, "skipped": 1}


@pytest.mark.parametrize("tests", [{"tests/test_a.py::test_a": OUTCOME, "tests/test_b.py::test_b": SKIPPED}, {}])
def test_a_fault_stands_beside_what_its_tests_did_and_one_that_was_not_run_stops_the_build(tests, tiny):
    root = tiny.source.parent
    (root / FAULTS).write_text(json.dumps({"faults": [FAULT]}))
    (root / "receipts").mkdir()
    (root / "receipts" / RECORD.name).write_text(json.dumps({"schema": 1, "tests": tests}))
    if tests:
        html = tiny.build("```{broken-on-purpose}\n```\n\n```{soak}\n```")
        assert "3 of 4" in html
        assert "Together 1 test, last run on 28 November 2026, took 1 minute." in html
        assert "test_b" not in html
    else:
        with pytest.raises(ExtensionError, match=r"has no outcome of tests/test_a\.py::test_a; run"):
            tiny.build("```{broken-on-purpose}\n```")


def test_every_test_that_a_fault_names_is_there_and_passed_when_it_was_last_run():
    record = json.loads(RECORD.read_text())["tests"]
    faults = parse(Faults, read_yaml(ROOT / FAULTS), source=FAULTS).faults
    for test in {test for fault in faults for test in fault.tests}:
        file, _, name = test.partition("::")
        body = ast.parse((ROOT / file).read_text()).body
        assert name in {node.name for node in body if isinstance(node, ast.FunctionDef)}, test
        assert record[test]["passed"] >= 1, test
        assert record[test]["failed"] == 0, test
