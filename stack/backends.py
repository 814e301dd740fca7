"""Queries to Prometheus, Loki and Tempo, with the results as typed values."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from chatscope.cli.spans import Span, spans
from stack.local_http import local_client
from stack.secrets import operator

_NS = 1_000_000_000


@dataclass(frozen=True)
class Sample:
    """One sample of an instant query; the time in seconds since the epoch."""

    labels: dict[str, str]
    value: float
    timestamp: float


@dataclass(frozen=True)
class Exemplar:
    """One exemplar: labels of its series, its own labels (with trace_id), value and time."""

    series: dict[str, str]
    labels: dict[str, str]
    value: float
    timestamp: float


@dataclass(frozen=True)
class LogLine:
    """One log line: time in nanoseconds, text, labels of its stream, structured metadata."""

    timestamp: int
    line: str
    stream: dict[str, str]
    metadata: dict[str, str]


class Backends:
    """Clients of the three backends; a failed query raises httpx2.HTTPError."""

    def __init__(self, facts: Mapping[str, str]) -> None:
        self._facts = facts
        self._http = local_client(timeout=10.0)
        self._http.auth = operator(facts)

    def prometheus(self, promql: str) -> list[Sample]:
        """Return the current instant vector of a query."""
        return samples(self._get("PROMETHEUS_URL", "/api/v1/query", query=promql))

    def points(self, promql: str) -> list[list[tuple[float, float]]]:
        """Return the stored samples of each series of a range selector, as (time, value)."""
        answer = self._get("PROMETHEUS_URL", "/api/v1/query", query=promql)
        return [
            [(float(time), float(value)) for time, value in series["values"]]
            for series in answer["data"]["result"]
        ]

    def exemplars(self, promql: str, start: float, end: float) -> list[Exemplar]:
        """Return the exemplars of a query's series; times in seconds since the epoch."""
        path = "/api/v1/query_exemplars"
        return exemplars(self._get("PROMETHEUS_URL", path, query=promql, start=start, end=end))

    def loki(
        self,
        logql: str,
        start: float | None = None,
        end: float | None = None,
        limit: int = 1000,
    ) -> list[LogLine]:
        """Return the matching lines, oldest first; times in seconds since the epoch.

        Default: from an hour ago until a minute ahead, for clocks that differ.
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
        """Return all spans of a trace, earliest first; None if Tempo does not have it (yet)."""
        answer = self._http.get(f"{self._facts['TEMPO_URL']}/api/traces/{trace_id}")
        if answer.status_code == 404:
            return None
        return spans(answer.raise_for_status().json()) or None

    def tempo_search(self, traceql: str, limit: int = 20) -> list[dict[str, Any]]:
        """Return Tempo's summaries of the matching traces (traceID, rootTraceName, spanSets …)."""
        found = self._get("TEMPO_URL", "/api/search", q=traceql, limit=limit)
        return list(found.get("traces") or [])

    def close(self) -> None:
        """Close the connections."""
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
    """Return the samples of Prometheus's response to an instant query."""
    return [
        Sample(row["metric"], float(row["value"][1]), float(row["value"][0]))
        for row in answer["data"]["result"]
    ]


def exemplars(answer: Any) -> list[Exemplar]:
    """Return the exemplars of Prometheus's response, in its order."""
    return [
        Exemplar(series["seriesLabels"], row["labels"], float(row["value"]), row["timestamp"])
        for series in answer["data"]
        for row in series["exemplars"]
    ]


def log_lines(answer: Any) -> list[LogLine]:
    """Return the lines of Loki's response with categorized labels, oldest first."""
    lines = [
        LogLine(int(value[0]), value[1], stream["stream"], _metadata(value))
        for stream in answer["data"]["result"]
        for value in stream["values"]
    ]
    return sorted(lines, key=lambda line: line.timestamp)


def _metadata(value: list[Any]) -> dict[str, str]:
    categorized = value[2] if len(value) > 2 else {}
    return dict(categorized.get("structuredMetadata") or {})
