"""The directive `posts-map`: where each post of posts.yaml stands, one row a post."""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from results_in_text.checked_yaml import BookDataError
from results_in_text.page_notes import depend_on
from results_in_text.posts import Posts, read_posts
from results_in_text.tables import Row, facet_paragraph, table

_STATES = ["done", "in work", "next", "later", "nothing to run"]


class PostsMap(SphinxDirective):
    """Directive `posts-map`: all posts with their state, their topic, and the replication where there is one."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        path = Path(self.env.srcdir, "posts.yaml")
        depend_on(self.env, path, *Path(self.config.replications_root).glob("*/about.yaml"))
        try:
            posts = read_posts(path, Path(self.config.results_root), Path(self.config.replications_root))
        except BookDataError as error:
            message = f"{self.get_location()}: directive posts-map: {error}"
            raise ExtensionError(message) from error
        headings = ["State", "Post", "Topic", "What there is to replicate"]
        rows = [self._row(posts, post) for post in posts.posts]
        return [table(headings, rows, css_class="posts", widths=[18, 46, 16, 20])]

    def _row(self, posts: Posts, post: dict[str, Any]) -> Row:
        state, name = post["state"], post.get("replication")
        shown = nodes.inline(state, state, classes=["state", f"state-{state.replace(' ', '-')}"])
        place = [facet_paragraph("state", state, shown, order=f"{_STATES.index(state)}{post['date']}")]
        if name is not None:
            place.append(nodes.paragraph("", "", *self._replication(name)))
        address = f"https://kexue.fm/archives/{post['archive']}"
        title = nodes.reference("", post["title"], refuri=address, internal=False)
        chinese = nodes.inline("", post["chinese"], classes=["chinese"])
        published = nodes.inline("", post["date"], classes=["date"])
        return [
            place,
            [nodes.paragraph("", "", title), nodes.paragraph("", "", published, nodes.Text(" "), chinese)],
            [facet_paragraph("topic", posts.topics[post["topic"]])],
            [facet_paragraph("kind", kind) for kind in post["kinds"]] or [nodes.paragraph("", "nothing: an essay")],
        ]

    def _replication(self, name: str) -> list[nodes.Node]:
        """Link to the replication's page where there is one, else name it."""
        if f"replications/{name}" in self.env.found_docs:
            return self.parse_inline(f"{{doc}}`{name.replace('_', ' ')} </replications/{name}>`")[0]
        return [nodes.literal(name, name)]
