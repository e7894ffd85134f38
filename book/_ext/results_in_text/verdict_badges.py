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


def verdict_badge(claim: dict[str, Any], *, prefix: str = "") -> nodes.inline:
    """Make the badge of a claim.

    Args:
        claim: One entry of verdicts.json.
        prefix: Text before the verdict word, such as the claim's id.

    Returns:
        An inline node; an exploratory claim says so in words and by a dashed border.

    Raises:
        ResultAddressError: If the verdict is none of the reporting standard's words.
    """
    verdict = claim["verdict"]
    if verdict not in VERDICT_CLASSES:
        known = ", ".join(word for word in VERDICT_CLASSES if word)
        message = f"claim {claim['id']} has the verdict {verdict!r}; allowed: {known}, or null"
        raise ResultAddressError(message)
    words = [verdict or "no verdict"]
    classes = ["verdict", f"verdict-{VERDICT_CLASSES[verdict]}"]
    if claim["exploratory"]:
        words.append("exploratory")
        classes.append("verdict-exploratory")
    text = " ".join(filter(None, [prefix, ", ".join(words)]))
    return nodes.inline(text, text, classes=classes)


def is_primary(claim: dict[str, Any]) -> bool:
    """Tell whether a claim decides the headline of its replication.

    Args:
        claim: One entry of verdicts.json.

    Returns:
        True for the family `primary`.
    """
    return claim["family"] == "primary"
