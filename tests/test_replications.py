"""Every replication is complete (paperkit.completeness), found on disk so that none is forgotten or has to be listed.

Each rule is asked on the committed tree, and on a toy repository that is broken on purpose.
"""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

import replications
from paperkit import pipeline, readiness
from paperkit.claims.verdicts import write_verdicts
from paperkit.completeness import (
    FILES,
    MAX_CURVE_POINTS,
    MAX_RUNS_BYTES,
    RESULTS,
    RULES,
    RULES_OF_RESULTS,
    TIMING_RESULTS,
    first_difference,
    folders_of_results,
    forbidden_names,
    older_versions,
    orphans,
    problems,
)
from paperkit.history import no_history
from paperkit.pages import SECTIONS
from paperkit.pipeline import found_replications, write_pipeline
from paperkit.provenance import code_hash, file_md5, fingerprint, import_closure
from paperkit.readiness import SLOW_RULES, check, smoke_problems, style_problems
from paperkit.results import read_json, write_costs, write_json, write_runs, write_trials
from tests.tiny_repository import commit, git

ROOT = Path(__file__).resolve().parents[1]
CHECKS = RULES | RULES_OF_RESULTS | {"smoke run": smoke_problems}
NAMES = found_replications(ROOT)
FOLDERS = [folder for name in NAMES for folder in folders_of_results(ROOT, name)]
# test_smoke.py asks for the smoke run, and the build of the book, which conftest.py makes, for the recomputation. The
# registration is that of all replications, whichever is named.
OTHERWISE = ("registration", "recomputation")
ASKED = [(rule, name) for rule, name in product(RULES, NAMES) if rule not in OTHERWISE]
ASKED += [(rule, folder) for rule, folder in product(RULES_OF_RESULTS, FOLDERS) if rule not in OTHERWISE]
ASKED += [("registration", NAMES[0])]


@pytest.mark.parametrize(("rule", "name"), ASKED)
def test_every_replication_is_complete_and_consistent(rule, name):
    if rule == "history" and (reason := no_history(ROOT)):
        pytest.skip(f"not checked: {reason}")
    assert problems(CHECKS[rule], ROOT, name) == []


def test_a_replication_is_found():
    assert found_replications(ROOT)


def test_nothing_belongs_to_a_replication_that_is_gone():
    assert orphans(ROOT) == []


def test_no_file_has_a_name_that_says_nothing():
    assert forbidden_names(ROOT) == []


# --- the same checks on a toy repository, whole and broken --------------------------------------------------------

MAIN = (
    "def main(*_, **__): ...\nConfig = run = TIMING = None\n"
    'main(Config, run, stage="toy{}", module="replications.toy.{}"{})\n'
)
WORDS = ("holds", "holds, smaller", "contradicted", "no difference", "inconclusive")
TOY = {
    "README.md": f"<!-- {pipeline.BEGIN} -->\n<!-- {pipeline.END} -->\n",
    "requirements.lock": "numpy==2.4.6 \\\n    --hash=sha256:0\n",
    "book/_toc.yml": f"root: index\nparts:\n- chapters:\n  # {pipeline.BEGIN}\n  # {pipeline.END}\n",
    "book/replications/toy.md": "\n".join([
        "# Toy",
        "```{result-figure} toy/gap.svg",
        "```",
        *map("## {}".format, SECTIONS),
    ]),
    "book/replications/toy/derivation.md": "# Toy: the derivation\n",
    "figures/toy/gap.svg": "<svg/>\n",
    "paperkit/runs.py": "",
    "replications/__init__.py": "",
    # Stands for the real one where the toy is run.
    "paperkit/claims/__main__.py": (
        "import json, pathlib\n"
        "claims = [{'id': 'X1', 'kind': 'experiment', 'verdict': 'not tested at this scale'}]\n"
        "pathlib.Path('results/toy').mkdir(parents=True, exist_ok=True)\n"
        "pathlib.Path('results/toy/verdicts.json').write_text(json.dumps({'claims': claims}))\n"
    ),
    **{f"replications/toy/{file}": "" for file in ("__init__.py", "mean.py")},
    "replications/toy/about.yaml": (
        "posts: [1]\nquestion: Is it so?\nanswer: {text: It is so., given: toy:X1 holds}\nclaims:\n  X1:\n"
        + "".join(f"    {word}: {word} it is.\n" for word in ("claim", "number", *WORDS))
    ),
    "replications/toy/checks.py": "CHECKS = {'half': None}\n",
    "book/posts.yaml": "posts: [{archive: 1}]\n",
    "replications/toy/test_mean.py": "def test_the_mean():\n    pass\n",
    "replications/toy/experiment.py": MAIN.format("", "experiment", ""),
    "replications/toy/timing.py": MAIN.format("_timing", "timing", ", kind=TIMING"),
    "replications/toy/figures.py": (
        "import pathlib\n"
        "pathlib.Path('figures/toy').mkdir(parents=True)\n"
        "pathlib.Path('figures/toy/gap.svg').write_text('<svg/>')\n"
    ),
    "replications/toy/params.yaml": "smoke: {steps: 1}\ncpu: {steps: 2}\n",
    "replications/toy/timing.yaml": "smoke: {rounds: 1}\ncpu: {rounds: 2}\n",
    "replications/toy/estimands.py": (
        "def gap(runs):\n"
        "    table = runs[runs['step'] == 2].pivot(index='seed', columns='arm', values='value')\n"
        "    return table['new'] - table['old']\n"
    ),
    "replications/toy/claims.yaml": "schema: 1\nclaims:\n"
    + "".join(
        f"- {{id: {key}, statement: {key} is so., source: {{bib: null, where: ours}}, kind: {kind},\n"
        f"   family: {family}, reported: {{value: null, unit: null, unverified: false}}, profile: cpu, min_seeds: 5,\n"
        f"   tests: [{{estimand: gap, rule: greater, bound: 0, margin: 0.1, unit: nats, pilot_sd: 0.02}}]{more}}}\n"
        for key, kind, family, more in (
            ("X1", "experiment", "primary", ", robustness: [{name: again, estimand: gap}]"),
            ("X2", "timing", "null", ""),
        )
    )
    + "- {id: X3, statement: It is half., source: {bib: null, where: ours}, tests: [{check: half, tolerance: 0.0}]}\n",
}


def rows(profile: str = "cpu", points: int = 2) -> list[dict[str, Any]]:
    """Make a run of the check, and runs of two arms and five seeds, in which the new arm is better by 1 on average."""
    return [
        {"profile": profile, "experiment": "quality", "arm": arm, "seed": seed, "config": {}, "split": "test"}
        | {"step": step, "metric": "score", "value": gain + seed * (0.1 + 0.01 * gain), "status": "ok"}
        for arm, gain in (("old", 0.0), ("new", 1.0))
        for seed in range(5)
        for step in range(1, points + 1)
    ] + [
        {"profile": profile, "experiment": "identities", "arm": "half", "seed": 0, "config": {}, "split": "none"}
        | {"step": 0, "metric": metric, "value": error, "status": "ok"}
        for metric, error in (("max_error", 0.0), ("control_error", 0.5))
    ]


def trials(seeds: tuple[int, ...] = (1000, 1001, 1002), experiment: str = "quality") -> list[dict[str, Any]]:
    """Make the ledger of a search with one trial, selected on these seeds."""
    return [
        {"profile": "cpu", "experiment": experiment, "arm": "new", "trial": 0, "seed": seed, "config": {}}
        | {"metric": "score", "value": 1.0, "status": "ok", "selected": True, "at_edge": False}
        for seed in seeds
    ]


def no_problems(root: Path, name: str) -> list[str]:
    """Stand for a build of the toy's page; tests/test_new.py builds a real one."""
    return []


def closure_with_toy(module: str) -> tuple[str, ...]:
    """Say what a module imports, the toy's too, which Python cannot find."""
    return (module,) if module.startswith("replications.toy") else import_closure(module)


def ran_at(root: Path) -> dict[str, Any]:
    """Make the part of a record that names the commit of all that is there now."""
    head, claims = git(root, "rev-parse", "HEAD"), (root / "replications/toy/claims.yaml").read_bytes()
    hashes = {"lock_sha256": sha256((root / "requirements.lock").read_bytes()).hexdigest()}
    return hashes | {"commit": head, "dirty": False, "claims": {"commit": head, "sha256": sha256(claims).hexdigest()}}


def lock(root: Path) -> None:
    """Let dvc.lock note what the records say."""
    stages = {}
    for path in root.glob("results/toy*/*provenance.json"):
        record, folder = read_json(path), path.parent.relative_to(root)
        outs = {f"{folder}/{table}": digest for table, digest in record["outs"].items()}
        noted = {"deps": record["deps"], "outs": outs}
        stages[record["stage"]] = {
            key: [{"path": of, "md5": md5} for of, md5 in hashes.items()] for key, hashes in noted.items()
        }
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository with one replication, complete and consistent."""
    root = tmp_path_factory.mktemp("toy")
    for file, text in TOY.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text, encoding="utf-8")
    commit(root)
    results = root / "results/toy"
    write_runs(results / "runs.csv", rows())
    write_runs(results / "timings.csv", rows())
    write_trials(results / "trials.csv", trials())
    write_costs(results / "costs.csv", [])
    for file, tables in (
        ("provenance.json", ("runs.csv", "trials.csv")),
        ("timing_provenance.json", ("timings.csv",)),
    ):
        deps = {"replications/toy/mean.py": code_hash(root / "replications/toy/mean.py"), "data/text.parquet": "0a"}
        versions = {"numpy": "2.4.6"}
        stage = "toy_timing" if "timing" in file else "toy"
        record = {"stage": stage, "profile": "cpu", "versions": versions, "deps": deps, "kernels": {"torch": "AVX2"}}
        record |= ran_at(root) | {"machine_class": "Intel x86_64 glibc-2.36, torch AVX2", "started": "2026-11-27"}
        outs = {table: file_md5(results / table) for table in tables}
        write_json(results / file, record | {"fingerprint": fingerprint("cpu", deps, versions), "outs": outs})
    lock(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replications, "__path__", [*replications.__path__, str(root / "replications")])
        patch.setattr(pipeline, "import_closure", closure_with_toy)
        patch.setitem(SLOW_RULES, "page, built alone", no_problems)
        with chdir(root):
            write_verdicts("toy", timing=False)
            write_verdicts("toy", timing=True)
        write_pipeline(root)
        commit(root)
        yield root
    for module in ("replications.toy", "replications.toy.checks", "replications.toy.estimands"):
        sys.modules.pop(module, None)


@pytest.fixture
def broken(toy: Path, tmp_path: Path) -> Path:
    """A copy of the toy repository that a test may break."""
    return Path(shutil.copytree(toy, tmp_path / "toy"))


def remove(*files: str) -> Callable[[Path], None]:
    """Make a break that removes files."""
    return lambda root: [(root / file).unlink() for file in files]


def change(file: str, old: str, new: str) -> Callable[[Path], None]:
    """Make a break that changes a text."""

    def apply(root: Path) -> None:
        text = (root / file).read_text(encoding="utf-8")
        assert old in text
        (root / file).write_text(text.replace(old, new), encoding="utf-8")

    return apply


def write(file: str, text: str = "") -> Callable[[Path], None]:
    """Make a break that adds a file."""

    def apply(root: Path) -> None:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text, encoding="utf-8")

    return apply


def check_errs(error: float, control: float) -> Callable[[Path], None]:
    """Make a break after which the smoke run measures these errors of the check and of its control."""
    experiment = "import os\ndef main(): os.renames('replications/toy/smoke.csv', 'results/toy/runs.csv')\nmain()\n"

    def apply(root: Path) -> None:
        errors = {"max_error": error, "control_error": control}
        measured = [row | {"value": errors[row["metric"]]} for row in rows("smoke") if row["metric"] in errors]
        write_runs(root / "replications/toy/smoke.csv", measured)
        write(EXPERIMENT, experiment)(root)

    return apply


def receipt(outcome: str, word: str = "holds", outs: dict[str, str] | None = None) -> Callable[[Path], None]:
    """Make a break that writes a receipt of these results, whose rerun gave a word and tables."""

    def apply(root: Path) -> None:
        record = read_json(root / RECORD)
        tables = dict.fromkeys(record["outs"], True)
        made = {"against": record, "reruns": [{"tables": outs or record["outs"]}], "tables": tables}
        made |= {"verdicts": {"X1": ["holds", word]}, "metrics": {"X1.tests[0]": {"inside": True}}}
        write_json(root / "receipts/toy/some_machine.json", made | {"outcome": outcome})

    return apply


def rerun(file: str, **settings: Any) -> Callable[[Path], None]:
    """Make a break that replaces a table of measurements."""
    return lambda root: write_runs(root / "results/toy" / file, rows(**settings))


def retrial(seeds: tuple[int, ...]) -> Callable[[Path], None]:
    """Make a break that replaces the ledger."""
    return lambda root: write_trials(root / "results/toy/trials.csv", trials(seeds))


def move_estimate(factor: float) -> Callable[[Path], None]:
    """Make a break that multiplies the committed estimate."""

    def apply(root: Path) -> None:
        verdicts = read_json(root / "results/toy/verdicts.json")
        verdicts["claims"][0]["tests"][0]["estimate"] *= factor
        write_json(root / "results/toy/verdicts.json", verdicts)

    return apply


def recorded(results: str, **changes: Any) -> Callable[[Path], None]:
    """Make a break that changes a stage's record."""

    def apply(root: Path) -> None:
        path = root / "results" / results / "provenance.json"
        write_json(path, read_json(path) | changes)

    return apply


CLAIMS = "replications/toy/claims.yaml"
ABOUT = "replications/toy/about.yaml"
PAGE = "book/replications/toy.md"
VERDICTS = "results/toy/verdicts.json"
RUNS = "results/toy/runs.csv"
TRIALS = "results/toy/trials.csv"
EXPERIMENT = "replications/toy/experiment.py"
RECORD = "results/toy/provenance.json"
MEAN = "replications/toy/mean.py"
FIGURE = "figures/toy/gap.svg"
UNKNOWN = "0" * 40
HALF_TO_THIRD = change(CLAIMS, "check: half", "check: third")
BREAKS: dict[str, dict[str, tuple[Callable[[Path], None], str]]] = {
    "shape": {
        **{f"no {file}": (remove(f"replications/toy/{file}"), f"{file} is missing") for file in FILES},
        "no timing.yaml": (remove("replications/toy/timing.yaml"), "timing.yaml is missing"),
        "no algorithm": (remove(MEAN), "no <algorithm>.py"),
        "no test of the algorithm": (remove("replications/toy/test_mean.py"), "no <algorithm>.py"),
        "no smoke block": (change("replications/toy/params.yaml", "smoke:", "tiny:"), "no block smoke"),
        "no cpu block": (change("replications/toy/timing.yaml", "cpu:", "gpu:"), "no block cpu"),
    },
    "registration": {
        "no stage": (change("dvc.yaml", "  toy:", "  other:"), "dvc.yaml is not what"),
        "a stage without its module": (remove("replications/toy/timing.py"), "dvc.yaml is not what"),
        "a module with another stage's name": (
            change(EXPERIMENT, 'stage="toy"', 'stage="other"'),
            "main(stage='other'); by its folder it is 'toy'",
        ),
        "page not in the contents": (change("book/_toc.yml", "/toy", "/other"), "_toc.yml is not what"),
        "a verdict typed into the README": (change("README.md", "**holds**", "**-**"), "README.md is not"),
        "no place for the verdicts": (change("README.md", "end -->", "-->"), "has lost the lines"),
        "an answer to another outcome": (
            change(VERDICTS, '"verdict": "holds"', '"verdict": "inconclusive"'),
            "about.yaml, answer: it was written for toy:X1 'holds', which is 'inconclusive' now",
        ),
        "an answer to no outcome": (
            change(ABOUT, "toy:X1 holds", "toy holds"),
            "'toy holds' is no verdict; write `lion:C6 contradicted`",
        ),
    },
    "claims": {
        "too few seeds for the margin": (change(CLAIMS, "pilot_sd: 0.02", "pilot_sd: 1"), "seeds: take them"),
        "a source that nobody knows": (change(CLAIMS, "bib: null", "bib: nobody2020"), "cites nobody2020"),
        "a primary claim that nothing is asked about": (
            change(CLAIMS, ", robustness: [{name: again, estimand: gap}]", ""),
            "the primary claim X1 has no key 'robustness'",
        ),
    },
    "smoke run": {
        "settings that are refused": (
            change("replications/toy/timing.py", "Config =", "raise SystemExit('toy: rounds is 0')\nConfig ="),
            "--out results/toy` fails: toy: rounds is 0",
        ),
        "a verdict from a smoke run": (
            change("paperkit/claims/__main__.py", "not tested at this scale", "holds"),
            "claim X1 is 'holds' at smoke scale",
        ),
        "figures that draw nothing": (write("replications/toy/figures.py", "pass\n"), "figures.py draws no .svg"),
        "runs that are kept": (
            write(EXPERIMENT, "import os\ndef main(): os.makedirs('.paperkit/runs/toy')\nmain()\n"),
            "kept its runs",
        ),
        "a check that errs otherwise": (check_errs(0.1, 0.5), "the check half errs by 0.1, its committed run by 0"),
        "a control that does not fail": (check_errs(0.0, 1e-3), "control of the check half errs by 0.001 alone"),
        "a table that main does not name": (
            lambda root: (
                write("data/poems.parquet")(root),
                change(EXPERIMENT, "main(C", "open('data/poems.parquet')\nmain(C")(root),
            ),
            "No such file or directory: 'data/poems.parquet'",
        ),
    },
    "checks": {
        "a check without a claim": (HALF_TO_THIRD, "the check half decides no claim"),
        "a claim without its check": (HALF_TO_THIRD, "names the check third, which CHECKS"),
    },
    "about": {
        "a post that nobody knows": (change("book/posts.yaml", "1", "2"), "about.yaml names post 1"),
        "an outcome without a sentence": (
            change(ABOUT, "    inconclusive: inconclusive it is.\n", ""),
            "about.yaml has no 'inconclusive' for claim X1",
        ),
        "a sentence for what cannot come": (
            change(CLAIMS, "bound: 0, margin: 0.1, unit: nats, pilot_sd: 0.02", "bound: 0, margin: null, unit: nats"),
            "about.yaml has 'holds, smaller' for claim X1, whose rule cannot give it",
        ),
        "a sentence for a claim that is not there": (change(ABOUT, "  X1:", "  X7:"), "about.yaml speaks of claim X7"),
    },
    "page": {
        "no page": (remove(PAGE), "toy.md is missing"),
        "no derivation": (remove("book/replications/toy/derivation.md"), "toy/derivation.md is missing"),
        "another section": (change(PAGE, "## Results", "## Numbers"), "it needs exactly"),
    },
    "results": {
        **{f"no {file}": (remove(f"results/toy/{file}"), f"{file} is missing") for file in RESULTS + TIMING_RESULTS},
        "a table edited by hand": (
            change(TRIALS, "score,1.0", "score,2.0"),
            "trials.csv is not what provenance.json says",
        ),
        "a table that is gone": (remove(TRIALS), "trials.csv is not what"),
        "a table of no stage": (write("results/toy/more.csv"), "more.csv is of no stage"),
    },
    "figures": {
        "a figure nobody sees": (write("figures/toy/extra.svg"), "on no page"),
        "a figure that is not drawn": (remove(FIGURE), "not drawn"),
        "no figure at all": (remove(FIGURE, PAGE), "holds no .svg"),
    },
    "verdicts": {
        "a claim reworded later": (change(CLAIMS, "X1 is so", "X1 is not so"), "claim X1"),
        "a claim added later": (change(VERDICTS, '"X1"', '"X3"'), "claim X1"),
        "a timing claim reworded": (change(CLAIMS, "X2 is so", "X2 was so"), "claim X2"),
        "an experiment called timing": (change(CLAIMS, "experiment", "timing"), "claim X1"),
    },
    "recomputation": {
        "a verdict typed by hand": (change(VERDICTS, '"holds"', '"contradicted"'), "first at claims[X1] verdict"),
        "a timing verdict typed by hand": (
            change("results/toy/timing_verdicts.json", '"holds"', '"contradicted"'),
            "timing_verdicts.json is not what",
        ),
        "a metric typed by hand": (change("results/toy/metrics.json", '"n": 5', '"n": 6'), "metrics.json is not what"),
        "a statistic moved by more than rounding": (move_estimate(1 + 1e-8), "tests[0] estimate"),
        "runs typed by hand": (
            change(RUNS, "test,2,score,1.0,ok", "test,2,score,1.5,ok"),
            "verdicts.json is not what",
        ),
        "a rule changed after the verdict": (change(CLAIMS, "margin: 0.1", "margin: 5"), "verdicts.json is not what"),
        "no runs to recompute from": (remove(RUNS), "runs.csv is missing"),
    },
    "profile": {
        "smoke runs committed": (rerun("runs.csv", profile="smoke"), "runs.csv says profile smoke"),
        "smoke timings committed": (rerun("timings.csv", profile="smoke"), "timings.csv says profile smoke"),
        "smoke verdicts committed": (
            change(VERDICTS, '"profile": "cpu"', '"profile": "smoke"'),
            "verdicts.json says profile smoke",
        ),
        "smoke provenance committed": (
            change(RECORD, '"profile": "cpu"', '"profile": "smoke"'),
            "provenance.json says profile smoke",
        ),
    },
    "size": {
        "a curve too fine": (rerun("runs.csv", points=MAX_CURVE_POINTS + 1), "51 curve points"),
        "runs too large": (change(RUNS, "\n", "\n" * (MAX_RUNS_BYTES // 20)), f"more than {MAX_RUNS_BYTES}"),
    },
    "history": {
        "a criterion moved after its result": (change(CLAIMS, "margin: 0.1", "margin: 5"), "claim X1: the rule as of")
    },
    "receipts": {
        "a word that changed": (receipt("identical", word="contradicted"), "some_machine.json says 'identical'"),
        "tables of other bytes": (receipt("identical", outs={"runs.csv": UNKNOWN}), "says 'identical', which its own"),
        "a drift that its numbers deny": (receipt("drifted"), "says 'drifted', which its own numbers do not"),
    },
    "provenance": {
        "code changed since": (write(MEAN, "x = 1\n"), "mean.py changed since"),
        "code that is gone": (remove(MEAN), "mean.py changed since"),
        "versions edited by hand": (
            change(RECORD, '"numpy": "2.4.6"', '"numpy": "2.4.5"'),
            "edited by hand: its fingerprint",
        ),
        "a machine edited by hand": (
            change(RECORD, "Intel x86_64 glibc-2.36, torch AVX2", "Cray XMP"),
            "edited by hand: its machine class",
        ),
        "a commit edited by hand": (recorded("toy", commit=UNKNOWN), f"git has no commit {UNKNOWN}"),
        "a lock of another commit": (recorded("toy", lock_sha256=UNKNOWN), "requirements.lock in commit"),
        "claims of another commit": (
            lambda root: recorded("toy", claims={"commit": git(root, "rev-parse", "HEAD"), "sha256": UNKNOWN})(root),
            "claims.yaml in commit",
        ),
        "code that is not what ran": (recorded("toy", deps={MEAN: UNKNOWN}), "mean.py in commit"),
        "a table that DVC does not know": (
            recorded("toy", outs={"runs.csv": UNKNOWN}),
            "runs.csv is another one in dvc.lock",
        ),
        "data that DVC does not know": (
            change(RECORD, '"0a"', '"0b"'),
            "data/text.parquet is another one in dvc.lock",
        ),
        "clock readings that DVC does not know": (
            change("dvc.lock", "timings.csv", "other.csv"),
            "timings.csv is another one in dvc.lock",
        ),
    },
    "tuning": {
        "a tuning seed reported": (retrial((0, 1001, 1002)), "reported on seed 0"),
        "two lists of candidates": (
            lambda root: write_trials(
                root / TRIALS, [*trials(), *({**row, "arm": "old", "config": {"lr": 1}} for row in trials())]
            ),
            "the arms new, old were not tuned from one list",
        ),
        "selected on too few seeds": (retrial((1000, 1001)), "selected on 2 tuning seeds"),
    },
}


def test_the_toy_repository_passes_and_the_command_says_so(toy, monkeypatch):
    monkeypatch.setattr(readiness, "style_problems", lambda *_: [])
    said: list[str] = []
    assert check(toy, "toy", said.append), said
    assert len(said) == len(CHECKS) + len(("style", "tests", "page", "processor time", "nothing is missing"))
    assert said[-1] == "toy: nothing is missing."


def test_linter_formatter_and_type_checker_speak_by_file_and_line(broken):
    (broken / "replications/toy/half.py").write_text('import os\nx: int = "a"\n')
    found = "\n".join(style_problems(broken, "toy"))
    for word in ("replications/toy/half.py:1:8: F401", "would be reformatted", "half.py:2:10 - error"):
        assert word in found


def test_the_command_says_all_that_is_missing_at_once_and_shows_no_traceback(broken, monkeypatch):
    monkeypatch.setattr(readiness, "style_problems", lambda *_: [])
    change(CLAIMS, "bib: null", "bib: nobody2020")(broken)
    change(VERDICTS, '"claims"', '"claim"')(broken)
    change(EXPERIMENT, "main(C", "1 / 0\nmain(C")(broken)
    remove(PAGE, "replications/toy/test_mean.py")(broken)
    said: list[str] = []
    assert not check(broken, "toy", said.append)
    text = "\n".join(said)
    for sentence in (
        "  - replications/toy has no <algorithm>.py with a test_<algorithm>.py beside it",
        "  - claims.yaml cites nobody2020, which is not in replications/toy/references.bib",
        "  - book/replications/toy.md is missing",
        "  - figure toy/gap.svg is drawn but on no page",
        "  - this could not be checked: KeyError: 'claims'",
        "fails: ZeroDivisionError: division by zero (replications/toy/experiment.py, line 3)",
        "  - pytest stops: no tests ran",
    ):
        assert sentence in text
    assert "Traceback" not in text


def test_a_test_that_fails_and_one_that_is_slow_are_named(broken, monkeypatch):
    monkeypatch.setattr(readiness, "MAX_CPU_S", {"small": 0, "middle": 20, "large": 40})
    slow = "import time\n\ndef test_the_sum():\n    time.sleep(0.6)\n\ndef test_the_mean():\n    assert 1 == 2\n"
    write("replications/toy/test_mean.py", slow)(broken)
    suite = readiness._run_suite(broken, "toy")
    (failure,) = readiness._failures(suite)
    assert failure == "a test fails: replications/toy/test_mean.py::test_the_mean - assert 1 == 2"
    of_small, of_large = "at most 0 for a small", "at most 40 for a large"
    slowest = r".* `soak` \(slowest: 0\.6\ds replications/toy/test_mean.py::test_the_sum\)"
    for most, said in ((20, of_small), (59, None), (60, of_large)):  # clock readings start one program more
        found = readiness._cost_problems(broken, "toy", {"smoke run": most - 1, "tests": 1.0}, suite.stdout)
        assert bool(found) == bool(said)
        assert not said or re.search(said + slowest, found[0])
        (broken / "replications/toy/tasks").mkdir(exist_ok=True)
    (broken / "replications/toy/tasks").rmdir()
    write("replications/toy/experiment.py", "from paperkit.tuning import tune\n")(broken)
    assert not readiness._cost_problems(broken, "toy", {"smoke run": 39.0}, "")
    assert "at most 20 for a middle" in readiness._cost_problems(broken, "toy", {"smoke run": 40.0}, "")[0]


def test_a_replication_that_is_not_there_is_named_with_those_that_are(toy):
    said: list[str] = []
    assert not check(toy, "tyo", said.append)
    assert said == ["replications/tyo is not there; there are toy"]


def cases(breaks: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    return [(rule, case) for rule, of_rule in breaks.items() for case in of_rule]


@pytest.mark.parametrize(("rule", "case"), cases(BREAKS))
def test_what_is_broken_on_purpose_is_found(rule, case, broken):
    break_it, message = BREAKS[rule][case]
    break_it(broken)
    assert any(message in problem for problem in problems(CHECKS[rule], broken, "toy"))


def test_the_last_digits_of_a_statistic_may_differ_between_machines(broken):
    move_estimate(1 + 1e-12)(broken)
    assert problems(CHECKS["recomputation"], broken, "toy") == []


def test_a_replication_of_derivations_alone_needs_neither_figure_nor_ledger(broken):
    remove("replications/toy/figures.py", FIGURE, TRIALS)(broken)
    write_pipeline(broken)
    change(PAGE, "{result-figure} toy/gap.svg", "{note}")(broken)
    record = read_json(broken / RECORD)
    recorded("toy", outs={"runs.csv": record["outs"]["runs.csv"]})(broken)
    lock(broken)
    assert [problem for rule in (RULES | RULES_OF_RESULTS).values() for problem in problems(rule, broken, "toy")] == []


@pytest.mark.parametrize(("lists", "fair"), [(((1,), (2,)), True), (((1,), (1, 2)), False), (((1,), (4,)), False)])
def test_a_second_choice_out_of_an_earlier_search_is_fair_where_each_arm_gets_as_many(broken, lists, fair):
    searches = {("first", "new"): (1, 2, 3), ("first", "old"): (1, 2, 3)}
    searches |= {("again", "new"): lists[0], ("again", "old"): lists[1]}
    ledger = [
        {**row, "arm": arm, "config": {"lr": lr}, "trial": lr, "selected": lr == min(rates)}
        for (experiment, arm), rates in searches.items()
        for lr in rates
        for row in trials(experiment=experiment)
    ]
    write_trials(broken / TRIALS, ledger)
    complaint = ["results/toy: again: the arms new, old were not tuned from one list"]
    assert problems(RULES_OF_RESULTS["tuning"], broken, "toy") == ([] if fair else complaint)


# --- results of a profile that cannot run everywhere ---------------------------------------------------------------


@pytest.fixture
def at_gpu(broken: Path) -> Path:
    """The toy with results of profile gpu, whose stage is frozen, and with code that has changed since."""
    change("dvc.yaml", "stages:\n", "stages:\n  toy_gpu: {frozen: true}\n")(broken)
    change(PAGE, "```\n", "```\n```{result-figure} toy_gpu/gap.svg\n```\n")(broken)
    write("figures/toy_gpu/gap.svg", "<svg/>\n")(broken)
    results, record = broken / "results/toy_gpu", read_json(broken / RECORD)
    write_runs(results / "runs.csv", rows("gpu"))
    write_costs(results / "costs.csv", [])
    made = {"stage": "toy_gpu", "profile": "gpu"}
    made |= {"fingerprint": fingerprint("gpu", record["deps"], record["versions"])}
    write_json(results / "provenance.json", record | made | {"outs": {"runs.csv": file_md5(results / "runs.csv")}})
    with chdir(broken):
        write_verdicts("toy_gpu", timing=False)
    lock(broken)
    write(MEAN, "x = 1\n")(broken)
    return broken


BREAKS_AT_GPU: dict[str, dict[str, tuple[Callable[[Path], None], str]]] = {
    "profile": {
        "runs of another profile": (
            change("results/toy_gpu/runs.csv", "gpu,", "cpu,"),
            "toy_gpu/runs.csv says profile cpu, not gpu",
        )
    },
    "provenance": {
        "code that was not committed": (recorded("toy_gpu", dirty=True), "was not all committed"),
        "a fingerprint typed by hand": (recorded("toy_gpu", fingerprint=UNKNOWN), "edited by hand"),
        "a stage that is not frozen": (change("dvc.yaml", "frozen: true", "frozen: false"), "mean.py changed since"),
    },
}


def test_a_frozen_stage_belongs_to_the_code_of_its_commit(at_gpu):
    assert folders_of_results(at_gpu, "toy") == ["toy", "toy_gpu"]
    assert [problem for rule in RULES_OF_RESULTS.values() for problem in problems(rule, at_gpu, "toy_gpu")] == []
    assert [problem for problem in orphans(at_gpu) if "toy_gpu" in problem] == []


@pytest.mark.parametrize(("rule", "case"), cases(BREAKS_AT_GPU))
def test_what_is_broken_on_purpose_in_results_of_another_profile_is_found(rule, case, at_gpu):
    break_it, message = BREAKS_AT_GPU[rule][case]
    break_it(at_gpu)
    assert any(message in problem for problem in problems(CHECKS[rule], at_gpu, "toy_gpu"))


def test_a_comment_leaves_a_record_as_good_as_it_was(broken):
    write(MEAN, '"""What it is."""\n# Why.\n')(broken)
    assert problems(CHECKS["provenance"], broken, "toy") == []


def test_a_seed_that_another_experiment_was_tuned_on_may_be_reported(broken):
    write_trials(broken / TRIALS, trials((0, 1, 2), experiment="another"))
    assert problems(CHECKS["tuning"], broken, "toy") == []


def test_a_curve_of_fifty_points_is_allowed(broken):
    rerun("runs.csv", points=MAX_CURVE_POINTS)(broken)
    assert problems(CHECKS["size"], broken, "toy") == []


def test_a_folder_without_an_init_file_is_found_and_one_of_bytecode_is_not(broken):
    write("replications/new/loss.py")(broken)
    write("replications/gone/__pycache__/loss.cpython-311.pyc")(broken)
    write("replications/__pycache__/old.cpython-311.pyc")(broken)
    assert found_replications(broken) == ["new", "toy"]


@pytest.mark.parametrize(
    "break_it",
    [
        write("book/replications/ghost.md"),
        write("book/replications/ghost/derivation.md"),
        write("results/ghost/runs.csv"),
        write("figures/ghost/gap.svg"),
    ],
    ids=["page", "derivation", "results", "figures"],
)
def test_leftovers_of_a_replication_are_found(break_it, broken):
    assert orphans(broken) == []
    break_it(broken)
    assert any("ghost" in problem for problem in orphans(broken))


@pytest.mark.parametrize(
    "file",
    [
        "paperkit/utils.py",
        "paperkit/manager.py",
        "paperkit/text_utils.py",
        "replications/toy/base.py",
        "replications/toy/loss_v2.py",
        "replications/toy/helpers/loss.py",
        "tests/common.py",
        "benchmarks/misc.py",
    ],
)
def test_a_name_that_says_nothing_is_found(file, broken):
    assert forbidden_names(broken) == []
    write(file)(broken)
    assert len(forbidden_names(broken)) == 1


@pytest.mark.parametrize(
    ("expected", "found", "where"),
    [
        ({"a": [1.0, 2.0]}, {"a": [1.0, 2.0 + 1e-11]}, None),
        ({"low": 3e-17}, {"low": -2e-17}, None),
        ({"a": [1.0, 2.0]}, {"a": [1.0, 2.0 + 1e-8]}, " a[1]"),
        ({"a": [1.0]}, {"a": [1.0, 2.0]}, " a"),
        ({"a": None}, {"a": 1.0}, " a"),
        ({"n": 5}, {"n": 6}, " n"),
        (
            {"claims": [{"id": "C1", "verdict": "holds"}]},
            {"claims": [{"id": "C1", "verdict": "Holds"}]},
            " claims[C1] verdict",
        ),
    ],
)
def test_numbers_are_compared_up_to_rounding_and_words_exactly(expected, found, where):
    assert first_difference(expected, found) == where


def test_an_older_version_is_reported(broken):
    assert older_versions(broken, "toy") == {}
    change("requirements.lock", "2.4.6", "2.5.0")(broken)
    assert older_versions(broken, "toy") == {"numpy": "2.4.6 -> 2.5.0"}
