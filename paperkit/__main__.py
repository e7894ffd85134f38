"""Commands for who reads a replication (explain, verify, doctor, plan), and who writes one (the others)."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from paperkit.config import ConfigError
from paperkit.profiles import ABOVE, PROFILES
from paperkit.results import ResultsError

# Each command loads what it needs, and no other: DVC alone takes a second.
Command = Callable[[argparse.Namespace], int]


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
    commands.add_parser("pipeline", help="write dvc.yaml, the book's contents, the README's table, results/index.json")
    checking = commands.add_parser("check", help="say everything that a replication lacks")
    checking.add_argument("name", help="its folder in replications/")
    running = commands.add_parser("repro", help="run the stages that are out of date")
    running.add_argument("name", nargs="?", help="a replication, whose stages alone are run")
    running.add_argument("--again", action="store_true", help="train again what is up to date, too")
    at = commands.add_parser("at", help="run a profile that not every machine can run")
    at.add_argument("profile", choices=ABOVE)
    at.add_argument("name", help="its folder in replications/")
    explaining = commands.add_parser("explain", help="walk one verdict from its statement to the code behind it")
    explaining.add_argument("claim", help="folder of results and claim, such as lion/C6")
    explaining.add_argument("--against", type=Path, metavar="FILE", help="another verdicts.json: list what differs")
    planning = commands.add_parser("plan", help="say what a run costs, and what its seeds can detect")
    planning.add_argument("name", nargs="?", help="its folder in replications/; all where none is named")
    planning.add_argument("--profile", choices=PROFILES, default="cpu")
    planning.add_argument("--seeds", type=int, help="seeds of each arm, in place of those of the last run")
    commands.add_parser("doctor", help="compare data, cache, environment, results and history with what is written")
    verifying = commands.add_parser("verify", help="run a clean clone of HEAD again, and compare")
    verifying.add_argument("name", nargs="?", help="folder of results, or a claim such as lion/C6; all of profile cpu")
    verifying.add_argument("--workers", type=_numbers, default=(None,), help="run with each, such as 1,2")
    verifying.add_argument("--hash-seed", type=_numbers, default=(0,), help="run with each, such as 0,1")
    options = parser.parse_args()
    try:
        return COMMANDS[options.command](options)
    except (ConfigError, ResultsError) as error:
        print(error, file=sys.stderr)
        return 1


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


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


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
}

if __name__ == "__main__":
    sys.exit(main())
