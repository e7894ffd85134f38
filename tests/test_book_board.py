"""The board of verdicts, the map of posts, search in two languages, and cells that run, on a tiny book."""

import re
import shutil

import pytest
from results_in_text.code_runner import CPU_LIMIT_S, run_cell
from results_in_text.records import VERDICT_CLASSES, VERDICT_ORDER
from results_in_text.search import SearchEnglishAndChinese
from results_in_text.yaml_files import read_posts

from paperkit.pages import page_sources
from paperkit.pipeline import found_replications
from paperkit.results import ResultsError
from tests.built_book import BOOK, ROOT
from tests.tiny_book import CLAIMS, claim, identity, posts

BOARD, MAP = "```{verdict-board}\n```", "```{posts-map}\n```"


def facets_of(html):
    """Facet, value and sort key of every cell, in the order of the page."""
    found = re.findall(r"<span (data-[^>]+)>", html)
    return [dict(re.findall(r'data-(\w+)="([^"]*)"', attributes)) for attributes in found]


def values_of(html, facet):
    return [entry["value"] for entry in facets_of(html) if entry["facet"] == facet]


# --- the board -----------------------------------------------------------------------------------------------


def test_the_board_has_a_row_for_each_claim_with_all_that_it_is_filtered_by(tiny):
    tiny.write_page("replications/lion", "# Lion page\n\n" + CLAIMS)
    tiny.write_verdicts([
        claim("C10", "contradicted"),
        claim("C2", kind="identity", family=None, tests=[identity()]),
        claim("X1", None, kind="exploratory", family=None),
    ])
    tiny.write_verdicts([claim("C3", kind="timing", family=None)], file="timing_verdicts")
    html = tiny.build(BOARD)
    assert values_of(html, "verdict") == ["contradicted", "holds", "no verdict", "holds"]
    assert values_of(html, "kind") == ["primary", "identity", "exploratory", "timing"]
    assert values_of(html, "profile") == ["cpu"] * 4
    assert values_of(html, "replication") == ["lion"] * 4
    assert values_of(html, "topic") == ["Optimizers"] * 4
    assert html.count('href="replications/lion.html#claim-lion-c10"') == 1
    keys = sorted((entry["order"], entry["value"]) for entry in facets_of(html) if entry["facet"] == "verdict")
    assert [value for _, value in keys] == ["contradicted", "holds", "holds", "no verdict"]


def test_the_board_sorts_every_verdict_that_there_is(tiny):
    assert set(VERDICT_ORDER) == set(VERDICT_CLASSES)
    tiny.write_page("replications/lion", "# Lion page\n\n" + CLAIMS)
    tiny.write_verdicts([claim(f"C{place}", word) for place, word in enumerate(VERDICT_CLASSES)])
    verdicts = [entry for entry in facets_of(tiny.build(BOARD)) if entry["facet"] == "verdict"]
    shown = [entry["value"] for entry in sorted(verdicts, key=lambda entry: entry["order"])]
    assert shown == [word or "no verdict" for word in VERDICT_ORDER]


def test_results_of_a_replication_that_does_not_say_what_it_is_about_stop_the_build(tiny):
    tiny.write_verdicts([claim()], name="tiger")
    said = r"index\.md:\d+: directive verdict-board: .*tiger/about\.yaml is missing"
    assert tiny.not_refused([(BOARD, said)]) == []


# --- the map -------------------------------------------------------------------------------------------------


def test_the_map_shows_every_post_with_its_state_and_links_to_pages_that_are_there(tiny):
    tiny.write_page("replications/lion", "# Lion\n\n" + CLAIMS)
    html = tiny.build(MAP)
    assert values_of(html, "state") == ["done", "in work", "in work", "next", "nothing to run"]
    assert [entry["order"][0] for entry in facets_of(html) if entry["facet"] == "state"] == list("01124")
    assert 'href="replications/lion.html"' in html
    assert "replications/emo.html" not in html
    assert html.count("训练狮优化器") == 5
    assert 'href="https://kexue.fm/archives/4"' in html


def test_a_post_that_is_taken_up_needs_no_change_of_the_list_and_one_that_is_given_back_neither(tiny):
    def states():
        content = read_posts(tiny.source / "posts.yaml", tiny.results, tiny.replications)
        return {post["archive"]: post["state"] for post in content.posts}

    tiny.write_about("new", posts=[4], question="What does the new one do?")
    assert states()[4] == "in work"
    tiny.write_verdicts([claim()], name="new")
    assert states()[4] == "in work"
    tiny.write_page("replications/new", "# New\n")
    assert states()[4] == "done"
    shutil.rmtree(tiny.replications / "new")
    assert states()[4] == "next"
    shutil.rmtree(tiny.replications / "emo")
    assert states()[2] == "later"


def test_a_list_of_posts_that_contradicts_itself_and_a_replication_that_contradicts_it_are_refused(tiny):
    def refused(content, complaint):
        tiny.write_posts(content)
        with pytest.raises(ResultsError, match=complaint):
            read_posts(tiny.source / "posts.yaml", tiny.results, tiny.replications)

    for place, change, complaint in (
        (3, {"state": "in work"}, "name a replication for 'in work', and for no other"),
        (3, {"replication": "new"}, "name a replication for 'in work', and for no other"),
        (3, {"state": "done"}, r"posts\.3\.state: 'done' is not one of"),
        (0, {"topic": "cats"}, r"post 1: no topic 'cats'; there are losses, optimizers"),
        (1, {"archive": 1}, "post 1 is given twice"),
        (3, {"kinds": []}, "post 4: `kinds` is empty exactly where there is nothing to run"),
        (4, {"kinds": ["tool"]}, "post 5: `kinds` is empty exactly where"),
        (4, {"colour": "red"}, "'colour' was unexpected"),
        (0, {"archive": 9}, r"replications/lion/about\.yaml names post 1; add it to the list"),
    ):
        content = posts()
        content["posts"][place].update(change)
        refused(content, complaint)
    for change, complaint in (
        ({"posts": [1]}, "post 1 is named by lion and new; leave it to one"),
        ({"question": "New."}, "'New.' does not match"),
        ({"colour": "red"}, "'colour' was unexpected"),
    ):
        tiny.write_about("new", **({"posts": [4], "question": "What does the new one do?"} | change))
        refused(posts(), complaint)


def test_a_map_that_is_refused_stops_the_build_and_says_where(tiny):
    tiny.write_posts(posts() | {"topics": {"losses": "Losses"}})
    said = r"index\.md:\d+: directive [\w-]+: (?s:.*)no topic 'optimizers'"
    assert tiny.not_refused([(BOARD, said), (MAP, said)]) == []


def test_every_replication_and_every_post_of_the_list_is_on_the_map():
    content = read_posts(BOOK / "posts.yaml", ROOT / "results", ROOT / "replications")
    assert list(content.replications) == found_replications(ROOT)
    assert len(content.posts) == 34
    assert [post["date"] for post in content.posts] == sorted(post["date"] for post in content.posts)


def test_a_replication_brings_its_bibliography_in_its_folder(tiny):
    entry = "@misc{own2023, title={Another title}, author={Two, Some}, year={2023}}\n"
    (tiny.replications / "lion/references.bib").write_text(entry)
    html = tiny.build("See {cite:t}`own2023` and {cite:t}`someone2023`.\n\n```{bibliography}\n```\n")
    assert "Another title" in html


# --- search --------------------------------------------------------------------------------------------------


def test_text_is_indexed_by_words_and_by_pieces_of_chinese():
    cases = {
        "Lion_2 优化": ["Lion_2", "优", "化", "优化"],
        "训练狮。": ["训", "练", "狮", "训练", "练狮", "训练狮"],
        "λ=0.5": ["λ", "0", "5"],
        "": [],
    }
    assert {text: SearchEnglishAndChinese({}).split(text) for text in cases} == cases


# --- cells that run ------------------------------------------------------------------------------------------


def test_a_cell_is_shown_with_what_it_printed_and_follows_the_code_and_results(tiny):
    package = tiny.source.parent / "replications" / "lion"
    package.mkdir(parents=True, exist_ok=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "number.py").write_text("number = 1\n")
    tiny.write_result("lion/costs", [7])
    code = 'from replications.lion.number import number\nprint("got", number + 1, *open("results/lion/costs.json"))'
    html = tiny.build(f"```{{run-cell}}\n{code}\n```")
    assert re.search(r"run-cell-output.*<pre><span></span>got 2 \[7\]\n</pre>", html, re.DOTALL)
    (package / "number.py").write_text("number = 41.5\n")
    assert re.search(r"got 42\.5 \[7", tiny.build())
    tiny.write_result("lion/costs", [8])
    assert re.search(r"got 42\.5 \[8", tiny.build())


def test_a_cell_that_does_not_work_stops_the_build(tiny):
    cases = [
        ("", "nothing to run"),
        ("1 / 0", "ZeroDivisionError"),
        ("import warnings; print(1); warnings.warn('old')", "failed or warned.*\n.*old"),
        ("x = 1", "printed nothing"),
        ("import replications.nobody", "No module named"),
    ]
    where = r"index\.md:\d+: directive run-cell: .*(?s:.*)"
    assert tiny.not_refused([(f"```{{run-cell}}\n{code}\n```", where + said) for code, said in cases]) == []


def test_a_cell_that_takes_too_long_is_refused(monkeypatch):
    monkeypatch.setattr("results_in_text.code_runner.CPU_LIMIT_S", 1)
    with pytest.raises(ValueError, match="1 s of processor time; a cell is to take 5"):
        run_cell("while True: pass", ROOT)
    assert CPU_LIMIT_S >= 5


def test_a_cell_runs_on_one_thread_with_the_pins_of_the_results_and_in_the_repository():
    names = "e['OMP_NUM_THREADS'], e['ATEN_CPU_CAPABILITY'], e['PYTHONHASHSEED'], path.exists('dvc.yaml')"
    assert run_cell(f"from os import environ as e, path; print({names})", ROOT) == "1 avx2 0 True"


def test_every_replication_has_a_cell_to_run():
    for name in found_replications(ROOT):
        text = "\n".join(page.read_text() for page in page_sources(ROOT, name))
        cells = re.findall(r"^```\{run-cell\}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        said = f"show the algorithm of {name} on real data in a few lines"
        assert any(f"from replications.{name}." in cell for cell in cells), said
