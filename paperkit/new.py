"""A new replication, complete and small: `python -m paperkit new NAME --post 9324` (`make new`).

What is written stands in the folder template/: a replication that runs, in whose files a few capital words stand for
its name and its post.
"""

import re
from calendar import month_abbr
from importlib import invalidate_caches
from pathlib import Path

from paperkit.completeness import FORBIDDEN_NAME
from paperkit.config import ConfigError, read_yaml
from paperkit.pipeline import write_pipeline
from paperkit.profiles import ABOVE

TEMPLATE = Path(__file__).with_name("template")
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
# Ends of the names of results and stages that a replication has beside its own.
RESERVED = re.compile(rf".+_(timing|{'|'.join(ABOVE)})")


def write_new(root: Path, name: str, post: int) -> list[str]:
    """Write a replication of a post that passes `make check`, and register it.

    Args:
        root: The repository.
        name: The paper's object in snake_case; its folder, stage and page bear it.
        post: The post's archive number in book/posts.yaml.

    Returns:
        Paths of the files written or changed, relative to the root.

    Raises:
        ConfigError: If the name is taken or does not fit, or the post is unknown or taken.
    """
    words = {"NAME": name, "LABEL": name.replace("_", "-"), **_words_of_post(root, name, post)}
    if problem := _problem_of_name(root, name):
        raise ConfigError(problem)
    written = {
        _filled(source.relative_to(TEMPLATE).as_posix(), words): _filled(source.read_text(encoding="utf-8"), words)
        for source in sorted(TEMPLATE.rglob("*.*"))
        if "__pycache__" not in source.parts
    }
    for path, text in written.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    invalidate_caches()
    return [*written, *write_pipeline(root)]


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(rf"(?<![A-Za-z])({'|'.join(words)})(?![A-Za-z])", lambda found: words[found[0]], text)


def _problem_of_name(root: Path, name: str) -> str:
    if not NAME.fullmatch(name):
        return f"the name {name!r} is not in snake_case; call it after the paper's object, such as lora_optimizer"
    if FORBIDDEN_NAME.fullmatch(name) or RESERVED.fullmatch(name):
        return f"the name {name!r} says nothing or means something else here; call it after the paper's object"
    places = ("replications/{}", "results/{}", "figures/{}", "book/replications/{}", "book/replications/{}.md")
    there = [place.format(name) for place in places if (root / place.format(name)).exists()]
    return f"{there[0]} is there already; choose another name, or remove what is there" if there else ""


def _words_of_post(root: Path, name: str, number: int) -> dict[str, str]:
    posts = {post["archive"]: post for post in read_yaml(root / "book/posts.yaml")["posts"]}
    if number not in posts:
        message = f"post {number} is not in book/posts.yaml; name one that is, or add it there"
        raise ConfigError(message)
    for path in root.glob("replications/*/about.yaml"):
        if number in read_yaml(path)["posts"]:
            message = f"post {number} is that of replications/{path.parent.name}; add to it, or name another post"
            raise ConfigError(message)
    year, month, _ = posts[number]["date"].split("-")
    title = re.sub(r"([&%$#_])", r"\\\1", posts[number]["title"])
    key = f"su{year}{name.replace('_', '')}"
    return {"POST": str(number), "TITLE": title, "YEAR": year, "MONTH": month_abbr[int(month)].lower(), "KEY": key}
