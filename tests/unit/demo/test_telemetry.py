"""The demo's own telemetry: agents, tools and requests, in the traces of the service."""

import asyncio
import gzip
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from chatscope import names
from demo import story
from tests.memory import Memory
from tests.unit.transport.live import live

pytestmark = [pytest.mark.slow, pytest.mark.anyio]
_ROOT = Path(__file__).parents[3]
_PATIENCE_SECONDS = 120


class _Spans:
    """An OTLP/HTTP receiver that records spans with their service names."""

    def __init__(self) -> None:
        self.found: list[tuple[str, Span]] = []

    def take(self, body: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {each.key: each.value.string_value for each in group.resource.attributes}
            self.found += [
                (resource["service.name"], span)
                for scope in group.scope_spans
                for span in scope.spans
            ]


@contextmanager
def _receiver(spans: _Spans) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                spans.take(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_traces_begin_in_the_demo_and_continue_in_the_service(memory: Memory) -> None:
    spans = _Spans()
    with _receiver(spans) as collector:
        async with live(memory) as server:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "demo"),
                cwd=_ROOT,
                env={
                    **os.environ,
                    "CHATSCOPE_URL": f"http://{server.address}",
                    "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
                    # It uses no gRPC, whatever the environment contains.
                    "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                    "DEMO_PACE": "100",
                    "DEMO_SPAWN_RATE": "100",
                    "DEMO_QUESTIONS": "100",
                },
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            async with asyncio.timeout(_PATIENCE_SECONDS):
                output, errors = await process.communicate()
    assert process.returncode == 0, output.decode() + errors.decode()
    assert {service for service, _ in spans.found} == {"shop-assistant"}
    by_id = {span.span_id.hex(): span for _, span in spans.found}

    def ancestors(span: Span) -> list[str]:
        above = by_id.get(span.parent_span_id.hex())
        return [above.name, *ancestors(above)] if above else []

    tools = [span for _, span in spans.found if span.name.startswith("execute_tool ")]
    # The called tools, and the teams of the agents, are random.
    assert {span.name for span in tools} <= {"execute_tool find_order", "execute_tool get_weather"}
    assert tools
    assert all(name.startswith("invoke_agent ") for span in tools for name in ancestors(span))

    requests = [span for span in memory.spans if span.name == "POST /v1/chat/completions"]
    assert requests
    parents = [by_id[f"{span.parent.span_id:016x}"] for span in requests if span.parent]
    assert len(parents) == len(requests)
    assert {span.name for span in parents} == {"POST"}
    agents = {f"invoke_agent {team} agent" for team in {user.team for user in story.USERS}}
    assert agents & {name for span in parents for name in ancestors(span)}
    calls = {span.context.trace_id for span in memory.spans if span.name.startswith("chat ")}
    assert {span.context.trace_id for span in requests} & calls
    assert names.GEN_AI_CONVERSATION_ID in {
        attribute.key
        for span in by_id.values()
        if span.name.startswith("invoke_agent ")
        for attribute in span.attributes
    }
