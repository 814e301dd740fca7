"""Everything that the backends, the disk and the consoles hold, as texts to be searched."""

import gzip
import json
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx2

from stack.local_http import local_client
from stack.secrets import metrics_headers, operator
from tests.running import Stack

_LARGEST: Final = 64 * 1024 * 1024
_HOUR: Final = 3600
_EXPOSED: Final = (
    *("COLLECTOR_METRICS_PORT", "APP_METRICS_PORT", "PROMETHEUS_PORT", "LOKI_PORT", "TEMPO_PORT"),
    "ALERTMANAGER_PORT",
)

Text = tuple[str, str]


class Search:
    """Reads from one stack the telemetry of `services`, since a time in s."""

    def __init__(self, stack: Stack, services: Sequence[str], since: float) -> None:
        self._facts = stack.facts
        self._services = services
        self._since = since
        self._http = local_client(timeout=30.0)
        self.traces = 0
        self.lines = 0

    def texts(self) -> Iterator[Text]:
        """Yield where, and the text."""
        with self._http:
            yield from self._tempo()
            yield from self._loki()
            yield from self._prometheus()
            yield from self._alertmanager()
            for port in _EXPOSED:
                url = f"http://{self._facts['STACK_HOST']}:{self._facts[port]}/metrics"
                yield f"/metrics of {port}", self._metrics(port, url)

    def _metrics(self, port: str, url: str) -> str:
        if port == "APP_METRICS_PORT":
            answer = self._http.get(url, headers=metrics_headers(self._facts))
        else:
            answer = self._http.get(url, auth=operator(self._facts))
        return answer.raise_for_status().text

    def _get(self, fact: str, path: str, **query: Any) -> Any:
        headers = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}
        answer = self._http.get(
            f"{self._facts[fact]}{path}",
            params=query,
            headers=headers,
            auth=operator(self._facts),
        )
        return answer.raise_for_status().json()

    def _tempo(self) -> Iterator[Text]:
        names = "|".join(self._services)
        window = {"start": int(self._since) - 5, "end": int(time.time()) + 5}
        query = f'{{resource.service.name=~"{names}"}}'
        found = self._get("TEMPO_URL", "/api/search", q=query, limit=5_000, **window)
        identifiers = [each["traceID"] for each in found.get("traces") or []]
        self.traces = len(identifiers)
        for identifier in identifiers:
            yield "Tempo, a trace", json.dumps(self._get("TEMPO_URL", f"/api/traces/{identifier}"))
        tags = self._get("TEMPO_URL", "/api/v2/search/tags", **window)
        yield "Tempo, names of attributes", json.dumps(tags)
        for scope in tags["scopes"]:
            for name in scope["tags"] if scope["name"] in ("span", "resource", "event") else ():
                path = f"/api/v2/search/tag/{scope['name']}.%22{name}%22/values"
                try:
                    values = self._get("TEMPO_URL", path, **window)
                except httpx2.HTTPError:
                    continue
                yield "Tempo, values of attributes", json.dumps(values)

    def _loki(self) -> Iterator[Text]:
        names = "|".join(self._services)
        window = {"start": int(self._since * 1e9), "end": int((time.time() + 60) * 1e9)}
        selector = f'{{service_name=~"{names}"}}'
        found = self._get(
            "LOKI_URL", "/loki/api/v1/query_range", query=selector, limit=5_000, **window
        )
        for stream in found["data"]["result"]:
            self.lines += len(stream["values"])
            yield "Loki, lines", json.dumps(stream)
        labels = self._get("LOKI_URL", "/loki/api/v1/labels", **window)
        yield "Loki, labels", json.dumps(labels)
        for name in labels["data"]:
            values = self._get("LOKI_URL", f"/loki/api/v1/label/{name}/values", **window)
            yield "Loki, values of labels", json.dumps(values)
        fields = self._get(
            "LOKI_URL", "/loki/api/v1/detected_fields", query=selector, limit=1_000, **window
        )
        yield "Loki, fields", json.dumps(fields)

    def _prometheus(self) -> Iterator[Text]:
        window = {"start": self._since - 5, "end": time.time() + 5}
        labels = self._get("PROMETHEUS_URL", "/api/v1/labels")
        yield "Prometheus, labels", json.dumps(labels)
        for name in labels["data"]:
            values = self._get("PROMETHEUS_URL", f"/api/v1/label/{name}/values")
            yield "Prometheus, values of labels", json.dumps(values)
        for path in ("metadata", "alerts"):
            yield f"Prometheus, {path}", json.dumps(self._get("PROMETHEUS_URL", f"/api/v1/{path}"))
        exemplars = self._get(
            "PROMETHEUS_URL",
            "/api/v1/query_exemplars",
            query='{service_name=~".+"}',
            **window,
        )
        yield "Prometheus, exemplars", json.dumps(exemplars)

    def _alertmanager(self) -> Iterator[Text]:
        for path in ("alerts", "silences"):
            found = self._get("ALERTMANAGER_URL", f"/api/v2/{path}")
            yield f"Alertmanager, {path}", json.dumps(found)


def files(directories: Sequence[Path]) -> Iterator[Text]:
    """Yield the content of all files, unpacked where it is known how."""
    for directory in directories:
        for path in directory.rglob("*"):
            if not path.is_file() or path.stat().st_size > _LARGEST:
                continue
            try:
                data = path.read_bytes()
            except OSError:
                continue  # removed meanwhile
            where = f"on disk, {path.relative_to(directory)}"
            yield where, data.decode("latin-1")
            if path.suffix == ".gz":
                yield f"{where}, unpacked", gzip.decompress(data).decode("latin-1")


def spooled(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the batches of a spool, unpacked."""
    for path in directory.glob("*.db"):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)
        try:
            for table in ("batches", "dead_letters"):
                rows = connection.execute(f"SELECT body FROM {table}").fetchall()  # noqa: S608
                yield from ((path.stem, zlib.decompress(body)) for (body,) in rows)
        finally:
            connection.close()
