"""The verdict of a claim as a coloured badge: its word always, its colour as a help."""

from typing import Any

from docutils import nodes

from results_in_text.results_files import ResultAddressError

VERDICT_CLASSES = {
    "holds": "holds",
    "holds, smaller": "holds-smaller",
    "contradicted": "contradicted",
    "no difference": "no-difference",
    "inconclusive": "inconclusive",
    "corrected": "corrected",
    "not tested at this scale": "not-tested",
    None: "none",
}


def verdict_badge(claim: dict[str, Any]) -> nodes.inline:
    """Make the badge of a claim.

    Args:
        claim: One entry of verdicts.json.

    Returns:
        An inline node. An exploratory claim says so in words and by a dashed border; a claim that was declared
        and not run says so too, or its "inconclusive" would read as a result.

    Raises:
        ResultAddressError: If the verdict is none of the reporting standard's words.
    """
    verdict = claim["verdict"]
    if verdict not in VERDICT_CLASSES:
        known = ", ".join(word for word in VERDICT_CLASSES if word)
        message = f"claim {claim['id']} has the verdict {verdict!r}; allowed: {known}, or null"
        raise ResultAddressError(message)
    words = [verdict or "no verdict"]
    if not any(map(_has_run, claim["tests"])):
        words.append("not yet run")
    classes = ["verdict", f"verdict-{VERDICT_CLASSES[verdict]}"]
    if claim["exploratory"]:
        words.append("exploratory")
        classes.append("verdict-exploratory")
    text = ", ".join(words)
    return nodes.inline(text, text, classes=classes)


def is_primary(claim: dict[str, Any]) -> bool:
    """Tell whether a claim decides the headline of its replication.

    Args:
        claim: One entry of verdicts.json.

    Returns:
        True for the family `primary`.
    """
    return claim["family"] == "primary"


def _has_run(test: dict[str, Any]) -> bool:
    return test["max_error"] is not None if test["rule"] == "identity" else test["n"] > 0
