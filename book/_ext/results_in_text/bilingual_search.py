"""The search language `en_zh`: English words as Sphinx indexes them, Chinese text by every one to three characters.

Sphinx's own Chinese cuts text into words with jieba when the index is made, and does not cut the reader's query, so
that most phrases are not found. Here index and query are cut by one rule, and every piece of a title is found.
"""

import re

from sphinx.search.en import SearchEnglish

from results_in_text.section_search import SPLIT_NAME

_CHINESE = "\u3400-\u9fff"
_PIECES = re.compile(rf"[{_CHINESE}]+|[^\W{_CHINESE}]+")
_LONGEST = 3

_SPLIT_QUERY = r"""
var splitQuery = (query) =>
  (query.match(/[CHINESE]+|(?:(?![CHINESE])[\p{Letter}\p{Number}_])+/gu) || []).flatMap((piece) =>
    /^[CHINESE]/u.test(piece) && piece.length > LONGEST
      ? Array.from({ length: piece.length - LONGEST + 1 }, (_, start) => piece.slice(start, start + LONGEST))
      : [piece]);
""".replace("CHINESE", r"\u3400-\u9fff").replace("LONGEST", str(_LONGEST))


class SearchEnglishAndChinese(SearchEnglish):
    """English with Porter's stemmer, and Chinese by pieces of one to three characters."""

    lang = "en_zh"
    language_name = "English and Chinese"
    js_splitter_code = _SPLIT_QUERY + SPLIT_NAME

    def split(self, input: str) -> list[str]:  # noqa: A002 - Sphinx calls it so
        """Cut a text into English words, and all pieces of up to three characters of each stretch of Chinese."""
        return [part for piece in _PIECES.findall(input) for part in _parts(piece)]


def _parts(piece: str) -> list[str]:
    if not re.match(f"[{_CHINESE}]", piece):
        return [piece]
    lengths = range(1, _LONGEST + 1)
    return [piece[start : start + length] for length in lengths for start in range(len(piece) - length + 1)]
