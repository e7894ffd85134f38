"""What `make pipeline` writes: stages that depend on what their modules import and read, contents, answers."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo
from dvc.stage import PipelineStage

from paperkit import pipeline
from paperkit.config import ConfigError
from paperkit.pipeline import BEGIN, END, dvc_yaml, write_pipeline
from paperkit.results import ResultsError, write_json

ROOT = Path(__file__).resolve().parents[1]
CALL = 'if __name__ == "__main__":\n    main(Config, run, stage="{stage}", module="replications.{module}"{more})\n'
IMPORTS = {
    "replications.new.experiment": ("paperkit.stage", "paperkit.tuning", "replications.new.tasks.box"),
    "replications.new.checks": ("paperkit.checks", "replications.new.bound"),
    "replications.new.estimands": ("paperkit.results", "replications.new.bound"),
    "replications.new.figures": ("paperkit.style", "replications.new.package"),
}


def write(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def replication(name, *, tables=""):
    """The files of a replication with an experiment and a clock."""
    folder = f"replications/{name}"
    return {
        f"{folder}/experiment.py": f'"""What {name} is.\n\nMore."""\n'
        + CALL.format(stage=name, module=f"{name}.experiment", more=tables),
        f"{folder}/timing.py": CALL.format(stage=f"{name}_timing", module=f"{name}.timing", more=", kind=TIMING"),
        f"{folder}/claims.yaml": "",
        f"{folder}/params.yaml": "smoke: {}\ncpu: {}\ngpu: {}\npaper: {}\n",
        f"{folder}/timing.yaml": "cpu: {}\ngpu: {}\n",
        f"book/replications/{name}.md": f"# {name}\n",
    }


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Two replications: one without estimands and figures, one with all that there is."""
    monkeypatch.setattr(pipeline, "import_closure", lambda module: (module, *IMPORTS.get(module, ())))
    write(tmp_path, replication("bare") | replication("new", tables=', tables=["sotu"]'))
    write(
        tmp_path,
        {
            f"replications/new/{file}.py": ""
            for file in ("checks", "estimands", "figures", "bound", "package/__init__")
        },
    )
    contents = f"root: index\nparts:\n- chapters:\n  # {BEGIN}\n  # {END}\n- chapters:\n  - file: cite\n"
    rows = f"Before.\n<!-- {BEGIN} -->\n<!-- {END} -->\nAfter.\n"
    write(tmp_path, {"params.yaml": "profile: cpu\n", "README.md": rows, "book/_toc.yml": contents})
    (tmp_path / ".dvc").mkdir()
    return tmp_path


@pytest.fixture
def stages(repository):
    """Its stages as DVC reads what is written."""
    (repository / "dvc.yaml").write_text(dvc_yaml(repository), encoding="utf-8")
    with Repo(str(repository), uninitialized=True) as repo:
        return {stage.name: stage for stage in repo.index.stages if isinstance(stage, PipelineStage)}


def test_every_module_that_runs_has_a_stage_and_dvc_reads_it(stages):
    assert {name: stage.cmd for name, stage in stages.items()} == {
        "bare": "python -m replications.bare.experiment --profile cpu --out results/bare",
        "bare_timing": "python -m replications.bare.timing --profile cpu --out results/bare",
        "new": "python -m replications.new.experiment --profile cpu --out results/new",
        "new_timing": "python -m replications.new.timing --profile cpu --out results/new",
        "verdicts@bare": "python -m paperkit.claims bare",
        "verdicts@new": "python -m paperkit.claims new",
        "timing_verdicts@bare": "python -m paperkit.claims bare --timing",
        "timing_verdicts@new": "python -m paperkit.claims new --timing",
        "figures@new": "python -m replications.new.figures new",
    }
    assert stages["new"].desc == "What new is."


@pytest.mark.parametrize(
    ("stage", "deps"),
    [
        (
            "new",
            "data/sotu.parquet paperkit/checks.py paperkit/stage.py paperkit/tuning.py replications/new/bound.py "
            "replications/new/checks.py replications/new/experiment.py replications/new/params.yaml "
            "replications/new/tasks/box.py",
        ),
        ("new_timing", "replications/new/timing.py replications/new/timing.yaml"),
        (
            "verdicts@new",
            "paperkit/claims/__main__.py paperkit/results.py replications/new/bound.py replications/new/claims.yaml "
            "replications/new/estimands.py results/new/runs.csv",
        ),
        # What another one's estimands import of paperkit is theirs too: DVC has one list for all verdicts.
        (
            "verdicts@bare",
            "paperkit/claims/__main__.py paperkit/results.py replications/bare/claims.yaml results/bare/runs.csv",
        ),
        (
            "timing_verdicts@bare",
            "paperkit/claims/__main__.py paperkit/results.py replications/bare/claims.yaml results/bare/timings.csv",
        ),
        (
            "figures@new",
            "paperkit/style.py replications/new/figures.py replications/new/package/__init__.py results/new",
        ),
    ],
)
def test_a_stage_depends_on_what_its_module_imports_and_reads(stage, deps, stages):
    assert sorted({dep.def_path for dep in stages[stage].deps}) == deps.split()


def test_a_stage_that_tunes_has_a_ledger_and_what_a_command_may_not_lose_is_kept_while_it_runs(stages):
    outs = {(out.def_path, out.persist) for stage in stages.values() for out in stage.outs}
    assert outs == {
        *((f"results/{name}/{file}", True) for name in ("bare", "new") for file in ("runs.csv", "timings.csv")),
        *((f"results/{name}/{file}.json", True) for name in ("bare", "new") for file in ("verdicts", "metrics")),
        *((f"results/{name}/timing_verdicts.json", True) for name in ("bare", "new")),
        ("results/new/trials.csv", True),
        ("figures/new", False),
    }
    assert not any(out.use_cache for stage in stages.values() for out in stage.outs)


def test_a_stage_reads_the_block_of_its_profile(stages):
    params = {dep.def_path: list(dep.params) for dep in stages["new"].deps if dep.def_path.endswith(".yaml")}
    assert params == {"replications/new/params.yaml": ["cpu"]}


def test_a_profile_above_cpu_has_a_stage_once_its_results_are_there_and_then_dvc_does_not_run_it(repository):
    def stages() -> dict[str, Any]:
        content = yaml.safe_load(dvc_yaml(repository))["stages"]
        return {name: stage.get("frozen", stage["cmd"]) for name, stage in content.items() if "_gpu" in name}

    assert stages() == {}
    write(repository, {"results/new_gpu/runs.csv": "", "results/bare_gpu/timings.csv": ""})
    assert stages() == {"new_gpu": True, "bare_timing_gpu": True}
    (repository / "dvc.yaml").write_text(dvc_yaml(repository), encoding="utf-8")
    with Repo(str(repository), uninitialized=True) as repo:
        of_gpu = {
            stage.name: stage
            for stage in repo.index.stages
            if isinstance(stage, PipelineStage) and "gpu" in stage.name
        }
    assert {name: stage.cmd for name, stage in of_gpu.items()} == {
        "new_gpu": "python -m replications.new.experiment --profile gpu --out results/new_gpu",
        "bare_timing_gpu": "python -m replications.bare.timing --profile gpu --out results/bare_gpu",
        "verdicts@new_gpu": "python -m paperkit.claims new_gpu",
        "timing_verdicts@bare_gpu": "python -m paperkit.claims bare_gpu --timing",
        "figures@new_gpu": "python -m replications.new.figures new_gpu",
    }
    deps = {dep.def_path for dep in of_gpu["verdicts@new_gpu"].deps}
    assert {"replications/new/claims.yaml", "results/new_gpu/runs.csv"} < deps
    # A derivation is the same at every scale: its checks are not run again.
    assert "replications/new/checks.py" not in {dep.def_path for dep in of_gpu["new_gpu"].deps}


def test_a_profile_that_runs_everywhere_is_a_stage_like_the_default_one(repository):
    path = repository / "replications/new/experiment.py"
    path.write_text(path.read_text().replace(', tables=["sotu"]', ', everywhere=["paper"]'))
    stage = yaml.safe_load(dvc_yaml(repository))["stages"]["new_paper"]
    assert "frozen" not in stage
    assert stage["params"] == [{"replications/new/params.yaml": ["paper"]}]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('stage="new"', 'stage="old"', r"experiment\.py: main\(stage='old'\); by its folder it is 'new'"),
        ("replications.new.exp", "replications.bare.exp", r"main\(module='replications\.bare\.experiment'\)"),
        ("main(", "start(", r"new/experiment\.py: 0 calls of main"),
        ('["sotu"]', "sorted(TABLES)", "the keywords of main are literals or names"),
    ],
)
def test_a_module_whose_stage_cannot_be_written_is_refused(old, new, message, repository):
    path = repository / "replications/new/experiment.py"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=message):
        dvc_yaml(repository)


def test_pages_are_listed_with_those_in_their_folder_and_what_stands_around_stays(repository):
    write(repository, {"book/replications/new/derivation.md": "# How\n", "book/replications/stray.md": "# Stray\n"})
    assert "book/_toc.yml" in write_pipeline(repository)
    chapters = [part["chapters"] for part in yaml.safe_load((repository / "book/_toc.yml").read_text())["parts"]]
    sections = [{"file": "replications/new/derivation"}]
    pages = [{"file": "replications/bare"}, {"file": "replications/new", "sections": sections}]
    assert chapters == [pages, [{"file": "cite"}]]
    assert write_pipeline(repository) == []


def test_the_readme_has_the_answer_of_each_replication_and_its_first_primary_claim(repository):
    test = {"estimand": "gap", "rule": "greater", "unit": "nats", "n": 8, "estimate": 0.199, "low": 0.11, "high": 0.29}
    judged = {"family": "primary", "tests": [test]}
    claims = [
        judged | {"id": "C1", "statement": "It is so.", "verdict": "contradicted"},
        judged | {"id": "C2r", "statement": "It is so, and long.", "verdict": "holds"},
        judged
        | {"id": "C2", "statement": "It was so.", "verdict": "inconclusive", "family": None, "superseded_by": "C2r"},
    ]
    about = {
        "posts": [],
        "question": "Is it?",
        "answer": {"text": "It is.", "given": "new:C2r holds; new:C1 contradicted"},
    }
    about["claims"] = {"C2": {"claim": "It is so", "number": "its loss minus the other's"}}
    write(repository, {"replications/new/about.yaml": yaml.safe_dump(about)})
    write_json(repository / "results/new/verdicts.json", {"profile": "cpu", "claims": claims})
    write_pipeline(repository)
    text = (repository / "README.md").read_text()
    example = "*It is so* (C2r): **holds**. Its loss minus the other's: 0.199 [0.110, 0.290] nats, n = 8"
    assert text.splitlines()[4] == f"| [new](book/replications/new.md): Is it? | It is. | {example} |"
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    claims[0]["verdict"] = "holds"
    write_json(repository / "results/new/verdicts.json", {"profile": "cpu", "claims": claims})
    with pytest.raises(ResultsError, match=r"new/about\.yaml, answer: .* new:C1 'contradicted', which is 'holds' now"):
        write_pipeline(repository)
    write_json(repository / "results/new/verdicts.json", {"profile": "smoke", "claims": claims})
    write_pipeline(repository)


def test_a_file_without_the_place_to_write_in_is_refused(repository):
    write(repository, {"README.md": "Nothing.\n"})
    with pytest.raises(ConfigError, match=r"README\.md has lost the lines"):
        write_pipeline(repository)
