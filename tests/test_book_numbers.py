"""Every number of the book is live, says where it comes from, and none is typed by hand on a page of results."""

import json
import math
import re

import pytest
from results_in_text.code_runner import about_results
from results_in_text.lint import measured_texts, result_like, typed_results
from sphinx.errors import ExtensionError

from paperkit.written import unit_of
from tests.built_book import ROOT, PageReader, looked_up, needs_browser, pages_of, source_pages, written_text
from tests.tiny_book import BIBLIOGRAPHY, CLAIMS, DRAWING, claim, effect, identity, provenance

# --- what a role prints --------------------------------------------------------------------------------------


ROLES = [
    ("lion/verdicts:C6.tests[0].estimate | .3f", "0.199"),
    ("lion/verdicts:C6.tests[0].estimate|+.1e", "+2.0e-01"),
    ("lion/verdicts:C6.tests[0].estimate", "0.199 nats"),
    ("lion/verdicts:C6.tests[0].low", "0.110 nats"),
    ("lion/verdicts:C6.tests[0].margin", "0.1 nats"),
    ("lion/verdicts:C6.tests[0].p", "0.004"),
    ("lion/verdicts:C6.tests[0]", "0.199 [0.110, 0.290] nats, n = 8"),
    ("lion/verdicts:C6.tests[0] | +.1f", "+0.2 [+0.1, +0.3] nats, n = 8"),
    ("lion/verdicts:C1.tests[0]", "largest error 4.4e-16, tolerance 1e-12, control 0.3"),
    ("lion/verdicts:C1.tests[0].max_error", "4.4e-16"),
    ("lion/verdicts:C1.tests[1].max_error", "138"),
    ("lion/verdicts:C6.tests[0].n", "8"),
    ("lion/verdicts:C6.tests[0].n | 03d", "008"),
    ("lion/verdicts:C6.verdict", "holds"),
    ("lion/verdicts:profile", "cpu"),
    ("lion/verdicts:claims[0].id", "C6"),
    ("lion/provenance:versions.torch-cpu | .4s", "2.13"),
    ("lion/table:rows[1][0]", "7"),
]


def test_a_number_is_looked_up_and_written_with_the_unit_and_the_digits_of_its_file(tiny):
    tiny.write_verdicts([claim(), claim("C1", kind="identity", tests=[identity(), identity(max_error=138.0)])])
    tiny.write_result("lion/provenance", provenance(versions={"torch-cpu": "2.13.0"}))
    tiny.write_result("lion/table", {"rows": [[1], [7]]})
    tiny.build("\n\n".join(f"The value is {{result}}`{role}`." for role, _ in ROLES))
    reader = PageReader(tiny.output / "index.html")
    for (role, shown), number, provenance_link in zip(ROLES, reader.numbers, reader.provenance, strict=True):
        address, _, spec = (part.strip() for part in role.partition("|"))
        assert number == (address, spec, shown)
        claimed = re.match(r"lion/verdicts:(C\d)\.tests\[(\d)\]", address)
        place = f"{claimed[1]}-tests-{claimed[2]}".lower() if claimed else "stage-provenance"
        assert provenance_link == f"provenance/lion.html#{place}"


def card_of(html, number):
    name = re.search(rf'aria-describedby="([^"]+)"[^>]*data-address="{re.escape(number)}"', html)[1]
    card = re.search(rf'<div class="result-card" id="{name}" role="tooltip" hidden>(.*?)</div>', html)[1]
    return dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", card))


def test_the_card_of_a_number_says_what_stands_behind_it(tiny):
    tiny.write_verdicts([claim(tests=[effect(seeds=[3, 4])])])
    html = tiny.build("{result}`lion/verdicts:C6.tests[0].estimate` {result}`lion/verdicts:C6.tests[0].low`")
    card = card_of(html, "lion/verdicts:C6.tests[0].estimate")
    assert card["claim"] == "C6, estimand gap"
    assert card["95 % interval"] == "0.11 to 0.29 nats"
    assert card["seeds"] == "n = 8: 3, 4"
    assert (card["profile"], card["stage"]) == ("cpu", "lion")
    assert card["command"] == "python -m replications.lion.experiment"
    assert card["inputs"].startswith("data/sotu.parquet md5 e2176eb3; 1 files of code")
    assert (card["commit"], card["date"]) == ("2b27a3d69a", "2026-11-22")
    assert card["machine"] == "Intel x86_64"
    assert html.count('role="tooltip"') == 1, "estimate and interval share a card"


def test_a_clock_reading_comes_from_its_own_stage_and_a_dirty_tree_is_said(tiny):
    tiny.write_result("lion/timing_provenance", provenance(stage="lion_timing", dirty=True))
    tiny.write_verdicts([claim("C3", kind="timing")], file="timing_verdicts")
    html = tiny.build("{result}`lion/timing_verdicts:C3.tests[0].estimate`")
    card = card_of(html, "lion/timing_verdicts:C3.tests[0].estimate")
    assert card["stage"] == "lion_timing"
    assert card["commit"] == "2b27a3d69a, with changes not yet committed"


def test_a_number_without_provenance_stops_the_build(tiny):
    (tiny.results / "lion" / "provenance.json").unlink()
    said = r"index\.md:\d+.*provenance\.json is missing"
    assert tiny.not_refused([("{result}`lion/verdicts:C6.tests[0].n`", said)]) == []


def test_a_reported_number_says_by_whom_and_where(tiny):
    html = tiny.build("They saw {reported}`77.44 % <someone2023, Table 2>`." + BIBLIOGRAPHY)
    assert re.search(r'<span [^>]*class="reported"[^>]*tabindex="0"[^>]*>77\.44 %</span>', html)
    card = re.search(r'role="tooltip" hidden>(.*?)</div>', html)[1]
    assert "<dd>One 2023</dd>" in card
    assert "<dd>Table 2</dd>" in card


# --- what is typed -------------------------------------------------------------------------------------------


NUMBERS = [
    ("Lion reaches 0.873.", ["0.873"]),
    ("a gain of 12 % and of 3.5%", ["12 %", "3.5%"]),
    ("5 percent, 2 percentage points", ["5 percent", "2 percentage points"]),
    ("-0.22 or −3 or ±100", ["-0.22", "−3", "±100"]),
    ("1e-3 and 2.5E+4 and 3 × 10⁻⁸", ["1e-3", "2.5E+4", "3 × 10⁻⁸"]),
    (
        "3 nats, 4 bytes, 12 GB, 5 s, 7 ms, 10-fold, 2 times",
        ["3 nats", "4 bytes", "12 GB", "5 s", "7 ms", "10-fold", "2 times"],
    ),
    ("n = 8, p < 0.05, over 5 seeds, 12 000 steps", ["8", "0.05", "5 seeds", "12 000 steps"]),
    ("(0.9,0.99) and [0.11, 0.29]", ["0.9", "0.99", "0.11", "0.29"]),
    (".5 and 0.5/0.7", [".5", "0.5", "0.7"]),
    ("between 0.9–0.95", ["0.9", "0.95"]),
    ("0.2\n%", ["0.2 %"]),
    ("提高了12%，达到0.873。", ["12%", "0.873"]),
    ("about 10⁻⁸", ["10⁻⁸"]),
    # Free: whole numbers, names, dates, places in a source, levels.
    ("two of 3 in 2023, 8 × 8 digits, step 200, 32 768 images", []),
    ("float32, ViT-B/16, C8a, X10, v4, 8x8, torch 2.13.0, 2.13.0", []),
    ("2026-11-26 at 02:45", []),
    ("Table 2.1, eq. 3.4, Section 4.2, §5.1, arXiv 2302.06675, Python 3.11", []),
    ("a 95 % interval, 95 percent intervals, the 90 % confidence interval", []),
    ("C1 to C5, steps 1 to 5, no. 2.", []),
]


def test_numbers_that_could_be_results_are_found_and_others_are_not():
    assert [(text, result_like(text)) for text, _ in NUMBERS] == NUMBERS


PAGE = "replications/lion"


TYPED = [
    "It is 0.873 nats.",
    "It is **0.873** nats.",
    "It is $0.873$ nats.",
    r"It is $\approx 0.873$ nats.",
    "It is `0.873` nats.",
    "It is [0.873](index.md) nats.",
    "- It is 0.873 nats.",
    "> It is 0.873 nats.",
    "| gap |\n|---|\n| 0.873 |",
    "```{list-table}\n* - gap\n  - 0.873\n```",
    "```{note}\nIt is 0.873 nats.\n```",
    "```{result-figure} lion/a.svg\n:alt: A line.\n\nIt is 0.873.\n```",
    "```{result-figure} lion/b.svg\n:alt: A line at 0.873.\n\nIt is so.\n```",
    "## Better by 0.873",
    "It is so.[^1]\n\n[^1]: By 0.873.",
    "<div>It is 0.873 nats.</div>",
    "It is <b>0.873</b> nats.",
    "Term\n: It is 0.873.",
]


def test_a_number_typed_on_a_page_of_results_stops_the_build(tiny):
    for file in ("a", "b"):
        tiny.write_figure(f"lion/{file}.svg", DRAWING)
    said = r"lion\.md:\d+: typed number '0\.873(?: nats)?'"
    assert tiny.not_refused([(typed, said) for typed in TYPED], PAGE) == []


def test_a_number_whose_origin_is_said_passes_and_so_does_what_a_directive_prints(tiny):
    tiny.write_page(
        PAGE,
        "# Lion in 2023\n\nMeasured {result}`lion/verdicts:C6.tests[0].estimate`, reported "
        "{reported}`0.873 <someone2023>` at {constant}`0.95` and {constant}`$(0.9, 0.99)$`; "
        "$\\lambda = 0.01$, `lr=0.01`, {cite:t}`someone2023`.\n\n"
        "```python\nx = 0.873\n```\n\n" + CLAIMS,
    )
    tiny.build("It is 0.873 here: no page of results.")
    assert "0.873" in (tiny.output / f"{PAGE}.html").read_text()


def test_all_problems_of_all_pages_are_listed_and_the_next_build_fails_as_well(tiny):
    tiny.write_page(PAGE, "# Lion\n\nIt is 0.873.\n\nAnd 12 %.\n")
    tiny.write_page("replications/emo", "# Emo\n\nIt is 0.5.\n")
    for index in ("", None):
        with pytest.raises(ExtensionError) as failure:
            tiny.build(index)
        assert re.findall(r"(\w+)\.md:(\d+): typed number '([^']+)'", str(failure.value)) == [
            ("emo", "3", "0.5"),
            ("lion", "3", "0.873"),
            ("lion", "5", "12 %"),
        ]
    for name in ("lion", "emo"):
        tiny.write_page(f"replications/{name}", "# So\n\nIt is so.\n")
    tiny.build()


def test_a_result_cannot_be_called_a_constant_or_hidden_in_a_formula(tiny):
    said = r"lion\.md:3: 0\.1993? is lion/verdicts:C6\.tests\[0\]\.estimate, typed"
    cases = [f"It is {typed}." for typed in ("{constant}`0.199`", r"$\Delta = 0.199$ nats", "{constant}`$0.1993$`")]
    assert tiny.not_refused([(text, said) for text in cases], PAGE) == []
    assert typed_results("0.20", {"a": 0.19934}) == [], "two digits may be a coincidence"


def test_a_constant_may_meet_a_clock_s_reading_which_is_another_one_at_the_next_reading():
    measured = measured_texts(ROOT / "results", "lion")
    assert "lion/verdicts:C6.tests[0].estimate" in measured
    assert "lion/verdicts:X11.tests[0].estimate" not in measured


# --- the built book ------------------------------------------------------------------------------------------


def two_digits(test):
    """Format with two digits of the interval's half width, in other words than the extension."""
    half = (test["high"] - test["low"]) / 2
    if half < 1e-6:  # all seeds agree, as on a share of 1: four digits of the value
        return ".4g"
    return f".{max(0, -math.floor(math.log10(half)) + 1)}f"


def two(error):
    return str(round(error)) if 100 <= error < 1e6 else f"{error:.2g}"


def of_variation(claim, variation):
    """Give a variation the unit of the test that it varies."""
    varied = [test for test in looked_up(f"{claim}.tests") if test["estimand"] == variation["of"]]
    return {**variation, "unit": varied[0]["unit"], "rule": ""}


def expected(address, spec):
    """Write a value as a page should: by other means than the extension."""
    value = looked_up(address)
    owner, _, key = address.removesuffix(".value").rpartition(".")
    test = looked_up(owner) if re.search(r"(tests|robustness)\[", owner) else value
    if key.startswith("robustness"):
        value = of_variation(owner, value)
    if ".robustness" in owner:
        test = of_variation(owner.partition(".robustness")[0], test)
    if isinstance(value, dict) and value["rule"] == "identity":
        error, tolerance, control = (value[name] for name in ("max_error", "tolerance", "control_error"))
        return f"largest error {two(error)}, tolerance {tolerance:g}, control {two(control)}"
    if isinstance(value, dict):
        spec = spec or two_digits(value)
        interval = f"{value['estimate']:{spec}} [{value['low']:{spec}}, {value['high']:{spec}}]"
        return f"{interval} {unit_of(value)}".strip() + f", n = {value['n']}"
    if spec or not isinstance(value, float):
        return format(value, spec)
    if key in ("max_error", "control_error", "tolerance"):
        return f"{value:g}" if key == "tolerance" else two(value)
    return f"{value:{two_digits(test)}} {unit_of(test)}".strip()


def test_every_live_number_in_the_html_equals_the_results(html_folder):
    total = 0
    for page in pages_of(html_folder):
        for address, spec, text in PageReader(page).numbers:
            assert text == expected(address, spec), f"{page.name}: {address}"
            total += 1
    assert total > 150


def test_every_number_that_a_page_asks_for_is_in_its_html(html_folder):
    for page in source_pages():
        asked = {role.partition("|")[0].strip() for role in re.findall(r"\{result\}`([^`]+)`", written_text(page))}
        printed = {address for address, _, _ in PageReader((html_folder / page).with_suffix(".html")).numbers}
        assert asked <= printed, page


def test_every_number_is_a_link_and_every_link_within_the_book_leads_to_a_place(html_folder):
    readers = {page.resolve(): PageReader(page) for page in pages_of(html_folder)}
    for page, reader in readers.items():
        assert None not in reader.provenance, page.name
        for link in (link for link in reader.links if not re.match("[a-z]+:", link)):
            target, _, place = link.partition("#")
            file = (page.parent / target).resolve() if target else page
            assert file.is_file(), f"{page.name}: {link}"
            assert not place or place in readers[file].ids, f"{page.name}: {link}"


def test_a_stranger_comes_from_the_index_to_the_code_and_the_data_of_a_number_in_two_clicks(html_folder):
    first = [link for link in PageReader(html_folder / "index.html").links if link.endswith("#claim-lion-c6r")]
    assert first, "the index links to a claim"
    page = (html_folder / first[0].partition("#")[0]).read_text()
    row = re.search(r'<tr(?:(?!</tr>).)*id="claim-lion-c6r".*?</tr>', page, re.DOTALL)[0]
    file, place = re.search(r'class="result"[^>]*href="([^"#]+)#([^"]+)"', row).groups()
    second = (html_folder / "replications" / file).resolve().read_text()
    record = json.loads((ROOT / "results/lion/provenance.json").read_text())
    landing = re.search(rf'<div id="{place}".*?</div>', second, re.DOTALL)[0]
    assert record["command"] in landing
    assert record["commit"][:10] in landing
    assert record["deps"]["data/sotu.parquet"] in landing
    assert f"git show {record['commit'][:10]}:replications/lion/experiment.py" in second
    code = "../code/replications/lion"
    measured, place = f"{code}/studies/language_model.py.html#measure_language_model_and_box", "claims.yaml.html#c6r"
    said = f'<code>lm_gap</code>, said in <a href="{code}/{place}"><code>claims.yaml</code></a> of what'
    assert f'{said} <a href="{measured}">' in landing
    assert f'<a href="{measured}"><code>lm_quality</code></a>' in landing
    assert f'<a href="{code}/optimizer.py.html"><code>optimizer.py</code></a>' in landing


def test_the_runs_behind_a_claim_give_its_number(html_folder):
    behind = about_results(ROOT / "results", ROOT, "lion")["behind"]
    for claims in ("verdicts", "timing_verdicts"):
        for judged in json.loads((ROOT / f"results/lion/{claims}.json").read_text())["claims"]:
            for place, test in enumerate(judged["tests"]):
                found = behind[f"{judged['id']}.tests[{place}]"]
                assert found["rows"], judged["id"]
                if test["rule"] != "identity":
                    values = list(found["values"].values())
                    assert sum(values) / len(values) == pytest.approx(test["estimate"]), judged["id"]
    assert behind["C6.tests[0]"]["arms"] == {"lm_quality": ["adamw", "lion"]}


# --- in a browser --------------------------------------------------------------------------------------------

LIVE = "a.result[data-address='lion/verdicts:C6r.tests[0]']"


def shown_card(page):
    return page.locator(".result-card:not([hidden])")


@needs_browser
def test_a_card_opens_on_hover_stays_under_the_pointer_and_closes_on_escape(address, open_page):
    page = open_page(f"{address}/replications/lion.html")
    number = page.locator(LIVE).first
    number.scroll_into_view_if_needed()
    assert shown_card(page).count() == 0
    number.hover()
    card = shown_card(page)
    assert "estimand lm_gap" in card.inner_text()
    box = card.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= page.viewport_size["width"]
    card.hover()
    page.wait_for_timeout(400)
    assert card.count() == 1, "the pointer may rest on the card"
    page.keyboard.press("Escape")
    assert shown_card(page).count() == 0
    number.hover()
    page.mouse.move(0, 0)
    page.wait_for_function("!document.querySelector('.result-card:not([hidden])')")


@needs_browser
def test_a_card_opens_on_focus_and_enter_follows_the_number(address, open_page):
    page = open_page(f"{address}/replications/lion.html")
    number = page.locator(LIVE).first
    number.focus()
    assert shown_card(page).count() == 1
    assert number.get_attribute("aria-describedby") == shown_card(page).get_attribute("id")
    page.keyboard.press("Escape")
    assert shown_card(page).count() == 0
    page.keyboard.press("Enter")
    page.wait_for_url("**/provenance/lion.html#c6r-tests-0")


@needs_browser
def test_a_first_tap_shows_the_card_and_a_second_follows_the_number(address, browser):
    context = browser.new_context(has_touch=True, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(f"{address}/replications/lion.html", wait_until="domcontentloaded")
    number = page.locator(LIVE).first
    number.scroll_into_view_if_needed()
    number.tap()
    assert shown_card(page).count() == 1
    assert "/replications/" in page.url
    number.tap()
    page.wait_for_url("**/provenance/lion.html#c6r-tests-0")
    context.close()
