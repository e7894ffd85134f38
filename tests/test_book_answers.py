"""Sentences that state an outcome follow the verdict: what is given to them, the cards of the front page."""

import re

import pytest
from results_in_text.claims import favours
from results_in_text.yaml_files import misfits
from sphinx.errors import ExtensionError

from paperkit.pages import page_sources
from paperkit.pipeline import found_replications
from paperkit.written import margin_note
from tests.built_book import ROOT
from tests.tiny_book import ABOUT, CLAIMS, DRAWING, SENTENCES, claim, effect, text_of

PAGE, MARK = "replications/lion", "{given}`lion:C6 holds`"
FINDING = "It is {result}`lion/verdicts:C6.tests[0].estimate` better."


def build(book, findings, results="It is so."):
    book.write_page(PAGE, f"# Lion\n\n{findings}\n\n## Results\n\n{results}\n")
    book.build("Nothing.")
    return (book.output / f"{PAGE}.html").read_text()


# --- what a sentence was written for ------------------------------------------------------------------------------


def test_a_sentence_stands_until_its_word_changes_and_nobody_sees_what_it_was_given(tiny):
    html = build(tiny, f"{FINDING} {MARK}")
    assert "It is 0.199 nats better." in text_of(html)
    assert "given" not in html
    assert "lion:C6" not in text_of(html)
    tiny.write_verdicts([claim(verdict="contradicted")])
    complaint = (
        r"lion\.md:3: this line states an outcome, and it was written for lion:C6 'holds', which is 'contradicted' now"
    )
    with pytest.raises(ExtensionError, match=complaint):
        tiny.build()


def test_every_line_whose_word_has_changed_is_named_at_once_captions_and_other_pages_too(tiny):
    tiny.write_figure("lion/a.svg", DRAWING)
    caption = f"```{{result-figure}} lion/a.svg\n:alt: A line.\n\nThe line rises. {MARK}\n```"
    tiny.write_page("other", f"# Other\n\nIt is better. {MARK}\n")
    build(tiny, f"- {FINDING} {MARK}\n- It is.\n\n{caption}")
    tiny.write_verdicts([claim(verdict="no difference")])
    with pytest.raises(ExtensionError, match="3 problems on pages of results") as raised:
        tiny.build()
    places = re.findall(r"/book/(\S+\.md):(\d+): this line", str(raised.value))
    assert sorted(places) == [("other.md", "3"), (f"{PAGE}.md", "3"), (f"{PAGE}.md", "9")]


def test_a_sentence_about_a_claim_that_was_judged_again_is_read_again(tiny):
    old = claim(verdict="contradicted", family=None, superseded_by="C6r")
    tiny.write_verdicts([old, claim("C6r")])
    with pytest.raises(ExtensionError, match="written for lion:C6 'contradicted', which was judged again as C6r"):
        build(tiny, "It was worse. {given}`lion:C6 contradicted`")
    build(tiny, "It was worse, {result}`lion/verdicts:C6.tests[0].estimate` then (C6). {given}`lion:C6r holds`")


def test_a_draft_from_a_smoke_run_may_say_what_it_likes(tiny):
    tiny.write_verdicts([claim(verdict="not tested at this scale")], profile="smoke")
    assert "better" in build(tiny, f"{FINDING} {MARK}")


def test_what_cannot_be_given_is_refused(tiny):
    cases = [
        ("lion:C7 holds", r"lion\.md:\d+: role given, .* no claim 'C7'; there are C6"),
        ("tiger:C6 holds", r"tiger/verdicts\.json is missing"),
        ("lion:C6", r"'lion:C6' is no verdict; write `lion:C6 contradicted`"),
        ("lion:C6 holds, lion:C7 holds", r"written for lion:C6 'holds, lion:C7 holds', which is 'holds' now"),
    ]
    assert tiny.not_refused([(f"It is better. {{given}}`{mark}`", said) for mark, said in cases], PAGE) == []


# --- what has to be given -----------------------------------------------------------------------------------------


FINDINGS = [FINDING, "{verdict}`lion:C6` It is.", "It is (C6).", "- It is (C6).", "*It* is **better (C6)**."]
NO_FINDINGS = ["It is better.", "As C7 of another book.", "In float C6-like.", "It is so (X1)."]


def test_a_finding_that_names_a_claim_is_given_its_verdict_and_what_names_none_needs_nothing(tiny):
    tiny.write_verdicts([claim(), claim("X1", None, kind="exploratory", family=None)])
    end = "\n\n## Results\n\nIt is so."
    wanted = r"lion\.md:\d+: .* outcome: end it with {given}`lion:C6 holds`"
    cases = [(finding + end, wanted) for finding in FINDINGS]
    cases += [(f"{finding} better {MARK}{end} {finding}", "^$") for finding in FINDINGS]
    assert tiny.not_refused([*cases, *((finding + end, "^$") for finding in NO_FINDINGS)], PAGE) == []


def test_an_id_is_that_of_the_page_or_of_one_of_its_larger_profiles(tiny):
    tiny.write_verdicts([claim(verdict="contradicted")], name="lion_gpu", profile="gpu")
    larger, end = "{given}`lion_gpu:C6 contradicted`", "\n\n## Results\n\nIt is so."
    cases = [(f"On a card it is worse (C6). {larger}{end}", "^$")]
    cases.append((f"{FINDING} {larger}{end}", r"end it with {given}`lion:C6 holds`"))
    assert tiny.not_refused(cases, PAGE) == []


@pytest.mark.parametrize("name", found_replications(ROOT))
def test_the_findings_of_every_replication_are_given_verdicts(name):
    page, *_ = page_sources(ROOT, name)
    assert "{given}`" in page.read_text().partition("\n## Results\n")[0]


# --- the cards of the front page ----------------------------------------------------------------------------------


@pytest.fixture
def book(tiny):
    tiny.write_figure("lion/a.svg", DRAWING)
    figure = "```{result-figure} lion/a.svg\n:alt: One line.\n\nA line.\n```"
    tiny.write_page(PAGE, f"# Lion page\n\n{figure}\n\n{CLAIMS.replace(' lion', '')}")
    old = claim(verdict="inconclusive", family=None, superseded_by="C6r")
    tiny.write_verdicts([claim("C1", "contradicted"), old, claim("C6r"), claim("X1", None, family=None)])
    scale = {"text": "Twelve layers.", "bib": "someone2023", "where": "Table 2"}
    answer = {"text": "It *is* better than what there was before.", "given": "lion:C6r holds; lion:C1 contradicted"}
    tiny.write_about("lion", posts=[1], question="What does lion do?", scale=scale, answer=answer)
    return tiny


def test_a_card_says_question_answer_claim_number_and_both_scales_and_shows_the_first_figure(book):
    book.write_verdicts([claim("C1", "contradicted")], name="lion_gpu", profile="gpu")
    html = book.build("```{answers}\n```")
    (card,) = re.findall(r'<section class="answer-card".*?</section>', html, re.DOTALL)
    said = text_of(card).replace(" .", ".")
    assert said.startswith("Lion page")
    in_order = [
        "What does lion do? It is better than what there was before.",
        "It is better ( C6r ): holds Its loss minus that before: 0.199 [0.110, 0.290] nats, n = 8 (a positive",
        "The other primary claims:",
        r"It is \(x^2\) better ( C1 ): contradicted",
        "Scale here: a net of three weights; a larger net (profile pretrained); a large net (profile gpu); "
        "theirs (profile paper). The source: Twelve layers.",
    ]
    assert [said.find(part) for part in in_order] == sorted(said.find(part) for part in in_order)
    assert -1 not in [said.find(part) for part in in_order]
    assert re.search(r'<img alt="One line\." class="result-figure dark-light" src="_images/a\.svg"', card)
    assert 'href="replications/lion.html"' in card
    assert "1 replications so far, 2 primary claims: 1 holds 1 contradicted" in text_of(html)


@pytest.mark.parametrize(
    ("verdict", "changes", "says"),
    [
        ("contradicted", {"estimate": -0.06}, True),
        ("contradicted, fragile", {"estimate": 0.06, "rule": "less"}, True),
        ("contradicted", {"estimate": -0.2}, False),
        ("contradicted", {"estimate": -0.06, "margin": None}, False),
        ("contradicted", {"estimate": -0.06, "rule": "equivalent"}, False),
        ("holds, smaller", {"estimate": 0.06}, False),
    ],
)
def test_a_contradiction_smaller_than_the_margin_says_so(verdict, changes, says):
    note = "Against the claim, but by less than the margin of 0.1 nats that was fixed beforehand."
    assert margin_note(claim(verdict=verdict, tests=[effect(**changes)])) == (note if says else "")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rule": "greater"}, " (a positive number favours the claim)"),
        ({"rule": "less"}, " (a negative number favours the claim)"),
        ({"rule": "greater", "bound": -0.05}, " (a number above -0.05 favours the claim)"),
        ({"rule": "less", "bound": 1.0}, " (a number below 1 favours the claim)"),
        ({"rule": "equivalent"}, " (a number within 0.1 of 0 favours the claim)"),
        ({"rule": "within", "range": [0.4, 0.6]}, " (a number from 0.4 to 0.6 favours the claim)"),
        ({"rule": "report"}, ""),
        ({"low": None}, ""),
    ],
)
def test_beside_a_number_stands_which_ones_favour_the_claim(changes, said):
    assert "".join(node.astext() for node in favours(effect(**changes))) == said


def test_a_card_whose_verdicts_have_changed_stops_the_build_and_names_the_answer(book):
    book.build("```{answers}\n```")
    book.write_verdicts([claim("C1", "contradicted"), claim("C6r", "inconclusive", tests=[effect(low=-0.1)])])
    complaint = (
        r"index\.md:\d+: directive answers: replications/lion/about\.yaml, answer: it was written for lion:C6r 'holds'"
    )
    with pytest.raises(ExtensionError, match=complaint):
        book.build()


def test_an_answer_of_another_form_is_refused():
    cases = [
        ({"answer": {"text": "Yes.", "given": "lion:C6 holds"}}, r"answer\.text: 'Yes\.' does not match"),
        ({"answer": {"text": ABOUT["answer"]["text"]}}, "'given' is a required property"),
        ({"here": {"smoke": "little"}}, "'smoke' is not one of"),
        ({"here": {"cpu": "little."}}, r"'little\.' does not match"),
        ({"claims": {"6": SENTENCES}}, "'6' does not match"),
        ({"claims": {"C6": SENTENCES | {"corrected": "It is."}}}, "'corrected' was unexpected"),
        ({"claims": {"C6": SENTENCES | {"holds": "It is"}}}, r"'It is' does not match"),
    ]
    for change, complaint in cases:
        about = ABOUT | {"posts": [1], "question": "What does lion do?"} | change
        assert re.search(complaint, "\n".join(misfits(about, "about.schema.json"))), change
