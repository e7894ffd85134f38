"""Errata of the sources: what an entry may name, and that both pages print it."""

import re

import pytest
import yaml
from results_in_text.yaml_files import SEVERITIES, misfits, read_checked_yaml, read_errata
from sphinx.errors import ExtensionError

from paperkit.config import ConfigError
from paperkit.results import ResultsError
from tests.built_book import ROOT, PageReader
from tests.tiny_book import CLAIMS, claim, identity

LIST = "```{errata} lion\n```\n\n" + CLAIMS


def entry(**changes):
    written = {"id": "E1", "severity": "statement", "written": "It is $x^2$.", "right": "It is $x^3$."}
    source = {"source": {"bib": "someone2023", "where": "Table 2", "unverified": False}}
    return written | source | {"evidence": [{"claim": "C6"}], "effect": "A factor $x$."} | changes


@pytest.fixture
def book(tiny):
    """A tiny book whose replication has a claim, a check, and whatever errata a test writes."""
    tiny.write_verdicts([claim(), claim("C1", kind="identity", family=None, tests=[identity()])])

    def write_errata(*entries, name="lion"):
        path = tiny.source.parent / "replications" / name / "errata.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"schema": 1, "errata": list(entries)}, sort_keys=False))

    tiny.write_errata = write_errata
    return tiny


def test_an_erratum_shows_what_is_written_what_is_right_why_and_how_much_it_matters(book):
    effect_text = "It is {result}`lion/verdicts:C6.tests[0].estimate | .2f` nats."
    book.write_errata(entry(effect=effect_text, evidence=[{"claim": "C6"}, {"check": "step_one"}, {"reading": "A"}]))
    html = book.build(LIST)
    block = re.search(r'<div class="erratum[^>]*id="erratum-lion-e1".*?</dl>', html, re.DOTALL)[0]
    text = " ".join(re.sub("<[^>]+>", " ", block).split())
    assert text.startswith("lion/E1 statement One [ One23 ] , Table 2 Written : It is \\(x^2\\) . Right : It is")
    assert "Judged: claim C6 holds Executed: step_one , claim C1 holds Read: A Effect" in text
    assert text.endswith("It is 0.20 nats.")
    assert 'data-address="lion/verdicts:C6.tests[0].estimate"' in block


def test_a_passage_known_at_second_hand_says_so(book):
    book.write_errata(entry(source={"bib": "someone2023", "where": "Table 2", "unverified": True}))
    assert "Not read in the original." in book.build(LIST)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"source": {"bib": "nobody1900", "where": "p. 1", "unverified": False}},
            "E1: source.bib 'nobody1900' is not",
        ),
        ({"evidence": [{"claim": "C7"}]}, "E1: no claim 'C7'; there are C6, C1"),
        ({"evidence": [{"check": "step_two"}]}, "E1: no executed check 'step_two'; there are step_one"),
        ({"evidence": [{"check": "gap"}]}, "no executed check 'gap'"),  # an estimand of seeds is no check
        ({"evidence": []}, r"errata\.0\.evidence: \[\] should be non-empty"),
        ({"evidence": [{"claim": "C6", "check": "step_one"}]}, "evidence.*too many properties"),
        ({"evidence": [{"derivation": "as is well known"}]}, "evidence.*does not match"),
        ({"severity": "grave"}, "severity: 'grave' is not one of"),
        ({"effect": "  "}, "effect: '  ' does not match"),
        ({"effect": None}, "effect: None is not of type 'string'"),
        ({"id": "X1"}, "id: 'X1' does not match"),
        ({"wrong": "It is."}, "'wrong' was unexpected"),
    ],
)
def test_an_erratum_that_names_nothing_real_or_lacks_a_part_is_refused(book, changes, complaint):
    book.write_errata(entry(**changes))
    with pytest.raises(ResultsError, match=rf"(?s)errata\.yaml.*{complaint}"):
        read_errata(book.source.parent / "replications", book.results, "lion", {"someone2023"})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"effect": "{result}`lion/verdicts:C9.n`"}, r"E1: .*no 'C9'"),
        ({"written": "{verdict}`lion:C9`"}, r"E1: .*no claim 'C9'"),
    ],
)
def test_an_erratum_that_is_refused_stops_the_build_of_both_pages(book, changes, complaint):
    book.write_errata(entry(**changes))
    pages = ["```{errata} lion\n```", "```{errata}\n```"]
    assert book.not_refused([(page, rf"(?s)errata\.yaml.*{complaint}") for page in pages]) == []


def test_a_reference_to_no_derivation_stops_the_build(book):
    book.write_errata(entry(evidence=[{"derivation": "{ref}`here <nowhere>`"}]))
    with pytest.raises(Exception, match="nowhere"):
        book.build(LIST)


def test_a_missing_part_an_id_given_twice_and_a_key_given_twice_stop_the_build(book):
    partial, path = entry(), book.replications / "lion/errata.yaml"
    del partial["right"]
    for entries, end, complaint in (
        ([partial], "", r"(?s)index\.md:\d+: directive errata.*'right' is a required property"),
        ([entry(), entry()], "", "id E1 is given twice"),
        ([entry()], "schema: 1\n", "'schema' is given twice"),
    ):
        book.write_errata(*entries)
        path.write_text(path.read_text() + end)
        assert book.not_refused([(LIST, complaint)]) == []
    path.unlink()
    assert book.not_refused([(LIST, r"errata\.yaml is missing")]) == []


def test_an_undecided_claim_alone_shows_no_error(book):
    for verdict in ("inconclusive", "not tested at this scale", None):
        book.write_verdicts([claim(verdict=verdict)])
        book.write_errata(entry())
        assert book.not_refused([(LIST, "E1: its evidence is undecided")]) == []
    book.write_errata(entry(evidence=[{"claim": "C6"}, {"reading": "the article beside its code"}]))
    assert book.refusals([LIST]) == [""]


def corrected(claim_id="C8a"):
    correction = {"statement": "It is $x$ better.", "tests": [identity(estimand="step_nine")]}
    return claim(claim_id, "corrected", kind="identity", family=None, tests=[identity()], correction=correction)


def test_a_corrected_claim_must_be_in_an_erratum(book):
    book.write_verdicts([claim(), corrected()])
    book.write_errata(entry())
    silent = "claim C8a has the verdict corrected and is the evidence of no entry"
    assert book.not_refused([(LIST, silent)]) == []
    for evidence in ({"claim": "C8a"}, {"check": "step_one"}, {"check": "step_nine"}):
        book.write_errata(entry(evidence=[evidence]))
        assert book.refusals([LIST]) == [""]


def test_a_replication_with_a_corrected_claim_and_no_errata_stops_the_page_for_all(book):
    book.write_page("replications/lion", "# Lion\n\n" + CLAIMS)
    book.write_verdicts([corrected()])
    (book.source.parent / "replications" / "lion").mkdir(parents=True, exist_ok=True)
    with pytest.raises(ExtensionError, match=r"lion/errata\.yaml is missing"):
        book.build("```{errata}\n```")


def test_the_page_for_all_has_a_section_a_source_the_gravest_first_and_links_home(book):
    other = {"bib": "else1999", "where": "Section 3", "unverified": False}
    (book.source / "references.bib").write_text(
        "@misc{someone2023, title={A {Title}}, author={One, Some}, year={2023}}\n"
        "@misc{else1999, title={B}, author={Other, An}, year={1999}}\n"
    )
    book.write_errata(entry(), entry(id="E2", severity="conclusion"), entry(id="E3", source=other))
    book.write_page("replications/lion", "# Lion\n\n" + LIST)
    html = book.build("```{errata}\n```")
    assert re.findall(r"<h2>([^<]+)", html) == ["B", "A Title"]
    assert re.findall(r'id="(erratum-[^"]+)"', html) == ["erratum-lion-e3", "erratum-lion-e2", "erratum-lion-e1"]
    assert 'href="replications/lion.html#erratum-lion-e2"' in html
    assert 'id="erratum-lion-e2"' in (book.output / "replications" / "lion.html").read_text()


def test_new_and_changed_errata_and_verdicts_reach_both_pages(book):
    book.write_page("replications/lion", "# Lion\n\n" + LIST)
    book.write_errata(entry())
    book.build("```{errata}\n```")
    book.write_errata(entry(right="It is $x^4$."), entry(id="E2"))
    book.write_verdicts([claim(verdict="contradicted"), claim("C1", kind="identity", tests=[identity()])])
    pages = [book.build(), (book.output / "replications" / "lion.html").read_text()]
    for html in pages:
        assert "x^4" in html
        assert "erratum-lion-e2" in html
        assert '<span class="verdict verdict-contradicted">' in html


# --- the real errata -----------------------------------------------------------------------------------------

FILES = sorted(ROOT.glob("replications/*/errata.yaml"))


def test_every_erratum_is_on_its_own_page_and_on_the_page_for_all(html_folder):
    assert FILES
    together = PageReader(html_folder / "errata.html").ids
    for path in FILES:
        name = path.parent.name
        own = PageReader(html_folder / "replications" / f"{name}.html").ids
        for content in read_checked_yaml(path, "errata.schema.json")["errata"]:
            anchor = f"erratum-{name}-{content['id']}".lower().replace("_", "-")
            assert anchor in own
            assert anchor in together


def test_the_numbers_of_an_erratum_are_live(html_folder):
    numbers = {address: text for address, _, text in PageReader(html_folder / "errata.html").numbers}
    roles = [role for path in FILES for role in re.findall(r"\{result\}`([^`|]+)", path.read_text())]
    assert {role.strip() for role in roles} == set(numbers)


def test_severities_are_those_of_the_schema():
    for grade in SEVERITIES:
        assert misfits({"schema": 1, "errata": [entry(severity=grade)]}, "errata.schema.json") == []
    with pytest.raises(ConfigError, match="missing"):
        read_checked_yaml(ROOT / "nothing.yaml", "errata.schema.json")
