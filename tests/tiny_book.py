"""A Sphinx project of a few lines with the book's extension, its results and its figures, for tests."""

import io
import json
import re
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import yaml
from jinja2 import BytecodeCache
from sphinx.application import Sphinx
from sphinx.jinja2glue import BuiltinTemplateLoader
from sphinx.util.docutils import docutils_namespace

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
EXTENSION = BOOK / "_ext" / "results_in_text"
sys.path.insert(0, str(EXTENSION.parent))


def effect(**changes):
    test = {"estimand": "gap", "rule": "greater", "unit": "nats", "n": 8, "margin": 0.1, "p": 0.004, "p_holm": None}
    return test | {"estimate": 0.19934, "low": 0.11, "high": 0.29, "bound": 0} | changes


# With what the schema of verdicts.json requires beside, for books with downloads.
FULL = effect(low90=0.12, high90=0.28, seeds=list(range(8)))


def identity(**changes):
    test = {"estimand": "step_one", "rule": "identity", "unit": None, "tolerance": 1e-12}
    return test | {"max_error": 4.4e-16, "control_error": 0.3, "control_failed": True} | changes


def claim(claim_id="C6", verdict="holds", kind="experiment", **changes):
    source, reported = {"bib": "someone2023", "where": "Table 2"}, {"value": 3, "unit": "%", "unverified": False}
    written = {"id": claim_id, "statement": "It is $x^2$ better.", "source": source, "reported": reported}
    judged = {"verdict": verdict, "reason": "The interval lies above 0.", "tests": [effect()]}
    return written | {"kind": kind, "family": "primary", "exploratory": kind == "exploratory"} | judged | changes


def provenance(**changes):
    record = {"stage": "lion", "command": "python -m replications.lion.experiment", "profile": "cpu", "dirty": False}
    code = {"data/sotu.parquet": "e2176eb33ce6473e", "replications/lion/optimizer.py": "06f86d8ca80b4cb5"}
    where = {"commit": "2b27a3d69a4d50b4e025", "started": "2026-11-22T23:41:05+00:00", "machine_class": "Intel x86_64"}
    return record | where | {"deps": code, "workers": 2, "wall_s": 61.7} | changes


def posts():
    """posts.yaml of three posts that replications take up, one planned and an essay."""
    written = {"date": "2023-02-16", "title": "A title", "chinese": "训练狮优化器", "topic": "optimizers"}
    taken = [{"archive": number, "kinds": ["experiment"]} for number in (1, 2, 3)]
    rest = [{"archive": 4, "kinds": ["tool"], "state": "next"}, {"archive": 5, "kinds": [], "state": "nothing to run"}]
    return {
        "schema": 1,
        "topics": {"optimizers": "Optimizers", "losses": "Losses"},
        "posts": [written | post for post in taken + rest],
    }


SENTENCES = {
    "claim": "It is better",
    "number": "its loss minus that before",
    "holds": "It *is* better.",
    "holds, smaller": "It is hardly better.",
    "contradicted": "It is worse.",
    "no difference": "It is the same.",
    "inconclusive": "It may be better.",
}
ABOUT = {
    "here": {"cpu": "a net of three weights", "pretrained": "a larger net", "gpu": "a large net", "paper": "theirs"},
    "answer": {"text": "It is better than what there was before.", "given": "lion:C6 holds"},
    "claims": {"C6": SENTENCES},
}


class CompiledTemplates(BytecodeCache):
    """The theme's templates compiled by any earlier build of this process: half of what a tiny build takes."""

    def __init__(self):
        self.code = {}

    def load_bytecode(self, bucket):
        bucket.code = self.code.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket):
        self.code[bucket.key, bucket.checksum] = bucket.code


class TemplatesCompiledOnce(BuiltinTemplateLoader):
    compiled = CompiledTemplates()

    def init(self, *arguments, **named):
        super().init(*arguments, **named)
        self.environment.bytecode_cache = self.compiled


@contextmanager
def one_sphinx():
    """Undo what a Sphinx registers, and let docutils 0.21 warn of its own option parser, which Sphinx 7 calls."""
    with docutils_namespace(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*OptionParser.*", DeprecationWarning)
        yield


class TinyBook:
    """A Sphinx project with the extension, a results folder and a figures folder."""

    def __init__(self, folder):
        self.source, self.output = folder / "book", folder / "html"
        self.results, self.figures, self.replications = (
            folder / name for name in ("results", "figures", "replications")
        )
        self.source.mkdir()
        self.write_page("index", "# Index\n")
        (self.source / "references.bib").write_text(
            "@misc{someone2023, title={A title}, author={One, Some}, year={2023}}\n"
        )
        (self.source / "conf.py").write_text(
            "extensions = ['myst_parser', 'sphinxcontrib.bibtex', 'results_in_text.extension']\n"
            "myst_enable_extensions = ['colon_fence', 'dollarmath']\nbibtex_bibfiles = ['references.bib']\n"
            "numfig = True\n"
        )
        (folder / "CITATION.cff").write_text("title: A Book\nversion: 0.1.0\nauthors: [{name: Some}]\n")
        self.write_changes()
        self.write_verdicts([claim()])
        self.write_posts(posts())
        for number, name in enumerate(("lion", "emo", "odd"), start=1):
            self.write_about(name, posts=[number], question=f"What does {name} do?")

    def write_changes(self, *changes):
        content = {"schema": 1, "complete_since": "a" * 10, "numbers_changed": changes}
        (self.source.parent / "numbers_changed.yaml").write_text(json.dumps(content))

    def write_posts(self, content):
        (self.source / "posts.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))

    def write_about(self, name, **content):
        path = self.replications / name / "about.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(ABOUT | content, sort_keys=False))

    def write_page(self, name, text):
        path = self.source / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def write_verdicts(self, claims, name="lion", file="verdicts", profile="cpu"):
        self.write_result(f"{name}/{file}", {"schema": 1, "replication": name, "profile": profile, "claims": claims})
        record = "timing_provenance" if file.startswith("timing") else "provenance"
        if not (self.results / name / f"{record}.json").exists():
            self.write_result(f"{name}/{record}", provenance(stage=name))

    def write_result(self, file, content):
        path = self.results / f"{file}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    def write_figure(self, file, text):
        path = self.figures / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def sphinx(self, builder="html", processes=1, **settings):
        settings = {"nitpicky": True, "template_bridge": f"{__name__}.TemplatesCompiledOnce", **settings}
        return Sphinx(
            self.source, self.source, self.output, self.output / ".doctrees", builder, settings,
            status=None, warning=io.StringIO(), warningiserror=True, parallel=processes,
        )  # fmt: skip

    def build(self, index=None, root="index", *, builder="html", processes=1):
        """Build incrementally, with warnings as errors; return the HTML of the root (with another, of it alone)."""
        pages = sorted(path.relative_to(self.source).with_suffix("").as_posix() for path in self.source.rglob("*.md"))
        if index is not None:
            toctree = "\n".join(["```{toctree}", *(name for name in pages if name != "index"), "```"])
            self.write_page("index", f"# Index\n\n{toctree if len(pages) > 1 else ''}\n\n{index}")
        left_out = [f"{name}.md" for name in pages if root not in ("index", name)]
        with one_sphinx():
            self.sphinx(builder, processes, root_doc=root, exclude_patterns=left_out).build()
        written = {"html": f"{root}.html", "text": f"{root}.txt", "latex": "projectnamenotset.tex"}
        return (self.output / written[builder]).read_text()

    def refusals(self, texts, name="index"):
        """Read one page with each text, as builds do that stop before they write; return what each stops with."""
        said = []
        self.write_page(name, "")
        with one_sphinx():
            app = self.sphinx("dummy")
            app.env.find_files(app.config, app.builder)
            for text in texts:
                self.write_page(name, f"# Page\n\n{text}\n")
                app.emit("env-purge-doc", app.env, name)
                app.env.clear_doc(name)
                app.env.temp_data.clear()
                try:
                    app.builder.read_doc(name)
                    app.emit("env-updated", app.env)
                    said.append("")
                except Exception as error:
                    said.append(str(error))
        return said

    def not_refused(self, cases, name="index"):
        """Name the cases, a text and a pattern each, whose text does not stop a build with what the pattern says."""
        said = self.refusals([text for text, _ in cases], name)
        return [(*case, one) for case, one in zip(cases, said, strict=True) if not re.search(case[1], one)]


def text_of(html):
    return " ".join(re.sub("<[^>]+>", " ", html).split())


def rows_of(html, table=""):
    """The rows of a table of this class, without its head."""
    found = re.search(rf"<table[^>]*{table}.*?</table>", html, re.DOTALL)[0]
    return [text_of(row) for row in re.findall("<tr.*?</tr>", found, re.DOTALL)[1:]]


DRAWING = "<svg xmlns='http://www.w3.org/2000/svg'/>"
BIBLIOGRAPHY = "\n\n```{bibliography}\n```\n"
CLAIMS = "```{claims} lion\n```" + BIBLIOGRAPHY
