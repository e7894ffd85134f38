"""What every training or timing stage does around its experiment: check, run, publish at once."""

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any, TypeVar

from paperkit.config import StrictModel, read_profile
from paperkit.datasets import data_hash
from paperkit.hardware import ON_CPU, Hardware
from paperkit.identities import ChecksOf
from paperkit.profiles import ABOVE, results_name
from paperkit.provenance import Provenance, dependencies, is_made, module_file
from paperkit.results import write_costs, write_runs, write_trials
from paperkit.runs import ALLOCATOR, INSTRUCTION_SET, THREADS, Runner, available_workers, execute

TRIALS = "trials.csv"
# Set by `make rerun`: run also where the results are of this very code.
RERUN = "PAPERKIT_RERUN"
# Set by `python -m paperkit repro`: the process in which DVC runs.
STARTER = "PAPERKIT_STARTER"
# Exit status after Ctrl-C, as shells have it.
INTERRUPTED = 130


class StageConfig(StrictModel):
    """What every profile of a replication holds; its studies are fields of a subclass.

    Attributes:
        hardware: On what the runs compute.
    """

    hardware: Hardware = ON_CPU

    def require(self) -> None:
        """Refuse what this machine lacks, before anything runs; a subclass adds the files that its studies read.

        Raises:
            OSError: If the device or a file is missing.
            ValueError: If a file does not fit the settings.
        """
        self.hardware.require()


Config = TypeVar("Config", bound=StageConfig)


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
        checks: Module beside it, whose `CHECKS` the stage executes if it is there; None for a kind that has none.
        runs: Name of the table of measurements.
        costs: Name of the table of what the runs took; None where that is what is measured.
        provenance: Name of the record of what it ran on.
        workers: Number of processes; None for as many as cores.
        instruction_set: Environment variables that pin the kernels.
        allocator: Environment variables of the memory allocator.
    """

    params: str
    checks: str | None
    runs: str
    costs: str | None
    provenance: str
    workers: int | None
    instruction_set: Mapping[str, str]
    allocator: Mapping[str, str]


TRAINING = Kind("params.yaml", "checks", "runs.csv", "costs.csv", "provenance.json", None, INSTRUCTION_SET, ALLOCATOR)
# A clock reading has the machine to itself, and every library as its users have it: one process, no pins.
TIMING = Kind("timing.yaml", None, "timings.csv", None, "timing_provenance.json", 1, {}, {})


def main(
    config: type[Config],
    experiment: Callable[[Config, Runner], Tables],
    *,
    stage: str,
    module: str,
    tables: Sequence[str] = (),
    kind: Kind = TRAINING,
    everywhere: Sequence[str] = (),  # noqa: ARG001  # the pipeline reads it here
    arguments: Sequence[str] | None = None,
) -> None:
    """Run one stage from its command line (`--profile`, `--out`): its experiment, then the checks of its derivation.

    Profiles above cpu leave the checks out: a derivation is the same at every scale.

    Configuration and data are checked before anything is trained; result files are replaced only after the
    last run has ended, so that a refused configuration, a crash or a kill leaves the old results as they are.

    Args:
        config: Model of the parameter file.
        experiment: Does the work with the runner it is given.
        stage: Name of the stage in dvc.yaml; a profile above cpu adds its own name to it.
        module: Full name of the module that runs, for example "replications.lion.experiment".
        tables: Names of the data tables it reads.
        kind: Files and process set-up.
        everywhere: Profiles above cpu that run on any machine; the others need a device or files of their own.
        arguments: Command line; None for the process's own.

    Raises:
        SystemExit: If configuration or data do not fit, code was changed meanwhile, or another process runs the same;
            the message names the thing and the remedy. Also after Ctrl-C.
    """
    if os.environ.get("DVC_STAGE"):
        threading.Thread(target=_end_with_dvc, daemon=True).start()
    options = _parse(stage, arguments)
    params = module_file(module).with_name(kind.params).relative_to(Path.cwd())
    with _refusals(stage):
        settings = read_profile(config, params, options.profile)
        inputs = {name: data_hash(name) for name in tables}
        settings.require()
        there = next(folder for folder in (options.out, *options.out.absolute().parents) if folder.exists())
        tempfile.TemporaryFile(dir=there).close()  # a folder that cannot be written is refused now
    stage = results_name(stage, options.profile)
    modules = (module,) if options.profile in ABOVE else modules_of(module, kind)
    deps = dependencies(modules, params, options.profile, tables)
    record = options.out / kind.provenance
    if is_made(record, options.profile, deps) and not os.environ.get(RERUN):
        print(f"{stage}: {options.out} is of this code, data, parameters and versions; nothing to do (see make rerun)")
        return
    command = ["python", *sys.orig_argv[1:]]
    with _refusals(stage):
        provenance = Provenance(stage, command, options.profile, deps=deps, claims=params.with_name("claims.yaml"))
    checks = [ChecksOf(name) for name in modules[1:]]
    grids = [each.runs() for each in checks]  # now, since this imports them: an error comes before the training
    workers = settings.hardware.workers or kind.workers or available_workers()
    runner = Runner(
        stage, options.profile, inputs, workers, kind.instruction_set, kind.allocator, hardware=settings.hardware
    )
    with runner.alone():
        try:
            result = experiment(settings, runner)
            identities = chain.from_iterable(map(execute, repeat(runner), checks, grids))
            result = replace(result, runs=[*result.runs, *identities])
        except KeyboardInterrupt:
            kept = "finished runs are kept, and the same command goes on from there"
            print(f"\n{stage}: stopped; {kept}", file=sys.stderr)
            sys.exit(INTERRUPTED)
        kernels = runner.kernels
        runner.close()
        now = dependencies(modules, params, options.profile, tables)
        if changed := sorted(path for path, digest in now.items() if deps.get(path) != digest):
            message = f"{stage}: changed while it ran: {', '.join(changed)}; nothing is published, so run it again"
            raise SystemExit(message)
        outs = publish(result, options.out, runs=kind.runs)
        if kind.costs:
            write_costs(options.out / kind.costs, map(asdict, runner.costs.values()))
        provenance.write(
            record, outs=outs, workers=runner.workers, threads=THREADS, environment=runner.environment,
            kernels=kernels, device=settings.hardware.describe(),
        )  # fmt: skip
        runner.forget()


@contextmanager
def _refusals(stage: str) -> Iterator[None]:
    """End with the name of the stage and what does not fit, in place of a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        message = f"{stage}: {error}"
        raise SystemExit(message) from error


def _end_with_dvc() -> None:
    """End when the dvc that started this stage was killed: it could no longer note what is published here."""
    parent = os.getppid()
    starter = int(os.environ.get(STARTER, parent))  # a shell between hides its end, as do imports that came before
    while os.getppid() == parent and _runs(starter):
        time.sleep(0.2)
    print("dvc has ended, and this stage with it; finished runs are kept", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGTERM)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def modules_of(module: str, kind: Kind) -> tuple[str, ...]:
    """Name the modules whose code a stage runs.

    Args:
        module: Full name of the one that starts it.
        kind: Of the stage.

    Returns:
        It, and the checks beside it where there are some.
    """
    if kind.checks is None or not module_file(module).with_name(f"{kind.checks}.py").is_file():
        return (module,)
    return (module, f"{module.rpartition('.')[0]}.{kind.checks}")


def _parse(stage: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=stage, description=f"Run the stage {stage}.")
    parser.add_argument("--profile", required=True, help="block of the parameter file")
    parser.add_argument("--out", required=True, type=Path, help="folder of the results")
    return parser.parse_args(arguments)


def publish(result: Tables, out: Path, *, runs: str = TRAINING.runs) -> list[str]:
    """Replace the tables of a folder, but only when all of them could be written.

    Args:
        result: What an experiment handed over.
        out: Folder of the results; made if it is missing.
        runs: Name of the table of measurements.

    Returns:
        Names of the tables that are there now.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".") as folder:
        written = Path(folder)
        write_runs(written / runs, result.runs)
        if result.trials:
            write_trials(written / TRIALS, result.trials)
        tables = sorted(written.iterdir())
        for table in tables:
            table.replace(out / table.name)
    return [table.name for table in tables]
