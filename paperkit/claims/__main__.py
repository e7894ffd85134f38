"""What is claimed and what comes of it: `python -m paperkit.claims <results> [--timing]` writes verdicts.json.

Results are a folder below results/: lion, or lion_gpu for those of another profile. A profile above the committed one
judges the claims that it has runs of; a verdict never moves from one profile to another.

claims.yaml declares beforehand which number decides a claim and by which rule (`declarations`). The number is said in
place (a check of the derivation, a value, a difference) or is a function of the replication's estimands.py, loaded by
name. A rule turns the numbers of all seeds into a word (`rules`). A claim is as good as its worst test, Holm's
correction runs over the primary claims, and a word that a declared variation flips is fragile (`verdicts`). What can
be refused is refused before anything is computed.
"""

import argparse
import sys
from collections.abc import Sequence

from paperkit.claims.verdicts import write_verdicts
from paperkit.config import ConfigError
from paperkit.results import ResultsError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a refused file ends it with a message and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m paperkit.claims", description="Judge a replication's claims.")
    parser.add_argument("results", help="folder below results/, for example lion or lion_gpu")
    parser.add_argument("--timing", action="store_true", help="judge the claims of kind timing, from timings.csv")
    options = parser.parse_args(arguments)
    try:
        write_verdicts(options.results, timing=options.timing)
    except (ConfigError, ResultsError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
