"""The verdict of a claim as a coloured badge: its word always, its colour as a help."""

from typing import Any

from docutils import nodes

from results_in_text.results_files import ResultAddressError

VERDICT_CLASSES = {
    "holds": "holds",
    "holds, fragile": "holds-fragile",
    "holds, smaller": "holds-smaller",
    "holds, smaller, fragile": "holds-smaller-fragile",
    "contradicted": "contradicted",
    "contradicted, fragile": "contradicted-fragile",
    "no difference": "no-difference",
    "no difference, fragile": "no-difference-fragile",
    "inconclusive": "inconclusive",
    "corrected": "corrected",
    "not tested at this scale": "not-tested",
    None: "none",
}


def verdict_badge(claim: dict[str, Any]) -> nodes.inline:
    """Make the badge of a claim: a dashed border marks an exploratory one, a dotted border a fragile verdict."""
    verdict = claim["verdict"]
    if verdict not in VERDICT_CLASSES:
        known = ", ".join(word for word in VERDICT_CLASSES if word)
        message = f"claim {claim['id']} has the verdict {verdict!r}; allowed: {known}, or null"
        raise ResultAddressError(message)
    classes = ["verdict", f"verdict-{VERDICT_CLASSES[verdict]}"]
    if claim["exploratory"]:
        classes.append("verdict-exploratory")
    text = verdict_words(claim)
    return nodes.inline(text, text, classes=classes)


def verdict_words(claim: dict[str, Any]) -> str:
    """Say the verdict of a claim, and what would be misread without a word of its own."""
    notes = {
        # Else its "inconclusive" would read as a result.
        "not yet run": not any(map(_has_run, claim["tests"])),
        "exploratory": claim["exploratory"],
        "superseded": "superseded_by" in claim,
    }
    return ", ".join([claim["verdict"] or "no verdict", *[note for note, applies in notes.items() if applies]])


def is_primary(claim: dict[str, Any]) -> bool:
    """Tell whether a claim decides the headline of its replication; one that is superseded does not."""
    return claim["family"] == "primary"


def _has_run(test: dict[str, Any]) -> bool:
    return test["max_error"] is not None if test["rule"] == "identity" else test["n"] > 0
