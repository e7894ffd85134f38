"""What programs read of the book: a description in each page's head (OpenGraph), `llms.txt`, and a sitemap.

A sitemap and a page's own address need to know where the book stands: `html: baseurl:` in _config.yml, empty while it
stands nowhere.
"""

from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from results_in_text.citation_list import downloads_are_written

_LENGTH = 300  # characters of a description


def describe(app: Sphinx, doctree: nodes.document) -> None:
    """Take a page's first paragraph for its description."""
    first = next((node for node in doctree.findall(nodes.paragraph) if isinstance(node.parent, nodes.section)), None)
    words = " ".join(first.astext().replace("\\", "").split()) if first is not None else ""
    text = words if len(words) <= _LENGTH else words[:_LENGTH].rpartition(" ")[0] + " …"
    app.env.metadata[app.env.docname]["description"] = text


def head_page(
    app: Sphinx,
    pagename: str,
    templatename: str,  # noqa: ARG001 - Sphinx passes five arguments
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Write title and description for previews of links."""
    if doctree is None:
        return
    description = app.env.metadata[pagename].get("description", "")
    said = {"og:type": "article", "og:site_name": app.config.html_title, "og:title": _title(app, pagename)}
    said |= {"og:description": description}
    if app.config.html_baseurl:
        said["og:url"] = _address(app, pagename)
    tags = [f'<meta property="{name}" content="{escape(text)}" />' for name, text in said.items()]
    tags.append(f'<meta name="description" content="{escape(description)}" />')
    context["metatags"] = "\n".join([context.get("metatags", ""), *tags])


def write_lists(app: Sphinx, exception: Exception | None) -> None:
    """Write llms.txt, and where the book has an address the sitemap."""
    if exception or app.builder.format != "html":
        return
    root, pages = app.config.root_doc, sorted(app.env.found_docs)
    lines = [f"# {app.config.html_title}", "", f"> {app.env.metadata[root]['description']}", "", "## Pages", ""]
    lines += [
        f"- [{_title(app, page)}]({_address(app, page)}): {app.env.metadata[page]['description']}" for page in pages
    ]
    if downloads_are_written(app.env):
        files = sorted(Path(app.outdir, "downloads").glob("*/claims.json"))
        lines += ["", "## All claims, verdicts, intervals and seeds", ""]
        lines += [f"- [{file.parent.name}](downloads/{file.parent.name}/claims.json)" for file in files]
    Path(app.outdir, "llms.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
    if app.config.html_baseurl:
        addresses = "".join(f"<url><loc>{escape(_address(app, page))}</loc></url>\n" for page in pages)
        text = f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{addresses}</urlset>\n'
        Path(app.outdir, "sitemap.xml").write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Connect with a build; what is listed has been written by then."""
    app.connect("doctree-read", describe)
    app.connect("html-page-context", head_page)
    app.connect("build-finished", write_lists, priority=900)


def _title(app: Sphinx, page: str) -> str:
    return app.env.titles[page].astext()


def _address(app: Sphinx, page: str) -> str:
    return f"{app.config.html_baseurl.rstrip('/')}/{page}.html".lstrip("/")
