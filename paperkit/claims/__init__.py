"""What is claimed and what comes of it, from claims.yaml and runs to verdicts.json.

claims.yaml declares beforehand which number decides a claim and by which rule (`declarations`). The number is said in
place (a check of the derivation, a value, a difference) or is a function of the replication's estimands.py, loaded by
name. A rule turns the numbers of all seeds into a word (`rules`). A claim is as good as its worst test, Holm's
correction runs over the primary claims, and a word that a declared variation flips is fragile (`verdicts`). What can
be refused is refused before anything is computed.
"""

from paperkit.claims.declarations import PROFILES, Claim, ClaimsFile, load_estimands, read_claims
from paperkit.claims.rules import IdentityTest, Verdict
from paperkit.claims.verdicts import judge_runs, write_verdicts

__all__ = [
    "PROFILES",
    "Claim",
    "ClaimsFile",
    "IdentityTest",
    "Verdict",
    "judge_runs",
    "load_estimands",
    "read_claims",
    "write_verdicts",
]
