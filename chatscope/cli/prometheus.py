"""Instant queries of Prometheus."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chatscope.cli.backend import Backend, Headers, known_form


@dataclass(frozen=True)
class Sample:
    """A sample of an instant vector; the time in seconds since 1970."""

    labels: Mapping[str, str]
    value: float
    timestamp: float


class Prometheus:
    """A Prometheus, by its URL."""

    def __init__(self, url: str, headers: Headers) -> None:
        self._backend = Backend("Prometheus", url, headers)

    def query(self, promql: str) -> list[Sample]:
        """Return the instant vector of now; a scalar is one sample. Raise CommandError."""
        found = self._backend.get("/api/v1/query", {"query": promql})
        with known_form("Prometheus"):
            return _samples(found["data"])


def _samples(data: Mapping[str, Any]) -> list[Sample]:
    if data["resultType"] == "scalar":
        time, value = data["result"]
        return [Sample({}, float(value), float(time))]
    return [
        Sample(dict(row["metric"]), float(row["value"][1]), float(row["value"][0]))
        for row in data["result"]
    ]
