"""Two tenants of the scaled stack: each sees its own data only."""

import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest

from ledger import otlp
from stack.local_http import local_client
from stack.secrets import telemetry_headers
from stack.waiting import poll_until
from tests.running import PATIENCE_SECONDS, Stack

_FIRST = "first"
_SECOND = "second"


class _Tenant:
    """One tenant: its way in, its way out, and its data."""

    def __init__(self, facts: Mapping[str, str], prefix: str, secrets_dir: str) -> None:
        self.facts = {**facts, "SECRETS_DIR": secrets_dir}
        self.otlp = facts[f"{prefix}OTLP_URL"]
        self.urls = {
            "logs": facts[f"{prefix}LOKI_URL"],
            "traces": facts[f"{prefix}TEMPO_URL"],
            "metrics": facts[f"{prefix}GATEWAY_URL"],
        }
        self.mark = f"tenant_{secrets.token_hex(8)}"
        self.trace_id = secrets.token_bytes(16)
        password = Path(secrets_dir, "grafana", "password").read_text()
        self.auth = httpx2.BasicAuth("grafana", password)

    def send(self) -> None:
        """Send a span, a log record and a sample with its mark."""
        with otlp.sender(self.otlp, telemetry_headers(self.facts)) as sender:
            sender.send(otlp.spans(self.mark, otlp.span(self.trace_id, self.mark)))
            sender.send(otlp.lines(self.mark, otlp.line(self.mark)))
            sender.send(otlp.sums(self.mark, self.mark, otlp.point(1)))

    def get(self, signal: str, path: str, **query: str) -> httpx2.Response:
        """Ask a backend through the gateway of this tenant, claiming to be the other one."""
        with local_client(self.urls[signal], timeout=30.0) as client:
            forged = {"x-scope-orgid": "chatscope", "thanos-tenant": "chatscope"}
            return client.get(path, params=query, auth=self.auth, headers=forged)

    def sees(self, mark: str, trace_id: bytes) -> set[str]:
        """Return the signals in which this tenant finds a mark."""
        found: dict[str, Any] = {
            "logs": self._json(
                "logs", "/loki/api/v1/query_range", query=f'{{service_name="{mark}"}}'
            )["data"]["result"],
            "traces": self.get("traces", f"/api/v2/traces/{trace_id.hex()}")
            .json()
            .get("trace", {})
            .get("resourceSpans"),
            "metrics": self._json("metrics", "/prometheus/api/v1/query", query=f"{mark}_total")[
                "data"
            ]["result"],
        }
        return {signal for signal, result in found.items() if result}

    def counted(self, metric: str) -> bool:
        """Return whether a counter with this name is there."""
        found = self._json("metrics", "/prometheus/api/v1/query", query=f"{metric}_total")
        return bool(found["data"]["result"])

    def sees_all_of_its_own(self) -> bool:
        return self.sees(self.mark, self.trace_id) == {"logs", "traces", "metrics"}

    def names(self) -> str:
        """Return everything that lists names: labels, values, series, attributes."""
        start, end = str(int(time.time()) - 600), str(int(time.time()) + 60)
        paths: list[tuple[str, str, dict[str, str]]] = [
            ("logs", "/loki/api/v1/label/service_name/values", {}),
            ("logs", "/loki/api/v1/series", {"match[]": '{service_name=~".+"}'}),
            ("traces", "/api/v2/search/tag/resource.service.name/values", {}),
            ("traces", "/api/search", {"start": start, "end": end, "limit": "1000"}),
            ("metrics", "/prometheus/api/v1/label/__name__/values", {}),
            ("metrics", "/prometheus/api/v1/label/service_name/values", {}),
            ("metrics", "/prometheus/api/v1/series", {"match[]": '{__name__=~".+"}'}),
            ("metrics", "/prometheus/api/v1/query", {"query": '{__name__=~"tenant_.+"}'}),
            (
                "metrics",
                "/prometheus/api/v1/query_range",
                {"query": '{__name__=~"tenant_.+"}', "start": start, "end": end, "step": "15"},
            ),
        ]
        return "\n".join(self._text(signal, path, **query) for signal, path, query in paths)

    def _text(self, signal: str, path: str, **query: str) -> str:
        return self.get(signal, path, **query).raise_for_status().text

    def _json(self, signal: str, path: str, **query: str) -> Any:
        return self.get(signal, path, **query).raise_for_status().json()


@pytest.fixture(scope="module")
def tenants(stack: Stack) -> tuple[_Tenant, _Tenant]:
    facts = stack.facts
    state = Path(facts["STATE_DIR"])
    first = _Tenant(facts, "", facts["SECRETS_DIR"])
    second = _Tenant(facts, "SECOND_", str(state / "run" / "second-secrets"))
    for tenant in (first, second):
        tenant.send()
    for tenant in (first, second):
        poll_until(tenant.sees_all_of_its_own, "a tenant's own data", PATIENCE_SECONDS)
    return first, second


def test_tenant_finds_nothing_of_the_other(tenants: tuple[_Tenant, _Tenant]) -> None:
    first, second = tenants
    assert first.sees(second.mark, second.trace_id) == set()
    assert second.sees(first.mark, first.trace_id) == set()


def test_no_list_of_names_contains_the_other_tenant(tenants: tuple[_Tenant, _Tenant]) -> None:
    for own, other in (tenants, tenants[::-1]):
        names = own.names()
        assert own.mark in names
        assert other.mark not in names
    assert "chatscope" not in tenants[1].names()


def test_password_of_one_tenant_is_refused_by_the_gateway_of_the_other(
    tenants: tuple[_Tenant, _Tenant],
) -> None:
    for own, other in (tenants, tenants[::-1]):
        for signal, path in {
            "logs": "/loki/api/v1/labels",
            "traces": "/api/search",
            "metrics": "/prometheus/api/v1/labels",
        }.items():
            with local_client(other.urls[signal]) as client:
                assert client.get(path, auth=own.auth).status_code == 401


def test_token_of_one_tenant_is_refused_by_the_agent_of_the_other(
    tenants: tuple[_Tenant, _Tenant],
) -> None:
    for own, other in (tenants, tenants[::-1]):
        with (
            otlp.sender(other.otlp, telemetry_headers(own.facts)) as sender,
            pytest.raises(grpc.RpcError) as refusal,
        ):
            sender.send(otlp.lines("forged", otlp.line("forged")))
        assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    "path",
    [
        "/prometheus/api/v1/rules",
        "/prometheus/api/v1/alerts",
        "/prometheus/api/v1/query_exemplars",
        "/alertmanager/api/v2/alerts",
        "/alertmanager/api/v2/silences",
    ],
)
def test_what_tenants_share_is_not_for_the_second(
    tenants: tuple[_Tenant, _Tenant], path: str
) -> None:
    first, second = tenants
    query = {"query": "up", "start": "1796000000", "end": "1796000001"}
    assert first.get("metrics", path, **query).status_code == 200
    assert second.get("metrics", path, **query).status_code == 403


def test_metrics_and_status_of_backends_are_not_for_the_second_tenant(
    tenants: tuple[_Tenant, _Tenant],
) -> None:
    _, second = tenants
    for signal, path in {"logs": "/metrics", "traces": "/config"}.items():
        password = Path(second.facts["SECRETS_DIR"], "operator", "password").read_text()
        with local_client(second.urls[signal]) as client:
            answer = client.get(path, auth=httpx2.BasicAuth("operator", password))
        assert answer.status_code == 403


def test_exemplars_of_the_second_tenant_are_not_kept(
    stack: Stack, tenants: tuple[_Tenant, _Tenant]
) -> None:
    first, second = tenants
    mark = f"{second.mark}_seconds"
    for tenant in tenants:
        with otlp.sender(tenant.otlp, telemetry_headers(tenant.facts)) as sender:
            point = otlp.point(1)
            exemplar = point.exemplars.add(time_unix_nano=point.time_unix_nano, as_int=1)
            exemplar.trace_id, exemplar.span_id = tenant.trace_id, tenant.trace_id[:8]
            sender.send(otlp.sums(tenant.mark, mark, point))

    def found() -> set[str]:
        found = stack.backends.exemplars(f"{mark}_total", time.time() - 600, time.time() + 60)
        return {each.labels["trace_id"] for each in found}

    poll_until(lambda: second.counted(mark), "the second tenant's sample", PATIENCE_SECONDS)
    poll_until(found, "the first tenant's exemplar", PATIENCE_SECONDS)
    assert found() == {first.trace_id.hex()}
