"""Spans for plain code, by the tracer of the application that serves the current request."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus

from opentelemetry import context, trace
from opentelemetry.trace import (
    Span,
    SpanContext,
    Status,
    StatusCode,
    Tracer,
    format_trace_id,
)

# Two applications in one process do not mix their spans.
_tracer: ContextVar[Tracer | None] = ContextVar("chatscope_tracer", default=None)


def use_tracer(tracer: Tracer) -> None:
    """Make `tracer` the one of the current task and of all tasks that it starts."""
    _tracer.set(tracer)


def current_tracer() -> Tracer:
    """Return the tracer of the current application; outside one, that of the global provider."""
    return _tracer.get() or trace.get_tracer("chatscope")


@contextmanager
def span(name: str, attributes: Mapping[str, str | int] | None = None) -> Iterator[Span]:
    """Run a block as a child span; never around a `yield` of a generator.

    An exception sets the span's status to error, unless its `status` is that of a client's error.
    It is recorded where it is handled.
    """
    child = current_tracer().start_span(name, attributes=attributes)
    token = context.attach(trace.set_span_in_context(child))
    try:
        yield child
    except Exception as error:
        status = getattr(error, "status", None)
        if not (isinstance(status, int) and status < HTTPStatus.INTERNAL_SERVER_ERROR):
            child.set_status(Status(StatusCode.ERROR, type(error).__name__))
        raise
    finally:
        context.detach(token)
        child.end()


def trace_id_of(found: SpanContext) -> str:
    """Return 32 hex digits; "" for a context that is not valid."""
    return format_trace_id(found.trace_id) if found.is_valid else ""


def current_trace_id() -> str:
    """Return the trace ID of the current span, 32 hex digits; "" without a span."""
    return trace_id_of(trace.get_current_span().get_span_context())
