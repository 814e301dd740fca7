"""Backends whose responses have another form than expected: an error, never a traceback."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from chatscope.cli.errors import CommandError
from chatscope.cli.loki import Loki
from chatscope.cli.openai_format import messages_of
from chatscope.cli.prometheus import Prometheus
from chatscope.cli.tempo import Tempo


@contextmanager
def _responding(content: object) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


_SPAN = {"traceId": "1", "spanId": "2", "startTimeUnixNano": "1", "endTimeUnixNano": str(10**30)}


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"batches": [5]},
        {"batches": [{"scopeSpans": [{"spans": [{}]}]}]},
        {"batches": [{"scopeSpans": [{"spans": [_SPAN]}]}]},
        {
            "batches": [
                {
                    "resource": {"attributes": [{"key": "a", "value": {"stringValue": []}}]},
                    "scopeSpans": [{"spans": [_SPAN]}],
                }
            ]
        },
        {"data": {"resultType": "vector", "result": [{"values": [["x"]], "metric": {}}]}},
        {"data": {"result": [{"stream": {"a": 5}, "values": [["1", "text"]]}]}},
        {"data": {"result": [{"stream": {}, "values": [[str(10**30), "text"]]}]}},
        {"traces": [{}]},
    ],
)
def test_response_of_another_form_is_an_error(content: object) -> None:
    failures = []
    with _responding(content) as url:
        for read in (
            lambda: list(Loki(url, {}).lines("q", 0, 10)),
            lambda: Prometheus(url, {}).query("q"),
            lambda: Tempo(url, {}).trace("1"),
            lambda: Tempo(url, {}).trace_of_response("r"),
        ):
            try:
                read()
            except CommandError as error:
                failures.append(str(error))
    # An object without `batches` or `traces` is one of Tempo's, without any.
    assert len(failures) >= 2
    assert all("unknown form" in each for each in failures)


def test_recorded_part_without_a_type_is_kept() -> None:
    part = {"content": "a"}
    assert messages_of(json.dumps([{"role": "user", "parts": [part]}])) == [
        {"role": "user", "content": [part]}
    ]
    assert messages_of('[{"role": "user", "parts": 5}]') == [{"role": "user", "content": None}]
