"""The book prints results only as their runs give them, and survives damage of what it keeps."""

import pytest
from results_in_text import code_runner
from sphinx.errors import ExtensionError

from paperkit.claims.verdicts import write_verdicts
from paperkit.provenance import file_md5
from paperkit.results import write_costs, write_json, write_runs
from tests.tiny_book import CLAIMS, TinyBook, provenance

CLAIM = """\
schema: 1
claims:
- id: C6
  statement: It is better.
  source: {bib: someone2023, where: Table 2}
  tests:
  - value: {experiment: quality, arm: new, metric: gain_nats}
    rule: greater
    bound: 0
    margin: 0.1
    unit: nats
"""


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A tiny book of one replication, with runs, and verdicts and a record made of them."""
    made = TinyBook(tmp_path)
    folder = made.results / "lion"
    (made.replications / "lion/claims.yaml").write_text(CLAIM)
    for path in ("__init__.py", "lion/__init__.py", "lion/experiment.py"):
        (made.replications / path).touch()
    row = {"profile": "cpu", "experiment": "quality", "arm": "new", "config": {}, "split": "test", "step": 1}
    rows = [row | {"seed": seed, "metric": "gain_nats", "value": 1 + seed / 10, "status": "ok"} for seed in range(5)]
    write_runs(folder / "runs.csv", rows)
    write_costs(folder / "costs.csv", [])
    write_json(folder / "provenance.json", provenance(outs={"runs.csv": file_md5(folder / "runs.csv")}))
    monkeypatch.chdir(tmp_path)
    write_verdicts("lion", timing=False)
    made.write_page("replications/lion", "# Lion\n\n" + CLAIMS)
    return made


def test_results_edited_by_hand_stop_the_build_and_each_file_is_named(book, monkeypatch):
    assert "holds" in book.build("{verdict}`lion:C6`")
    monkeypatch.setattr(code_runner, "ask_code", lambda *_: pytest.fail("asked again, though nothing has changed"))
    book.build()
    monkeypatch.undo()
    folder = book.results / "lion"
    for file, old, new in (
        ("runs.csv", "1.4,ok", "1.5,ok"),
        ("verdicts.json", '"holds"', '"contradicted"'),
        ("metrics.json", '"n": 5', '"n": 50'),
    ):
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))
    (folder / ".runs.csv.7.partial").touch()
    with pytest.raises(ExtensionError) as refused:
        book.build("{verdict}`lion:C6`")
    for sentence in (
        "results are not what their runs give, and no page is made of them:",
        "results/lion/runs.csv is not what provenance.json says its stage has written",
        "results/lion/.runs.csv.7.partial is of no stage",
        "results/lion/verdicts.json is not what lion's runs and claims.yaml give, first at claims[C6]",
        "results/lion/metrics.json is not what lion's runs and claims.yaml give",
    ):
        assert sentence in str(refused.value)


@pytest.mark.parametrize("damage", [b"", b"5", b"[]", b'{"a": 1', b"\xff", b"cut", b"edited"])
def test_a_damaged_answer_is_asked_for_again(damage, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(code_runner, "ask_code", lambda *_: asked.append(1) or {"answer": "right"})
    (tmp_path / "file").touch()
    ask = lambda: code_runner.kept_answer(tmp_path, "results", "lion", depends=[tmp_path / "file"])  # noqa: E731
    assert (ask(), ask(), len(asked)) == ({"answer": "right"}, {"answer": "right"}, 1)
    (kept,) = (tmp_path / ".paperkit/book").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes({b"cut": whole[:-3], b"edited": whole.replace(b"right", b"wrong")}.get(damage, damage))
    assert (ask(), len(asked), kept.read_bytes()) == ({"answer": "right"}, 2, whole)
