"""The alert rules: generated, accepted, tested, and each with a runbook."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alerts.__main__ import FOLDER, LOKI_FILE, files
from alerts.objectives import read
from stack.facts import ROOT
from tests.config.conftest import Run
from tests.config.files import PROCESSES, broken_copy, parsed
from tests.config.focused import write_focused
from tests.each import for_each

_FILES = sorted(FOLDER.glob("*.rules.yaml"))
_TESTS = sorted(FOLDER.glob("*.test.yaml"))
_ANNOTATIONS = {"summary", "value", "runbook_url", "dashboard", "query"}
# It always fires, so it has no quiet case.
_ALWAYS = {"Watchdog"}


def _rules(path: Path) -> list[dict[str, Any]]:
    return [rule for group in parsed(path)["groups"] for rule in group["rules"]]


def _alerts(*paths: Path) -> list[dict[str, Any]]:
    return [rule for path in paths for rule in _rules(path) if "alert" in rule]


_ALERTS = _alerts(*_FILES)
_NAMES = sorted({rule["alert"] for rule in _ALERTS})
_EVERY = [*_ALERTS, *_alerts(LOKI_FILE)]
_CASES = [
    (test, case)
    for path in _TESTS
    for test in parsed(path)["tests"]
    for case in test["alert_rule_test"]
]
each_file = pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
# The same alert may have several severities.
each_alert = for_each({f"{rule['alert']} {rule['labels']}": rule for rule in _EVERY})


def test_rules_are_what_the_generator_writes(binary: Callable[[str], Path]) -> None:
    binary("sloth")
    made = files(read())
    assert {ROOT / name for name in made} == {*_FILES, LOKI_FILE}
    for name, text in made.items():
        assert (ROOT / name).read_text() == text, f"{name}: make rules"


@each_file
def test_prometheus_accepts_them(run: Run, path: Path) -> None:
    judged = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", path)
    assert judged.returncode == 0, judged.stdout + judged.stderr


@pytest.mark.slow
@pytest.mark.parametrize("path", _TESTS, ids=lambda path: path.name)
def test_each_fires_and_is_quiet_when_it_should(run: Run, path: Path, tmp_path: Path) -> None:
    judged = run("promtool", "test", "rules", *write_focused(path, FOLDER, tmp_path))
    assert judged.returncode == 0, judged.stdout + judged.stderr


@for_each({path.name: path for path in _TESTS})
def test_groups_are_looked_at_in_the_order_in_which_they_stand(path: Path) -> None:
    """By default promtool evaluates in random order: an alert may be one step late."""
    test = parsed(path)
    files = [parsed(FOLDER / name) for name in test["rule_files"]]
    groups = [group["name"] for file in files for group in file["groups"]]
    assert test["group_eval_order"] == groups


def test_promtool_detects_a_late_alert(run: Run, tmp_path: Path) -> None:
    broken_copy(FOLDER / "service.rules.yaml", tmp_path, "for: 30s", "for: 5m")
    judged = run(
        "promtool",
        "test",
        "rules",
        *write_focused(FOLDER / "service.test.yaml", tmp_path, tmp_path),
    )
    assert judged.returncode != 0
    assert "ServiceDown fires" in judged.stdout + judged.stderr


@for_each({name: name for name in _NAMES})
def test_each_has_a_case_of_each_kind(name: str) -> None:
    """promtool passes a quiet case of an alert that does not exist."""
    cases = [(test["name"], case) for test, case in _CASES if case["alertname"] == name]
    firing = [sentence for sentence, case in cases if case["exp_alerts"]]
    quiet = [sentence for sentence, case in cases if not case["exp_alerts"]]
    assert firing
    if name not in _ALWAYS:
        assert len(quiet) >= 3, "while all is well, one step before, and what only looks like it"
        assert any("one step before" in sentence for sentence in quiet)
    for case in (case for _, case in cases if case["exp_alerts"]):
        for expected in case["exp_alerts"]:
            assert set(expected["exp_annotations"]) == _ANNOTATIONS


def test_cases_are_sentences_about_alerts_that_exist() -> None:
    assert {case["alertname"] for _, case in _CASES} == set(_NAMES)
    sentences = [test["name"] for test, _ in _CASES]
    assert len(sentences) == len(set(sentences))
    for test, case in _CASES:
        assert test["name"].startswith(f"{case['alertname']} ")


@each_alert
def test_each_says_what_it_is_and_where_to_look(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning", "none"}
    assert rule["labels"]["area"] in {"service", "llm", "logs", "pipeline", "objectives"}
    assert set(rule["annotations"]) == _ANNOTATIONS
    assert "\n" not in rule["annotations"]["summary"]
    board = re.match(r"/d/(\w+)", rule["annotations"]["dashboard"])
    assert board
    assert (ROOT / "grafana-provisioning" / "dashboards" / f"{board[1]}.json").is_file()


@each_alert
def test_each_has_a_runbook_under_its_name(rule: dict[str, Any]) -> None:
    page = ROOT / rule["annotations"]["runbook_url"]
    assert page.is_relative_to(ROOT / "docs")
    assert page.read_text().startswith(f"# {rule['alert']}\n")


@each_alert
def test_no_label_can_break_a_query_or_a_link(rule: dict[str, Any]) -> None:
    """Senders of telemetry choose labels: in a query each is quoted, in a link encoded."""
    texts = rule["annotations"]
    for action in re.findall(r"\{\{[^}]*\$labels[^}]*\}\}", texts["query"]):
        assert action.startswith('{{ printf "%q" $labels.'), action
    for action in re.findall(r"\{\{[^}]*\$labels[^}]*\}\}", texts["dashboard"]):
        assert action.endswith(" | urlquery }}"), action


def test_recorded_names_differ_from_exported_metrics() -> None:
    records = {rule["record"] for path in _FILES for rule in _rules(path) if "record" in rule}
    # Recorded for Grafana's own view, with the names that it queries.
    assert {name for name in records if ":" not in name} == {
        "sloth_slo_info",
        "traces_spanmetrics_calls_total",
        "traces_spanmetrics_latency_bucket",
    }


def test_recorded_series_last_until_the_next_evaluation() -> None:
    [seen] = re.findall(r"--query.lookback-delta=(\d+)s", PROCESSES.read_text())
    units = {"s": 1, "m": 60}
    slowest = max(
        int(group["interval"][:-1]) * units[group["interval"][-1]]
        for path in (*_FILES, LOKI_FILE)
        for group in parsed(path)["groups"]
    )
    assert slowest < int(seen)
