"""What every replication's page says in the same form: `headline` at its top, `params`, and `rerun` at its end."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from paperkit.answers import primary_records, sentence_for
from paperkit.results import ResultsError
from results_in_text.checked_yaml import BookDataError, read_checked_yaml
from results_in_text.citation_list import always_seen, download_list, folded
from results_in_text.claim_tables import claim_target, deciding_number, verdicts_by_profile
from results_in_text.of_replication import OfReplication
from results_in_text.page_notes import depend_on
from results_in_text.posts import page_of
from results_in_text.provenance_files import read_provenance
from results_in_text.results_files import ResultAddressError, Verdicts, by_id, read_all_verdicts, read_verdicts
from results_in_text.tables import Row, table

_SENTENCE = re.compile(r"^(\w+): ", re.MULTILINE)


class Headline(OfReplication):
    """Directive `headline`: each primary claim, its verdict, what that means, and what other words would have meant.

    The sentences are those of about.yaml. A line `C6: sentence` of the content says a claim in other words; claims
    that are named come first, in that order.
    """

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Make the table and note its files as dependencies of the page."""
        root, about = (
            Path(self.config.results_root),
            Path(self.config.replications_root, page_of(self.folder), "about.yaml"),
        )
        try:
            verdicts, every = read_verdicts(root, self.folder), read_all_verdicts(root, page_of(self.folder))
            said = primary_records(read_checked_yaml(about, "about.schema.json"), by_id(verdicts))
            primary = {record["id"]: (words, record) for words, record in said}
            given = self._sentences(primary)
            rows = [self._row(every, *primary[key], given.get(key)) for key in {**given, **primary}]
        except (BookDataError, ResultsError) as error:
            message = f"{self.get_location()}: directive headline: {error}"
            raise ExtensionError(message) from error
        depend_on(self.env, about, *(file for of in every.values() for file in of.files))
        if not rows:
            return [nodes.paragraph("", "No claim is primary.")]
        headings = ["Claim, verdict, and what we found", "The number that decides"]
        made = table(headings, rows, css_class="headline", widths=[66, 34])
        # An author's sentences are linted like all of the page; what comes from claims.yaml is not.
        made["generated"] = False
        self.set_source_info(made)
        return [made]

    def _sentences(self, primary: dict[str, Any]) -> dict[str, str]:
        _, *parts = _SENTENCE.split("\n".join(self.content))
        given = dict(zip(parts[::2], (" ".join(part.split()) for part in parts[1::2]), strict=True))
        unknown = [key for key in given if key not in primary]
        if unknown or (self.content and not given):
            known = ", ".join(primary)
            message = f"write lines such as `C6: sentence`, for primary claims ({known}); not {', '.join(unknown)}"
            raise ResultAddressError(message)
        return given

    def _row(
        self, every: Mapping[str, Verdicts], words: Mapping[str, str], record: dict[str, Any], sentence: str | None
    ) -> Row:
        link = f"({{ref}}`{record['id']} <{claim_target(self.folder, record['id'])}>`)"
        own = sentence or words.get("claim")
        said = self.parse_inline(f"{own or record['statement'].rstrip('.')} {link}")[0]
        claim = nodes.paragraph("", "", *said, generated=own is None, classes=["claim"])
        judged = [found for of in every.values() for found in of.claims if found["id"] == record["id"]]
        found = dict.fromkeys(sentence_for(words, each) for each in judged)
        outcome = [nodes.paragraph("", "", *self.parse_inline(each)[0], classes=["outcome"]) for each in found]
        cell = [claim, *verdicts_by_profile(self, every, record), *outcome, *self._elsewhere(words, found)]
        return [cell, self._measured(words, record)]

    def _elsewhere(self, words: Mapping[str, str], found: Mapping[str, None]) -> list[nodes.Node]:
        """Say what the page would have said with other intervals."""
        others = {word: said for word, said in words.items() if word not in ("claim", "number") and said not in found}
        if not others:
            return []
        line = always_seen("", "", nodes.Text("Had the interval ended elsewhere"))
        items = [
            nodes.list_item(
                "", nodes.paragraph("", "", nodes.strong("", word), nodes.Text(": "), *self.parse_inline(said)[0])
            )
            for word, said in others.items()
        ]
        return [folded("", line, nodes.bullet_list("", *items), classes=["elsewhere"])]

    def _measured(self, words: Mapping[str, str], record: dict[str, Any]) -> list[nodes.Node]:
        number = deciding_number(self, self.folder, words, record)
        cell: list[nodes.Node] = [nodes.paragraph("", "", *number, generated=True)]
        if more := len(record["tests"]) - 1:
            row = f"{{ref}}`{more} more <{claim_target(self.folder, record['id'])}>`"
            cell.append(nodes.paragraph("", "", nodes.Text("and "), *self.parse_inline(row)[0], generated=True))
        return cell


class Params(OfReplication):
    """Directive `params`: all settings of the profile whose results the page shows, as params.yaml has them."""

    def run(self) -> list[nodes.Node]:
        """Cut the profile's block out of the file and note it as a dependency of the page."""
        path = Path(self.config.replications_root, page_of(self.folder), "params.yaml")
        profile = read_provenance(Path(self.config.results_root, self.folder, "provenance.json"))["profile"]
        depend_on(self.env, path)
        block = re.search(rf"^{profile}:.*\n(?:(?=[\s#]).*\n)*", path.read_text(encoding="utf-8"), re.MULTILINE)
        if block is None:
            message = f"{self.get_location()}: directive params: {path} has no block {profile}"
            raise ExtensionError(message)
        text = block[0].rstrip()
        return [nodes.literal_block(text, text, language="yaml")]


class Rerun(OfReplication):
    """Directive `rerun`: how to run a replication again, what its results were run with, citing, files to fetch."""

    def run(self) -> list[nodes.Node]:
        """Say it, with live numbers of the records of its stages."""
        folder = self.folder
        results = Path(self.config.results_root, folder)
        records = {path.stem: read_provenance(path) for path in sorted(results.glob("*provenance.json"))}
        if "provenance" not in records or not (results / "verdicts.json").is_file():
            message = f"{self.get_location()}: directive rerun: no results {folder!r}; `dvc repro` makes them"
            raise ExtensionError(message)
        stages = " ".join(record["stage"] for record in records.values())
        took = [
            f"`{record['stage']}` took {_live(folder, f'{stem}:wall_s | .0f')} seconds"
            for stem, record in records.items()
        ]
        commit, machine = _live(folder, "provenance:commit | .10s"), _live(folder, "provenance:machine_class")
        profile, workers = _live(folder, "provenance:profile"), _live(folder, "provenance:workers")
        others = [of.profile for other, of in read_all_verdicts(results.parent, folder).items() if other != folder]
        cite = nodes.make_id(f"cite-{folder}")
        sentences = (
            f"`dvc repro {stages}` runs this replication alone, `make repro` everything. The results on this page are "
            f"of profile {profile}, from the code at commit {commit}; with {workers} processes on a machine of class "
            f"{machine}, {' and '.join(took)}.",
            f"To cite a claim, take its entry from {{ref}}`the list <{cite}>`: BibTeX, LaTeX macros with its numbers, "
            "and the values it had before.",
            *(f"`make {other} NAME={folder}` runs profile {other}, or says what it lacks." for other in others),
        )
        said = [nodes.paragraph("", "", *self.parse_inline(sentence)[0]) for sentence in sentences]
        return [*said, download_list(self.env, folder)]


def _live(folder: str, address: str) -> str:
    return f"{{result}}`{folder}/{address}`"


def setup(app: Sphinx) -> None:
    """Register the directives."""
    app.add_directive("headline", Headline)
    app.add_directive("params", Params)
    app.add_directive("rerun", Rerun)
