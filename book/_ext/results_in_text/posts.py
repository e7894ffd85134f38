"""The posts this book is about: those of book/posts.yaml, and which of them a replication's about.yaml takes up.

Nothing here knows Sphinx.
"""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from paperkit.profiles import replication_and_profile
from results_in_text.checked_yaml import BookDataError, read_checked_yaml


class Posts(NamedTuple):
    """The posts and what has become of them."""

    topics: dict[str, str]
    replications: dict[str, dict[str, Any]]
    posts: list[dict[str, Any]]

    def topic_of(self, folder: str) -> str:
        """Return the topic of a replication: that of its first post, "other" where it has none."""
        lead = self.about(folder)["posts"][:1]
        return self.topics[next((post["topic"] for post in self.posts if [post["archive"]] == lead), "other")]

    def about(self, folder: str) -> dict[str, Any]:
        """Return what about.yaml says of the replication of a folder of results."""
        name = page_of(folder)
        if name not in self.replications:
            message = (
                f"replications/{name}/about.yaml is missing; it names the posts and the question of results/{folder}"
            )
            raise BookDataError(message)
        return self.replications[name]


def page_of(folder: str) -> str:
    """Return the page, below replications/, that prints the results of a folder."""
    return replication_and_profile(folder)[0]


def read_posts(path: Path, results: Path, replications: Path) -> Posts:
    """Read the posts, and find which of them have been taken up."""
    content = read_checked_yaml(path, "posts.schema.json")
    about = {
        file.parent.name: read_checked_yaml(file, "about.schema.json")
        for file in sorted(replications.glob("*/about.yaml"))
    }
    problems = [*_contradictions(content), *_untaken(content, about)]
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        message = f"{path} is wrong:\n{lines}"
        raise BookDataError(message)
    taken = {number: name for name, entry in about.items() for number in entry["posts"]}
    posts = [{"state": "later"} | post for post in content["posts"]]
    for post in posts:
        if name := taken.get(post["archive"]):
            parts = (results / name / "verdicts.json", path.parent / "replications" / f"{name}.md")
            post |= {"replication": name, "state": "done" if all(part.is_file() for part in parts) else "in work"}
    return Posts(content["topics"], about, posts)


def _contradictions(content: dict[str, Any]) -> list[str]:
    """Say where posts.yaml contradicts itself."""
    numbers = Counter(post["archive"] for post in content["posts"])
    problems = [f"post {number} is given twice" for number, count in numbers.items() if count > 1]
    for post in content["posts"]:
        number, state = post["archive"], post.get("state")
        if post["topic"] not in content["topics"]:
            problems.append(f"post {number}: no topic {post['topic']!r}; there are {', '.join(content['topics'])}")
        if (state == "in work") != ("replication" in post):
            problems.append(f"post {number} is {state!r}: name a replication for 'in work', and for no other")
        if (state == "nothing to run") != (not post["kinds"]):
            problems.append(f"post {number}: `kinds` is empty exactly where there is nothing to run")
    return problems


def _untaken(content: dict[str, Any], about: dict[str, dict[str, Any]]) -> list[str]:
    """Say which post that a replication names is not there, or is another replication's too."""
    known = {post["archive"] for post in content["posts"]}
    names: dict[int, list[str]] = {}
    for name, entry in about.items():
        for number in entry["posts"]:
            names.setdefault(number, []).append(name)
    return [
        *(
            f"replications/{of[0]}/about.yaml names post {n}; add it to the list"
            for n, of in names.items()
            if n not in known
        ),
        *(f"post {n} is named by {' and '.join(of)}; leave it to one" for n, of in names.items() if len(of) > 1),
    ]
