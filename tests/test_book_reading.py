"""What leads a reader on: code behind a number, files below a figure, sections in search, previews and lists."""

import json
import re

import pytest
from results_in_text.code_files import Code

from tests.tiny_book import CLAIMS, DRAWING, FULL, claim

ESTIMANDS = '''\
"""Numbers."""
from collections import Counter


def gap(runs):
    """Take <one> from another."""
    return runs


@property
def other(runs):
    return gap(runs)
ratio = partial(other, metric="log")
NAMES = "third", ratio
low, high = (partial(one, split="test") for one in (gap, ratio))
'''
CHECKS = "def step_one(): ...\ndef two(): ...\nCHECKS = {'step_one': step_one, 'step_two': two}\n"
STUDY = """\
from replications.lion import betas
from replications.lion.optimizer import Lion
from replications.lion.studies.arms import ARMS, measure_arm
def run(config, runner):
    searches = [Search("quality", arm) for arm in ARMS]
    tuned = tune(runner, measure_trial, searches)
    grid = [Run("quality", arm, 0, tuned) for arm in ARMS]
    rows = [*execute(runner, measure, grid), *execute(runner, measure_arm, listed(config.studies))]
    grid = [Run(f"budget_{n}", "lion", 0, tuned) for n in config.budgets]
    other = [Run("other", "lion", 0, grid)]
    return [*rows, *execute(runner, measure_budget, grid), *execute(runner, measure_other, other)]
def measure_trial(run: Run): ...
def measure(run: Run): ...
def measure_budget(run: Run): ...
def measure_other(run: Run):
    return {"mapped": (measure_arm, measure_trial)}[run.experiment]
"""
PARAMS = "cpu:\n  studies: {in_params: {arms: 2}}\n  quality: {steps: 1}\ngpu:\n  whole: {steps: 2}\n"
FIGURES = """\
def draw(runs, figures):
    draw_lines(runs, figures / "curves.svg")
def draw_lines(runs, path):
    pass
"""
CLAIMS_FILE = "schema: 1\nclaims:\n- id: C1\n  statement: a\n- id: C6\n  statement: b\n"


@pytest.fixture
def book(tiny):
    """A tiny book whose replication has code and a figure with numbers."""
    folder = tiny.replications / "lion"
    (folder / "studies").mkdir()
    texts = {"estimands": ESTIMANDS, "studies/quality": STUDY, "figures": FIGURES, "checks": CHECKS}
    # No experiment.py: the book asks a replication's code for the runs behind its claims.
    texts |= {
        "studies/arms": "ARMS = 1\ndef measure_arm(run: Run): ...\n",
        "studies/whole": 'NAME = "quality"\ndef measure_whole(run: Run): ...\n',
        "betas": "",
        "optimizer": "class Lion: ...\n",
        "test_lion": "",
    }
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "claims.yaml").write_text(CLAIMS_FILE)
    (folder / "params.yaml").write_text(PARAMS)
    tiny.write_figure("lion/curves.svg", DRAWING)
    tiny.write_figure("lion/curves.csv", "panel,x,y\n1,2,3\n")
    return tiny


def test_a_name_of_the_results_leads_to_the_code_that_it_stands_for(book):
    code, folder = Code(book.replications.parent, "lion"), "code/replications/lion"
    functions = {"gap": "gap", "ratio": "other", "low": "gap", "high": "other"}
    assert {name: code.estimand(name) for name in functions} == {
        name: f"{folder}/estimands.py.html#{function}" for name, function in functions.items()
    }
    assert code.estimand("step_one") == f"{folder}/checks.py.html#step_one"
    assert code.estimand("step_two") == f"{folder}/checks.py.html#two"
    assert code.estimand("third") == ""
    assert code.claim("C6") == f"{folder}/claims.yaml.html#c6"
    assert code.measured_by(["quality", "quality_longer"]) == [f"{folder}/studies/quality.py.html#measure"]
    assert code.figure("curves.svg") == f"{folder}/figures.py.html#draw_lines"
    assert Code(book.replications.parent, "nobody").figure("curves.svg") == ""


def test_code_is_shown_whole_and_each_definition_is_a_place(book):
    book.build("{result}`lion/verdicts:C6.tests[0].n`")
    folder = book.output / "code/replications/lion"
    page = (folder / "estimands.py.html").read_text()
    assert re.findall(r'class="definition" id="(\w+)"', page) == ["gap", "other", "ratio", "NAMES", "high", "low"]
    shown = re.sub("<[^>]+>", "", page[page.index("<pre>") : page.index("</pre>")])
    assert shown.replace("&lt;", "<").replace("&gt;", ">") == ESTIMANDS
    assert '<a href="../../../provenance/lion.html">lion</a>' in page
    assert 'id="c6"' in (folder / "claims.yaml.html").read_text()
    assert not (folder / "test_lion.py.html").exists()
    before = (folder / "betas.py.html").stat().st_mtime_ns
    (book.replications / "lion/estimands.py").write_text("def gap(): ...\n")
    book.build("Another text.")
    assert "Take" not in (folder / "estimands.py.html").read_text()
    assert (folder / "betas.py.html").stat().st_mtime_ns == before


def test_below_a_figure_are_its_script_its_numbers_and_its_drawing(book):
    figure = "# Lion\n\n```{result-figure} lion/curves.svg\n:alt: A line.\n\nThe caption.\n```\n"
    book.write_page("replications/lion", figure)
    book.build("Nothing.")
    html = (book.output / "replications/lion.html").read_text()
    line = re.search(r'<p class="figure-files">(.*?)</p>', html)[1]
    links = dict(re.findall(r'<a href="([^"]+)">([^<]+)</a>', line))
    assert list(links.values()) == ["script", "numbers (CSV)", "SVG"]
    script, numbers, drawing = links
    assert script == "../code/replications/lion/figures.py.html#draw_lines"
    assert (book.output / "replications" / numbers).read_text() == "panel,x,y\n1,2,3\n"
    assert (book.output / "replications" / drawing).is_file()
    assert re.search(rf'<a [^>]*href="{re.escape(drawing)}"><img alt="A line\."', html)


def test_an_experiment_leads_to_the_function_that_measures_it(book):
    code, studies = Code(book.replications.parent, "lion"), "code/replications/lion/studies"
    methods = ["replications/lion/betas.py", "replications/lion/optimizer.py"]
    for name in ("quality", "quality_longer"):
        assert code.experiment(name) == (f"{studies}/quality.py.html#measure", methods)
    assert code.experiment("budget_8") == (f"{studies}/quality.py.html#measure_budget", methods)
    assert code.experiment("other") == (f"{studies}/quality.py.html#measure_other", methods)
    for name in ("mapped_2", "in_params", "in_params_longer"):
        assert code.experiment(name) == (f"{studies}/arms.py.html#measure_arm", [])
    assert code.experiment("elsewhere") == ("code/replications/lion/checks.py.html#CHECKS", [])
    # At a profile with settings of its own the study that has them measures it.
    on_gpu = Code(book.replications.parent, "lion_gpu")
    assert on_gpu.experiment("quality") == (f"{studies}/whole.py.html#measure_whole", [])


# --- search --------------------------------------------------------------------------------------------------


def index_of(book):
    return json.loads((book.output / "searchindex.js").read_text().removeprefix("Search.setIndex(")[:-1])


def found(index, word, kind="terms"):
    places = index[kind].get(word, [])
    return {index["docnames"][place] for place in ([places] if isinstance(places, int) else places)}


def test_each_section_is_in_the_index_by_itself_and_stays_there(book):
    book.write_page("steps", "# Steps\n\nWalrus.\n\n## Half swap\n\nOyster.\n\n### Below\n\nCarpenter.\n")
    book.write_page("other", "# Other\n")
    book.build("Nothing.")
    for _ in range(2):
        index = index_of(book)
        assert found(index, "walru") == {"steps"}
        assert found(index, "oyster") == {"steps", "steps#half-swap"}
        assert found(index, "carpent") == {"steps", "steps#below"}
        assert found(index, "swap", "titleterms") == {"steps#half-swap"}
        assert "Steps > Half swap" in index["titles"]
        book.write_page("other", "# Other\n\nChanged.\n")
        book.build()


def test_what_is_there_to_be_copied_is_not_in_the_index(book):
    book.write_verdicts([claim(tests=[FULL])])
    book.write_page("replications/lion", "# Lion\n\n" + CLAIMS)
    html = book.build("```{citations}\n```")
    assert "csname" in html
    assert found(index_of(book), "csname") == found(index_of(book), "howpublish") == set()


# --- previews and lists --------------------------------------------------------------------------------------


def test_a_page_says_in_its_head_what_it_is_about(book):
    html = book.build('What is **it** "about"?\n\nMore.')
    assert '<meta property="og:title" content="Index" />' in html
    assert '<meta name="description" content="What is it “about”?" />' in html
    assert "og:url" not in html
    pages = (book.output / "llms.txt").read_text()
    assert "- [Index](index.html): What is it “about”?" in pages
    assert not (book.output / "sitemap.xml").exists()


def test_a_book_with_an_address_has_a_sitemap(book):
    (book.source / "conf.py").write_text(
        (book.source / "conf.py").read_text() + "html_baseurl = 'https://book.example/'\n"
    )
    book.write_page("other", "# Other\n")
    html = book.build("What?")
    assert '<meta property="og:url" content="https://book.example/index.html" />' in html
    assert re.findall("<loc>(.*?)</loc>", (book.output / "sitemap.xml").read_text()) == [
        "https://book.example/index.html",
        "https://book.example/other.html",
    ]
