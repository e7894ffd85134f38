"""How much a verdict survives, as the book shows it: fragile words, variations, flip distance, superseded claims."""

import re

import pytest
from results_in_text import citations
from results_in_text.records import VERDICT_CLASSES, conclusion
from results_in_text.yaml_files import SCHEMAS, misfits

from paperkit.explain import outcome
from tests.built_book import PageReader
from tests.test_book_board import values_of
from tests.tiny_book import CLAIMS, FULL, claim, effect, provenance, rows_of, text_of

FRAGILE = [f"{word}, fragile" for word in ("holds", "holds, smaller", "contradicted", "no difference")]
EDITION = citations.Edition("A Book", "People", "0.1.0", None)
BOARD, ANSWERS = "```{verdict-board}\n```", "```{answers}\n```"


def variation(name="horizon × 4", *, flips=False, **changes):
    declared = {"name": name, "estimand": "gap_long", "of": "gap"}
    measured = {"estimate": 0.15, "low": 0.05, "high": 0.25, "n": 5}
    return declared | measured | {"flips": flips, "why": "It lies above 0."} | changes


UNREAD = variation("long", flips=None, n=0, estimate=None, low=None, high=None, why="It has not been run.")
TWO = variation("pair", flips=None, n=2, estimate=-0.5, low=-3.1, high=2.1, why="It has two seeds.")
TURNED = variation("other estimator", flips=True, estimate=0.02, low=-0.08, high=0.12, why="It is below the margin.")


def with_flip(**flip):
    return effect(flip={"without": [], "threshold": "margin", "value": 0.19934} | flip)


# --- words ---------------------------------------------------------------------------------------------------


def test_fragile_words_are_shown_wherever_words_are(tiny):
    assert set(FRAGILE) < set(VERDICT_CLASSES)
    tiny.write_page("replications/lion", "# Lion\n\n" + CLAIMS)
    tiny.write_verdicts([claim(f"C{place}", word) for place, word in enumerate(FRAGILE)])
    html = tiny.build(BOARD)
    assert values_of(html, "verdict") == FRAGILE
    assert len(set(re.findall(r'<span class="verdict (verdict-[\w-]+-fragile)">', html))) == len(FRAGILE)
    assert PageReader(tiny.output / "replications" / "lion.html").badges == FRAGILE


def test_fragile_words_are_cited_and_exported_and_other_words_are_not_fragile():
    for word in FRAGILE:
        cited = citations.Citation("lion", claim(verdict=word, tests=[FULL]), provenance(), EDITION)
        assert f"Verdict: {word}." in citations.bibtex(cited)
        assert citations.macro_values(cited)["lion/C6/verdict"] == word
        assert f"& {word} &" in citations.latex_table([cited])
        assert f'"{word}"' in citations.claims_csv([cited])
        assert misfits(citations.claims_record([cited], [], "cpu"), "claims.schema.json") == []
    for word in ("corrected, fragile", "inconclusive, fragile", "fragile"):
        assert word not in VERDICT_CLASSES
        assert misfits(verdicts(claim(verdict=word, tests=[FULL])), "verdicts.schema.json")


def verdicts(content, profile="cpu"):
    return {"schema": 1, "replication": "lion", "profile": profile, "claims": [content]}


def test_the_schema_knows_all_that_tells_the_strength_of_a_verdict():
    flip = {"without": [3], "threshold": None, "value": None}
    content = claim(
        "C6r", underpowered="It costs too much.", robustness=[variation(), UNREAD], tests=[FULL | {"flip": flip}]
    )
    known = verdicts(content | {"superseded_by": "C6ar"})
    for profile in ("pretrained", "gpu"):
        assert misfits(known | {"profile": profile}, "verdicts.schema.json") == []
    wrong = {
        "robustness": [variation(flips="x")],
        "superseded_by": "6",
        "tests": [FULL | {"flip": flip | {"value": "x"}}],
    }
    for key, value in wrong.items():
        assert misfits(verdicts(content | {key: value}), "verdicts.schema.json"), key


def test_every_schema_knows_the_id_of_a_claim_that_was_judged_again():
    patterns = [one for path in SCHEMAS.glob("*.json") for one in re.findall(r'"(\^\S*\[CX\]\S+)"', path.read_text())]
    assert len(patterns) == 6
    for pattern in patterns:
        assert re.match(pattern, "lion/C6ar" if "/" in pattern else "C6ar"), pattern


def test_results_of_every_profile_stand_on_the_page_of_their_replication(tiny):
    profiles = ("pretrained", "gpu", "paper")
    tables = "\n\n".join(f"```{{claims}} lion_{profile}\n```" for profile in profiles)
    tiny.write_page("replications/lion", f"# Lion\n\n{CLAIMS}\n\n{tables}")
    for profile in profiles:
        tiny.write_verdicts([claim()], name=f"lion_{profile}", profile=profile)
    html = tiny.build(BOARD)
    assert values_of(html, "replication") == ["lion"] * 4
    assert set(values_of(html, "profile")) == {"cpu", *profiles}
    provenance_page = PageReader(tiny.output / "provenance" / "lion_gpu.html")
    assert "../replications/lion.html#claim-lion-gpu-c6" in provenance_page.links
    assert citations.Citation("lion_gpu", claim(), provenance(), EDITION).page == "replications/lion"


# --- variations ----------------------------------------------------------------------------------------------


def test_a_claim_that_declares_variations_has_a_table_of_what_each_does_to_its_word(tiny):
    variations = [variation(), TURNED, TWO, UNREAD]
    tiny.write_verdicts([claim(verdict="holds, fragile", robustness=variations), claim("C7")])
    html = tiny.build(CLAIMS)
    assert "Variation The verdict Measured Why" in text_of(html)
    assert rows_of(html, "variations") == [
        "horizon × 4 stands 0.15 [0.05, 0.25] nats, n = 5 It lies above 0 .",
        "other estimator flips 0.02 [-0.08, 0.12] nats, n = 5 It is below the margin.",
        "pair too few seeds -0.5 [-3.1, 2.1] nats, n = 2 It has two seeds.",
        "long not run not run It has not been run.",
    ]
    line = (
        "The verdict stands under 1 of 2 variations (2 more decided nothing); farthest from the main estimate: other"
    )
    assert f"{line} estimator." in html
    assert re.search(r'href="#strength-lion-c6"><span class="std std-ref">stands under 1 of 2 variations', html)
    assert text_of(html).count("under the variations that were declared") == 1


def test_variations_stand_between_the_primary_claims_and_the_others(tiny):
    tiny.write_verdicts([claim("C1", family=None), claim(robustness=[variation()]), claim("C7")])
    html = tiny.build(CLAIMS)
    places = [
        html.index(f'id="{target}"')
        for target in ("claim-lion-c6", "claim-lion-c7", "strength-lion-c6", "claim-lion-c1")
    ]
    assert places == sorted(places)
    assert html.count("What is claimed, and where") == 2


def test_the_numbers_of_variations_are_live_and_lead_to_their_provenance(tiny):
    tiny.write_page("replications/lion", "# Lion\n\n" + CLAIMS)
    tiny.write_verdicts([claim(robustness=[variation("batch 0.5 times"), UNREAD])])
    tiny.build("")
    page = PageReader(tiny.output / "replications" / "lion.html")
    shown = dict(zip([address for address, *_ in page.numbers], page.provenance, strict=True))
    assert shown["lion/verdicts:C6.robustness[0]"] == "../provenance/lion.html#c6-robustness-0"
    assert "lion/verdicts:C6.robustness[1]" not in shown
    assert "c6-robustness-0" in PageReader(tiny.output / "provenance" / "lion.html").ids


def test_variations_of_a_clock_reading_are_found_in_its_own_file(tiny):
    tiny.write_verdicts([claim("C3", kind="timing", robustness=[variation()])], file="timing_verdicts")
    assert 'data-address="lion/timing_verdicts:C3.robustness[0]"' in tiny.build(CLAIMS)


def test_without_variations_nothing_is_said_of_them(tiny):
    html = tiny.build(CLAIMS)
    assert "ariation" not in html
    assert "seed changes the verdict" not in html
    assert "Underpowered" not in html


OPEN = variation("seeds that scatter", low=-0.15, high=0.45)
EQUAL = effect(rule="equivalent", estimate=0.0, low=-0.05, high=0.05, low90=-0.04, high90=0.04)
OUTCOMES = [
    (effect(), OPEN, "stands, open"),
    (effect(), variation(low=0.001), "stands"),
    # Of equality the 90 % interval decides, here up to 0.092.
    (EQUAL, variation(estimate=0.0, low=-0.12, high=0.12), "stands"),
    (EQUAL, variation(estimate=0.0, low=-0.14, high=0.14), "stands, open"),
    (EQUAL | {"rule": "greater"}, variation(estimate=0.0, low=-0.14, high=0.14), "stands, open"),
    (effect(rule="within", range=[0.1, 0.3], bound=None), variation(low=0.11, high=0.31), "stands, open"),
    (effect(), variation(flips=None, n=8), "undecided"),
]


def test_a_word_stands_openly_where_the_interval_of_the_variation_alone_would_not_have_decided():
    for test, varied, words in OUTCOMES:
        assert outcome(claim(tests=[test]), varied) == words, varied
    undecided = outcome(claim(verdict="inconclusive"), variation(flips=None))
    assert undecided == "nothing to flip: the claim is inconclusive"


MOVED = "The verdict stands under 2 of 2 variations; farthest from the main estimate: "
LINES = [
    (
        [variation("a"), variation("b", estimate=0.3)],
        f"{MOVED}b.",
    ),
    (
        [variation("a", estimate=0.3), OPEN],
        "The verdict stands under 2 of 2 variations, in 1 of them with an interval that alone would not decide; "
        "farthest from the main estimate: a.",
    ),
    ([TWO], "No variation decides."),
    ([UNREAD, variation("a", flips=None)], "No variation decides; farthest from the main estimate: a."),
    (
        [variation("a"), variation("b", of="steps", estimate=50)],
        f"{MOVED}a; b.",
    ),
]


def test_the_table_ends_with_the_share_and_with_what_moves_the_estimate_most():
    tests = [effect(), effect(estimand="steps", unit="steps", estimate=90)]
    for variations, line in LINES:
        assert conclusion(claim(tests=tests, robustness=variations)) == line
    unrun = effect(n=0, estimate=None, low=None, high=None)
    assert conclusion(claim(tests=[unrun], robustness=[variation(flips=None)])) == "No variation decides."


# --- flip distance -------------------------------------------------------------------------------------------


FLIPS = [
    (
        with_flip(),
        "No single seed changes the verdict; it would change at a margin of 0.199 nats (the distance of the estimate "
        "from 0; declared: 0.1).",
    ),
    (with_flip(without=[3], threshold=None, value=None), "Leaving out seed 3 changes the verdict."),
    (
        with_flip(without=[3, 5], threshold="bound", value=0.11) | {"bound": 0.0, "margin": None},
        "Leaving out one of the seeds 3, 5 changes the verdict; "
        "it would change at a bound of 0.110 nats (the lower end of the 95 % interval; declared: 0).",
    ),
    (
        with_flip(threshold="bound", value=0.11) | {"rule": "within", "bound": None, "range": [-1.5, 0.5]},
        "No single seed changes the verdict; it would change if the range ended at 0.110 nats (the lower end of the "
        "95 % interval; declared: -1.5 to 0.5).",
    ),
]


def test_beside_n_stands_how_little_would_turn_the_word(tiny):
    tiny.write_verdicts([claim(f"C{place}", tests=[test]) for place, (test, _) in enumerate(FLIPS)])
    html = tiny.build(CLAIMS)
    for place, ((test, line), row) in enumerate(zip(FLIPS, rows_of(html), strict=True)):
        assert re.search(rf"n = 8 \([^)]* favours the claim\) {re.escape(line)}", row)
        assert (f"lion/verdicts:C{place}.tests[0].flip.value" in html) == (test["flip"]["value"] is not None)


# --- power and successors ------------------------------------------------------------------------------------


def test_too_little_power_is_said_with_its_reason(tiny):
    tiny.write_verdicts([claim(underpowered="A run takes *six* hours.")])
    assert "Underpowered: A run takes six hours." in text_of(tiny.build(CLAIMS))


@pytest.fixture
def judged_again(tiny):
    tiny.write_page("replications/lion", "# Lion\n\n{verdict}`lion:C6`\n\n" + CLAIMS)
    tiny.write_verdicts([
        claim(verdict="contradicted", family=None, superseded_by="C6r"),
        claim("C6r"),
        claim("C7", family=None),
    ])
    answer = {"text": "It is better than what there was before.", "given": "lion:C6r holds"}
    tiny.write_about("lion", posts=[1], question="What does lion do?", answer=answer)
    return tiny


def test_a_superseded_claim_leaves_board_and_headline_and_keeps_its_row_last_with_a_link_to_its_successor(
    judged_again,
):
    html = judged_again.build(f"{BOARD}\n\n{ANSWERS}")
    assert values_of(html, "verdict") == ["holds", "holds"]
    assert "claim-lion-c6r" in html
    assert 'claim-lion-c6"' not in html
    assert "It is better ( C6r ): holds" in text_of(html)
    page = judged_again.output / "replications" / "lion.html"
    row = re.findall("<tr.*?</tr>", page.read_text(), re.DOTALL)[-1]
    assert 'id="claim-lion-c6"' in row
    assert "C6 experiment contradicted, superseded judged again as C6r" in text_of(row)
    assert 'href="#claim-lion-c6r"' in row
    assert PageReader(page).badges[0] == "contradicted, superseded"
    assert "C6: contradicted, superseded" in (judged_again.output / "provenance" / "lion.html").read_text()


def test_a_successor_that_is_not_there_stops_the_build(tiny):
    tiny.write_verdicts([claim(superseded_by="C6r")])
    with pytest.raises(Exception, match="claim-lion-c6r"):
        tiny.build(CLAIMS)


def test_whoever_cites_a_superseded_claim_is_told():
    cited = citations.Citation("lion", claim(superseded_by="C6r", tests=[FULL]), provenance(), EDITION)
    assert "Verdict: holds, superseded by lion/C6r. Measured" in citations.bibtex(cited)
    assert citations.macros(cited).splitlines()[0].endswith(": holds, superseded by lion/C6r")
    assert "& holds, superseded by lion/C6r &" in citations.latex_table([cited])
    assert ",holds,C6r,It is" in citations.claims_csv([cited])
    assert misfits(citations.claims_record([cited], [], "cpu"), "claims.schema.json") == []
