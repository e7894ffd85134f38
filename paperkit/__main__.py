"""Commands for who reads a replication (explain, verify, doctor, plan), and who writes one (the others)."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from paperkit.config import ConfigError
from paperkit.profiles import ABOVE, COMMITTED, PROFILES
from paperkit.results import ResultsError

# Each command loads what it needs, and no other: DVC alone takes a second.
Command = Callable[[argparse.Namespace], int]

EXPLAIN = """\
Statement and source, the rule with the commit that fixed it, seeds, estimate and interval, the word, what would flip
it, and the code that measured it. With --against: the settings in which two verdicts of one claim differ, which are
rule, seeds, machine, versions, code, and the configurations of the runs.
"""
PLAN = """\
Runs, hours of one core or of a GPU, time here and memory, from what the last run took (costs.csv), and how long that
run took in truth. Of each primary claim: the smallest effect that the seeds detect with a power of 0.8, from the
standard deviation of its pilot.
"""
DOCTOR = """\
Tables against data.dvc, objects of DVC's cache and remote against their names, the environment against the lock,
results against code, verdicts against runs, rules against git's history. Nothing is trained or repaired.
"""
VERIFY = """\
identical: the same bytes and words. as expected: the same words, and every number that decides a claim lies in the
interval that holds the next run of its seeds in 95 of 100 cases. drifted: anything else (exit status 1).
nondeterministic: reruns with other workers or another hash seed differ among themselves (1). A receipt of each rerun
is written below receipts/.
"""
ACCEPT = """\
Each stage that imports changed code runs its smoke profile with the code of --since and with that of HEAD. Where all
write the same bytes, the change is noted in equivalent_code.yaml, and the committed results stay those of the code.
Else nothing is noted: train the stage again.
"""


def main() -> int:
    """Run the command that is named on the command line.

    Returns:
        Exit status: 1 where something is wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m paperkit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", help="write a small replication that runs, to be filled")
    new.add_argument("name", help="the paper's object in snake_case")
    new.add_argument("--post", type=int, required=True, help="archive number of the post in book/posts.yaml")
    commands.add_parser("pipeline", help="write dvc.yaml, the book's contents, README's answers, results/index.json")
    checking = commands.add_parser("check", help="say everything that a replication lacks")
    checking.add_argument("name", help="its folder in replications/")
    running = commands.add_parser("repro", help="run the stages that are out of date")
    running.add_argument("name", nargs="?", help="a replication, whose stages alone are run")
    running.add_argument("--again", action="store_true", help="train again what is up to date, too")
    at = commands.add_parser("at", help="run a profile that not every machine can run")
    at.add_argument("profile", choices=ABOVE)
    at.add_argument("name", help="its folder in replications/")
    explaining = commands.add_parser(
        "explain", help="walk one verdict from its statement to the code behind it", description=EXPLAIN
    )
    explaining.add_argument("claim", help="folder of results and claim, such as lion/C6")
    explaining.add_argument("--against", type=Path, metavar="FILE", help="another verdicts.json: list what differs")
    planning = commands.add_parser(
        "plan", help="say what a run costs, and what its seeds can detect", description=PLAN
    )
    planning.add_argument("name", nargs="?", help="its folder in replications/; all where none is named")
    planning.add_argument("--profile", choices=PROFILES, default=COMMITTED, help=f"{COMMITTED} where none is named")
    planning.add_argument("--seeds", type=_positive, help="seeds of each arm, in place of those of the last run")
    commands.add_parser(
        "doctor", help="compare this copy with what is written, and say what to do", description=DOCTOR
    )
    verifying = commands.add_parser("verify", help="train again in a clean clone, and compare", description=VERIFY)
    verifying.add_argument("name", nargs="?", help="folder of results, or a claim such as lion/C6; all of profile cpu")
    verifying.add_argument("--workers", type=_positives, default=(None,), help="run with each, such as 1,2")
    verifying.add_argument("--hash-seed", type=_numbers, default=(0,), help="run with each, such as 0,1")
    accepting = commands.add_parser("accept", help="note that changed code moves no number", description=ACCEPT)
    accepting.add_argument("--since", required=True, help="commit with the code before")
    accepting.add_argument("--why", required=True, help="one sentence")
    options = parser.parse_args()
    try:
        return COMMANDS[options.command](options)
    except (ConfigError, ResultsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"{error}: requirements-core.lock has not all that this command needs; `make setup`", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        from paperkit.stage import INTERRUPTED

        return INTERRUPTED


def _new(options: argparse.Namespace) -> int:
    from paperkit.new import write_new

    print("written:", *write_new(Path.cwd(), options.name, options.post), sep="\n  ")
    print(f"Next: read replications/{options.name}/claims.yaml, then `make check NAME={options.name}`.")
    return 0


def _pipeline(_: argparse.Namespace) -> int:
    from paperkit.pipeline import write_pipeline

    print("written:", ", ".join(write_pipeline(Path.cwd())) or "nothing; all is up to date")
    return 0


def _check(options: argparse.Namespace) -> int:
    from paperkit.readiness import check

    return 0 if check(Path.cwd(), options.name) else 1


def _repro(options: argparse.Namespace) -> int:
    from paperkit.reproduction import reproduce
    from paperkit.stage import INTERRUPTED

    return 0 if reproduce(Path.cwd(), options.name, again=options.again) else INTERRUPTED


def _at(options: argparse.Namespace) -> int:
    from paperkit.reproduction import run_at

    return 0 if run_at(Path.cwd(), options.name, options.profile) else 1


def _explain(options: argparse.Namespace) -> int:
    from paperkit.differences import differences
    from paperkit.explain import explain

    if options.against:
        print(*differences(Path.cwd(), options.claim, options.against), sep="\n")
    else:
        print(explain(Path.cwd(), options.claim))
    return 0


def _plan(options: argparse.Namespace) -> int:
    from paperkit.plan import plan

    print(plan(Path.cwd(), options.name, options.profile, options.seeds))
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from paperkit.doctor import examine

    return 0 if examine(Path.cwd()) else 1


def _verify(options: argparse.Namespace) -> int:
    from paperkit.verify import verify

    return 0 if verify(Path.cwd(), options.name, options.workers, options.hash_seed) else 1


def _accept(options: argparse.Namespace) -> int:
    from paperkit.equivalence import accept

    code = accept(Path.cwd(), options.since, options.why)
    print("noted:", *code, sep="\n  ")
    print("Next: `make repro`, commit, and `make verify` a stage that imports them; commit its receipt.")
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        message = f"{text} is no whole number from 1 on"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _positives(text: str) -> tuple[int, ...]:
    return tuple(map(_positive, text.split(",")))


COMMANDS: dict[str, Command] = {
    "new": _new,
    "pipeline": _pipeline,
    "check": _check,
    "repro": _repro,
    "at": _at,
    "explain": _explain,
    "plan": _plan,
    "doctor": _doctor,
    "verify": _verify,
    "accept": _accept,
}

if __name__ == "__main__":
    sys.exit(main())
