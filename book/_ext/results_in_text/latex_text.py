"""Text of a page as LaTeX that any engine reads: for BibTeX entries, macros and tables."""

import re

from pylatexenc.latexencode import (
    RULE_DICT,
    RULE_REGEX,
    UnicodeToLatexConversionRule,
    UnicodeToLatexEncoder,
    get_builtin_uni2latex_dict,
)

from results_in_text.records import BookDataError

# BibTeX counts braces even behind a backslash, and pylatexenc 2.11 writes some letters as others. Those that have no
# command stay as they are, like Chinese: files are UTF-8.
_OWN = {
    "{": r"\ensuremath{\lbrace}",
    "}": r"\ensuremath{\rbrace}",
    "ħ": r"\ensuremath{\hbar}",
    "Ű": r"\H{U}",
    "ű": r"\H{u}",
}
_OWN |= {letter: letter for letter in "ĦĸĿŀŉŦŧ"}
_ENCODER = UnicodeToLatexEncoder(
    conversion_rules=[
        UnicodeToLatexConversionRule(RULE_DICT, {ord(letter): text for letter, text in _OWN.items()}),
        # What TeX would join to a dash or a quotation mark; a straight quote is written as two apostrophes.
        UnicodeToLatexConversionRule(RULE_REGEX, [(re.compile(r"([-'])(?=\1)|'(?=\")|[?!`](?=`)"), r"\g<0>{}")]),
        "defaults",
    ],
    unknown_char_policy="keep",
    unknown_char_warning=False,
    replacement_latex_protection="braces",
)
_PART = re.compile(
    r"\$(?P<maths>[^$]+)\$"
    r"|\{[\w:.-]+\}`(?P<role>[^`]+)`"
    r"|`(?P<code>[^`]+)`"
    r"|\*\*(?P<strong>[^*\s](?:[^*]*[^*\s])?)\*\*"
    r"|\*(?P<emphasis>[^*\s](?:[^*]*[^*\s])?)\*"
)
# Commands that mathematics may hold on its way into a paper: names of signs, and what builds formulas. Others could
# read a file or change what later commands mean (\input, \def, \csname).
_SIGNS = re.findall(r"\\([A-Za-z]+)", " ".join(get_builtin_uni2latex_dict().values()))
_BUILDS = """
    arg bar big Big bigl Bigl bigr Bigr binom bm cos cosh det dfrac dim dots exp frac ge hat inf ker ldots le left lim
    ln log lvert lVert mathcal mathfrak mathrm max middle min mod ne operatorname overbrace overline overset pmod Pr
    qquad right rvert rVert sin sinh sup tan tanh text textbf textit textrm tfrac tilde to underbrace underline
    underset vec widehat widetilde
"""
_SAFE = {*_SIGNS, *re.findall(r"\w+", _BUILDS)}
_UNSAFE = re.compile(r"\^\^|(?<!\\)[%#]|\\([A-Za-z]+)")
_COMMANDS = {"code": "texttt", "strong": "textbf", "emphasis": "emph"}
_NUMBER = re.compile(r"(?P<mantissa>-?\d+(?:\.\d+)?)(?:e(?P<exponent>[+-]?\d+))?")


def escaped(text: str) -> str:
    """Write plain text, in which nothing is markup, in LaTeX: ASCII, apart from letters that have no such form."""
    return _ENCODER.unicode_to_latex(text)


def latex(text: str) -> str:
    """Write a page's inline text in LaTeX: maths stays, code and emphasis become commands, a role its text."""
    pieces, end = [], 0
    for match in _PART.finditer(text):
        pieces += [escaped(text[end : match.start()]), _marked_up(match)]
        end = match.end()
    return " ".join("".join([*pieces, escaped(text[end:])]).split())


def number(text: str) -> str:
    """Write a printed number so that its minus is a minus and its exponent an exponent, in text and in maths."""
    return f"\\ensuremath{{{_digits(text)}}}"


def interval(low: str, high: str) -> str:
    """Write an interval for text and for maths; its comma is braced, since packages make it active."""
    return f"\\ensuremath{{[{_digits(low)}{{,}}\\,{_digits(high)}]}}"


def _digits(text: str) -> str:
    match = _NUMBER.fullmatch(text)
    if match is None:
        message = f"{text!r} is no number"
        raise ValueError(message)
    power = f"\\times 10^{{{int(match['exponent'])}}}" if match["exponent"] else ""
    return f"{match['mantissa']}{power}"


def _safe_maths(text: str) -> str:
    for found in _UNSAFE.finditer(text):
        if found[1] not in _SAFE:
            message = f"{found[0]} in ${text}$ is no sign or formula that goes into LaTeX; write it in other words"
            raise BookDataError(message)
    return text


def _marked_up(match: re.Match[str]) -> str:
    kind = match.lastgroup or ""
    if kind == "maths":
        return f"${_safe_maths(match[kind])}$"
    if kind == "role":
        # {ref}`text <label>` shows its text.
        return escaped(re.sub(r"\s*<[^<>]*>$", "", match[kind]))
    return f"\\{_COMMANDS[kind]}{{{escaped(match[kind])}}}"
