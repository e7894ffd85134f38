"""paperkit.config: what does not fit is refused before anything runs, naming file, key, value and what is allowed."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError
from ruamel.yaml import YAML

from paperkit.config import ConfigError, StrictModel, parse, read_profile, read_yaml


class Schedule(StrictModel):
    peak: float = Field(gt=0)
    steps: int = Field(ge=2)


class Config(StrictModel):
    schedule: Schedule
    arm: Literal["adamw", "lion"]
    seeds: list[int] = Field(min_length=1)


SOUND = """\
smoke:
  schedule: {peak: 1e-3, steps: 10}
  arm: lion
  seeds: [0, 1]
"""


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[..., str]:
    """Returns the message with which a parameter file is refused."""

    def refuse(text: str, profile: str = "smoke") -> str:
        path = tmp_path / "params.yaml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as refused:
            read_profile(Config, path, profile)
        assert str(path) in str(refused.value)
        return str(refused.value)

    return refuse


def changed(old: str, new: str) -> str:
    assert SOUND.count(old) == 1
    return SOUND.replace(old, new)


def test_a_sound_file_is_read_with_nested_keys(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(SOUND, encoding="utf-8")
    config = read_profile(Config, path, "smoke")
    assert config == Config(schedule=Schedule(peak=0.001, steps=10), arm="lion", seeds=[0, 1])


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "  arm: lion",
            "  arm: lion\n  batch: 8",
            ["key 'batch' (value 8) is unknown", "allowed here: arm, schedule"],
        ),
        ("steps: 10", "stepz: 10", ["key 'schedule.stepz' (value 10) is unknown", "allowed here: peak, steps"]),
        ("  arm: lion\n", "", ["key 'arm' is missing"]),
        (", steps: 10", "", ["key 'schedule.steps' is missing"]),
        ("steps: 10", "steps: 10.0", ["key 'schedule.steps' has value 10.0", "integer"]),
        ("steps: 10", "steps: '10'", ["key 'schedule.steps' has value '10'", "integer"]),
        ("steps: 10", "steps: true", ["key 'schedule.steps' has value True", "integer"]),
        ("steps: 10", "steps:", ["key 'schedule.steps' has value None", "integer"]),
        ("steps: 10", "steps: 1", ["key 'schedule.steps' has value 1", "greater than or equal to 2"]),
        ("1e-3", "-1e-3", ["key 'schedule.peak' has value -0.001", "greater than 0"]),
        ("1e-3", ".nan", ["key 'schedule.peak' has value nan", "finite"]),
        ("1e-3", ".inf", ["key 'schedule.peak' has value inf", "finite"]),
        ("1e-3", "fast", ["key 'schedule.peak' has value 'fast'", "number"]),
        ("lion", "sgd", ["key 'arm' has value 'sgd'", "'adamw' or 'lion'"]),
        ("[0, 1]", "[]", ["key 'seeds' has value []", "at least 1"]),
        ("[0, 1]", "[0, x]", ["key 'seeds.1' has value 'x'", "integer"]),
        ("{peak: 1e-3, steps: 10}", "7", ["key 'schedule' has value 7", "Schedule"]),
    ],
)
def test_what_does_not_fit_is_refused_with_profile_key_value_and_what_is_allowed(refusal, old, new, told):
    message = refusal(changed(old, new))
    assert "profile smoke" in message
    for part in told:
        assert part in message


def test_all_problems_of_a_block_are_told_at_once(refusal):
    message = refusal(changed("arm: lion", "batch: 8").replace("steps: 10", "steps: 1"))
    assert all(part in message for part in ("'arm' is missing", "'batch'", "'schedule.steps'"))


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("steps: 10", "steps: 10, steps: 20", "'steps'"),
        ("  arm: lion", "  arm: lion\n  arm: adamw", "'arm'"),
        ("  seeds: [0, 1]\n", "  seeds: [0, 1]\nsmoke: {}\n", "'smoke'"),
    ],
)
def test_a_key_given_twice_is_refused_with_its_line(refusal, old, new, key):
    message = refusal(changed(old, new))
    assert f"key {key} is given twice" in message
    assert "line" in message


@pytest.mark.parametrize("text", ["a: &a [*a]", "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]\n" for i in range(1, 9))])
def test_aliases_that_explode_are_refused_before_anything_reads_them(tmp_path, text):
    (tmp_path / "bomb.yaml").write_text(f"a0: &a0 1\n{text}", encoding="utf-8")
    with pytest.raises(ConfigError, match="more than 100,000 values of it; write out what they repeat"):
        read_yaml(tmp_path / "bomb.yaml")


def test_the_same_key_in_two_blocks_is_not_given_twice(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(SOUND + SOUND.replace("smoke:", "cpu:").replace("lion", "adamw"), encoding="utf-8")
    assert [read_profile(Config, path, profile).arm for profile in ("smoke", "cpu")] == ["lion", "adamw"]


@pytest.mark.parametrize(
    ("block", "told"),
    [
        (SOUND.replace("smoke:", "paper:").replace("steps: 10", "step: 10"), "'schedule.step' (value 10) is unknown"),
        (
            SOUND.replace("smoke:", "paper:").replace("1e-3", "0"),
            "'schedule.peak' has value 0; Input should be greater",
        ),
        ("paper:\n", "the block has value None"),
    ],
)
def test_a_bad_block_of_another_profile_is_refused_too(refusal, block, told):
    message = refusal(SOUND + block)
    assert "profile paper" in message
    assert told in message


def test_an_undefined_profile_is_refused_with_the_defined_ones(refusal):
    assert "profile 'paper' is not defined; defined: smoke" in refusal(SOUND, profile="paper")


@pytest.mark.parametrize("text", ["", "- smoke\n", "smoke\n"])
def test_a_file_without_blocks_defines_no_profile(refusal, text):
    assert "defined: none" in refusal(text)


@pytest.mark.parametrize("text", ["smoke: [", "smoke: {a: 1", "a: b: c", "smoke: !!python/object:os.system {}"])
def test_invalid_yaml_is_refused_with_its_line(refusal, text):
    message = refusal(text)
    assert "is not valid YAML" in message
    assert "line 1" in message


NO_YAML = [b"\xff\xfe\x00", b"a: 2026-99-99", b"a: !!int abc", b"a: " + b"9" * 5000, b"[" * 3000]


@pytest.mark.parametrize("content", NO_YAML, ids=["no text", "no date", "no number", "too long", "too deep"])
def test_what_cannot_be_read_is_refused_with_its_file(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"params\.yaml is not valid YAML"):
        read_yaml(path)


def test_a_missing_file_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(ConfigError, match=r"params\.yaml is missing; restore it with git"):
        read_profile(Config, tmp_path / "params.yaml", "smoke")


EXPONENTS = ["1e-3", "1E-3", "+1e-3", "1.e-3", ".1e-2", "1.0e-3", "0.001"]


@pytest.mark.parametrize(
    ("text", "value"),
    [(text, 0.001) for text in EXPONENTS] + [(text, text) for text in ("e3", "1e", "1e-3x", "1-e3")] + [("'1'", "1")],
)
def test_a_number_with_an_exponent_is_a_float_and_what_only_resembles_one_is_text(tmp_path, text, value):
    path = tmp_path / "number.yaml"
    path.write_text(f"peak: {text}\n", encoding="utf-8")
    assert read_yaml(path) == {"peak": value}


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(deadline=None)
def test_every_float_as_python_prints_it_is_read_back_exactly(tmp_path_factory, number):
    path = tmp_path_factory.getbasetemp() / "float.yaml"
    path.write_text(f"value: {number!r}\n", encoding="utf-8")
    value = read_yaml(path)["value"]
    assert isinstance(value, float)
    assert (value, math.copysign(1, value)) == (number, math.copysign(1, number))


def test_a_configuration_cannot_be_changed_after_reading():
    schedule = parse(Schedule, {"peak": 1.0, "steps": 3}, source="here")
    with pytest.raises(ValidationError, match="frozen"):
        schedule.steps = 4
    assert schedule.steps == 3


def test_the_message_begins_with_the_source_it_was_given():
    with pytest.raises(ConfigError, match=r"^claims\.yaml, claim C6:"):
        parse(Schedule, {}, source="claims.yaml, claim C6")


@pytest.mark.parametrize(
    ("seeds", "told"),
    [
        ("[3, 4, 3]", "3 stands in it twice"),
        ("{sgd: [0.1, 0.1]}", "0.1 stands in it twice"),
        ("[[0.9, 0.9], [0.9, 0.9]]", "stands in it twice"),
        (f"[1, {2**63}]", "has more than 64 bits"),
        (f"{{of: [[{2**63}]]}}", "has more than 64 bits"),
        ("[1, 2]", None),
        ("[[0.9, 0.9], [0.9, 0.99]]", None),
    ],
)
def test_a_list_that_repeats_or_holds_what_no_table_holds_is_refused(tmp_path, seeds, told):
    class Loose(StrictModel):
        seeds: Any

    path = tmp_path / "params.yaml"
    path.write_text(f"smoke: {{seeds: {seeds}}}\n")
    if told is None:
        assert read_profile(Loose, path, "smoke").seeds == read_yaml(path)["smoke"]["seeds"]
    else:
        with pytest.raises(ConfigError, match=rf"key 'seeds' .*{told}"):
            read_profile(Loose, path, "smoke")


@pytest.mark.parametrize(
    ("written", "read"),
    [("0100", 100), ("1:04", "1:04"), ("0o17", 15), ("0x1F", 31), ("1e5", 1e5), (".5", 0.5), ("-.inf", -math.inf),
     ("no", "no"), ("On", "On"), ("true", True)],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2_which_dvc_reads(tmp_path, written, read):
    path = tmp_path / "params.yaml"
    path.write_text(f"width: {written}\n")
    assert read_yaml(path) == {"width": read} == YAML(typ="safe", pure=True).load(path.read_text())
