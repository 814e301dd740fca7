"""What is wrong with a message is seen."""

from typing import Any

import httpx2
import pytest

from drill import messages
from drill.cases import CASES

_FAILING = CASES[0]
_SERVICE = _FAILING.labels["service_name"]
_RULE = {"alert": "ErrorRateHigh", "labels": {"severity": "warning", "area": "service"}}


class _Stores:
    """They refuse what is not closed."""

    def loki(self, query: str) -> list[Any]:
        return self._ask("loki", query)

    def tempo_search(self, query: str) -> list[Any]:
        return self._ask("tempo", query)

    def _ask(self, store: str, query: str) -> list[Any]:
        if query.endswith("}"):
            return []
        request = httpx2.Request("GET", f"http://{store}")
        refusal = httpx2.Response(400, text=f"{store}: not closed", request=request)
        raise httpx2.HTTPStatusError("refused", request=request, response=refusal)


class _Ground:
    rules = (_RULE,)
    stores = _Stores()


def _alert(labels: dict[str, str], annotations: dict[str, str]) -> dict[str, Any]:
    return {
        "labels": {"alertname": "ErrorRateHigh", **_RULE["labels"], **_FAILING.labels, **labels},  # type: ignore[dict-item]
        "annotations": {
            "summary": "7 % of the answers fail.",
            "value": "7 %",
            "runbook_url": "docs/runbooks/ErrorRateHigh.md",
            "dashboard": f"/d/service?var-service={_SERVICE}",
            "query": f'{{service_name="{_SERVICE}"}}',
            **annotations,
        },
    }


def _faults(labels: dict[str, str], annotations: dict[str, str]) -> list[str]:
    alert = _alert(labels, annotations)
    return list(messages.faults(_Ground(), _FAILING, alert))  # type: ignore[arg-type]


def test_a_good_message_has_no_fault() -> None:
    assert _faults({}, {}) == []
    assert _faults({}, {"query": '{ resource.service.name = "x" }'}) == []


@pytest.mark.parametrize(
    ("labels", "annotations", "fault"),
    [
        ({"area": "llm"}, {}, "labels of no rule"),
        ({"service_name": "other"}, {}, "labels are to have"),
        ({}, {"summary": "{{ $value }} fail"}, "summary is not filled in"),
        ({}, {"value": "<no value>"}, "value is not filled in"),
        ({}, {"value": " "}, "value is not filled in"),
        ({}, {"more": "x"}, "annotations are"),
        ({}, {"runbook_url": "docs/runbooks/Other.md"}, "there is no docs/runbooks/Other.md"),
        ({}, {"dashboard": f"/d/other?var-service={_SERVICE}"}, "there is no board /d/other"),
        ({}, {"dashboard": "/d/service"}, f"its board is not about {_SERVICE}"),
        ({}, {"query": "{service_name="}, "its query is refused: {service_name=: loki"),
        ({}, {"query": "{ span.x = 1"}, "its query is refused: { span.x = 1: tempo"),
    ],
)
def test_a_fault_is_seen(labels: dict[str, str], annotations: dict[str, str], fault: str) -> None:
    found = _faults(labels, annotations)
    assert [each for each in found if each.startswith(f"ErrorRateHigh warning: {fault}")]


def test_an_end_before_the_beginning_is_seen() -> None:
    times = ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00.123456789Z")
    for (began, ended), faults in ((times, 0), (times[::-1], 1)):
        told = {**_alert({}, {}), "startsAt": began, "endsAt": ended}
        assert len(list(messages.of_its_end(told))) == faults
