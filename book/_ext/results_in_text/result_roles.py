"""The roles `result` (one number) and `verdict` (one badge), for use inside a sentence."""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxRole
from sphinx.writers.html5 import HTML5Translator

from results_in_text.results_files import (
    ResultAddressError,
    claim_with_id,
    formatted,
    read_results,
    read_verdicts,
    split_address,
    value_at,
)
from results_in_text.verdict_badges import verdict_badge


class result_value(nodes.inline):  # docutils finds a node's visitor by the name of its class
    """A number that came from results/; carries its address, which the HTML shows on hover."""


def visit_result_value(translator: HTML5Translator, node: result_value) -> None:
    """Open the span, with the address as title.

    Args:
        translator: The HTML writer.
        node: The node to write.
    """
    translator.body.append(translator.starttag(node, "span", "", CLASS="result", title=node["address"]))


def depart_result_value(translator: HTML5Translator, node: result_value) -> None:  # noqa: ARG001 - docutils calls it so
    """Close the span.

    Args:
        translator: The HTML writer.
        node: The node to write.
    """
    translator.body.append("</span>")


def pass_through(translator: Any, node: nodes.Node) -> None:
    """Write nothing of its own: builders other than HTML show only the text.

    Args:
        translator: Any writer.
        node: The node to write.
    """


class ResultRole(SphinxRole):
    """Role `result`: `name/file:path | format` becomes the formatted value."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Read the value and note the file as a dependency of the page.

        Returns:
            The node, and no message.

        Raises:
            ExtensionError: If there is no such value, or it cannot be printed so.
        """
        address, _, spec = (part.strip() for part in self.text.partition("|"))
        try:
            file, path = split_address(address)
            source = Path(self.config.results_root, f"{file}.json")
            text = formatted(value_at(read_results(source), path), spec or None)
        except ResultAddressError as error:
            raise ExtensionError(self._complaint(error)) from error
        self.env.note_dependency(str(source))
        return [result_value(self.rawtext, text, address=address)], []

    def _complaint(self, error: ResultAddressError) -> str:
        source, line = self.get_source_info()
        return f"{source}:{line}: role result, {self.text!r}: {error}"


class VerdictRole(SphinxRole):
    """Role `verdict`: `name:claim` becomes the badge of the claim's verdict."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Read the verdict and note its files as dependencies of the page.

        Returns:
            The badge, and no message.

        Raises:
            ExtensionError: If there is no such claim.
        """
        try:
            name, claim_id = split_address(self.text)
            verdicts = read_verdicts(Path(self.config.results_root), name)
            badge = verdict_badge(claim_with_id(verdicts, claim_id))
        except ResultAddressError as error:
            source, line = self.get_source_info()
            message = f"{source}:{line}: role verdict, {self.text!r}: {error}"
            raise ExtensionError(message) from error
        for path in verdicts.files:
            self.env.note_dependency(str(path))
        return [badge], []
