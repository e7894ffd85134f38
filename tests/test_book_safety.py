"""Text from YAML files is text: no tag, image of another host or command of TeX in it reaches a reader."""

import csv
import re

import pytest
from results_in_text import citations

from tests.test_book_citations import CITE, RECORD, cited
from tests.test_book_errata import entry
from tests.tiny_book import CLAIMS, FULL, claim

TAGS = "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<img src='https://host.example/x.png'>"
A_BLOCK = "\n\n<div onclick='alert(1)'>\nA\n</div>\n"


@pytest.fixture
def book(tiny):
    """A tiny book with a page of citations and one of a replication."""
    tiny.write_result("lion/provenance", RECORD)
    tiny.write_verdicts([claim(tests=[FULL])])
    tiny.write_page("replications/lion", "# Lion\n\n" + CLAIMS)
    return tiny


def test_a_tag_in_a_statement_is_shown_and_does_not_run(book):
    errata = [entry(id=f"E{n}", effect=f"It is {t}", evidence=[{"reading": f"A {t}"}]) for n, t in enumerate(TAGS, 1)]
    path = book.replications / "lion/errata.yaml"
    path.write_text(f"schema: 1\nerrata: {[*errata, entry(id='E9', effect=f'It is {A_BLOCK}')]}\n")
    judged = [claim(f"C{place}", statement=f"It is {tag} better.", tests=[FULL]) for place, tag in enumerate(TAGS, 4)]
    book.write_verdicts(judged)
    book.write_page("replications/lion", "# Lion\n\n```{errata}\n```\n\n" + CLAIMS)
    pages = book.build(CITE), (book.output / "replications/lion.html").read_text()
    for html in pages:
        for tag in TAGS:
            assert tag not in html
            assert f"&lt;{tag[1:4]}" in html
    assert A_BLOCK.strip().splitlines()[0] not in pages[1]
    assert "&lt;div onclick" in pages[1]


def test_what_loads_from_another_host_or_runs_stops_the_build_and_says_where(tiny):
    cases = [
        ("![A](https://host.example/x.png)", r"image https://host\.example/x\.png lies on another host"),
        (r"$\href{javascript:alert(1)}{x}$", r"\\href in mathematics"),
        ("$$\n\\require{html} x\n$$", r"\\require in mathematics"),
        (r"$\input{secret}$", r"\\input in mathematics"),
        (r"$\write18{ls}$", r"\\write in mathematics"),
        (r"$\renewcommand{\lambda}{x}$", r"\\renewcommand in mathematics"),
    ]
    assert tiny.not_refused([(text, rf"index\.md:\d+: {said}") for text, said in cases]) == []


def test_no_directive_passes_html_on(tiny):
    with pytest.raises(Exception, match="disabled"):
        tiny.build("```{raw} html\n<b>1</b>\n```")


def test_a_language_and_a_mark_are_said_without_html(tiny):
    with (tiny.source / "conf.py").open("a") as settings:
        settings.write("myst_enable_extensions += ['attrs_inline']\n")
    html = tiny.build("| a |\n|---|\n| [数]{.language-zh} |\n| [“字。”]{.mark .language-zh} |\n")
    assert '<span lang="zh">数</span>' in html
    assert '<span class="mark" lang="zh">“字。”</span>' in html


# --- what readers fetch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("maths", [r"\input{secret}", r"\^^69nput{secret}", r"\csname input\endcsname", "a % b", "#1"])
@pytest.mark.parametrize("write", [citations.bibtex, lambda one: citations.latex_table([one])])
def test_a_command_of_tex_in_a_statement_is_text_in_files_for_tex(maths, write):
    written = write(cited(claim(statement=f"It is ${maths}$ better.")))
    assert rf"\${citations.escaped(maths)}\$" in written
    assert f"${maths}$" not in written


def test_a_commit_or_a_version_brings_no_command_into_files_for_tex():
    one = cited(commit="}\\input{a}", edition=citations.Edition("A\n\\input{b}", "A", "1\n\\input{c}", None))
    texts = citations.bibtex(one), citations.macros(one), citations.latex_table([one]), citations.macro_file([one])
    assert not [line for text in texts for line in text.splitlines() if re.match(r"[^%].*\\input", line)]


def test_a_cell_of_csv_is_no_formula_and_a_negative_number_stays_one():
    for begin in "=+-@":
        judged = claim(statement=f"{begin}HYPERLINK(1)", tests=[{**FULL, "estimate": -0.25}])
        (row,) = csv.DictReader(citations.claims_csv([cited(judged)]).splitlines())
        assert (row["statement"], row["estimate"]) == (f"'{begin}HYPERLINK(1)", "-0.25")


# --- other ways to build --------------------------------------------------------------------------------------


def test_the_book_is_read_in_several_processes_without_a_warning(book):
    with (book.source / "conf.py").open("a") as settings:
        settings.write("extensions.insert(0, 'sphinx-mathjax-offline')  # which does not say that it allows this\n")
    for number in range(8):
        book.write_page(f"page{number}", f"# Page {number}\n\n{{verdict}}`lion:C6`\n")
    assert "cite-lion-c6" in book.build(CITE, processes=2)
    assert (book.output / "downloads/lion/claims.json").is_file()


@pytest.mark.parametrize("builder", ["latex", "text"])
def test_other_writers_know_every_node_of_the_page_of_citations(book, builder):
    text = book.build(CITE, builder=builder)
    assert "lion/C6" in text
    assert "@misc" in text
