"""The posts this book is about, as book/posts.yaml names them: checked against its schema, results and pages."""

import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from results_in_text.checked_yaml import BookDataError, read_checked_yaml

_WITH_REPLICATION = ("done", "in work")
# The results of these profiles stand in folders of their own, and on the page of their replication.
_PROFILE = re.compile("_(pretrained|gpu|paper)$")


class Posts(NamedTuple):
    """The content of posts.yaml."""

    topics: dict[str, str]  # name of each topic on the page
    replications: dict[str, dict[str, Any]]  # of each `post`, the post that gives it its topic, and `question`
    posts: list[dict[str, Any]]  # in the order of the file

    def topic_of(self, folder: str) -> str:
        """Return the topic of a replication, as the page names it, by its folder below results/."""
        lead = self._replication(folder)["post"]
        return self.topics[next(post["topic"] for post in self.posts if post["archive"] == lead)]

    def question_of(self, folder: str) -> str:
        """Return the question that a replication's page answers, by its folder below results/."""
        return self._replication(folder)["question"]

    def _replication(self, folder: str) -> dict[str, Any]:
        name = page_of(folder)
        if name not in self.replications:
            message = f"posts.yaml has no replication {name!r}; add it with its leading post and its question"
            raise BookDataError(message)
        return self.replications[name]


def page_of(folder: str) -> str:
    """Return the page, below replications/, that prints the results of a folder below results/."""
    return _PROFILE.sub("", folder)


def read_posts(path: Path, results: Path) -> Posts:
    """Read the posts and compare them with what is on disk."""
    content = read_checked_yaml(path, "posts.schema.json")
    posts = Posts(content["topics"], content["replications"], content["posts"])
    problems = [*_contradictions(posts), *_missing_on_disk(posts, path.parent / "replications", results)]
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        message = f"{path} is wrong:\n{lines}"
        raise BookDataError(message)
    return posts


def _contradictions(posts: Posts) -> list[str]:
    """Say where the file contradicts itself."""
    problems = [
        f"post {number} is given twice"
        for number, count in Counter(post["archive"] for post in posts.posts).items()
        if count > 1
    ]
    for post in posts.posts:
        number, state, name = post["archive"], post["state"], post.get("replication")
        if post["topic"] not in posts.topics:
            problems.append(f"post {number}: no topic {post['topic']!r}; there are {', '.join(posts.topics)}")
        if (state in _WITH_REPLICATION) != (name is not None):
            problems.append(
                f"post {number} is {state!r}: name a replication for 'done' and 'in work', and for no other"
            )
        if name is not None and name not in posts.replications:
            problems.append(f"post {number}: replication {name!r} is not under `replications`; add it there")
        if (state == "nothing to run") != (not post["kinds"]):
            problems.append(f"post {number}: `kinds` is empty exactly where there is nothing to run")
    named = {post["archive"]: post.get("replication") for post in posts.posts}
    problems += [
        f"replication {name!r}: its leading post {entry['post']} does not name it; let it say `replication: {name}`"
        for name, entry in posts.replications.items()
        if named.get(entry["post"]) != name
    ]
    return problems


def _missing_on_disk(posts: Posts, pages: Path, results: Path) -> list[str]:
    """Say which replication has results and no entry, or is called done and has no results or no page."""
    problems = []
    for folder in sorted(path.parent.name for path in results.glob("*/verdicts.json")):
        if page_of(folder) not in posts.replications:
            problems.append(
                f"results/{folder} belongs to no replication here; add {page_of(folder)!r}, done or in work"
            )
    for post in posts.posts:
        if post["state"] != "done":
            continue
        name = post.get("replication", "")
        if not (results / name / "verdicts.json").is_file():
            problems.append(
                f"post {post['archive']} is done, and results/{name}/verdicts.json is missing; it is in work"
            )
        if not (pages / f"{name}.md").is_file():
            problems.append(
                f"post {post['archive']} is done, and its page replications/{name}.md is missing; it is in work"
            )
    return problems
