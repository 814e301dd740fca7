"""Questions to Prometheus, Loki and Tempo, with answers as plain typed values."""

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from stack.local_http import local_client
from stack.secrets import operator

Attribute = str | int | float | bool | list["Attribute"] | dict[str, "Attribute"] | None
_NS = 1_000_000_000


@dataclass(frozen=True)
class Sample:
    """One point of an instant query; the time in seconds since the epoch."""

    labels: dict[str, str]
    value: float
    timestamp: float


@dataclass(frozen=True)
class Exemplar:
    """One exemplar: the labels of its series, its own (trace_id among them), value and time."""

    series: dict[str, str]
    labels: dict[str, str]
    value: float
    timestamp: float


@dataclass(frozen=True)
class LogLine:
    """One line: time in nanoseconds, text, the stream's labels, its structured metadata."""

    timestamp: int
    line: str
    stream: dict[str, str]
    metadata: dict[str, str]


@dataclass(frozen=True)
class SpanEvent:
    """Something that happened inside a span; the time in nanoseconds."""

    name: str
    timestamp: int
    attributes: dict[str, Attribute]


@dataclass(frozen=True)
class SpanLink:
    """A span elsewhere that this one refers to; ids in hex."""

    trace_id: str
    span_id: str
    attributes: dict[str, Attribute]


@dataclass(frozen=True)
class Span:
    """One span of a trace: ids in hex (`parent` empty for a root), times in nanoseconds.

    `kind` is SERVER, CLIENT, INTERNAL …; `status` is UNSET, OK or ERROR.
    """

    trace_id: str
    span_id: str
    parent: str
    name: str
    kind: str
    start: int
    end: int
    scope: str
    status: str
    status_message: str
    attributes: dict[str, Attribute]
    resource: dict[str, Attribute]
    events: list[SpanEvent] = field(default_factory=list)
    links: list[SpanLink] = field(default_factory=list)


class Backends:
    """Clients of the three stores; a failed query raises httpx2.HTTPError."""

    def __init__(self, facts: Mapping[str, str]) -> None:
        self._facts = facts
        self._http = local_client(timeout=10.0)
        self._http.auth = operator(facts)

    def prometheus(self, promql: str) -> list[Sample]:
        """The instant vector of `promql`, now."""
        return samples(self._get("PROMETHEUS_URL", "/api/v1/query", query=promql))

    def points(self, promql: str) -> list[list[tuple[float, float]]]:
        """For each series of a range selector its samples as they are stored: time and value."""
        answer = self._get("PROMETHEUS_URL", "/api/v1/query", query=promql)
        return [
            [(float(time), float(value)) for time, value in series["values"]]
            for series in answer["data"]["result"]
        ]

    def exemplars(self, promql: str, start: float, end: float) -> list[Exemplar]:
        """The exemplars of the series in `promql`; times in seconds since the epoch."""
        path = "/api/v1/query_exemplars"
        return exemplars(self._get("PROMETHEUS_URL", path, query=promql, start=start, end=end))

    def loki(
        self,
        logql: str,
        start: float | None = None,
        end: float | None = None,
        limit: int = 1000,
    ) -> list[LogLine]:
        """The matching lines, oldest first; times in seconds since the epoch.

        Without times: the last hour, and a minute ahead for clocks that differ.
        """
        now = time.time()
        since = int((now - 3600 if start is None else start) * _NS)
        until = int((now + 60 if end is None else end) * _NS)
        path = "/loki/api/v1/query_range"
        query: dict[str, str | float] = {
            "query": logql,
            "start": since,
            "end": until,
            "limit": limit,
        }
        return log_lines(self._get("LOKI_URL", path, **query, direction="forward"))

    def tempo_trace(self, trace_id: str) -> list[Span] | None:
        """All spans of a trace, earliest first; None when Tempo does not have it (yet)."""
        answer = self._http.get(f"{self._facts['TEMPO_URL']}/api/traces/{trace_id}")
        if answer.status_code == 404:
            return None
        return spans(answer.raise_for_status().json()) or None

    def tempo_search(self, traceql: str, limit: int = 20) -> list[dict[str, Any]]:
        """Tempo's own summaries of the matching traces (traceID, rootTraceName, spanSets …)."""
        found = self._get("TEMPO_URL", "/api/search", q=traceql, limit=limit)
        return list(found.get("traces") or [])

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> "Backends":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _get(self, fact: str, path: str, **query: str | float) -> Any:
        # Without this header Loki mixes structured metadata into the stream's labels.
        headers = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}
        answer = self._http.get(f"{self._facts[fact]}{path}", params=query, headers=headers)
        return answer.raise_for_status().json()


def samples(answer: Any) -> list[Sample]:
    """The points in Prometheus's answer to an instant query."""
    return [
        Sample(row["metric"], float(row["value"][1]), float(row["value"][0]))
        for row in answer["data"]["result"]
    ]


def exemplars(answer: Any) -> list[Exemplar]:
    """The exemplars in Prometheus's answer, in its order."""
    return [
        Exemplar(series["seriesLabels"], row["labels"], float(row["value"]), row["timestamp"])
        for series in answer["data"]
        for row in series["exemplars"]
    ]


def log_lines(answer: Any) -> list[LogLine]:
    """The lines in Loki's answer with categorized labels, oldest first."""
    lines = [
        LogLine(int(value[0]), value[1], stream["stream"], _metadata(value))
        for stream in answer["data"]["result"]
        for value in stream["values"]
    ]
    return sorted(lines, key=lambda line: line.timestamp)


def _metadata(value: list[Any]) -> dict[str, str]:
    categorized = value[2] if len(value) > 2 else {}
    return dict(categorized.get("structuredMetadata") or {})


def spans(answer: Any) -> list[Span]:
    """The spans in Tempo's answer, earliest first."""
    found = [
        _span(span, scope.get("scope", {}).get("name", ""), attributes(batch.get("resource", {})))
        for batch in answer.get("batches", [])
        for scope in batch.get("scopeSpans", [])
        for span in scope.get("spans", [])
    ]
    return sorted(found, key=lambda span: span.start)


def _span(raw: Any, scope: str, resource: dict[str, Attribute]) -> Span:
    status = raw.get("status", {})
    return Span(
        trace_id=_hex(raw["traceId"]),
        span_id=_hex(raw["spanId"]),
        parent=_hex(raw.get("parentSpanId", "")),
        name=raw["name"],
        kind=raw.get("kind", "").removeprefix("SPAN_KIND_"),
        start=int(raw["startTimeUnixNano"]),
        end=int(raw["endTimeUnixNano"]),
        scope=scope,
        status=status.get("code", "UNSET").removeprefix("STATUS_CODE_"),
        status_message=status.get("message", ""),
        attributes=attributes(raw),
        resource=resource,
        events=[
            SpanEvent(event["name"], int(event["timeUnixNano"]), attributes(event))
            for event in raw.get("events", [])
        ],
        links=[
            SpanLink(_hex(link["traceId"]), _hex(link["spanId"]), attributes(link))
            for link in raw.get("links", [])
        ],
    )


def attributes(raw: Any) -> dict[str, Attribute]:
    """The attributes of an OTLP JSON object as plain Python values."""
    return {pair["key"]: _value(pair.get("value", {})) for pair in raw.get("attributes", [])}


def _value(raw: Any) -> Attribute:
    if "intValue" in raw:
        return int(raw["intValue"])
    if "arrayValue" in raw:
        return [_value(item) for item in raw["arrayValue"].get("values", [])]
    if "kvlistValue" in raw:
        pairs = raw["kvlistValue"].get("values", [])
        return {pair["key"]: _value(pair.get("value", {})) for pair in pairs}
    for kind in ("stringValue", "boolValue", "doubleValue", "bytesValue"):
        if kind in raw:
            value: Attribute = raw[kind]
            return value
    return None


def _hex(identifier: str) -> str:
    # Tempo writes ids as base64, as JSON of protobuf does; OTLP's own JSON has hex.
    if len(identifier) in {0, 16, 32}:
        return identifier
    return base64.b64decode(identifier).hex()
