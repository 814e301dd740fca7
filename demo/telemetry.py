"""The demo's own telemetry: a service that uses Chatscope like any other application."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.propagate import inject
from opentelemetry.trace import SpanKind, Status, StatusCode

import chatscope
from demo.story import SERVICE

_tracer: Final = trace.get_tracer("demo")


def start() -> None:
    """Export traces, metrics and log records of this process, over HTTP."""
    # gRPC has its own event loop, which gevent does not control.
    os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
    # The demo handles the signal itself, and prints a summary.
    signal.signal(signal.SIGTERM, lambda *_: None)
    chatscope.configure(service_name=SERVICE)


@contextmanager
def client_span(method: str, url: str, address: tuple[str, int]) -> Iterator[dict[str, str]]:
    """Record a request as a client span; yield the headers that make it the parent."""
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "url.full": url,
        "server.address": address[0],
        "server.port": address[1],
    }
    with _tracer.start_as_current_span(
        method, kind=SpanKind.CLIENT, attributes=attributes, record_exception=False
    ) as span:
        headers: dict[str, str] = {}
        inject(headers)
        try:
            yield headers
        except Exception as error:
            status = getattr(error, "status_code", None)
            if isinstance(status, int):
                span.set_attribute("http.response.status_code", status)
            span.set_attribute("error.type", str(status or type(error).__name__))
            span.set_status(Status(StatusCode.ERROR))
            raise
        span.set_attribute("http.response.status_code", 200)
