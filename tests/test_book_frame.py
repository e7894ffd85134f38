"""What the frame of a replication's pages says by itself, and that the pages of one replication can be built alone."""

import re
import shutil
from contextlib import chdir

import pytest
from sphinx.errors import ExtensionError

from paperkit.claims.verdicts import write_verdicts
from paperkit.pages import lone_page_problems
from paperkit.results import read_json, read_runs, write_runs
from paperkit.runs import Run
from tests.built_book import BOOK, ROOT
from tests.made_up_runs import made_up_row
from tests.tiny_book import BIBLIOGRAPHY, CLAIMS, FULL, SENTENCES, claim, effect, provenance, rows_of, text_of

PAGE, BELOW = "replications/lion", "replications/lion/derivation"
OWN_CLAIMS = CLAIMS.replace(" lion", "")


@pytest.fixture
def book(tiny):
    claims = [claim("C1", family=None), claim("C6"), claim("C8", "contradicted")]
    tiny.write_verdicts([judged | {"tests": [FULL]} for judged in claims])
    (tiny.replications / "lion" / "params.yaml").write_text(
        "smoke:\n  steps: 2\n\ncpu:\n  # Few.\n  steps: 9\n\ngpu: {}\n"
    )
    both = {"C6": SENTENCES, "C8": SENTENCES | {"claim": "Rows drift"}}
    tiny.write_about("lion", posts=[1], question="What does lion do?", claims=both)
    return tiny


def built(book, page, name=PAGE):
    book.write_page(name, f"# Lion\n\n{page}\n\n")
    book.build("{ref}`list <cite-lion>`\n\n(cite-lion)=\n## Cite")
    return (book.output / f"{name}.html").read_text()


def test_the_headline_shows_the_primary_claims_in_the_words_of_about_yaml(book):
    html = built(book, f"```{{headline}}\n```\n\n{OWN_CLAIMS}")
    shown = [row.partition(" What another verdict would have said") for row in rows_of(html, "headline")]
    rows = ["It is better ( C6 ) holds It is better.", "Rows drift ( C8 ) contradicted It is worse."]
    assert [row.replace(" .", ".") for row, *_ in shown] == rows
    assert shown[0][2].endswith(
        "Its loss minus that before: 0.199 [0.110, 0.290] nats, n = 8 (a positive number favours the claim)"
    )
    assert html.count('href="#claim-lion-c6"') == 1


def test_the_headline_shows_the_sentences_of_all_other_outcomes_and_stops_where_one_is_missing(book):
    html = built(book, f"```{{headline}}\n```\n\n{OWN_CLAIMS}")
    (elsewhere, _) = re.findall(r'<details class="[^>]*elsewhere.*?</details>', html, re.DOTALL)
    others = "holds, smaller : It is hardly better. contradicted : It is worse. no difference : It is the same. "
    assert text_of(elsewhere) == f"What another verdict would have said {others}inconclusive : It may be better."
    book.write_verdicts([claim("C6", "holds, fragile", tests=[FULL, FULL])])
    assert "and 1 more" in text_of(built(book, f"```{{headline}}\n```\n\n{OWN_CLAIMS}"))
    book.write_about(
        "lion", posts=[1], question="What does lion do?", claims={"C6": {"claim": "It is", "number": "a"}}
    )
    with pytest.raises(ExtensionError, match=r"headline: about\.yaml has no sentence for claim C6 with .*'holds'"):
        book.build()


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("```{params} emo\n```", r"emo.provenance\.json is missing"),
        ("```{rerun} emo\n```", r"directive rerun: .*emo/verdicts\.json is missing; `dvc repro` makes it"),
    ],
)
def test_what_the_frame_cannot_say_stops_the_build(book, page, complaint):
    with pytest.raises((ExtensionError, ValueError), match=complaint):
        built(book, page)


def test_a_sentence_of_about_yaml_types_no_number(book):
    typed = {"C6": SENTENCES | {"claim": "It is 0.5 nats better"}, "C8": SENTENCES}
    book.write_about("lion", posts=[1], question="What does lion do?", claims=typed)
    with pytest.raises(ExtensionError, match=r"lion\.md:\d+: typed number '0.5 nats'"):
        built(book, f"```{{headline}}\n```\n\n{OWN_CLAIMS}")


def test_a_page_of_no_replication_names_the_results_that_it_shows(book):
    with pytest.raises(ExtensionError, match="directive claims: this is no replication's page, so name a folder"):
        book.build(OWN_CLAIMS)


def test_parameters_are_those_of_the_profile_that_was_run_and_follow_the_file(book):
    path = book.replications / "lion" / "params.yaml"
    assert "cpu: # Few. steps : 9" in text_of(built(book, "```{params}\n```")).replace("cpu :", "cpu:")
    path.write_text(path.read_text().replace("9", "11"))
    book.build()
    assert "11" in text_of((book.output / f"{PAGE}.html").read_text())
    path.write_text("smoke: {}\n")
    with pytest.raises(ExtensionError, match=r"params\.yaml has no block cpu"):
        book.build()


def test_rerun_names_the_stages_and_what_they_ran_with_in_live_numbers(book):
    book.write_result("lion/timing_provenance", provenance(stage="lion_timing", wall_s=7.2))
    html = built(book, "```{rerun}\n```")
    shown = text_of(html).replace(" ,", ",").replace(" ;", ";")
    for words in (
        "dvc repro lion lion_timing runs this replication alone",
        "of profile cpu, from the code at commit 2b27a3d69a; with 2 processes on a machine of class Intel x86_64",
        "lion took 62 seconds and lion_timing took 7 seconds",
        "To cite a claim, take its entry from the list",
    ):
        assert words in shown
    assert 'data-address="lion/timing_provenance:wall_s"' in html
    assert 'href="../downloads/lion/claims.bib"' in html


def test_a_replication_without_errata_says_so_and_the_rules_of_pages_bind_those_below(book):
    assert "We found no error in the sources." in built(book, "```{errata}\n```")
    with pytest.raises(ExtensionError, match=r"derivation\.md:3: typed number '0.5 nats'"):
        built(book, "It is 0.5 nats.", BELOW)
    with pytest.raises(ExtensionError, match=r"derivation\.md:3: 0\.199 is lion/verdicts:C1"):
        built(book, "{constant}`0.199`", BELOW)


# --- a replication that ran at several profiles ------------------------------------------------------------------


@pytest.fixture
def scaled(book):
    """The book with results of a second profile, which judged one of the claims."""
    larger = claim("C6", "contradicted", tests=[FULL | effect(estimate=-0.777, n=5)])
    book.write_verdicts([larger], name="lion_gpu", profile="gpu")
    book.write_result("lion_gpu/provenance", provenance(profile="gpu", device={"name": "A card"}, wall_s=5400.0))
    for folder, steps, metric in (("lion", 600, "loss_nats"), ("lion_gpu", 2000, "parameters")):
        config = {"batch": 8, "context": 64, "steps": steps}
        rows = [made_up_row(Run("lm", "lion", 0, config), "none", steps, metric, 12_345_678.0)]
        rows.append(made_up_row(Run("noise", "lion", 0, {"batch": 9}), "none", 0, "drift", 1.0))
        write_runs(book.results / folder / "runs.csv", rows)
    return book


def test_a_page_shows_the_claims_of_every_profile_and_each_verdict_beside_the_others(scaled):
    html = built(scaled, f"```{{headline}}\n```\n\n{OWN_CLAIMS}")
    both = "holds cpu contradicted gpu"
    rows = [row.partition(" ) ")[2].partition(" What another ")[0] for row in rows_of(html, "headline")]
    assert rows == [f"{both} It is better. It is worse.", "contradicted It is worse."]
    (cpu,), (gpu,) = (
        re.findall(rf'<tr[^>]*>(?:(?!<tr).)*id="claim-{folder}-c6".*?</tr>', html, re.DOTALL)
        for folder in ("lion", "lion-gpu")
    )
    assert text_of(cpu).startswith(f"C6 primary {both} It is")
    assert text_of(gpu).startswith(f"C6 primary {both} It is")
    assert "At profile gpu" in text_of(html)
    assert html.count('href="#claim-lion-gpu-c6"') == 3


def test_a_profile_that_is_run_later_enters_the_page(scaled):
    shutil.move(scaled.results / "lion_gpu", scaled.results.parent / "later")
    assert "At profile" not in built(scaled, OWN_CLAIMS)
    shutil.move(scaled.results.parent / "later", scaled.results / "lion_gpu")
    scaled.build()
    assert "At profile gpu" in (scaled.output / f"{PAGE}.html").read_text()


def test_a_value_of_any_profile_is_not_typed_by_hand(scaled):
    with pytest.raises(ExtensionError, match=r"0\.777 is lion_gpu/verdicts:C6\.tests\[0\]\.estimate, typed by hand"):
        built(scaled, "{constant}`0.777`")


def test_the_scale_of_every_profile_stands_beside_that_of_the_source(scaled):
    sentence = {"text": "A model of 12 layers, 300 epochs.", "bib": "someone2023", "where": "Table 2"}
    scaled.write_about("lion", posts=[1], question="What does lion do?", scale=sentence)
    html = built(scaled, f"```{{scale}}\n```{BIBLIOGRAPHY}")
    assert rows_of(html, "scales") == [
        "cpu a net of three weights Intel x86_64 – 307,200 8 0.017",
        "gpu a large net A card 12,345,678 parameters 1,024,000 5 1.5",
    ]
    assert "The source: A model of 12 layers, 300 epochs ( One [ One23 ] , Table 2)." in text_of(html)
    scaled.write_about("lion", posts=[1], question="What does lion do?", scale={"text": "Large."})
    with pytest.raises(ExtensionError, match=r"(?s)directive scale: .*'bib' is a required property"):
        scaled.build()


def test_rerun_says_how_to_run_the_other_profiles(scaled):
    assert "make gpu NAME=lion runs profile gpu, or says what it lacks." in text_of(built(scaled, "```{rerun}\n```"))


# --- the pages of one replication alone -------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["{ref}`it <cite-lion-c6>`", "{ref}`it <claim-emo-c6>`", "[it](emo.md)"])
def test_alone_a_page_names_what_was_left_out_and_makes_files_of_its_own_results_only(book, reference):
    book.write_page("replications/emo", "# Emo\n")
    book.write_verdicts([claim()], name="emo")
    book.write_page(PAGE, f"# Lion\n\nSee {reference}.\n\n```{{rerun}}\n```\n\n{OWN_CLAIMS}")
    html = book.build(root=PAGE)
    assert "See it." in text_of(html).replace(" .", ".")
    assert {path.name for path in (book.output / "provenance").iterdir()} == {"lion.html"}
    assert {path.name for path in (book.output / "downloads").iterdir()} == {"lion", "schemas"}


@pytest.mark.parametrize("reference", ["{ref}`it <claim-lion-c9>`", "{ref}`it <nowhere>`", "[it](nowhere.md)"])
def test_alone_a_page_that_refers_to_nothing_is_refused_all_the_same(book, reference):
    book.write_page(PAGE, f"# Lion\n\nSee {reference}.\n")
    with pytest.raises(Exception, match=r"claim-lion-c9|nowhere"):
        book.build(root=PAGE)


# --- the real pages ---------------------------------------------------------------------------------------------


def test_one_replications_pages_are_built_alone_and_what_is_wrong_with_them_is_said(tmp_path):
    for name in ("paperkit", "replications", "requirements.lock", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    # A copy, since the address of an image is found through links, and loses a space in it.
    shutil.copytree(ROOT / "figures", tmp_path / "figures")
    shutil.copytree(ROOT / "results", tmp_path / "results")
    for name in ("CITATION.cff", "numbers_changed.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(BOOK, tmp_path / "book", ignore=shutil.ignore_patterns("_build"))
    assert lone_page_problems(tmp_path, "sector_points") == []
    with (tmp_path / "book/replications/sector_points/derivation.md").open("a") as page:
        page.write("\nBy 0.5 nats.\n")
    words = alter_seeds(tmp_path)
    assert words[0] == "holds"
    assert words[-1] == "inconclusive"
    outdated, _, typed = lone_page_problems(tmp_path, "sector_points")
    assert re.match(r"book/replications/sector_points/derivation\.md:\d+: typed number '0\.5 nats'", typed)
    outcome = (
        rf"this line states an outcome, and it was written for sector_points:C5 'holds', which is '{words[-1]}' now"
    )
    assert re.match(rf"book/replications/sector_points\.md:\d+: {outcome}", outdated)


def alter_seeds(root):
    """Move thrown points of one seed after another, until the word of C5 changes; return its words."""
    table, words = root / "results/sector_points/runs.csv", []
    with chdir(root):
        while len(set(words)) < 2:
            write_verdicts("sector_points", timing=False)
            judged = read_json(root / "results/sector_points/verdicts.json")["claims"]
            words += [claim["verdict"] for claim in judged if claim["id"] == "C5"]
            runs = read_runs(table)
            is_moved = (runs["experiment"] == "thrown_4") & (runs["metric"] == "share_minus_formula")
            is_moved &= runs["seed"] == 200 + len(words)
            write_runs(table, runs.assign(value=runs["value"] + 0.01 * is_moved).to_dict("records"))
    return words
