"""objectives.yaml: accepted values, and errors."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts.objectives import FILE, ObjectivesError, read


def _changed(tmp_path: Path, *keys: str, to: Any) -> Path:
    """Write a copy with another value, or without the key."""
    content = yaml.safe_load(FILE.read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    if to is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = to
    copy = tmp_path / FILE.name
    copy.write_text(yaml.safe_dump(content))
    return copy


def test_shipped_file_is_accepted() -> None:
    assert read().service == "chatscope"


@pytest.mark.parametrize(
    ("keys", "to", "told"),
    [
        (("objectives", "period"), "30d", "objectives.period: '30d' is not accepted: "),
        (("objectives", "availability", "target"), 100, "objectives.availability.target: 100 "),
        (("objectives", "latency", "seconds"), 20, "a bucket's bound of llm_response_time: 0.01,"),
        (("cost", "daily_usd"), "much", "cost.daily_usd: 'much' is not accepted: "),
        (("cost", "weekly_usd"), 1, "cost.weekly_usd is not known here"),
        (("thresholds", "error_share"), None, "thresholds.error_share is missing"),
        (("thresholds", "error_share"), float("nan"), "thresholds.error_share: nan"),
        (("service",), 'chat"} or vector(1)', "service: "),
    ],
)
def test_invalid_value_is_reported_with_its_key_and_the_accepted_ones(
    tmp_path: Path, keys: tuple[str, ...], to: Any, told: str
) -> None:
    with pytest.raises(ObjectivesError) as error:
        read(_changed(tmp_path, *keys, to=to))
    [problem] = error.value.problems
    assert told in problem


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("service: chatscope\n")
    with pytest.raises(ObjectivesError) as error:
        read(file)
    assert str(error.value).splitlines() == [
        "mine.yaml: objectives is missing",
        "mine.yaml: cost is missing",
        "mine.yaml: thresholds is missing",
    ]


@pytest.mark.parametrize("text", ["", "- 1", "service: [", "service: {}"])
def test_invalid_file_is_reported_too(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ObjectivesError, match=r"mine\.yaml: "):
        read(file)
