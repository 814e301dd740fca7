"""One recorded operation: a span that starts with it and ends exactly once."""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Final
from weakref import ref

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from chatscope import exception_texts, names
from chatscope.attributes import MAX_IDENTIFIER, known
from chatscope.genai.deferred import WORKER
from chatscope.guard import guarded
from chatscope.tracing import trace_id_of
from chatscope.withholding import withhold, without_texts

if TYPE_CHECKING:
    from chatscope.genai.recorder import Recorder

COMPLETED: Final = "completed"
FAILED: Final = "failed"
_MAX_REASON: Final = 500  # characters
# Also the `error.type` of an operation that was cancelled.
CANCELLED: Final = "cancelled"

_OPERATION: Final = context_api.create_key("chatscope-operation")
_CONVERSATION: Final = context_api.create_key("chatscope-conversation")


class Current:
    """Makes a context the current one for a block."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = context_api.attach(self._context)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The garbage collector may close a coroutine in another context.
        if kind is GeneratorExit and context_api.get_current() is not self._context:
            return
        context_api.detach(self._token)


class Operation:
    """Base of what is recorded: model calls, embeddings, tool executions, agent steps.

    The span starts with the object, as a child of the current span, and is not made current.
    `close` records everything, once; an operation that is forgotten is recorded as cancelled.
    """

    # The name of the event for an exception that ended the operation.
    exception_event: ClassVar[str] = names.EVENT_EXCEPTION

    def __init__(
        self,
        recorder: "Recorder",
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue],
    ) -> None:
        self.recorder = recorder
        self._called = time.perf_counter()
        self._ended: float | None = None  # perf_counter
        self._ended_ns: int | None = None
        self._outcome = CANCELLED
        self._error_type: str | None = CANCELLED
        self._reason: str | None = None  # of the failure, in words
        self._span: Span = recorder.tracer.start_span(
            name[:MAX_IDENTIFIER], kind=kind, attributes=attributes
        )
        context = trace.set_span_in_context(self._span)
        # A weak reference: a cycle would keep a forgotten operation from being noticed.
        self.context: Context = context_api.set_value(_OPERATION, ref(self), context)
        # Acquired to record the end. Last: without it, `__del__` has nothing to do.
        self._once = threading.Lock()

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return trace_id_of(self._span.get_span_context())

    @property
    def is_open(self) -> bool:
        """Return whether the operation has not been recorded yet."""
        return not self._once.locked()

    @property
    def outcome(self) -> str | None:
        """The outcome; None before the end."""
        return None if self._ended is None else self._outcome

    def current(self) -> "Current":
        """Return a context manager: the span is current in its block.

        Never around a `yield` of a generator.
        """
        return Current(self.context)

    def failed(self, error_type: str, exception: BaseException | None = None) -> None:
        """Record that it failed; `error_type` is one of a short list.

        The exception becomes an event, with its text only while content is captured in events.
        An exception may have a `telemetry_text`, without secrets and prompts: the reason, which
        is always recorded.
        """
        self._end(FAILED, error_type)
        text = getattr(exception, "telemetry_text", None)
        if isinstance(text, str):
            self._reason = text[:_MAX_REASON]
        if exception is not None:
            # This asks for the exception's text, which may raise.
            with guarded("recording an exception"):
                shown = exception if self.recorder.capture_events else without_texts(exception)
                about = exception_texts.attributes_of(shown)
                if not self.recorder.capture_content:
                    withhold(exception)
                self._emit(self.exception_event, "WARNING", about)

    def cancelled(self, error_type: str = CANCELLED) -> None:
        """Record a cancellation: by the caller, unless `error_type` names another reason."""
        self._end(CANCELLED, error_type)

    def succeeded(self) -> None:
        """Record success."""
        self._end(COMPLETED, None)

    def close(self) -> None:
        """Record everything; a second call does nothing.

        An operation that has neither succeeded nor failed was cancelled.
        """
        if self._once.acquire(blocking=False):
            self._stop()
            self._record()

    def close_later(self) -> None:
        """Record everything in another thread, where the caller may hold any lock."""
        if self._once.acquire(blocking=False):
            self._stop()
            WORKER.put(self._record)

    def __del__(self) -> None:
        # Not complete where the start failed; parts are missing while the interpreter ends, and
        # gevent's locks raise in a greenlet that it finalizes.
        with suppress(AttributeError, TypeError, RuntimeError):
            self.close_later()

    def _stop(self) -> None:
        if self._ended is None:
            self._end(CANCELLED, CANCELLED)

    def _end(self, outcome: str, error_type: str | None) -> None:
        if self._ended is None or outcome != COMPLETED or self._outcome != COMPLETED:
            self._ended = time.perf_counter()
            self._ended_ns = time.time_ns()
        self._outcome = outcome
        self._error_type = error_type

    def _record(self) -> None:
        results: dict[str, AttributeValue] = {}
        with guarded("reading the result of an operation"):
            results = self._result_attributes()
        with guarded("recording the span of an operation"):
            self._finish_span(results)
        with guarded("recording the metrics of an operation"):
            self._count()
        with guarded("logging an operation"):
            self._log(results)

    def _emit(self, name: str, level: str, attributes: Mapping[str, AttributeValue]) -> None:
        """Emit an event in the context of the span."""
        self.recorder.emit(name, level, attributes, self.context)

    def _finish_span(self, results: Mapping[str, AttributeValue]) -> None:
        self._span.set_attributes(results)
        if self._outcome == FAILED:
            reason = self._reason or self._error_type
            self._span.set_status(Status(StatusCode.ERROR, reason))
        self._span.end(self._ended_ns)

    def _result_attributes(self) -> dict[str, AttributeValue]:
        return known({names.ERROR_TYPE: self._error_type})

    def _duration(self) -> float:
        """Seconds from the call until its end."""
        return (self._ended or self._called) - self._called

    def _error_attributes(self) -> dict[str, str]:
        if not self._error_type:
            return {}
        return {names.ERROR_TYPE: self.recorder.instruments.error_label(self._error_type)}

    def _count(self) -> None:
        """Record the metrics."""

    def _log(self, results: Mapping[str, AttributeValue]) -> None:
        """Write a log record."""


def innermost_operation() -> Operation | None:
    """Return the innermost operation of the current context, also if it has ended."""
    found = context_api.get_value(_OPERATION)
    operation = found() if isinstance(found, ref) else None
    return operation if isinstance(operation, Operation) else None


def with_conversation(context: Context, conversation_id: str | None) -> Context:
    """Let operations inside of `context` belong to a conversation."""
    if conversation_id is None:
        return context
    return context_api.set_value(_CONVERSATION, conversation_id, context)


def current_conversation() -> str | None:
    """Return the conversation of the enclosing operations."""
    found = context_api.get_value(_CONVERSATION)
    return found if isinstance(found, str) else None
