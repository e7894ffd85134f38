"""YAML to a frozen, strictly typed model; what does not fit is refused by name before anything runs."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator


class ConfigError(ValueError):
    """A configuration does not fit its model; the message names file, key, value and what is allowed."""


class StrictModel(BaseModel):
    """Base of every configuration: no unknown key, no coercion of types, no change after reading.

    No list names a thing twice: two runs would be one, and their table would be refused after the training.

    Example:
        >>> class Schedule(StrictModel):
        ...     warmup_steps: int
        >>> Schedule(warmup_steps=10).warmup_steps
        10
    """

    # allow_inf_nan=False: `.nan` is a float to YAML, and would pass every bound written as a comparison.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _names_each_once(cls, value: Any) -> Any:
        refuse_settings(value)
        return value

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Take these settings, checked, from a run's configuration, which holds others beside them.

        Args:
            config: Of a run.

        Returns:
            The settings; defaults where the configuration is silent.

        Raises:
            ValidationError: If one is missing, or does not fit.
        """
        return cls(**{name: config[name] for name in cls.model_fields if name in config})


def refuse_settings(value: Any, key: str = "", *, is_point: bool = False) -> None:
    """Refuse at any depth what is named twice, and what no table holds, by ValueError; a list in a list is a point."""
    at = f"{key}: " if key else ""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        message = f"{at}{value} has more than 64 bits, and no table holds it"
        raise ValueError(message)
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    texts = [repr(each) for each in value] if isinstance(value, list) and not is_point else []
    if repeated := [text for index, text in enumerate(texts) if text in texts[:index]]:
        message = f"{at}{repeated[0]} stands in it twice; keep one"
        raise ValueError(message)
    for name, each in parts:
        refuse_settings(each, f"{key}.{name}".removeprefix("."), is_point=isinstance(value, list))


# No file that people write has as many.
MAX_VALUES = 100_000
Model = TypeVar("Model", bound=StrictModel)


class UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice (PyYAML silently keeps the last one), and aliases that explode."""

    def get_single_node(self) -> yaml.Node | None:
        """Compose the document, and count its values."""
        node = super().get_single_node()
        if node is not None and _number_of_values(node, {}) > MAX_VALUES:
            message = f"aliases make more than {MAX_VALUES:,} values of it; write out what they repeat"
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, and compare its keys."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = [key for index, key in enumerate(keys) if key in keys[:index]]
        if repeated:
            message = f"key {repeated[0]!r} is given twice; keep one"
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark)
        return super().construct_mapping(node, deep)


def _number_of_values(node: yaml.Node, known: dict[int, float]) -> float:
    """Count what stands in a node, through aliases; infinitely many where it holds itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        parts = [] if isinstance(node, yaml.ScalarNode) else node.value
        nodes = [part for each in parts for part in (each if isinstance(each, tuple) else [each])]
        known[id(node)] = 1 + sum(_number_of_values(part, known) for part in nodes)
    return known[id(node)]


# Scalars of YAML 1.2, as DVC reads them: to PyYAML, which has those of 1.1, `1e-3` is text, `0100` 64, `no` false.
UniqueKeyLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float", ":bool"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for tag, pattern in {
    "bool": r"^(true|True|TRUE|false|False|FALSE)$",
    "float": r"^([-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$",
    "int": r"^([-+]?\d+|0o[0-7]+|0x[0-9a-fA-F]+)$",
}.items():
    UniqueKeyLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list("-+0123456789.tTfF"))
UniqueKeyLoader.add_constructor(
    "tag:yaml.org,2002:int",
    lambda _, node: int(node.value, base={"0o": 8, "0x": 16}.get(node.value[:2], 10)),
)


def read_yaml(path: Path) -> Any:
    """Read YAML safely; a key given twice is an error.

    Args:
        path: File to read.

    Returns:
        The decoded content.

    Raises:
        ConfigError: If the file is missing or is not YAML; the message gives line and column.
    """
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except FileNotFoundError as error:
        message = f"{path} is missing; restore it with git"
        raise ConfigError(message) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of text, dates, numbers; of brackets in brackets
        message = f"{path} is not valid YAML: {error}"
        raise ConfigError(message) from error


def parse(model: type[Model], content: object, *, source: str) -> Model:
    """Check content against a model.

    Args:
        model: A `StrictModel`.
        content: Decoded YAML or JSON.
        source: Where the content comes from; named in the error (for example "params.yaml, block cpu").

    Returns:
        The frozen model.

    Raises:
        ConfigError: If a key is unknown or missing, or a value has the wrong type or is out of range.

    Example:
        >>> class Schedule(StrictModel):
        ...     warmup_steps: int
        >>> parse(Schedule, {"warmup": 3}, source="params.yaml")
        Traceback (most recent call last):
        ...
        paperkit.config.ConfigError: params.yaml:
          key 'warmup_steps' is missing
          key 'warmup' (value 3) is unknown; allowed here: warmup_steps
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = "\n".join(f"  {_explain(problem, model)}" for problem in error.errors())
        message = f"{source}:\n{lines}"
        raise ConfigError(message) from error


def read_profile(model: type[Model], path: Path, profile: str) -> Model:
    """Read one profile's block of a replication's params.yaml; the other blocks are checked as well.

    Args:
        model: The replication's `Config`.
        path: Its params.yaml: one block for each profile.
        profile: "smoke", "cpu" or "paper".

    Returns:
        The configuration of that profile.

    Raises:
        ConfigError: If the profile is not there, or any block does not fit the model: a typo in the paper
            block must not wait for the day a GPU is rented.
    """
    blocks = read_yaml(path)
    if not isinstance(blocks, dict) or profile not in blocks:
        known = ", ".join(map(str, blocks)) if isinstance(blocks, dict) else "none"
        message = f"{path}: profile {profile!r} is not defined; defined: {known}"
        raise ConfigError(message)
    parsed = {name: parse(model, block, source=f"{path}, profile {name}") for name, block in blocks.items()}
    return parsed[profile]


def _explain(problem: Any, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"key {key!r} is missing"
    if problem["type"] == "extra_forbidden":
        fields = _fields_at(model, problem["loc"][:-1])
        allowed = f"; allowed here: {', '.join(fields)}" if fields else ""
        return f"key {key!r} (value {problem['input']!r}) is unknown{allowed}"
    subject = f"key {key!r}" if key else "the block"
    return f"{subject} has value {problem['input']!r}; {problem['msg']}"


def _fields_at(model: Any, location: tuple[Any, ...]) -> list[str]:
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field else None
    return sorted(getattr(model, "model_fields", ()))
