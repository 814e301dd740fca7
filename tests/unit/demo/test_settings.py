"""The demo's settings: defaults, limits, and error messages."""

import re
from pathlib import Path

import pytest

from demo.environment import LoadSettingsError
from demo.settings import DemoSettings
from tests.each import for_each

_PAGE = (Path(__file__).parents[3] / "docs" / "demo.md").read_text()


def test_defaults_are_a_few_users_of_the_local_service() -> None:
    settings = DemoSettings.read({})
    assert settings.url == "http://127.0.0.1:3000"
    assert settings.users < 20
    assert settings.models == ()


def test_empty_variables_count_as_unset() -> None:
    empty = dict.fromkeys(("CHATSCOPE_URL", "DEMO_USERS", "DEMO_MODELS", "DEMO_SECONDS"), " ")
    assert DemoSettings.read(empty) == DemoSettings.read({})


def test_values_are_taken() -> None:
    settings = DemoSettings.read(
        {
            "CHATSCOPE_URL": "http://app:3000/",
            "DEMO_USERS": "3",
            "DEMO_SPAWN_RATE": "0.5",
            "DEMO_PACE": "2",
            "DEMO_SECONDS": "60",
            "DEMO_QUESTIONS": "50",
            "DEMO_MODELS": "one, two",
        }
    )
    assert settings == DemoSettings(
        url="http://app:3000",
        users=3,
        spawn_rate=0.5,
        pace=2.0,
        seconds=60.0,
        questions=50,
        models=("one", "two"),
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CHATSCOPE_URL", "app:3000"),
        ("CHATSCOPE_URL", "ftp://app"),
        ("CHATSCOPE_URL", "http://app:99999"),
        ("CHATSCOPE_URL", "http://app:0"),
        ("CHATSCOPE_URL", "http://app:3000/v1"),
        ("DEMO_USERS", "0"),
        ("DEMO_USERS", "101"),
        ("DEMO_USERS", "many"),
        ("DEMO_SPAWN_RATE", "0"),
        ("DEMO_PACE", "101"),
        ("DEMO_SECONDS", "0"),
        ("DEMO_SECONDS", "inf"),
        ("DEMO_SECONDS", "nan"),
        ("DEMO_QUESTIONS", "0"),
        ("DEMO_QUESTIONS", "1.5"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_accepted(variable: str, value: str) -> None:
    with pytest.raises(LoadSettingsError) as caught:
        DemoSettings.read({variable: value})
    [problem] = caught.value.problems
    assert problem.startswith(f"{variable}={value} is not accepted: give ")


def test_all_invalid_values_are_reported_together() -> None:
    with pytest.raises(LoadSettingsError) as caught:
        DemoSettings.read({"DEMO_USERS": "0", "DEMO_SECONDS": "x", "DEMO_QUESTIONS": "7"})
    assert [problem.partition("=")[0] for problem in caught.value.problems] == [
        "DEMO_USERS",
        "DEMO_SECONDS",
    ]


@for_each({name: name for name in DemoSettings.model_fields})
def test_setting_is_documented_as_it_is(name: str) -> None:
    field = DemoSettings.model_fields[name]
    assert isinstance(field.json_schema_extra, dict)
    default = "unset" if field.default == () else f"`{field.default}`"
    accepted = field.json_schema_extra["accepts"]
    row = (f"`{field.validation_alias}`", default, field.description, accepted)
    assert f"| {' | '.join(map(str, row))} |" in _PAGE


def test_no_other_setting_is_documented() -> None:
    known = {str(field.validation_alias) for field in DemoSettings.model_fields.values()}
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", _PAGE, re.MULTILINE)) == known
