"""Checks of alert messages by the drill."""

from typing import Any

import httpx2
import pytest

from drill import messages
from drill.cases import CASES

_FAILING = CASES[0]
_SERVICE = _FAILING.labels["service_name"]
_RULE = {"alert": "ErrorRateHigh", "labels": {"severity": "warning", "area": "service"}}


class _Backends:
    """Backends that reject queries without a closing brace."""

    def loki(self, query: str) -> list[Any]:
        return self._ask("loki", query)

    def tempo_search(self, query: str) -> list[Any]:
        return self._ask("tempo", query)

    def _ask(self, backend: str, query: str) -> list[Any]:
        if query.endswith("}"):
            return []
        request = httpx2.Request("GET", f"http://{backend}")
        response = httpx2.Response(400, text=f"{backend}: not closed", request=request)
        raise httpx2.HTTPStatusError("rejected", request=request, response=response)


class _Target:
    rules = (_RULE,)
    backends = _Backends()


def _alert(labels: dict[str, str], annotations: dict[str, str]) -> dict[str, Any]:
    return {
        "labels": {"alertname": "ErrorRateHigh", **_RULE["labels"], **_FAILING.labels, **labels},  # type: ignore[dict-item]
        "annotations": {
            "summary": "7 % of the responses fail.",
            "value": "7 %",
            "runbook_url": "docs/runbooks/ErrorRateHigh.md",
            "dashboard": f"/d/service?var-service={_SERVICE}",
            "query": f'{{service_name="{_SERVICE}"}}',
            **annotations,
        },
    }


def _problems(labels: dict[str, str], annotations: dict[str, str]) -> list[str]:
    alert = _alert(labels, annotations)
    return list(messages.problems(_Target(), _FAILING, alert))  # type: ignore[arg-type]


def test_valid_message_has_no_problem() -> None:
    assert _problems({}, {}) == []
    assert _problems({}, {"query": '{ resource.service.name = "x" }'}) == []


@pytest.mark.parametrize(
    ("labels", "annotations", "problem"),
    [
        ({"area": "llm"}, {}, "labels match no rule"),
        ({"service_name": "other"}, {}, "labels must include"),
        ({}, {"summary": "{{ $value }} fail"}, "summary is not filled in"),
        ({}, {"value": "<no value>"}, "value is not filled in"),
        ({}, {"value": " "}, "value is not filled in"),
        ({}, {"more": "x"}, "annotations are"),
        ({}, {"runbook_url": "docs/runbooks/Other.md"}, "docs/runbooks/Other.md does not exist"),
        (
            {},
            {"dashboard": f"/d/other?var-service={_SERVICE}"},
            "dashboard /d/other does not",
        ),
        ({}, {"dashboard": "/d/service"}, f"the dashboard does not select {_SERVICE}"),
        ({}, {"query": "{service_name="}, "the query is rejected: {service_name=: loki"),
        ({}, {"query": "{ span.x = 1"}, "the query is rejected: { span.x = 1: tempo"),
    ],
)
def test_problem_is_found(
    labels: dict[str, str], annotations: dict[str, str], problem: str
) -> None:
    found = _problems(labels, annotations)
    assert [each for each in found if each.startswith(f"ErrorRateHigh warning: {problem}")]


def test_end_before_the_start_is_a_problem() -> None:
    times = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00.123456789Z")
    for (started, ended), problems in ((times, 0), (times[::-1], 1)):
        alert = {**_alert({}, {}), "startsAt": started, "endsAt": ended}
        assert len(list(messages.resolved_problems(alert))) == problems
