"""The README's table of verdicts says what the results say."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def primary_verdicts(root):
    files = sorted(root.glob("results/*/verdicts.json"))
    return [
        (path.parent.name, claim["id"], claim["verdict"])
        for path in files
        for claim in json.loads(path.read_text())["claims"]
        if claim["family"] == "primary"
    ]


def printed_verdicts(readme):
    table = readme.split("<!-- verdicts:begin -->")[1].split("<!-- verdicts:end -->")[0]
    return [tuple(cells) for cells in re.findall(r"^\| (\S+) \| ([CX]\S+): .* \| (.+) \|$", table, flags=re.MULTILINE)]


def test_the_table_lists_every_primary_claim_with_its_verdict():
    expected = primary_verdicts(ROOT)
    assert expected
    assert sorted(printed_verdicts((ROOT / "README.md").read_text())) == sorted(expected)


def test_a_wrong_word_in_the_table_would_be_seen():
    readme = (ROOT / "README.md").read_text()
    name, claim, verdict = primary_verdicts(ROOT)[0]
    wrong = readme.replace(f"| {verdict} |", "| beyond doubt |")
    assert (name, claim, verdict) not in printed_verdicts(wrong)
