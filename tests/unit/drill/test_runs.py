"""Runs of drill cases: expected and unexpected alerts, repair and end."""

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
from drill import messages, runs
from drill.cases import CASES, Case, kind, rounds
from drill.runs import CaseRun
from drill.target import Target
from stack.facts import ROOT
from tests.builds import wait_for_binaries

_LABELS = {"service_name": "drill-x"}


@contextmanager
def _no_fault(_: Target) -> Iterator[Any]:
    yield lambda: None


def _case(**changed: Any) -> Case:
    expected = frozenset({"ErrorRateHigh warning"})
    default = Case(name="x", description="", fault=_no_fault, expected=expected, labels=_LABELS)
    return replace(default, **changed)


def alert(name: str, severity: str = "warning", status: str = "firing", **labels: str) -> Any:
    """Return an alert of a webhook message."""
    return {
        "status": status,
        "labels": {"alertname": name, "severity": severity, **_LABELS, **labels},
        "fingerprint": f"{name} {severity} {labels}",
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "2026-01-01T00:01:00.123456789Z",
    }


class _Target:
    """A stack with inhibited alerts."""

    def __init__(self, *inhibited: Any) -> None:
        self._inhibited = inhibited

    def in_alertmanager(self, state: str) -> list[Any]:
        assert state == "suppressed"
        return [{**each, "status": {"inhibitedBy": ["x"]}} for each in self._inhibited]


@pytest.fixture
def repairs() -> list[str]:
    return []


def _run(repairs: list[str], **changed: Any) -> CaseRun:
    return CaseRun(_case(**changed), lambda: repairs.append("repaired"))


def _update(run: CaseRun, *alerts: Any, target: Any = None) -> None:
    # Each update goes one step at most.
    target = target or _Target()
    for _ in range(3):
        run.update(target, alerts)


def test_fault_is_repaired_when_alert_arrived_and_run_is_done_when_it_ended(
    repairs: list[str],
) -> None:
    run = _run(repairs)
    _update(run)
    assert (run.pending, repairs) == (["ErrorRateHigh warning"], [])
    fired = alert("ErrorRateHigh")
    _update(run, fired)
    assert (run.done, repairs) == (False, ["repaired"])
    _update(run, fired, alert("ErrorRateHigh", status="resolved"))
    assert (run.done, repairs, run.problems) == (True, ["repaired"], [])


def test_alert_that_fires_again_has_not_ended(repairs: list[str]) -> None:
    run, fired = _run(repairs), alert("ErrorRateHigh")
    _update(run, fired, alert("ErrorRateHigh", status="resolved"), fired)
    assert not run.done


def test_alert_of_another_service_or_severity_does_not_count(repairs: list[str]) -> None:
    run = _run(repairs)
    _update(run, alert("ErrorRateHigh", service_name="other"), alert("ErrorRateHigh", "critical"))
    assert run.pending == ["ErrorRateHigh warning"]


def test_run_waits_for_inhibited_alerts(repairs: list[str]) -> None:
    run = _run(repairs, inhibited=frozenset({"AnswersSlow warning"}))
    _update(run, alert("ErrorRateHigh"))
    assert (run.pending, repairs) == (["AnswersSlow warning (inhibited)"], [])
    _update(run, alert("ErrorRateHigh"), target=_Target(alert("AnswersSlow")))
    assert repairs == ["repaired"]


def test_fault_lasts_for_its_minimum_duration(repairs: list[str]) -> None:
    run = _run(repairs, min_seconds=1000.0)
    _update(run, alert("ErrorRateHigh"))
    assert (run.fired_after is None, repairs) == (False, [])


def test_missing_alert_is_a_problem(repairs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_LIMIT_SECONDS", -1.0)
    run = _run(repairs)
    _update(run)
    assert run.done
    assert run.problems == ["did not arrive in 0 s: ErrorRateHigh warning"]


def test_unexpected_alert_is_a_problem_and_allowed_alert_is_not(
    repairs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "problems", lambda *_: ())
    run = _run(repairs, allowed=frozenset({"AnswersSlow warning"}))
    _update(run, alert("ErrorRateHigh"), alert("AnswersSlow"), alert("MemoryHigh"))
    run.check(_Target())  # type: ignore[arg-type]
    assert run.problems == ["unexpected alert: MemoryHigh warning"]


@pytest.mark.parametrize(
    ("load", "problems"),
    [(0.0, ["unexpected alert: EventLoopLagHigh warning"]), (1000.0, [])],
    ids=["idle", "busy"],
)
def test_event_loop_lag_is_a_problem_unless_the_machine_is_busy(
    repairs: list[str], monkeypatch: pytest.MonkeyPatch, load: float, problems: list[str]
) -> None:
    monkeypatch.setattr(messages, "problems", lambda *_: ())
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, load, 0.0))
    run = _run(repairs)
    _update(run, alert("ErrorRateHigh"), alert("EventLoopLagHigh"))
    run.check(_Target())  # type: ignore[arg-type]
    assert run.problems == problems


def test_cases_that_affect_shared_components_run_alone() -> None:
    sizes = [len(together) for together in rounds()]
    assert sum(sizes) == len(CASES)
    assert sizes[1:] == [1, 1]
    assert {each.name for each in CASES if each.exclusive} == {"loki", "collector"}


def test_cases_name_existing_alerts() -> None:
    wait_for_binaries(["sloth"])
    texts = files(read())
    known = {
        kind({"labels": {"alertname": rule["alert"], **rule["labels"]}})
        for rule in _rules(texts)
        if "alert" in rule
    }
    for case in CASES:
        assert case.expected | case.allowed | case.inhibited | case.lasting <= known


def _rules(texts: dict[str, str]) -> list[dict[str, Any]]:
    return [
        rule
        for text in texts.values()
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
    ]


def test_page_lists_the_cases() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|([^|]*)\|$", page, re.MULTILINE)
    for case, (name, expected, inhibited) in zip(CASES, listed, strict=True):
        assert name == case.name
        for words, kinds in ((expected, case.expected), (inhibited, case.inhibited)):
            assert set(re.findall(r"\w+", words)) == {each.partition(" ")[0] for each in kinds}
