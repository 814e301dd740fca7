"""The objectives: what is counted for them, and their rules, which sloth makes."""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from alerts.objectives import Objectives, Wanted
from alerts.promql import equals, rise, within
from alerts.rules import Rule, board, group, record, runbook, value
from alerts.service import FAILED, THEIRS
from alerts.windows import Windows
from chatscope.names import (
    ANSWER_SECONDS,
    ERROR_TYPE,
    LLM_RESPONSE_TIME,
    SERVER_TIME_TO_FIRST_TOKEN,
    TIME_TO_FIRST_TOKEN,
    prometheus_label,
)
from dashboards import links
from dashboards.answers import ERRORS
from dashboards.others import OBJECTIVE, OBJECTIVE_BAD, OBJECTIVE_EVENTS, SERVICE_NAME, Series
from dashboards.queries import differs_from, keep
from dashboards.variables import SERVICE
from stack.machine import MachineError
from stack.parts import binary_path

# The long windows are read from the events themselves, so that a busy hour weighs more than a
# quiet one.
_PLUGINS: Final = {
    "overridePrevious": True,
    "chain": [
        {"id": "sloth.dev/core/validate/v1"},
        {"id": "sloth.dev/core/sli_rules/v1", "config": {"disableOptimized": True}},
        {"id": "sloth.dev/core/metadata_rules/v1"},
        {"id": "sloth.dev/core/alert_rules/v1"},
    ],
}


class SlothError(RuntimeError):
    """The rules of the objectives could not be made; the text says why."""


@dataclass(frozen=True)
class _Objective:
    """One objective: what counts as an event and as a bad one, and its words."""

    name: str
    alert: str
    target: float
    events: str
    bad: str
    summary: str
    query: str


def groups(wanted: Wanted, windows: Windows) -> list[dict[str, Any]]:
    """Raises SlothError."""
    objectives = _objectives(wanted, windows)
    counted = [rule for each in objectives for rule in _counted(each)]
    return [
        group("objectives-events", counted, windows.step),
        *_by_sloth(_spec(wanted, windows, objectives), wanted.objectives, windows),
    ]


def _objectives(wanted: Wanted, windows: Windows) -> list[_Objective]:
    over, all_of = windows.events, wanted.objectives
    whole = equals(ERROR_TYPE, "")
    answers = rise(LLM_RESPONSE_TIME, differs_from(ERROR_TYPE, THEIRS), over=over, part="count")
    completed = rise(LLM_RESPONSE_TIME, whole, over=over, part="count")
    in_time = rise(
        LLM_RESPONSE_TIME, whole, within(all_of.latency.seconds), over=over, part="bucket"
    )
    begun = rise(SERVER_TIME_TO_FIRST_TOKEN, over=over, part="count")
    soon = rise(
        SERVER_TIME_TO_FIRST_TOKEN, within(all_of.first_token.seconds), over=over, part="bucket"
    )
    failed = rise(LLM_RESPONSE_TIME, *FAILED, over=over, part="count")
    service = wanted.service
    lasts = f"at this rate the budget of {all_of.period} is used up early."
    return [
        _Objective(
            "availability",
            "AvailabilityBudgetBurn",
            all_of.availability.target,
            answers,
            f"{failed}\nor 0 * {answers}",
            f"{value('humanizePercentage')} of the responses of {service} fail: {lasts}",
            _lines(service, ERRORS),
        ),
        _Objective(
            "latency",
            "LatencyBudgetBurn",
            all_of.latency.target,
            completed,
            f"clamp_min({completed} - {in_time}, 0)",
            f"{value('humanizePercentage')} of the responses of {service} take longer than "
            f"{all_of.latency.seconds:g} s: {lasts}",
            _lines(
                service, keep(f"{prometheus_label(ANSWER_SECONDS)} > {all_of.latency.seconds:g}")
            ),
        ),
        _Objective(
            "first-token",
            "FirstTokenBudgetBurn",
            all_of.first_token.target,
            begun,
            f"clamp_min({begun} - {soon}, 0)",
            f"{value('humanizePercentage')} of the responses of {service} begin after "
            f"{all_of.first_token.seconds:g} s or later: {lasts}",
            _spans(service, f"span.{TIME_TO_FIRST_TOKEN} > {all_of.first_token.seconds:g}"),
        ),
    ]


def _lines(service: str, *stages: str) -> str:
    return " ".join([f"{{{equals(SERVICE_NAME, service)}}}", *stages])


def _spans(service: str, condition: str) -> str:
    return f'{{ resource.{SERVICE_NAME} = "{service}" && {condition} }}'


def _counted(objective: _Objective) -> list[Rule]:
    """Sums, each few seconds: weeks of the counters themselves would be too much to read."""
    about = {OBJECTIVE: objective.name}
    return [
        record(OBJECTIVE_EVENTS.prometheus, objective.events, **about),
        record(OBJECTIVE_BAD.prometheus, objective.bad, **about),
    ]


def _spec(wanted: Wanted, windows: Windows, objectives: list[_Objective]) -> dict[str, Any]:
    return {
        "version": "prometheus/v1",
        "service": wanted.service,
        "slo_plugins": _PLUGINS,
        "slos": [_slo(wanted, windows, each) for each in objectives],
    }


def _slo(wanted: Wanted, windows: Windows, objective: _Objective) -> dict[str, Any]:
    about = (equals(SERVICE_NAME, wanted.service), equals(OBJECTIVE, objective.name))
    # One failure of three answers in a night is no reason to wake anybody.
    least = windows.weight * wanted.thresholds.least_answers

    def over_window(series: Series) -> str:
        return f"sum(sum_over_time({series.prometheus}{{{', '.join(about)}}}[{{{{.window}}}}]))"

    return {
        "name": objective.name,
        "objective": objective.target,
        "description": objective.name,
        "sli": {
            "events": {
                "error_query": over_window(OBJECTIVE_BAD),
                "total_query": f"{over_window(OBJECTIVE_EVENTS)} >= {least}",
            }
        },
        "alerting": {
            "name": objective.alert,
            "labels": {"area": "objectives", prometheus_label(SERVICE_NAME): wanted.service},
            "annotations": {
                "summary": objective.summary,
                "value": value("humanizePercentage"),
                "runbook_url": runbook(objective.alert),
                "dashboard": board(links.OBJECTIVES, **{SERVICE.name: wanted.service}),
                "query": objective.query,
            },
            "page_alert": {"labels": {"severity": "critical"}},
            "ticket_alert": {"labels": {"severity": "warning"}},
        },
    }


def _catalogue(objectives: Objectives, windows: Windows) -> dict[str, Any]:
    """When it is urgent: sloth's own windows are for 30 days, and longer than what is kept."""
    page, ticket = windows.burns[objectives.period]

    def pair(burns: tuple[Any, Any]) -> dict[str, Any]:
        return {
            speed: {
                "errorBudgetPercent": burn.percent,
                "shortWindow": burn.short,
                "longWindow": burn.long,
            }
            for speed, burn in zip(("quick", "slow"), burns, strict=True)
        }

    return {
        "apiVersion": "sloth.slok.dev/v1",
        "kind": "AlertWindows",
        "spec": {"sloPeriod": objectives.period, "page": pair(page), "ticket": pair(ticket)},
    }


def _by_sloth(
    spec: dict[str, Any], objectives: Objectives, windows: Windows
) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        (directory / "windows").mkdir()
        catalogue = _catalogue(objectives, windows)
        (directory / "windows" / "windows.yaml").write_text(yaml.safe_dump(catalogue))
        (directory / "spec.yaml").write_text(yaml.safe_dump(spec))
        done = subprocess.run(
            [
                *(_sloth(), "generate", "--no-log", "--input", directory / "spec.yaml"),
                *("--slo-period-windows-path", directory / "windows"),
                *("--default-slo-period", objectives.period),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise SlothError(f"sloth: {(done.stderr or done.stdout).strip()}")
    made: list[dict[str, Any]] = yaml.safe_load(done.stdout)["groups"]
    for rule in (rule for each in made for rule in each["rules"] if "alert" in rule):
        # The same in its own words.
        del rule["annotations"]["title"]
    # As often as there is something new to see.
    return [{"name": each["name"], "interval": windows.step, **each} for each in made]


def _sloth() -> Path:
    try:
        program = binary_path("sloth")
    except MachineError as lacking:
        raise SlothError(f"sloth makes these rules, and cannot be built: {lacking}") from lacking
    if not program.is_file():
        raise SlothError("sloth makes these rules, and is not built yet: make build")
    return program
