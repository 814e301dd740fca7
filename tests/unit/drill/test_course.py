"""How a case goes: what must come, what must not, and when it is over."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import yaml

from alerts.__main__ import files
from alerts.objectives import read
from drill import course as course_module
from drill import messages
from drill.cases import CASES, Case, kind, rounds
from drill.course import Course
from drill.ground import Ground
from stack.facts import ROOT
from tests.builds import wait_for_binaries

_LABELS = {"service_name": "drill-x"}


@contextmanager
def _nothing(_: Ground) -> Iterator[Any]:
    yield lambda: None


def _case(**changed: Any) -> Case:
    told = frozenset({"ErrorRateHigh warning"})
    usual = Case(name="x", breaks="it", trouble=_nothing, told=told, labels=_LABELS)
    return replace(usual, **changed)


def alert(name: str, severity: str = "warning", status: str = "firing", **labels: str) -> Any:
    """One as a webhook gets it."""
    return {
        "status": status,
        "labels": {"alertname": name, "severity": severity, **_LABELS, **labels},
        "fingerprint": f"{name} {severity} {labels}",
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "2026-01-01T00:01:00.123456789Z",
    }


class _Ground:
    """Where some alerts are held back."""

    def __init__(self, *held_back: Any) -> None:
        self._held_back = held_back

    def in_alertmanager(self, state: str) -> list[Any]:
        assert state == "suppressed"
        return [{**each, "status": {"inhibitedBy": ["x"]}} for each in self._held_back]


@pytest.fixture
def mended() -> list[str]:
    return []


def _course(mended: list[str], **changed: Any) -> Course:
    return Course(_case(**changed), lambda: mended.append("mended"))


def _look(course: Course, *alerts: Any, ground: Any = None) -> None:
    # One step a look: broken, to be mended, mended.
    place: Any = ground or _Ground()
    for _ in range(3):
        course.look(place, alerts)


def test_it_is_mended_when_its_alert_has_come_and_over_when_that_has_ended(
    mended: list[str],
) -> None:
    course = _course(mended)
    _look(course)
    assert (course.awaited, mended) == (["ErrorRateHigh warning"], [])
    fired = alert("ErrorRateHigh")
    _look(course, fired)
    assert (course.over, mended) == (False, ["mended"])
    _look(course, fired, alert("ErrorRateHigh", status="resolved"))
    assert (course.over, mended, course.faults) == (True, ["mended"], [])


def test_an_alert_that_came_again_has_not_ended(mended: list[str]) -> None:
    course, fired = _course(mended), alert("ErrorRateHigh")
    _look(course, fired, alert("ErrorRateHigh", status="resolved"), fired)
    assert not course.over


def test_an_alert_of_another_service_or_severity_is_not_the_one(mended: list[str]) -> None:
    course = _course(mended)
    _look(course, alert("ErrorRateHigh", service_name="other"), alert("ErrorRateHigh", "critical"))
    assert course.awaited == ["ErrorRateHigh warning"]


def test_what_must_be_held_back_is_waited_for_too(mended: list[str]) -> None:
    course = _course(mended, inhibited=frozenset({"AnswersSlow warning"}))
    _look(course, alert("ErrorRateHigh"))
    assert (course.awaited, mended) == (["AnswersSlow warning (held back)"], [])
    _look(course, alert("ErrorRateHigh"), ground=_Ground(alert("AnswersSlow")))
    assert mended == ["mended"]


def test_it_stays_broken_as_long_as_it_must(mended: list[str]) -> None:
    course = _course(mended, stays=1000.0)
    _look(course, alert("ErrorRateHigh"))
    assert (course.fired_after is None, mended) == (False, [])


def test_what_does_not_come_is_a_fault(mended: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course_module, "_PATIENCE_SECONDS", -1.0)
    course = _course(mended)
    _look(course)
    assert course.over
    assert course.faults == ["did not come in 0 s: ErrorRateHigh warning"]


def test_what_is_wrong_is_a_fault_and_what_may_come_is_none(
    mended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "faults", lambda *_: ())
    course = _course(mended, also=frozenset({"AnswersSlow warning"}))
    _look(course, alert("ErrorRateHigh"), alert("AnswersSlow"), alert("MemoryHigh"))
    course.judge(_Ground())  # type: ignore[arg-type]
    assert course.faults == ["came, and is wrong: MemoryHigh warning"]


@pytest.mark.parametrize(
    ("load", "faults"),
    [(0.0, ["came, and is wrong: EventLoopLagHigh warning"]), (1000.0, [])],
    ids=["idle", "busy"],
)
def test_late_event_loops_are_a_fault_unless_the_machine_is_busy(
    mended: list[str], monkeypatch: pytest.MonkeyPatch, load: float, faults: list[str]
) -> None:
    monkeypatch.setattr(messages, "faults", lambda *_: ())
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, load, 0.0))
    course = _course(mended)
    _look(course, alert("ErrorRateHigh"), alert("EventLoopLagHigh"))
    course.judge(_Ground())  # type: ignore[arg-type]
    assert course.faults == faults


def test_cases_that_hurt_what_all_share_run_alone() -> None:
    sizes = [len(together) for together in rounds()]
    assert sum(sizes) == len(CASES)
    assert sizes[1:] == [1, 1]
    assert {each.name for each in CASES if each.alone} == {"loki", "collector"}


def test_cases_speak_of_alerts_that_there_are() -> None:
    wait_for_binaries(["sloth"])
    texts = files(read())
    known = {
        kind({"labels": {"alertname": rule["alert"], **rule["labels"]}})
        for rule in _rules(texts)
        if "alert" in rule
    }
    for case in CASES:
        assert case.told | case.also | case.inhibited | case.lasting <= known


def _rules(texts: dict[str, str]) -> list[dict[str, Any]]:
    return [
        rule
        for text in texts.values()
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
    ]


def test_the_page_lists_the_cases_as_they_are() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|([^|]*)\|$", page, re.MULTILINE)
    for case, (name, told, held_back) in zip(CASES, listed, strict=True):
        assert name == case.name
        for words, kinds in ((told, case.told), (held_back, case.inhibited)):
            assert set(re.findall(r"\w+", words)) == {each.partition(" ")[0] for each in kinds}
