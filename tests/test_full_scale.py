"""A study at the source's own scale is checked, resumed and published as it should be, whatever it studies."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from lightning_fabric import Fabric
from pydantic import Field

from paperkit import full_scale, runs
from paperkit.config import ConfigError, parse
from paperkit.full_scale import FullScaleSettings, Hardware, HubFile, Session
from paperkit.provenance import import_closure
from paperkit.results import read_runs, read_trials
from paperkit.runs import Measurement, Run
from paperkit.stage import Tables
from paperkit.tuning import LogRange, Search, Tuned, ledger
from tests.two_processes import ROOT, place_in_cache, read_cache_alone

FILE = HubFile("dataset", "owner/words", "0123456789abcdef0123456789abcdef01234567", "words/train.parquet")
MODULE = "toy_replication.paper"
PARAMS = """
paper:
  hardware: {accelerator: cuda, devices: 2, strategy: ddp, precision: bf16-mixed}
  steps: 100
  seeds: [0, 1, 2]
tiny:
  hardware: {accelerator: cpu, devices: 1, strategy: auto, precision: 32-true}
  steps: 3
  seeds: [0, 1, 2]
"""


class Settings(FullScaleSettings):
    steps: int = Field(ge=1)

    @property
    def files(self) -> Sequence[HubFile]:
        return [FILE]


@dataclass
class Study:
    """One run a seed, and a ledger; it notes what it executes, and may die."""

    dies_after: int | None = None
    executed: list[int] = field(default_factory=list)
    deterministic: bool = False

    def __call__(self, settings, session):
        self.deterministic = torch.are_deterministic_algorithms_enabled()
        grid = [Run("toy", "plain", seed, {"steps": settings.steps}) for seed in settings.seeds]
        rows = [row for run in grid for row in session(self.measure, run)]
        search = Search("toy", "plain", {}, {"lr": LogRange(low=0.1, high=1.0)}, 2, "loss_nats")
        tuned = Tuned([{"lr": 0.2}, {"lr": 0.5}], [{9: 1.0}, {9: 2.0}])
        return Tables(rows, ledger(search, tuned, session.profile))

    def measure(self, run):
        if len(self.executed) == self.dies_after:
            raise KeyboardInterrupt
        self.executed.append(run.seed)
        yield Measurement("test", run.config["steps"], "loss_nats", 1 / (1 + run.seed))


def never(settings, session):
    pytest.fail("nothing may start")


@pytest.fixture
def top(tmp_path, monkeypatch):
    """A top folder with the study's module, a lock, and a file in the hub's cache."""
    (tmp_path / "toy_replication").mkdir()
    (tmp_path / "toy_replication/paper.py").write_text("code = 1\n")
    (tmp_path / "toy_replication/paper.yaml").write_text(PARAMS)
    (tmp_path / "requirements.lock").write_text("pytest==0\n")
    (tmp_path / "toy_replication/claims.yaml").write_text("schema: 1\n")
    place_in_cache(tmp_path / "home", FILE).touch()
    read_cache_alone(monkeypatch, tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # main sets it for its process: undone after the test
    before = torch.are_deterministic_algorithms_enabled()
    forget_code()
    yield tmp_path
    forget_code()
    torch.use_deterministic_algorithms(before)


def forget_code():
    runs.code_hashes.cache_clear()
    import_closure.cache_clear()


def start(study, *arguments):
    full_scale.main(Settings, study, module=MODULE, announced=["steps"], arguments=["--out", "results", *arguments])


def start_tiny(study):
    start(study, "--settings", "tiny")
    return study


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_tables_and_provenance_are_published_and_kept_runs_are_removed(top, capsys):
    study = start_tiny(Study())
    assert sorted(path.name for path in (top / "results").iterdir()) == ["provenance.json", "runs.csv", "trials.csv"]
    table, trials = read_runs(top / "results/runs.csv"), read_trials(top / "results/trials.csv")
    assert table["value"].tolist() == [1, 1 / 2, 1 / 3]
    assert set(table["profile"]) == set(trials["profile"]) == {"smoke"}  # tiny is never judged at the paper's scale
    record = json.loads((top / "results/provenance.json").read_text())
    assert (record["stage"], record["profile"], record["workers"]) == ("toy_replication_paper", "smoke", 1)
    assert sorted(record["deps"]) == ["toy_replication/paper.py", "toy_replication/paper.yaml"]
    assert list((top / ".paperkit/runs").iterdir()) == []
    assert study.deterministic
    assert capsys.readouterr().out.splitlines() == [f"toy plain seed {seed} steps 3" for seed in (0, 1, 2)]


def test_a_study_that_tunes_nothing_has_no_ledger(top):
    start_tiny(lambda settings, session: Tables(Study()(settings, session).runs))
    assert sorted(path.name for path in (top / "results").iterdir()) == ["provenance.json", "runs.csv"]


def test_a_killed_study_goes_on_with_the_runs_that_are_left_and_ends_with_the_same_bytes(top):
    start_tiny(Study())
    whole = (top / "results/runs.csv").read_bytes()
    (top / "results/runs.csv").unlink()
    with pytest.raises(KeyboardInterrupt):
        start_tiny(Study(dies_after=2))
    assert not (top / "results/runs.csv").exists()
    assert start_tiny(Study()).executed == [2]
    assert (top / "results/runs.csv").read_bytes() == whole
    assert start_tiny(Study()).executed == [0, 1, 2]  # it had ended well: all runs again


def test_a_damaged_kept_run_is_executed_again(top):
    with pytest.raises(KeyboardInterrupt):
        start_tiny(Study(dies_after=2))
    damaged = sorted((top / ".paperkit/runs/toy_replication_tiny").iterdir())[0]
    damaged.write_text(damaged.read_text()[:-9])
    assert len(start_tiny(Study()).executed) == 2


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("toy_replication/paper.py", "code", "other"),
        ("requirements.lock", "0", "1"),
        ("toy_replication/paper.yaml", "steps: 3", "steps: 4"),
    ],
    ids=["code", "lock", "configuration"],
)
def test_a_kept_run_of_another_origin_is_not_taken(file, old, new, top):
    with pytest.raises(KeyboardInterrupt):
        start_tiny(Study(dies_after=2))
    (top / file).write_text((top / file).read_text().replace(old, new))
    forget_code()
    assert start_tiny(Study()).executed == [0, 1, 2]


def test_a_number_that_is_not_finite_is_recorded_as_diverged(top):
    def diverging(run):
        yield Measurement("test", 3, "loss_nats", math.inf)
        yield Measurement("test", 3, "accuracy", 0.5)

    session = Session(Fabric(accelerator="cpu", devices=1), MODULE, "smoke", top / "kept")
    rows = session(diverging, Run("toy", "plain", 0, {}))
    assert [(row["value"], row["status"]) for row in rows] == [(None, "diverged"), (0.5, "ok")]
    assert session(never, Run("toy", "plain", 0, {})) == rows


class SecondRank(Fabric):
    """The second of two processes; `told` is what rank 0 found among the kept runs."""

    is_global_zero = False
    told = None

    def broadcast(self, found):
        assert found is None, "rank 0 alone reads"
        return self.told


def test_only_rank_0_writes(top, monkeypatch):
    monkeypatch.setattr(full_scale, "Fabric", lambda **_: SecondRank(accelerator="cpu", devices=1))
    before = sorted(top.iterdir())
    assert start_tiny(Study()).executed == [0, 1, 2]
    assert sorted(top.iterdir()) == before


def test_other_ranks_skip_what_rank_0_has_kept(top):
    fabric = SecondRank(accelerator="cpu", devices=1)
    fabric.told = [{"split": "test", "step": 3, "metric": "loss_nats", "value": 0.5}]
    run = Run("toy", "plain", 0, {"steps": 3})
    Session(Fabric(accelerator="cpu", devices=1), MODULE, "smoke", top / "kept")(Study().measure, run)
    (row,) = Session(fabric, MODULE, "smoke", top / "kept")(never, run)
    assert row["value"] == 0.5  # as told by rank 0, not as read: that is 1


def test_a_table_that_does_not_fit_leaves_all_old_tables(top):
    start_tiny(Study())
    before = contents(top / "results")

    def broken(settings, session):
        tables = Study()(settings.model_copy(update={"steps": 7}), session)
        return Tables(tables.runs, [{"arm": "plain"}])

    with pytest.raises(ValueError, match="profile"):
        start_tiny(broken)
    assert contents(top / "results") == before
    assert list((top / ".paperkit/runs/toy_replication_tiny").iterdir())  # and the runs are kept for the next attempt


@pytest.mark.parametrize("gpus", [0, 1])
def test_without_enough_gpus_the_message_names_the_way_out(gpus, top, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    told = rf"^toy_replication_paper: .* 2 CUDA device\(s\), and torch .* sees {gpus}; .*--settings tiny"
    with pytest.raises(SystemExit, match=told) as stop:
        start(never)
    assert isinstance(stop.value.code, str)  # Python prints it and exits with status 1
    assert not (top / "results").exists()


def test_without_network_the_message_names_the_file_and_how_to_get_it(top, monkeypatch):
    read_cache_alone(monkeypatch, top / "empty")
    told = r"words/train\.parquet of the dataset owner/words, revision 0123.*hf download owner/words words/"
    with pytest.raises(SystemExit, match=told) as stop:
        start(never, "--settings", "tiny")
    assert isinstance(stop.value.code, str)
    assert not (top / "results").exists()


def test_a_file_in_the_cache_is_found(top):
    assert FILE.path() == place_in_cache(top / "home", FILE)


def test_a_typo_in_any_block_is_refused_by_name(top):
    file = top / "toy_replication/paper.yaml"
    file.write_text(file.read_text().replace("steps: 100", "step: 100"))
    with pytest.raises(SystemExit, match=r"toy_replication/paper\.yaml, profile paper:\n.*'steps' is missing"):
        start(never, "--settings", "tiny")


def test_settings_that_are_not_there_are_refused(top, capsys):
    with pytest.raises(SystemExit):
        start(never, "--settings", "cpu")
    assert "invalid choice: 'cpu'" in capsys.readouterr().err


@pytest.mark.parametrize("elsewhere", ["no lock", "another folder"])
def test_in_another_folder_the_message_names_the_right_one(elsewhere, top, monkeypatch):
    if elsewhere == "no lock":
        (top / "requirements.lock").unlink()
    else:
        (top / "below").mkdir()
        (top / "below/requirements.lock").touch()
        monkeypatch.chdir(top / "below")
    with pytest.raises(SystemExit, match=r"is not the top folder of the repository.*run the command there"):
        start(never, "--settings", "tiny")


def hardware(devices):
    return Hardware(accelerator="cpu", devices=devices, strategy="auto", precision="32-true")


@pytest.mark.parametrize(("devices", "batch", "micro_batch"), [(1, 8, 8), (2, 8, 2), (2, 8, 16), (3, 9, None)])
def test_equal_parts_are_accepted(devices, batch, micro_batch):
    hardware(devices).require_equal_parts(batch, micro_batch=micro_batch)


@pytest.mark.parametrize(
    ("devices", "batch", "micro_batch", "told"),
    [
        (3, 8, 2, "batch 8 of toys cannot be dealt to devices 3 in equal parts of micro_batch 2"),
        (1, 8, 3, "batch 8 of toys cannot be dealt to devices 1 in equal parts of micro_batch 3"),
        (2, 9, None, "batch 9 of toys cannot be dealt to devices 2 equally"),
        (4, 2, 1, "batch 2 of toys cannot be dealt to devices 4"),
    ],
)
def test_unequal_parts_are_refused(devices, batch, micro_batch, told):
    with pytest.raises(ValueError, match=told):
        hardware(devices).require_equal_parts(batch, micro_batch=micro_batch, of="toys")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seeds": [0, 0]}, r"seeds \[0, 0\] must differ from each other"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"hardware": {**hardware(1).model_dump(), "accelerator": "tpu"}}, "hardware.accelerator"),
        ({"hardware": {**hardware(1).model_dump(), "devices": 0}}, "hardware.devices"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, told):
    fitting = {"hardware": hardware(1).model_dump(), "seeds": [0, 1], "steps": 3}
    parse(Settings, fitting, source="paper.yaml")
    with pytest.raises(ConfigError, match=told):
        parse(Settings, {**fitting, **changes}, source="paper.yaml")


def test_no_training_stage_depends_on_it():
    trained = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in ("experiment", "timing", "pretrained")
        for path in ROOT.glob(f"replications/*/{name}.py")
    ]
    assert trained
    assert [module for module in trained if "paperkit.full_scale" in import_closure(module)] == []
