"""YAML files that a page prints, checked against the JSON schemas in book/schemas, which readers can fetch too."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource

from paperkit.config import ConfigError, read_yaml

SCHEMAS = Path(__file__).parents[2] / "schemas"


class BookDataError(ValueError):
    """A file that a page prints is missing, malformed or contradicts another; the message says what to do."""


def read_checked_yaml(path: Path, schema: str) -> Any:
    """Read a YAML file and check it against its schema, a file in book/schemas; every misfit is named."""
    try:
        content = read_yaml(path)
    except ConfigError as error:
        message = f"{error} (its form is book/schemas/{schema})"
        raise BookDataError(message) from error
    problems = misfits(content, schema)
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        message = f"{path} does not fit book/schemas/{schema}:\n{lines}"
        raise BookDataError(message)
    return content


def misfits(content: Any, schema: str) -> list[str]:
    """Say where decoded content does not fit a schema: one line a misfit, with its place."""
    checker = Draft202012Validator.FORMAT_CHECKER
    validator = Draft202012Validator(_schema(schema), registry=Registry(retrieve=_resource), format_checker=checker)
    return [
        _line(error) for error in sorted(validator.iter_errors(content), key=lambda error: list(map(str, error.path)))
    ]


def _schema(name: str) -> Any:
    return json.loads((SCHEMAS / name).read_text(encoding="utf-8"))


def _resource(uri: str) -> Resource[Any]:
    """Find a schema that another one names, beside it and nowhere else."""
    return Resource.from_contents(_schema(Path(uri).name))


def _line(error: ValidationError) -> str:
    place = ".".join(map(str, error.absolute_path)) or "the file"
    message = error.message if len(error.message) < 300 else f"{error.message[:200]} … {error.message[-90:]}"
    return f"{place}: {message}"
