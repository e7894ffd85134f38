"""What every training or timing stage does around its experiment: check, run, publish at once."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from paperkit.config import StrictModel, read_profile
from paperkit.datasets import data_hash
from paperkit.provenance import Provenance
from paperkit.results import write_runs, write_trials
from paperkit.runs import ALLOCATOR, INSTRUCTION_SET, THREADS, Runner, available_workers, import_closure, module_file

Config = TypeVar("Config", bound=StrictModel)


@dataclass(frozen=True)
class Tables:
    """What an experiment hands over.

    Attributes:
        runs: Rows of `runs.csv` (or `timings.csv`).
        trials: Rows of `trials.csv`; empty where nothing was tuned.
    """

    runs: Sequence[Mapping[str, Any]]
    trials: Sequence[Mapping[str, Any]] = field(default=())


@dataclass(frozen=True)
class Kind:
    """Where a kind of stage reads and writes, and how its processes are set up.

    Attributes:
        params: File of parameters beside the module.
        runs: Name of the table of measurements.
        trials: Name of the ledger of the search; None for a stage that tunes nothing.
        provenance: Name of the record of what it ran on.
        workers: Number of processes; None for as many as cores.
        instruction_set: Environment variables that pin the kernels.
        allocator: Environment variables of the memory allocator.
    """

    params: str
    runs: str
    trials: str | None
    provenance: str
    workers: int | None
    instruction_set: Mapping[str, str]
    allocator: Mapping[str, str]


TRAINING = Kind("params.yaml", "runs.csv", "trials.csv", "provenance.json", None, INSTRUCTION_SET, ALLOCATOR)
# A clock reading has the machine to itself, and every library as its users have it: one process, no pins.
TIMING = Kind("timing.yaml", "timings.csv", None, "timing_provenance.json", 1, {}, {})


def main(
    config: type[Config],
    experiment: Callable[[Config, Runner], Tables],
    *,
    stage: str,
    module: str,
    tables: Sequence[str] = (),
    kind: Kind = TRAINING,
    arguments: Sequence[str] | None = None,
) -> None:
    """Run one stage from its command line (`--profile`, `--out`).

    Configuration and data are checked before anything is trained; result files are replaced only after the
    last run has ended, so that a refused configuration, a crash or a kill leaves the old results as they are.

    Args:
        config: Model of the parameter file.
        experiment: Does the work with the runner it is given.
        stage: Name of the stage in dvc.yaml.
        module: Full name of the module that runs, for example "replications.lion.experiment".
        tables: Names of the data tables it reads.
        kind: Files and process set-up.
        arguments: Command line; None for the process's own.

    Raises:
        SystemExit: If configuration or data do not fit; the message names the thing and the remedy.
    """
    options = _parse(stage, arguments)
    params = module_file(module).with_name(kind.params).relative_to(Path.cwd())
    try:
        settings = read_profile(config, params, options.profile)
        inputs = {name: data_hash(name) for name in tables}
    except (ValueError, FileNotFoundError) as error:
        message = f"{stage}: {error}"
        raise SystemExit(message) from error
    deps = _dependencies(module, params, tables)
    provenance = Provenance(stage, ["python", *sys.orig_argv[1:]], options.profile, deps=deps)
    runner = Runner(
        stage, options.profile, inputs, kind.workers or available_workers(), kind.instruction_set, kind.allocator
    )
    result = experiment(settings, runner)
    runner.close()
    publish(result, options.out, runs=kind.runs, trials=kind.trials)
    provenance.write(
        options.out / kind.provenance,
        workers=runner.workers,
        threads=THREADS,
        isa=kind.instruction_set,
        lock=runner.lock,
    )
    runner.forget()


def _parse(stage: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=stage, description=f"Run the stage {stage}.")
    parser.add_argument("--profile", required=True, help="block of the parameter file: smoke, cpu or paper")
    parser.add_argument("--out", required=True, type=Path, help="folder of the results")
    return parser.parse_args(arguments)


def publish(result: Tables, out: Path, *, runs: str = TRAINING.runs, trials: str | None = TRAINING.trials) -> None:
    """Replace the tables of a folder, but only when all of them could be written.

    Args:
        result: What an experiment handed over.
        out: Folder of the results; made if it is missing.
        runs: Name of the table of measurements.
        trials: Name of the ledger of the search; None writes none.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".") as folder:
        written = Path(folder)
        write_runs(written / runs, result.runs)
        if trials is not None:
            write_trials(written / trials, result.trials)
        for table in written.iterdir():
            table.replace(out / table.name)


def _dependencies(module: str, params: Path, tables: Iterable[str]) -> list[Path]:
    code = [module_file(name).relative_to(Path.cwd()) for name in import_closure(module)]
    return [*code, params, *(Path("data") / f"{name}.parquet" for name in tables)]
