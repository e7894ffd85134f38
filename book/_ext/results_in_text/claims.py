"""What a replication's page says in the same form: `headline` at its top, `claims`, `scale`, `params`, and `rerun`."""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from paperkit.answers import Record, primary_records, sentence_for, where_judged
from paperkit.claims.rules import Verdict
from paperkit.explain import outcome, turning_point
from paperkit.history import Commit, Dates, no_history, read_history
from paperkit.results import read_runs
from paperkit.written import has_numbers, lead_of, margin_note, measured_line, named
from results_in_text import records
from results_in_text.citations import OFFERED
from results_in_text.nodes import Row, block, bullets, fold, paragraph, table, verdict_badge
from results_in_text.pages import BookDirective, OfReplication, depend_on, download_links
from results_in_text.records import Verdicts, claim_address, is_primary, page_of, read_json, target_of
from results_in_text.reruns import rerun_lines
from results_in_text.roles import live_value
from results_in_text.yaml_files import read_checked_yaml

_LEAST = {"share": 0, "correlation": -1}  # by what the unit says; the most is 1
_UNCUT = (
    "An interval of a share that reaches below 0 or above 1, or of a correlation that reaches above 1, is printed "
    "uncut: what lies beyond cannot be, and decides nothing. (A difference of shares may well be below 0.)"
)
_LOGGER = logging.getLogger(__name__)


class ClaimsTable(OfReplication, name="claims"):
    """Directive `claims`: all claims of a replication at each of its profiles, or of the folder of results named.

    Primary ones come first, superseded ones last. Each row is a target, `claim-<name>-<id>` in small letters, so that
    one result can be cited, and shows the verdict of every profile that has judged the claim. Where claims declare
    variations, primary claims have a table of their own, and each claim's variations follow: `strength-<name>-<id>`.
    """

    def _make(self) -> list[nodes.Node]:
        name = self.folder
        shown = {name: self.verdicts(name)} if self.arguments else self.every
        tables = [node for folder, verdicts in shown.items() for node in self._of_folder(folder, verdicts)]
        uncut = any(map(_reaches_beyond, (claim for of in shown.values() for claim in of.claims.values())))
        return [*tables, *([self.line(_UNCUT)] if uncut else [])]

    def _of_folder(self, name: str, verdicts: Verdicts) -> list[nodes.Node]:
        def rank(claim: Record) -> tuple[bool, bool, bool]:
            return "superseded_by" in claim, claim["exploratory"], not is_primary(claim)

        claims = sorted(verdicts.claims.values(), key=rank)
        varied = any("robustness" in claim for claim in claims)
        groups = groupby(claims, key=lambda claim: varied and is_primary(claim))
        tables = [node for _, group in groups for node in self._tables(name, list(group))]
        return tables if name == page_of(name) else [nodes.rubric("", f"At profile {verdicts.profile}"), *tables]

    def _tables(self, name: str, claims: Sequence[Record]) -> list[nodes.Node]:
        headings = ["Claim", "What is claimed, and where", "Measured here", "Reason"]
        rows = [
            [self._claim(name, one), self._said(name, one), self._measured(name, one), self._why(one)]
            for one in claims
        ]
        varied = [node for claim in claims if "robustness" in claim for node in self._variations(name, claim)]
        return [table(headings, rows, css_class="claims", widths=[16, 34, 22, 28]), *varied]

    def _claim(self, name: str, claim: Record) -> list[nodes.Node]:
        target = target_of(name, claim["id"])
        self.note_target(target, claim["id"])
        kind = "primary" if is_primary(claim) else claim["kind"]
        heading = block(nodes.strong("", claim["id"]), f" {kind}", ids=[target])
        cell = [heading, *verdicts_by_profile(self, claim)]
        if "superseded_by" in claim:
            successor = claim["superseded_by"]
            cell.append(self.line(f"judged again as {{ref}}`{successor} <{target_of(name, successor)}>`"))
        if "robustness" in claim:
            cell.append(self.line(f"{{ref}}`{records.share(claim)} <{target_of(name, claim['id'], 'strength')}>`"))
        if "cite" in self.env.found_docs:
            cite = target_of(name, claim["id"], "cite")
            cell.append(self.line(f"{{ref}}`cite {name}/{claim['id']} <{cite}>`"))
        return cell

    def _said(self, name: str, claim: Record) -> list[nodes.Node]:
        said = [self.line(claim["statement"])]
        if "correction" in claim:
            said.append(block(nodes.strong("", "Corrected: "), *self.inline(claim["correction"]["statement"])))
        said.append(self.line(source_text(claim["source"])))
        reported, sentences = claim["reported"] or {"value": None, "unverified": False}, []
        if reported["value"] is not None:
            parts = filter(None, (str(reported["value"]), reported["unit"]))
            sentences.append(f"Reported: {' '.join(parts)}.")
        if reported["unverified"]:
            sentences.append("Not read in the original.")
        if sentences:
            said.append(paragraph(" ".join(sentences)))
        return [*said, *rule_dates(self.env, page_of(name), claim["id"])]

    def _measured(self, name: str, claim: Record) -> list[nodes.Node]:
        paragraphs = []
        for place, test in enumerate(claim["tests"]):
            # Of several the name tells their numbers apart.
            words = test["estimand"].replace("_", " ") if len(claim["tests"]) > 1 else ""
            address = f"{claim_address(name, claim)}.tests[{place}]"
            paragraphs.append(block(named(test, words), _numbers(self.env, address, test), *favours(test)))
            if "flip" in test:
                paragraphs.append(self._flip_distance(address, test))
        return paragraphs

    def _flip_distance(self, address: str, test: Mapping[str, Any]) -> nodes.paragraph:
        parts: list[nodes.Node | str] = ["No single seed changes the verdict"]
        if seeds := [*map(str, test["flip"]["without"])]:
            which = "seed" if len(seeds) == 1 else "one of the seeds"
            parts = [f"Leaving out {which} {', '.join(seeds)} changes the verdict"]
        before, after = turning_point(test)
        if before:
            parts += [f"; {before} ", live_value(self.env, f"{address}.flip.value"), after]
        return block(*parts, ".", css="flip-distance")

    def _why(self, claim: Record) -> list[nodes.Node]:
        reason = [paragraph(records.reason_beside(claim["reason"], "95 % interval"))]
        if "underpowered" in claim:
            reason.append(block(nodes.strong("", "Underpowered: "), *self.inline(claim["underpowered"])))
        return reason

    def _variations(self, name: str, claim: Record) -> list[nodes.Node]:
        target, address = target_of(name, claim["id"], "strength"), claim_address(name, claim)
        self.note_target(target, claim["id"])
        declared = " under the variations that were declared before its results:"
        heading = block(nodes.strong("", claim["id"]), " ", verdict_badge(claim), declared, ids=[target])
        rows: list[Row] = [
            [
                [self.line(variation["name"])],
                [paragraph(outcome(claim, variation))],
                [block(_numbers(self.env, f"{address}.robustness[{place}]", records.as_test(claim, variation)))],
                [paragraph(records.reason_beside(variation["why"], "estimate"))],
            ]
            for place, variation in enumerate(claim["robustness"])
        ]
        headings = ["Variation", "The verdict", "Measured", "Why"]
        varied = table(headings, rows, css_class="variations", widths=[26, 12, 28, 34])
        return [heading, varied, block(*self.inline(records.conclusion(claim)), generated=True)]


def _reaches_beyond(claim: Record) -> bool:
    """Tell whether an interval of a share or a correlation reaches beyond what can be."""
    for _, test in records.tests_and_variations(claim):
        least = next((least for kind, least in _LEAST.items() if kind in (test["unit"] or "")), None)
        if least is not None and has_numbers(test) and not least <= test["low"] <= test["high"] <= 1:
            return True
    return False


def verdicts_by_profile(directive: OfReplication, claim: Record) -> list[nodes.paragraph]:
    """Make the badge of a claim; where several profiles have judged it, one for each, with a link to its row."""
    judged = {of: verdicts for of, verdicts in directive.every.items() if claim["id"] in verdicts.claims}
    badges = {of: verdict_badge(verdicts.claims[claim["id"]]) for of, verdicts in judged.items()}
    if len(judged) == 1:
        return [block(*badges.values())]
    rows = {of: f"{{ref}}`{verdicts.profile} <{target_of(of, claim['id'])}>`" for of, verdicts in judged.items()}
    return [block(badges[of], " ", *directive.inline(row)) for of, row in rows.items()]


def source_text(source: Mapping[str, Any] | None) -> str:
    """Say where a claim stands, in Markdown, with a citation where there is a key."""
    if source and source["bib"]:
        return f"{{cite:t}}`{source['bib']}`, {source['where']}"
    where = source["where"].removeprefix("ours").lstrip("; ") if source else ""
    return f"Our own claim: {where}" if where else "Our own claim."


def deciding_number(
    directive: BookDirective, folder: str, words: Mapping[str, str], record: Record
) -> list[nodes.Node]:
    """Show the number of a claim's first test, after its name in about.yaml where it has one."""
    test = record["tests"][0]
    lead = lead_of(words, test)
    said = directive.inline(lead) if lead else []
    number = _numbers(directive.env, f"{claim_address(folder, record)}.tests[0]", test)
    note = margin_note(record)
    return [*said, number, *favours(test), *([nodes.Text(f". {note}")] if note else [])]


def favours(test: Mapping[str, Any]) -> list[nodes.Node]:
    """Say which numbers favour the claim by its rule; nothing of identities, reports and what was not run."""
    if not has_numbers(test) or test["rule"] in ("identity", "report"):
        return []
    if test["rule"] == "within":
        said = "number from " + " to ".join(f"{end:g}" for end in test["range"])
    elif test["rule"] == "equivalent":
        said = f"number within {test['margin']:g} of {test['bound']:g}"
    else:
        sign, side = {"greater": ("positive", "above"), "less": ("negative", "below")}[test["rule"]]
        said = f"number {side} {test['bound']:g}" if test["bound"] else f"{sign} number"
    return [nodes.inline("", f" (a {said} favours the claim)", classes=["favours"])]


def _numbers(env: BuildEnvironment, address: str, test: Mapping[str, Any]) -> nodes.Node:
    return live_value(env, address) if has_numbers(test) else nodes.Text(measured_line(test))


def rule_dates(env: BuildEnvironment, name: str, claim_id: str) -> list[nodes.Node]:
    """Make the line of a claim, from git; nothing where there is no history, which the build says once a page."""
    kept, repository = f"rule dates of {name}", Path(env.config.replications_root).parent
    if kept not in env.temp_data:
        reason = no_history(repository)
        env.temp_data[kept] = {} if reason else read_history(repository, name).dates
        if reason:
            _LOGGER.info("%s: the pages do not say when rules were committed: %s", name, reason)
    dates = env.temp_data[kept].get(claim_id)
    return [block(sentence(dates), css="rule-dates")] if dates else []


def sentence(dates: Dates) -> str:
    """Say which came first, the rule or its result, and why the rule was amended where it was."""

    def after(words: str, commit: Commit) -> str:
        return f"{words}{commit}" if commit.hash else f"{commit}"

    first = f"first result {after('on ', dates.result)}" if dates.result else "no result yet"
    rule = after("committed on ", dates.rule)
    return " ".join([f"Rule {rule}, {first}.", *(f"Amended: {why}" for why in dates.amended)])


class Headline(OfReplication, name="headline"):
    """Directive `headline`: each primary claim, its verdict, what that means, and what other words would have meant.

    The sentences are those of about.yaml.
    """

    def _make(self) -> list[nodes.Node]:
        about = self.replications / page_of(self.folder) / "about.yaml"
        claims = self.verdicts(self.folder).claims
        primary = primary_records(read_checked_yaml(about, "about.schema.json"), claims)
        rows = [self._row(words, record) for words, record in primary]
        depend_on(self.env, about)
        if not rows:
            return [block("No claim is primary.")]
        headings = ["Claim, verdict, and what we found", "The number of its first test"]
        made = table(headings, rows, css_class="headline", widths=[66, 34])
        # The sentences are linted like all of the page; what comes from claims.yaml is not.
        made["generated"] = False
        self.set_source_info(made)
        return [made]

    def _row(self, words: Mapping[str, str], record: Record) -> Row:
        target = target_of(self.folder, record["id"])
        said = f"{words.get('claim') or record['statement'].rstrip('.')} ({{ref}}`{record['id']} <{target}>`)"
        claim = block(*self.inline(said), generated="claim" not in words, css="claim")
        judged = [of.claims[record["id"]] for of in self.every.values() if record["id"] in of.claims]
        tested = [each for each in judged if each["verdict"] != Verdict.NOT_TESTED] or judged
        found = dict.fromkeys(sentence_for(words, each) for each in tested)
        folder, deciding = where_judged({of: each.claims for of, each in self.every.items()}, self.folder, record)
        outcomes = [self.line(each, "outcome") for each in found]
        measured = [block(*deciding_number(self, folder, words, deciding), generated=True)]
        if more := len(record["tests"]) - 1:
            measured.append(block("and ", *self.inline(f"{{ref}}`{more} more <{target}>`"), generated=True))
        # What the page would have said with other intervals.
        elsewhere = [
            block(nodes.strong("", word), ": ", *self.inline(said))
            for word, said in words.items()
            if word not in ("claim", "number") and said not in found
        ]
        line = [nodes.Text("What another verdict would have said")]
        others = [fold(line, bullets(*elsewhere), css="elsewhere")] if elsewhere else []
        return [[claim, *verdicts_by_profile(self, record), *outcomes, *others], measured]


class Scale(OfReplication, name="scale"):
    """Directive `scale`: on what and at which size each profile of a replication ran, beside the source's scale."""

    def _make(self) -> list[nodes.Node]:
        path = self.replications / self.folder / "about.yaml"
        about = read_checked_yaml(path, "about.schema.json")
        here = about["here"] | {"smoke": "a smoke run"}  # of a draft, see `make check`
        rows = [self._row(self.results / folder, of, here[of.profile]) for folder, of in self.every.items()]
        source = about.get("scale")
        files = ("provenance.json", "runs.csv")
        depend_on(self.env, path, *(self.results / folder / file for folder in self.every for file in files))
        headings = ["Profile", "What ran", "Where", "Largest model", "Most tokens a run"]
        headings += ["Seeds of primary claims", "Hours"]
        made = table(headings, rows, css_class="scales", widths=[10, 28, 22, 14, 12, 8, 6])
        if source is None:
            return [made]
        said = f"The source: {source['text'].rstrip('.')} ({source_text(source)})."
        return [made, block(*self.inline(said), generated=True)]

    def _row(self, folder: Path, verdicts: Verdicts, here: str) -> Row:
        # A row's `step` counts what its experiment varies, so how long the runs were is said by `here` alone.
        record, runs = read_json(folder / "provenance.json"), read_runs(folder / "runs.csv")
        sizes = ("batch", "context", "steps")
        configs = [config for config in map(json.loads, runs["config"].unique()) if config.keys() >= {*sizes}]
        # Of the primary claims; where none was judged at this scale, of all.
        claims = list(filter(is_primary, verdicts.claims.values())) or verdicts.claims.values()
        seeds = sorted({test["n"] for claim in claims for test in claim["tests"] if test.get("n")})

        def largest(values: Sequence[float], unit: str = "") -> str:
            return f"{max(values):,.0f} {unit}".strip() if max(values, default=0) else "–"

        cells = [
            verdicts.profile,
            here,
            (record.get("device") or {"name": record["machine_class"]})["name"],
            largest(runs.loc[runs["metric"] == "parameters", "value"].dropna().tolist(), "parameters"),
            largest([config["batch"] * config["context"] * config["steps"] for config in configs]),
            " to ".join(map(str, dict.fromkeys([*seeds[:1], *seeds[-1:]]))) or "–",
            f"{record['wall_s'] / 3600:.2g}",
        ]
        return [[block(cell)] for cell in cells]


class Params(OfReplication, name="params"):
    """Directive `params`: all settings of the profile whose results the page shows, as params.yaml has them."""

    def _make(self) -> list[nodes.Node]:
        path = self.replications / page_of(self.folder) / "params.yaml"
        profile = read_json(self.results / self.folder / "provenance.json")["profile"]
        depend_on(self.env, path)
        found = re.search(rf"^{profile}:.*\n(?:(?=[\s#]).*\n)*", path.read_text(encoding="utf-8"), re.MULTILINE)
        if found is None:
            records.stop(f"{path} has no block {profile}")
        text = found[0].rstrip()
        return [nodes.literal_block(text, text, language="yaml")]


class Rerun(OfReplication, name="rerun"):
    """Directive `rerun`: how to run a replication again, what its results were run with, citing, files to fetch."""

    def _make(self) -> list[nodes.Node]:
        folder = self.folder
        stages = {path.stem: read_json(path) for path in sorted((self.results / folder).glob("*provenance.json"))}

        def live(address: str) -> str:
            return f"{{result}}`{folder}/{address}`"

        names = " ".join(record["stage"] for record in stages.values())
        took = [f"`{record['stage']}` took {live(f'{stem}:wall_s | .0f')} seconds" for stem, record in stages.items()]
        others = [of.profile for other, of in self.every.items() if other != folder == page_of(folder)]
        said = (
            f"`dvc repro {names}` runs this replication alone, `make repro` everything. The results on this page are "
            f"of profile {live('provenance:profile')}, from the code at commit {live('provenance:commit | .10s')}; "
            f"with {live('provenance:workers')} processes on a machine of class {live('provenance:machine_class')}, "
            f"{' and '.join(took)}.",
            f"To cite a claim, take its entry from {{ref}}`the list <{nodes.make_id(f'cite-{folder}')}>`: BibTeX, "
            "LaTeX macros with its numbers, and the values it had before.",
            *(f"`make {other} NAME={folder}` runs profile {other}, or says what it lacks." for other in others),
        )
        again = rerun_lines(self, folder, stages["provenance"])
        return [*map(self.line, said), again, self._downloads()]

    def _downloads(self) -> nodes.bullet_list:
        """List the files of the folder of results."""
        env, folder = self.env, self.folder
        figures = sorted(Path(self.config.figures_root, folder).glob("*.svg"))
        raw = [path.name for path in sorted((self.results / folder).glob("*")) if path.suffix in (".csv", ".json")]
        lists = {"Results: ": raw, "Figures: ": [f"figures/{path.name}" for path in figures]}
        return bullets(
            *(block(*download_links(env, folder, [name]), f": {text}") for name, text in OFFERED.items()),
            *(block(what, *download_links(env, folder, names)) for what, names in lists.items() if names),
            classes=["downloads"],
        )
