"""Citing a result: BibTeX, LaTeX macros, downloads and their schemas, and the record of results that moved."""

import csv
import datetime
import json
import logging
import re
import subprocess
from urllib.parse import urldefrag

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pybtex.database import parse_string
from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import LatexWalker
from results_in_text import citations, numbers_changed
from results_in_text.yaml_files import SCHEMAS, misfits
from sphinx.errors import ExtensionError

from paperkit.results import ResultsError
from tests.built_book import ROOT, PageReader, needs_browser
from tests.tiny_book import CLAIMS, DRAWING, FULL, claim, effect, identity, provenance

EDITION = citations.Edition("A Book & More", "People of 100 % care", "0.1.0", None)
RECORD = provenance(commit="0123456789abcdef0123456789abcdef01234567")


def cited(content=None, *, folder="lion", edition=EDITION, **record):
    return citations.Citation(folder, content or claim(), RECORD | record, edition)


def plain(latex):
    """Read LaTeX back as text."""
    return LatexNodes2Text(strict_latex_spaces=True).latex_to_text(latex)


SAME = str.maketrans({"”": '"', "’": "'", "ˆ": "^", "˙": "·"})


# --- text in LaTeX -------------------------------------------------------------------------------------------


@given(st.text(st.characters(max_codepoint=0x17F, exclude_categories=["Cc", "Zs"])))
@example("'\"")
@example("\"'")
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_escaped_text_reads_back_as_it_was_and_is_sound_latex(text):
    latex = citations.escaped(text)
    LatexWalker(latex, tolerant_parsing=False).get_latex_nodes()
    entry = parse_string(f"@misc{{key, title = {{{latex}}}}}", "bibtex").entries["key"]
    assert entry.fields["title"] == latex.strip()
    # A straight quote becomes two curly ones, and the reader of the test takes two accents for others.
    assert plain(latex).translate(SAME) == text.translate(SAME)


IN_LATEX = [
    ("50 % of a_b & #1 ~ ^", r"50 \% of a\_b \& \#1 {\textasciitilde} {\textasciicircum}"),
    ("{x} \\ $5", r"\ensuremath{\lbrace}x\ensuremath{\rbrace} {\textbackslash} \$5"),
    ("ħ ű Ŧ é", r"\ensuremath{\hbar} \H{u} Ŧ \'e"),
    ("β₁² ≤ η", r"\ensuremath{\beta}\ensuremath{_1}{\texttwosuperior} \ensuremath{\leq} \ensuremath{\eta}"),
    ("科学空间", "科学空间"),
]


def test_every_sign_of_a_text_is_written_for_tex():
    assert [(text, citations.escaped(text)) for text, _ in IN_LATEX] == IN_LATEX


# --- one claim -----------------------------------------------------------------------------------------------


def test_the_bibtex_entry_says_which_claim_verdict_numbers_commit_and_version():
    content = claim(statement="It is better.", verdict="holds, smaller", tests=[effect(unit="% of a_b")])
    database = parse_string(citations.bibtex(cited(content)), "bibtex")
    (key, entry) = next(iter(database.entries.items()))
    assert (key, entry.type) == ("ssr-lion-C6", "misc")
    assert entry.persons["author"][0].last_names == ["{People of 100 \\% care}"]
    assert entry.fields["title"] == "{Claim lion/C6: It is better}"
    assert entry.fields["howpublished"] == r"A Book \& More, version 0.1.0, replications/lion.html\#claim-lion-c6"
    assert entry.fields["note"] == (
        r"Verdict: holds, smaller. Measured: 0.199 [0.110, 0.290] \% of a\_b, n = 8. Commit \texttt{0123456789}"
    )
    assert (entry.fields["year"], entry.fields["version"]) == ("2026", "0.1.0")
    assert "url" not in entry.fields


def test_the_entry_names_the_address_a_correction_and_uncommitted_changes():
    correction = {"statement": "It is worse.", "tests": [effect()]}
    edition = EDITION._replace(address="https://book.example/", doi="10.1234/book")
    entry = citations.bibtex(cited(claim(verdict="corrected", correction=correction), edition=edition, dirty=True))
    fields = parse_string(entry, "bibtex").entries["ssr-lion-C6"].fields
    assert fields["url"] == "https://book.example/replications/lion.html#claim-lion-c6"
    assert fields["howpublished"].endswith(r"\texttt{https://book.example/replications/lion.html\#claim-lion-c6}")
    assert fields["doi"] == "10.1234/book"
    assert "Verdict: corrected" in fields["note"]
    assert "As corrected: It is worse." in fields["note"]
    assert fields["note"].endswith(r"\texttt{0123456789, with changes not yet committed}")


def test_results_of_pretrained_arms_are_cited_by_their_folder_and_stand_on_the_same_page():
    citation = cited(folder="lora_optimizer_pretrained")
    assert citation.id == "lora_optimizer_pretrained/C6"
    assert citation.page == "replications/lora_optimizer"
    assert citations.bibtex(citation).startswith("@misc{ssr-lora-optimizer-pretrained-C6,")


def typeset(source):
    """Run a document through a TeX engine (plasTeX expands macros as TeX does) and return its text."""
    # Not at the top: it replaces the class of all loggers made later, and Sphinx then lets its warnings pass.
    logger_class = logging.getLoggerClass()
    from plasTeX.TeX import TeX, TeXDocument

    logging.setLoggerClass(logger_class)
    document = TeXDocument()
    document.config["files"]["log"] = False
    tex = TeX(document)
    tex.input(f"\\documentclass{{article}}\\begin{{document}}{source}\\end{{document}}")
    tex.parse()
    return " ".join(document.textContent.replace("\u2009", " ").split())


def test_macros_give_the_numbers_that_the_page_prints():
    gap = effect(estimand="row_ratio", estimate=-0.19934, low=-0.29, high=-0.11)
    tests = [gap, identity(tolerance=1e-12), effect(low=None, high=None, estimate=None, n=0)]
    content = claim(tests=tests, verdict="no difference")
    file = citations.macro_file([cited(claim("C1")), cited(content)])
    looked_up = {
        "lion/C1}{value": "0.199",
        "lion/C1}{interval": "[0.110, 0.290]",
        "lion/C1}{n": "8",
        "lion/C1}{unit": "nats",
        "lion/C6}{verdict": "no difference",
        "lion/C6}{commit": "0123456789",
        "lion/C6}{version": "0.1.0",
        "lion/C6/row-ratio}{value": "-0.199",
        "lion/C6/row-ratio}{low": "-0.290",
        "lion/C6/row-ratio}{interval": "[-0.290, -0.110]",
        "lion/C6/step-one}{tolerance": "1\u00d710-12",
    }
    for names, expected in looked_up.items():
        assert typeset(f"{file} \\replicated{{{names}}}") == expected, names
    assert "lion/C6/gap/value" not in file  # not run: nothing to look up


def test_a_name_that_does_not_exist_is_an_error_in_tex():
    missing = r"\catcode`\@=11 \def\errmessage#1{ERROR #1}"
    text = typeset(f"{missing}{citations.macro_file([cited()])} \\replicated{{lion/C6}}{{valu}}")
    assert text.startswith("ERROR No valu of lion/C6")
    assert "ERROR" not in typeset(f"{missing}{citations.macro_file([cited()])} \\replicated{{lion/C6}}{{value}}")

    # Nothing in a name is made active by a package.
    names = citations.macro_values(cited(claim(tests=[effect(), identity()])))
    assert all(re.fullmatch(r"[A-Za-z0-9/-]+", name) for name in names)


# --- the pages, on a tiny project ----------------------------------------------------------------------------


@pytest.fixture
def book(tiny):
    root = tiny.source.parent
    (root / "CITATION.cff").write_text(
        "title: A Book\nversion: 0.1.0\nauthors:\n- name: Some\n- {given-names: A, family-names: B}\n"
    )
    tiny.write_result("lion/provenance", RECORD)
    tiny.write_verdicts([claim(tests=[FULL])])
    tiny.write_page("replications/lion", "# Lion\n\n```{rerun}\n```\n\n" + CLAIMS)
    tiny.write_figure("lion/a.svg", DRAWING)
    return tiny


def state(measured="0.3 [0.2, 0.4] nats, n = 8", verdict="holds", **kept):
    return {"commit": "b" * 10, "verdict": verdict, "measured": [measured]} | kept


def change(old=None, new=None, claim="lion/C6", date="2026-11-24", why="another seed"):
    return {
        "claim": claim,
        "date": date,
        "why": why,
        "old": state(**old or {}, kept_in="c" * 10),
        "new": state(**new or {}),
    }


CITE = "```{citations}\n```"


def test_the_page_of_citations_shows_every_claim_with_entry_macros_and_links_that_lead_to_files(book):
    html = book.build(CITE)
    assert 'id="cite-lion-c6"' in html
    assert 'href="replications/lion.html#claim-lion-c6"' in html
    code = [re.sub("<[^>]+>", "", block) for block in re.findall(r"<pre>.*?</pre>", html, re.DOTALL)]
    assert [text.split("{")[0] for text in code] == ["@misc", r"\providecommand*"]
    assert "<summary" in html
    assert "Until" not in html
    downloads = book.output / "downloads"
    for page in (book.output / "index.html", book.output / "replications/lion.html"):
        links = [page.parent / link for link in PageReader(page).links if "downloads/" in link]
        assert links
        assert [link for link in links if not link.resolve().is_file()] == []
    shown = {path.relative_to(downloads).as_posix() for path in downloads.rglob("*.*")}
    assert {"lion/figures/a.svg", "lion/verdicts.json", "lion/provenance.json", "schemas/claims.schema.json"} <= shown


def test_an_old_value_can_be_found_with_its_commits_and_the_reason(book):
    old = state(verdict="inconclusive", kept_in="c" * 10)
    book.write_changes(change(old={"verdict": "inconclusive"}))
    html = book.build(CITE)
    assert f"Until 2026-11-24: {old['measured'][0]}, inconclusive, commit {'b' * 10} (files in {'c' * 10})." in html
    assert "Changed: another seed." in html
    record = json.loads((book.output / "downloads" / "lion" / "claims.json").read_text())
    assert record["claims"][0]["earlier"][0]["old"] == old


def test_downloads_and_provenance_follow_the_results_and_stay_while_those_do(book):
    book.build(CITE)
    made = [book.output / name for name in ("downloads/lion/table.tex", "provenance/lion.html")]
    before = [path.stat().st_mtime_ns for path in made]
    book.build(f"{CITE}\n\nAnother text.")
    assert [path.stat().st_mtime_ns for path in made] == before
    book.write_verdicts([claim(verdict="contradicted", tests=[FULL])])
    (book.figures / "lion" / "a.svg").unlink()
    book.build()
    folder = book.output / "downloads" / "lion"
    assert json.loads((folder / "claims.json").read_text())["claims"][0]["verdict"] == "contradicted"
    assert not (folder / "figures" / "a.svg").exists()
    assert "C6: contradicted" in (book.output / "provenance/lion.html").read_text()


def test_a_book_that_links_to_no_download_needs_none(tiny):
    tiny.build("{verdict}`lion:C6`")
    assert not (tiny.output / "downloads").exists()


def test_what_a_citation_needs_and_does_not_find_stops_the_build(book):
    root = book.source.parent
    changes = [
        ([change() | {"why": " "}], "why: ' ' does not match"),
        ([change(claim="C6")], "claim: 'C6' does not match"),
        ([change(date="2026-02-30")], "date: '2026-02-30' is not a 'date'"),
        ([change(new={"verdict": "proven"})], "new.verdict: 'proven' is not"),
        (
            [change(new={"measured": "1"}), change(old={"measured": "2"})],
            r"lion/C6 had moved to 1 \(holds\), and its next entry begins at 2 \(holds\)",
        ),
    ]
    where = r"(?s)index\.md:\d+: directive citations.*"
    for recorded, complaint in changes:
        book.write_changes(*recorded)
        assert book.not_refused([(CITE, where + complaint)]) == []
    book.write_changes()
    for file, text, complaint in (
        ("CITATION.cff", "title: A\nauthors: []\n", "CITATION.cff has no 'version'"),
        ("CITATION.cff", None, "CITATION.cff is missing"),
        ("numbers_changed.yaml", None, "numbers_changed.yaml is missing"),
        ("numbers_changed.yaml", "schema: 1\n", "'numbers_changed' is a required property"),
        ("results/lion/provenance.json", None, "provenance.json is missing"),
    ):
        before = (root / file).read_text()
        (root / file).unlink() if text is None else (root / file).write_text(text)
        assert book.not_refused([(CITE, where + complaint)]) == []
        (root / file).write_text(before)
    assert book.refusals([CITE]) == [""]


def test_a_claim_that_its_schema_refuses_stops_the_build(book):
    book.write_verdicts([claim(kind="guess", tests=[FULL])])
    with pytest.raises(ExtensionError, match=r"(?s)claims of lion do not fit.*kind: 'guess' is not one of"):
        book.build(CITE)


# --- schemas -------------------------------------------------------------------------------------------------


def test_schemas_are_schemas_and_every_file_of_verdicts_fits_its_own():
    for path in SCHEMAS.glob("*.json"):
        schema = json.loads(path.read_text())
        Draft202012Validator.check_schema(schema)
        assert schema["$id"] == path.name
    for path in ROOT.glob("results/*/*verdicts.json"):
        assert misfits(json.loads(path.read_text()), "verdicts.schema.json") == [], path


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda content: content.update(extra=1), "'extra' was unexpected"),
        (lambda content: content["claims"][0].update(verdict="proven"), "'proven' is not one of"),
        (lambda content: content["claims"][0].pop("reason"), "'reason' is a required property"),
        (lambda content: content["claims"][0].update(colour="red"), "'colour' was unexpected"),
        (lambda content: content["claims"][0]["tests"][0].update(max_error="0"), "is not of type"),
        (lambda content: content["claims"][0]["tests"][0].pop("tolerance"), "'tolerance' is a required property"),
        (lambda content: content["claims"][0]["tests"][0].update(estimate=1), "'estimate' was unexpected"),
        (lambda content: content["claims"][0]["tests"].clear(), "non-empty"),
    ],
)
def test_damaged_verdicts_do_not_fit(damage, complaint):
    content = json.loads((ROOT / "results" / "lion" / "verdicts.json").read_text())
    damage(content)
    assert any(complaint in line for line in misfits(content, "verdicts.schema.json"))


# --- the record of results that moved ------------------------------------------------------------------------


def run(repository, *command):
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository with one result committed, another on disk, and an empty record."""
    results = tmp_path / "results" / "lion"
    results.mkdir(parents=True)
    (results / "provenance.json").write_text(json.dumps(RECORD))
    write_verdicts(results, [claim(), claim("C7"), claim("C8", tests=[effect(n=0, low=None, high=None)]), claim("C9")])
    (tmp_path / "numbers_changed.yaml").write_text(
        f"schema: 1\ncomplete_since: {'a' * 10}\nnumbers_changed:\n"
        + "\n".join(f"- {line}" for line in [json.dumps(change(claim="lion/X1"))])
        + "\n"
    )
    (tmp_path / "CHANGELOG.md").write_text(f"# C\n\n{numbers_changed.BEGIN}\nold\n{numbers_changed.END}\n\n## 0.0.1\n")
    for command in ("init -q", "add .", "-c user.name=A -c user.email=a@b.c commit -q -m First"):
        run(tmp_path, "git", *command.split())
    write_verdicts(results, [claim(verdict="contradicted"), claim("C7"), claim("C8"), claim("C10")])
    return tmp_path


def write_verdicts(folder, claims):
    content = {"schema": 1, "replication": "lion", "profile": "cpu", "claims": claims}
    (folder / "verdicts.json").write_text(json.dumps(content))


def test_make_changes_records_what_moved_and_writes_the_changelog(repository):
    numbers_changed.main(["--since", "HEAD", "--why", "It was wrong: a sign."], repository)
    first, recorded = numbers_changed.read_changes(repository / "numbers_changed.yaml")
    assert first["claim"] == "lion/X1"
    measured = ["0.199 [0.110, 0.290] nats, n = 8"]
    assert recorded == {
        "claim": "lion/C6",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "why": "It was wrong: a sign.",
        "old": {"commit": "0123456789", "verdict": "holds", "measured": measured}
        | {"kept_in": run(repository, "git", "rev-parse", "HEAD")[:10]},
        "new": {"commit": "0123456789", "verdict": "contradicted", "measured": measured},
    }
    changelog = (repository / "CHANGELOG.md").read_text()
    assert "  - lion/C6: from 0.199 [0.110, 0.290] nats, n = 8 (holds) to 0.199 [0.110, 0.290]" in changelog
    assert changelog.index("It was wrong") < changelog.index("another seed")
    assert "\nold\n" not in changelog
    assert changelog.endswith(f"{numbers_changed.END}\n\n## 0.0.1\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--since", "HEAD"], "WHY is missing"),
        (["--since", "HEAD", "--why", "  "], "WHY is missing"),
        (["--since", "nowhere", "--why", "A"], "git rev-parse .*nowhere.*name a commit"),
    ],
)
def test_make_changes_refuses_what_it_cannot_record_and_leaves_the_files_alone(repository, arguments, complaint):
    files = [repository / name for name in ("numbers_changed.yaml", "CHANGELOG.md")]
    before = [path.read_text() for path in files]
    with pytest.raises(SystemExit, match=f"(?s)error: .*{complaint}"):
        numbers_changed.main(arguments, repository)
    assert [path.read_text() for path in files] == before


def test_make_changes_refuses_a_second_record_of_one_move_and_a_comparison_without_difference(repository):
    numbers_changed.main(["--since", "HEAD", "--why", "A"], repository)
    before = (repository / "numbers_changed.yaml").read_text()
    with pytest.raises(SystemExit, match=r"lion/C6 had moved to .*contradicted.*begins at .*holds"):
        numbers_changed.main(["--since", "HEAD", "--why", "A"], repository)
    assert (repository / "numbers_changed.yaml").read_text() == before
    run(repository, "git", "checkout", "-q", "--", "results")
    with pytest.raises(SystemExit, match="no claim prints anything else than in HEAD"):
        numbers_changed.main(["--since", "HEAD", "--why", "A"], repository)


def test_the_changelog_needs_its_marks():
    with pytest.raises(ResultsError, match="lacks the marks"):
        numbers_changed.with_changes("# C\n", [])


def test_the_changelog_says_what_the_record_says():
    changes = numbers_changed.read_changes(ROOT / "numbers_changed.yaml")
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert numbers_changed.with_changes(changelog, changes) == changelog, "run `make changes`"


def unrecorded(changes, before, now):
    """Name the claims that moved since a state of all claims, and whose record does not lead to what they say now."""
    moved = numbers_changed.moved(before, now, kept_in="0" * 10, why="?", date=datetime.date.min)
    led = {one["claim"]: {key: one["new"][key] for key in ("verdict", "measured")} for one in changes}
    recorded = {claim for claim, end in led.items() if end == {key: now[claim][key] for key in end}}
    return sorted({one["claim"] for one in moved} - recorded | led.keys() - recorded)


def test_every_result_that_moved_is_in_the_record():
    if run(ROOT, "git", "rev-parse", "--is-shallow-repository") != "false":
        pytest.skip("a shallow clone: fetch the history")
    path = ROOT / "numbers_changed.yaml"
    since = re.search(r"^complete_since: (\w+)$", path.read_text(), re.MULTILINE)[1]
    changes, before = numbers_changed.read_changes(path), numbers_changed.states_in(since)
    now = numbers_changed.states_of(ROOT / "results")
    assert unrecorded(changes, before, now) == [], "record them: make changes SINCE=<commit with the old ones> WHY=..."
    assert unrecorded(changes, before, now | {"lion/C6": state()}) == ["lion/C6"]
    assert unrecorded(changes, before, now | {"lion/C2": state()}) == ["lion/C2"]


def unlike_git(changes):
    """Name the claims whose old state is not that of the commit which the entry names."""
    kept = {commit: numbers_changed.states_in(commit) for commit in {one["old"]["kept_in"] for one in changes}}
    of_git = [
        kept[one["old"]["kept_in"]].get(one["claim"], {}) | {"kept_in": one["old"]["kept_in"]} for one in changes
    ]
    return [one["claim"] for one, old in zip(changes, of_git, strict=True) if one["old"] != old]


def test_every_old_number_of_the_record_is_the_one_that_git_holds():
    if run(ROOT, "git", "rev-parse", "--is-shallow-repository") != "false":
        pytest.skip("a shallow clone: fetch the history")
    first, *rest = numbers_changed.read_changes(ROOT / "numbers_changed.yaml")
    assert unlike_git([first, *rest]) == []
    edited = first | {"old": first["old"] | {"measured": ["2.13 [1.79, 2.45] ratio, n = 8"]}}
    assert unlike_git([edited]) == [first["claim"]]


# --- the real book -------------------------------------------------------------------------------------------

FOLDERS = sorted(path.parent.name for path in ROOT.glob("results/*/verdicts.json"))


def claims_of(folder):
    files = sorted(ROOT.glob(f"results/{folder}/*verdicts.json"))
    return [claim for path in files for claim in json.loads(path.read_text())["claims"]]


def test_every_claim_can_be_cited_and_its_row_found(html_folder):
    page = PageReader(html_folder / "cite.html")
    for folder in FOLDERS:
        for content in claims_of(folder):
            row = f"claim-{folder}-{content['id']}".lower().replace("_", "-")
            assert row.replace("claim", "cite", 1) in page.ids
            assert any(urldefrag(link).fragment == row for link in page.links)


@pytest.mark.parametrize("folder", FOLDERS)
def test_downloads_are_complete_and_say_what_the_results_say(html_folder, folder):
    offered = html_folder / "downloads" / folder
    for path in [*ROOT.glob(f"results/{folder}/*.*"), *ROOT.glob(f"figures/{folder}/*.svg")]:
        copy = offered / ("figures" if path.suffix == ".svg" else ".") / path.name
        assert copy.read_bytes() == path.read_bytes()
    content = {f"{folder}/{claim['id']}": claim for claim in claims_of(folder)}
    record = json.loads((offered / "claims.json").read_text())
    assert misfits(record, "claims.schema.json") == []
    assert {one["cite_as"]: one["verdict"] for one in record["claims"]} == {
        claim_id: claim["verdict"] for claim_id, claim in content.items()
    }
    rows = list(csv.DictReader((offered / "claims.csv").read_text().splitlines()))
    tests = [
        test for claim in content.values() for test in claim["tests"] + claim.get("correction", {}).get("tests", [])
    ]
    assert sorted((row["estimand"], row["estimate"] or row["max_error"]) for row in rows) == sorted(
        (test["estimand"], str(number if (number := test.get("estimate", test.get("max_error"))) is not None else ""))
        for test in tests
    )
    entries = parse_string((offered / "claims.bib").read_text(), "bibtex").entries
    assert len(entries) == len(content)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_latex_files_can_be_typeset(html_folder, folder):
    offered = html_folder / "downloads" / folder
    file = (offered / "claims.tex").read_text()
    claims = {
        f"{folder}/{content['id']}".replace("_", "-"): content["verdict"] or "no verdict"
        for content in claims_of(folder)
    }
    looked_up = "".join(rf"{name} \replicated{{{name}}}{{verdict}}; " for name in claims)
    assert typeset(f"{file} {looked_up}") == " ".join(f"{name} {verdict};" for name, verdict in claims.items())
    table = (offered / "table.tex").read_text()
    (nodes, _, _) = LatexWalker(table, tolerant_parsing=False).get_latex_nodes()
    assert [node.environmentname for node in nodes if hasattr(node, "environmentname")] == ["longtable"]
    rows = [line for line in table.partition(r"\endlastfoot")[2].splitlines() if line.endswith(r"\\")]
    assert len(rows) == len(claims_of(folder))
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {3}


@needs_browser
def test_an_entry_can_be_copied_and_a_link_to_it_opens_it(address, open_page):
    page = open_page(f"{address}/cite.html#cite-lion-c6")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    entry = page.locator("details:has(#cite-lion-c6)")
    assert entry.get_attribute("open") is not None
    block = entry.locator(".highlight-bibtex")
    block.hover()
    block.locator("button.copybtn").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == block.locator("pre").inner_text().strip()
    assert list(parse_string(copied, "bibtex").entries) == ["ssr-lion-C6"]
    assert page.locator("details:has(#cite-lion-c2)").get_attribute("open") is None
