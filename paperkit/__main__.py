"""Commands for who writes a replication: new, check, pipeline, repro, at (make targets call them)."""

import argparse
import sys
from pathlib import Path

from paperkit.config import ConfigError
from paperkit.new import write_new
from paperkit.pipeline import write_pipeline
from paperkit.profiles import ABOVE
from paperkit.readiness import check
from paperkit.stage import INTERRUPTED


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
    commands.add_parser("pipeline", help="write dvc.yaml, the book's contents and the README's answers")
    checking = commands.add_parser("check", help="say everything that a replication lacks")
    checking.add_argument("name", help="its folder in replications/")
    running = commands.add_parser("repro", help="run the stages that are out of date")
    running.add_argument("name", nargs="?", help="a replication, whose stages alone are run")
    running.add_argument("--again", action="store_true", help="train again what is up to date, too")
    at = commands.add_parser("at", help="run a profile that not every machine can run")
    at.add_argument("profile", choices=ABOVE)
    at.add_argument("name", help="its folder in replications/")
    options, root = parser.parse_args(), Path.cwd()
    try:
        if options.command == "check":
            return 0 if check(root, options.name) else 1
        if options.command == "new":
            print("written:", *write_new(root, options.name, options.post), sep="\n  ")
            print(f"Next: read replications/{options.name}/claims.yaml, then `make check NAME={options.name}`.")
        elif options.command == "repro":
            from paperkit.reproduction import reproduce  # loads DVC, which takes a second

            return 0 if reproduce(root, options.name, again=options.again) else INTERRUPTED
        elif options.command == "at":
            from paperkit.reproduction import run_at

            return 0 if run_at(root, options.name, options.profile) else 1
        else:
            print("written:", ", ".join(write_pipeline(root)) or "nothing; all is up to date")
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
