"""Searches in the backends over real sockets, and the resulting accounts."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from ledger import item
from ledger.account import Accounts, RunRecord
from ledger.backends import reconcile

pytestmark = pytest.mark.slow

_RUN = "0a1b2c3d"
_NS = 1_000_000_000


class FakeBackends:
    """A fake of the backends: numbers of stored items, possibly repeated, and damaged ones.

    Paths that contain an entry of `unreachable` respond with 503.
    """

    def __init__(self) -> None:
        self.began = time.time_ns()
        self.spans: list[int] = []
        self.logs: list[int] = []
        self.counter: list[float] = []
        self.damaged: set[int] = set()
        self.unreachable: set[str] = set()

    @cached_property
    def _by_trace(self) -> Mapping[str, list[int]]:
        """Numbers of spans by trace ID; must be complete before the first request."""
        found: dict[str, list[int]] = defaultdict(list)
        for number in self.spans:
            found[item.trace_id(_RUN, item.trace_of(number))].append(number)
        return found

    def moment(self, number: int) -> int:
        """Return an item's timestamp; several items share one."""
        return self.began + number // 3 * 1000

    def answer(self, path: str, query: dict[str, str]) -> Any:
        if "/traces/" in path:
            return self._trace(path.rpartition("/")[2])
        return self._lines(query) if "/loki/" in path else self._samples()

    def _trace(self, identifier: str) -> Any:
        spans = [
            {
                "traceId": identifier,
                "spanId": "da46fa302940c853",
                "name": item.SPAN_NAME,
                "startTimeUnixNano": "1",
                "endTimeUnixNano": "2",
                "attributes": [
                    {"key": item.RUN, "value": {"stringValue": _RUN}},
                    {"key": item.NUMBER, "value": {"intValue": str(n)}},
                    {"key": item.PAYLOAD, "value": {"stringValue": self._payload(n)}},
                ],
            }
            for n in self._by_trace[identifier]
        ]
        resource = {"key": "service.name", "value": {"stringValue": item.SERVICE}}
        batch = {"resource": {"attributes": [resource]}, "scopeSpans": [{"spans": spans}]}
        return {"batches": [batch]} if spans else None

    def _lines(self, query: dict[str, str]) -> Any:
        since, limit = int(query["start"]), int(query["limit"])
        numbers = [n for n in sorted(self.logs) if self.moment(n) >= since][:limit]
        values = [
            [str(self.moment(n)), item.body(n), {"structuredMetadata": self._metadata(n)}]
            for n in numbers
        ]
        return {"data": {"result": [{"stream": {}, "values": values}]}}

    def _metadata(self, number: int) -> dict[str, str]:
        return {
            "ledger_number": str(number),
            "ledger_payload": self._payload(number),
            "trace_id": item.trace_id(_RUN, item.trace_of(number)),
        }

    def _samples(self) -> Any:
        values = [[time, str(value)] for time, value in enumerate(self.counter)]
        return {"data": {"result": [{"metric": {}, "values": values}] if values else []}}

    def _payload(self, number: int) -> str:
        payload = item.payload(_RUN, number)
        return payload.replace("é", "?") if number in self.damaged else payload


class Served:
    """The three backends at one address."""

    def __init__(self, facts: dict[str, str], backends: FakeBackends) -> None:
        self.facts = facts
        self.backends = backends

    def account(self, items: int) -> Accounts:
        """Return the accounts of a run with that many items."""
        created = {number: self.backends.moment(number) for number in range(items)}
        return reconcile(self.facts, RunRecord(_RUN, created), patience=1.0)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    backends = FakeBackends()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            answer = backends.answer(parts.path, query)
            is_down = any(each in parts.path for each in backends.unreachable)
            self.send_response(503 if is_down else 200 if answer else 404)
            body = json.dumps(answer).encode()
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        facts = dict.fromkeys(("PROMETHEUS_URL", "LOKI_URL", "TEMPO_URL"), url)
        # They require no password.
        yield Served({**facts, "SECRETS_DIR": str(tmp_path)}, backends)
        server.shutdown()


def _full(backends: FakeBackends, items: int) -> None:
    backends.spans = list(range(items))
    backends.logs = list(range(items))
    backends.counter = [1.0, float(items)]


def test_all_that_is_there_is_found_over_many_pages_and_traces(served: Served) -> None:
    items = 11_000
    _full(served.backends, items)
    accounts = served.account(items)
    assert accounts.difference == 0
    for account in accounts.all.values():
        assert (account.sent, account.found) == (items, items)
    assert accounts.gap == 1.0


def test_each_kind_of_difference_is_counted_for_its_signal(served: Served) -> None:
    _full(served.backends, 120)
    served.backends.spans.remove(77)
    served.backends.logs += [5, 5]
    served.backends.damaged = {9}
    served.backends.counter = [119.0]
    accounts = served.account(120)
    assert accounts.spans.lost_numbers == (77,)
    assert (accounts.spans.duplicates, accounts.logs.duplicates, accounts.logs.lost) == (0, 2, 0)
    assert (accounts.spans.corrupted, accounts.logs.corrupted) == (1, 1)
    assert (accounts.increments.lost, accounts.increments.duplicates) == (1, 0)


@pytest.mark.parametrize("path", ["/traces/", "/query_range", "/api/v1/query"])
def test_items_of_an_unreachable_backend_are_not_called_lost(served: Served, path: str) -> None:
    _full(served.backends, 60)
    served.backends.unreachable = {path}
    with pytest.raises(httpx2.HTTPStatusError, match="503"):
        served.account(60)
