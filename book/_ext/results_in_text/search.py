r"""Search finds sections, and Chinese by every one to three characters.

Sphinx's index knows pages alone. Here a section is fed as if it were a page called `<page>#<section>`, and on the page
of search `Scorer.score` takes such a name apart again. The page itself stays, for words in several sections; what is
there to be copied is in neither.

Sphinx's own Chinese cuts text into words with jieba when the index is made, and does not cut the reader's query, so
that most phrases are not found. Here index and query are cut by one rule, and every piece of a title is found.
"""

import re
from collections.abc import Iterable, Iterator
from html import escape

from docutils import nodes
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.search.en import SearchEnglish
from sphinx.util.docutils import new_document

_CHINESE = "\u3400-\u9fff"
_PIECES = re.compile(rf"[{_CHINESE}]+|[^\W{_CHINESE}]+")
_LONGEST = 3
# Sphinx calls Scorer.score with each result before it sorts: page, title, anchor, description, score.
_SCRIPT = r"""
var splitQuery = (query) =>
  (query.match(/[CHINESE]+|(?:(?![CHINESE])[\p{Letter}\p{Number}_])+/gu) || []).flatMap((piece) =>
    /^[CHINESE]/u.test(piece) && piece.length > LONGEST
      ? Array.from({ length: piece.length - LONGEST + 1 }, (_, start) => piece.slice(start, start + LONGEST))
      : [piece]);

Scorer.score = (result) => {
  const [page, section] = result[0].split("#");
  // A page that has the words somewhere comes after the sections that have them.
  if (!section) return result[4] <= Scorer.term ? result[4] - Scorer.term : result[4];
  const titles = result[1].split(" > ");
  result.splice(0, 3, page, titles.slice(0, 2).join(" > "), `#${section}`);
  return result[4];
};
""".replace("CHINESE", r"\u3400-\u9fff").replace("LONGEST", str(_LONGEST))


class SearchEnglishAndChinese(SearchEnglish):
    """The search language `en_zh`: English with Porter's stemmer, and Chinese by pieces of one to three characters."""

    lang = "en_zh"
    language_name = "English and Chinese"
    js_splitter_code = _SCRIPT

    def split(self, input: str) -> list[str]:  # noqa: A002 - Sphinx calls it so
        """Cut a text into English words, and all pieces of up to three characters of each stretch of Chinese."""
        parts = []
        for piece in _PIECES.findall(input):
            lengths = range(1, _LONGEST + 1) if re.match(f"[{_CHINESE}]", piece) else [len(piece)]
            parts += [piece[place : place + length] for length in lengths for place in range(len(piece) - length + 1)]
        return parts


class BuilderWithSections(StandaloneHTMLBuilder):
    """The builder of HTML, with an index of sections."""

    def load_indexer(self, docnames: Iterable[str]) -> None:
        """Load the last index, and let sections stay in it for as long as their page does."""
        indexer = self.indexer
        assert indexer is not None
        prune = indexer.prune
        indexer.prune = lambda docnames: prune([
            name for name in indexer._titles if name.partition("#")[0] in docnames
        ])
        super().load_indexer(docnames)

    def index_page(self, pagename: str, doctree: nodes.document, title: str) -> None:
        """Feed a page, its own title alone as title, and each of its sections."""
        if self.indexer is None or not title or "nosearch" in self.env.metadata.get(pagename, {}):
            return super().index_page(pagename, doctree, title)
        file = self.env.doc2path(pagename, base=False)
        own, *sections = doctree.findall(nodes.section)
        self.indexer.feed(pagename, file, title, _document(own, whole=True))
        for section in sections:
            name = escape(section[0].astext())
            self.indexer.feed(f"{pagename}#{section['ids'][0]}", file, f"{title} > {name}", _document(section))
        return None


def _document(section: nodes.section, *, whole: bool = False) -> nodes.document:
    """Copy what is to be found of a section, with or without the sections in it."""
    document, text = new_document(""), "\n".join(_texts(section, whole=whole))
    title = nodes.title("", section[0].astext())
    document += nodes.section("", title, nodes.paragraph("", text), ids=section["ids"])
    return document


def _texts(node: nodes.Node, *, whole: bool) -> Iterator[str]:
    for child in node.children:
        if isinstance(child, nodes.Text):
            yield child.astext()
        elif isinstance(child, nodes.Invisible) or "to_be_copied" in child:
            continue
        elif whole or not isinstance(child, nodes.section):
            yield from _texts(child, whole=whole)
