"""Sends the queries of panels and variables to the backends, as Grafana does."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import httpx2

from stack.local_http import local_client
from stack.secrets import operator
from tests.stack.boards import Query, Variable
from tests.stack.filling import Window

_NS = 1_000_000_000
# A search of Tempo is slow on a busy machine.
_PATIENCE_SECONDS = 120.0
# A default of 0 would hide a name that does not exist.
_ZERO = re.compile(r"\s+or\s+(on\s*\(\s*\)\s*)?vector\(\s*0\s*\)")
_TRACE_METRICS = re.compile(
    r"\|\s*(rate|count_over_time|(avg|min|max|sum)_over_time|quantile_over_time"
    r"|histogram_over_time|compare)\s*\("
)
# Series of the node graph of Tempo's service map.
_SERVICE_MAP = (
    "traces_service_graph_request_total",
    "traces_service_graph_request_server_seconds_sum",
)
_LABEL_VALUES = re.compile(r"label_values\((?:(?P<series>.+),)?\s*(?P<label>\w+)\s*\)", re.DOTALL)
_QUERY_RESULT = re.compile(r"query_result\((?P<query>.+)\)", re.DOTALL)


class QueryError(Exception):
    """A backend rejected a query, or does not exist; the text is the backend's."""


class Line(NamedTuple):
    """A log line with its labels and structured metadata."""

    text: str
    metadata: dict[str, str]


class Asker:
    """Clients of the backends by datasource UID."""

    def __init__(self, facts: Mapping[str, str]) -> None:
        self._urls = {uid: facts[f"{uid.upper()}_URL"] for uid in ("prometheus", "loki", "tempo")}
        self._http = local_client(timeout=_PATIENCE_SECONDS)
        self._http.auth = operator(facts)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def empty(self, query: Query, text: str, window: Window, step: int) -> str:
        """Return the part of a query without results; empty if all parts have results."""
        if query.datasource not in self._urls:
            raise QueryError(f"no store has the uid {query.datasource!r}")
        if not text and query.raw.get("queryType") != "serviceMap":
            raise QueryError("a query without a text")
        asked = getattr(self, f"_{query.datasource}")(query, _ZERO.sub("", text), window, step)
        return ", ".join(part for part, found in asked if not found)

    def lines(self, text: str, window: Window) -> list[Line]:
        """Return the newest log lines of a query, a thousand at most."""
        between = {"start": int(window.start * _NS), "end": int(window.end * _NS), "limit": 1000}
        found = self._get("loki", "/loki/api/v1/query_range", query=text, **between)
        return [
            Line(text, row["stream"])
            for row in found["data"]["result"]
            for _, text in row["values"]
        ]

    def values(self, variable: Variable, text: str, window: Window) -> list[str]:
        """Return the values that a variable offers."""
        if variable.datasource == "loki":
            found = self._loki_values(variable, window)
        elif variable.datasource == "prometheus":
            found = self._prometheus_values(text, window)
        else:
            raise QueryError(f"a variable that asks {variable.datasource!r}")
        pattern = re.compile(variable.regex.strip("/"))
        return [value for value in found if pattern.search(value)]

    def _prometheus(
        self, query: Query, text: str, window: Window, step: int
    ) -> Iterator[tuple[str, bool]]:
        between = {"query": text, "start": window.start, "end": window.end}
        ranged = query.raw.get("range", not query.raw.get("instant"))
        if ranged:
            found = self._get("prometheus", "/api/v1/query_range", **between, step=step)
            yield "over the time", _has_numbers(found["data"])
        if query.raw.get("instant"):
            found = self._get("prometheus", "/api/v1/query", query=text, time=window.end)
            yield "at its end", _has_numbers(found["data"])
        if query.raw.get("exemplar"):
            found = self._get("prometheus", "/api/v1/query_exemplars", **between)
            yield "exemplars", any(series["exemplars"] for series in found["data"])

    def _loki(
        self, query: Query, text: str, window: Window, step: int
    ) -> Iterator[tuple[str, bool]]:
        end = int(window.end * _NS)
        if query.raw.get("queryType") == "instant":
            found = self._get("loki", "/loki/api/v1/query", query=text, time=end)
        else:
            limit = query.raw.get("maxLines") or 100
            between = {"start": int(window.start * _NS), "end": end, "step": step}
            found = self._get(
                "loki", "/loki/api/v1/query_range", query=text, limit=limit, **between
            )
        data = found["data"]
        yield "lines", bool(data["result"] if data["resultType"] == "streams" else data)
        if data["resultType"] != "streams":
            yield "numbers", _has_numbers(data)

    def _tempo(
        self, query: Query, text: str, window: Window, step: int
    ) -> Iterator[tuple[str, bool]]:
        between = {"start": int(window.start), "end": math.ceil(window.end)}
        kind = query.raw.get("queryType")
        if kind == "serviceMap":
            for name in _SERVICE_MAP:
                rate = f"sum by (client, server) (rate({name}[{window.seconds}s]))"
                found = self._get("prometheus", "/api/v1/query", query=rate, time=window.end)
                yield name, _has_numbers(found["data"])
        elif kind != "traceql":
            raise QueryError(f"a question of the kind {kind!r}")
        elif _TRACE_METRICS.search(text):
            path = "/api/metrics/query_range"
            found = self._get("tempo", path, q=text, **between, step=f"{step}s")
            # For times without spans, Tempo returns points without a value: zeros.
            samples = [s for series in found["series"] for s in series.get("samples") or ()]
            yield "spans", any(sample.get("value") for sample in samples)
        else:
            limits = {"limit": query.raw.get("limit") or 20, "spss": query.raw.get("spss") or 3}
            found = self._get("tempo", "/api/search", q=text, **between, **limits)
            yield "traces", bool(found.get("traces"))

    def _prometheus_values(self, text: str, window: Window) -> list[str]:
        between: dict[str, Any] = {"start": window.start, "end": window.end}
        if found := _LABEL_VALUES.fullmatch(text.strip()):
            if found["series"]:
                between["match[]"] = found["series"].strip()
            path = f"/api/v1/label/{found['label']}/values"
            return list(self._get("prometheus", path, **between)["data"])
        if found := _QUERY_RESULT.fullmatch(text.strip()):
            data = self._get("prometheus", "/api/v1/query", query=found["query"], time=window.end)
            return [str(row["metric"]) for row in data["data"]["result"]]
        raise QueryError("neither label_values nor query_result")

    def _loki_values(self, variable: Variable, window: Window) -> list[str]:
        asked = variable.query
        if not isinstance(asked, dict) or not asked.get("label"):
            raise QueryError("a variable that asks Loki for no label")
        between: dict[str, Any] = {
            "start": int(window.start * _NS),
            "end": int(window.end * _NS),
        }
        if asked.get("stream"):
            between["query"] = asked["stream"]
        path = f"/loki/api/v1/label/{asked['label']}/values"
        return list(self._get("loki", path, **between).get("data") or ())

    def _get(self, uid: str, path: str, **asked: Any) -> Any:
        try:
            answer = self._http.get(f"{self._urls[uid]}{path}", params=asked)
        except httpx2.TransportError as error:
            raise QueryError(f"{uid}: {error!r}") from error
        if not answer.is_success:
            raise QueryError(f"{uid}: {answer.status_code} {answer.text.strip()}")
        return answer.json()


def _has_numbers(data: Any) -> bool:
    result = data["result"]
    if data["resultType"] in ("scalar", "string"):
        return bool(result)
    points = [p for row in result for p in row.get("values") or [row["value"]]]
    return any(math.isfinite(float(value)) for _, value in points)
