"""Spans for plain code: the tracer of the application at hand, and small helpers on it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus

from opentelemetry import trace
from opentelemetry.trace import (
    Span,
    SpanContext,
    Status,
    StatusCode,
    Tracer,
    format_trace_id,
)

# Which application serves the request at hand: two in one process do not mix their spans.
_tracer: ContextVar[Tracer | None] = ContextVar("chatscope_tracer", default=None)


def use_tracer(tracer: Tracer) -> None:
    """Make `tracer` the one of the current task and of all that it starts."""
    _tracer.set(tracer)


def current_tracer() -> Tracer:
    """The tracer of the application at hand; outside one, the global provider's."""
    return _tracer.get() or trace.get_tracer("chatscope")


@contextmanager
def step(name: str, attributes: Mapping[str, str | int] | None = None) -> Iterator[Span]:
    """A step of a turn as a child span; never around a `yield` of an async generator.

    An exception is recorded where it is handled. It makes the span's status an error, unless
    its `status` says that the client is at fault.
    """
    with current_tracer().start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except Exception as error:
            status = getattr(error, "status", None)
            if not (isinstance(status, int) and status < HTTPStatus.INTERNAL_SERVER_ERROR):
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def trace_id_of(context: SpanContext) -> str:
    """32 hex digits; "" for a context that is not valid."""
    return format_trace_id(context.trace_id) if context.is_valid else ""


def current_trace_id() -> str:
    """The current span's trace id, 32 hex digits; "" when there is none."""
    return trace_id_of(trace.get_current_span().get_span_context())
