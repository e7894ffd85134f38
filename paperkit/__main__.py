"""Commands for who writes a replication: `python -m paperkit pipeline`, `python -m paperkit check NAME`."""

import argparse
import sys
from pathlib import Path

from paperkit.completeness import check
from paperkit.config import ConfigError
from paperkit.pipeline import write_pipeline


def main() -> int:
    """Run the command that is named on the command line.

    Returns:
        Exit status: 1 where something is wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m paperkit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("pipeline", help="write dvc.yaml, the book's contents and the README's table")
    check_parser = commands.add_parser("check", help="say everything that a replication lacks")
    check_parser.add_argument("name", help="its folder in replications/")
    options = parser.parse_args()
    if options.command == "check":
        return 0 if check(Path.cwd(), options.name) else 1
    try:
        print("written:", ", ".join(write_pipeline(Path.cwd())) or "nothing; all is up to date")
    except ConfigError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
