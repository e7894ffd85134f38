"""Which replication a page belongs to, and the directives that show that one's results without being told its name."""

from typing import ClassVar

from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective


def replication_of(docname: str) -> str | None:
    """Name the replication that a page belongs to: replications/lion and replications/lion/derivation are lion's."""
    folder, _, rest = docname.partition("/")
    return rest.partition("/")[0] if folder == "replications" else None


class OfReplication(SphinxDirective):
    """A directive whose argument is a folder of results; without one it is that of the page's replication."""

    optional_arguments: ClassVar[int] = 1

    @property
    def folder(self) -> str:
        """The folder below results/."""
        folder = self.arguments[0] if self.arguments else replication_of(self.env.docname)
        if folder is None:
            place = f"{self.get_location()}: directive {self.name}"
            message = f"{place}: this is no replication's page, so name a folder of results"
            raise ExtensionError(message)
        return folder
