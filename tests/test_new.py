"""`make new` writes a replication that passes `make check` at once, and refuses by name what it cannot write."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paperkit.config import ConfigError
from paperkit.new import write_new
from tests.tiny_repository import commit

ROOT = Path(__file__).parents[1]
POST = 9246  # of no replication
FOLDERS = ("paperkit", "replications", "book", "results", "figures")
FILES = ("README.md", "params.yaml", "dvc.yaml", "requirements.lock", "CITATION.cff", "numbers_changed.yaml")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository with a new replication."""
    root = tmp_path_factory.mktemp("a copy")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("_build", "__pycache__"))
    for file in (*FILES, "pyproject.toml", "conftest.py"):
        shutil.copyfile(ROOT / file, root / file)
    (root / "data").symlink_to((ROOT / "data").resolve())
    commit(root)
    done = paperkit(root, "new", "unit_price", "--post", str(POST))
    assert done.returncode == 0, done.stderr
    return root


def paperkit(root, *arguments):
    command = [sys.executable, "-m", "paperkit", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_a_new_replication_passes_the_check_at_once(copy):
    done = paperkit(copy, "check", "unit_price")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "results: none yet" in done.stdout
    assert done.stdout.endswith("unit_price: nothing is missing.\n")


def test_what_is_written_names_the_replication_and_its_post_and_nothing_of_the_template(copy):
    written = [copy / "book/replications/unit_price.md", *copy.glob("book/replications/unit_price/*.md")]
    written += copy.glob("replications/unit_price/*.*")
    assert len(written) == 12
    left = re.findall(r"\b(?:NAME|POST|KEY|TITLE|YEAR|MONTH|LABEL)\b", "".join(path.read_text() for path in written))
    assert left == []
    assert f"https://kexue.fm/archives/{POST}" in (copy / "replications/unit_price/references.bib").read_text()
    assert "posts: [9246]" in (copy / "replications/unit_price/about.yaml").read_text()
    assert "replications/unit_price/derivation" in (copy / "book/_toc.yml").read_text()


@pytest.mark.soak
def test_the_check_of_a_draft_names_what_is_wrong_on_its_page(copy, tmp_path):
    root = shutil.copytree(copy, tmp_path / "copy", symlinks=True)
    page = root / "book/replications/unit_price.md"
    page.write_text(page.read_text().replace("Say what was compared", "It fell by 0.123 nats"))
    done = paperkit(root, "check", "unit_price")
    assert done.returncode == 1
    assert re.search(r"unit_price\.md:\d+: .*0\.123 nats", done.stdout)


@pytest.mark.parametrize(
    ("name", "post", "message"),
    [
        ("lion", POST, "replications/lion is there already; choose another name"),
        ("ghost", POST, "results/ghost is there already"),
        ("UnitPrice", POST, "'UnitPrice' is not in snake_case"),
        ("unit price", POST, "'unit price' is not in snake_case"),
        ("../price", POST, "'../price' is not in snake_case"),
        ("helpers", POST, "'helpers' says nothing"),
        ("price_gpu", POST, "'price_gpu' says nothing or means something else"),
        ("unit_price", 1, "post 1 is not in book/posts.yaml"),
        ("unit_price", 9473, "post 9473 is that of replications/lion"),
    ],
)
def test_a_name_or_a_post_that_does_not_fit_is_refused_by_name(name, post, message, tmp_path):
    (tmp_path / "book").mkdir()
    shutil.copyfile(ROOT / "book/posts.yaml", tmp_path / "book/posts.yaml")
    shutil.copytree(ROOT / "replications/lion", tmp_path / "replications/lion")
    (tmp_path / "results/ghost").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=re.escape(message)):
        write_new(tmp_path, name, post)
    assert sorted(tmp_path.rglob("*")) == before
