"""A span processor and a log record processor that deliver through one `Delivery`.

Items are encoded where they end, in the caller's thread, at a bounded cost each: nothing that
the application owns is touched later, the queue's size in bytes is exact, and no thread ever has
a long batch to encode while requests wait for the interpreter. Only long texts are left to the
sending thread, which pauses in between.
"""

from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from .anyvalue import LongText, utf8
from .delivery import Delivery
from .log_records import encode_log_record
from .redacting import redact_message
from .sdk import LogRecordProcessor, ReadWriteLogRecord
from .settings import Signal
from .spans import encode_span
from .unfinished import Unfinished


class OtlpSpanProcessor(SpanProcessor):
    """Delivers each sampled span when it ends."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._pipeline = delivery.pipelines[Signal.TRACES]

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Count the span."""
        self._pipeline.statistics.count_started()

    def on_end(self, span: ReadableSpan) -> None:
        """Encode and queue the span; never raises."""
        context = span.context
        if context is None or not context.trace_flags.sampled:
            return
        later: list[LongText] = []
        try:
            data = encode_span(span, later)
            group = self._delivery.group(span.resource, span.instrumentation_scope)
        except Exception as error:
            _deliver_otherwise(self._delivery, Signal.TRACES, span, _official_span, error)
            return
        self._pipeline.put(group, Unfinished(data, later) if later else data)

    def deliver(self, resource: Resource, scope: InstrumentationScope, data: bytes) -> None:
        """Queue a sampled span that is encoded already."""
        self._pipeline.put(self._delivery.group(resource, scope), data)

    def shutdown(self) -> None:
        """Deliver or keep what is queued; `Delivery.shutdown` does the rest."""
        self._pipeline.flush(5.0)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the queue is empty; False when that takes longer."""
        return self._pipeline.flush(timeout_millis / 1000)


class OtlpLogRecordProcessor(LogRecordProcessor):
    """Delivers each log record when it is emitted."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._pipeline = delivery.pipelines[Signal.LOGS]

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Encode and queue the record; never raises."""
        self._pipeline.statistics.count_started()
        later: list[LongText] = []
        try:
            data = encode_log_record(log_record, later)
            group = self._delivery.group(log_record.resource, log_record.instrumentation_scope)
        except Exception as error:
            _deliver_otherwise(self._delivery, Signal.LOGS, log_record, _official_log, error)
            return
        self._pipeline.put(group, Unfinished(data, later) if later else data)

    def deliver(self, resource: Resource, scope: InstrumentationScope, data: bytes) -> None:
        """Queue a record that is encoded already."""
        self._pipeline.statistics.count_started()
        self._pipeline.put(self._delivery.group(resource, scope), data)

    def shutdown(self) -> None:
        """Deliver or keep what is queued; `Delivery.shutdown` does the rest."""
        self._pipeline.flush(5.0)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the queue is empty; False when that takes longer."""
        return self._pipeline.flush(timeout_millis / 1000)


def _deliver_otherwise(
    delivery: Delivery,
    signal: Signal,
    item: Any,
    official: Callable[[Any], bytes],
    error: Exception,
) -> None:
    """Encode and queue an item with the official encoder, because ours raised `error`."""
    pipeline = delivery.pipelines[signal]
    delivery.warnings.warn("fallback", f"the official encoder encodes {signal}: {error!r}")
    try:
        data = official(item)
        group = delivery.group(item.resource, item.instrumentation_scope)
    except Exception as problem:
        pipeline.statistics.count_not_encodable()
        delivery.warnings.warn(
            "not-encodable", f"one of the {signal} cannot be encoded: {problem!r}"
        )
        return
    pipeline.statistics.count_fallback()
    pipeline.put(group, data)


def _official_span(span: ReadableSpan) -> bytes:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import (  # noqa: PLC0415
        encode_spans,
    )

    request = encode_spans([span])
    return _redacted(request.resource_spans[0].scope_spans[0].spans[0])


def _official_log(record: Any) -> bytes:
    from opentelemetry.exporter.otlp.proto.common._log_encoder import (  # noqa: PLC0415
        encode_logs,
    )

    request = encode_logs([record])
    return _redacted(request.resource_logs[0].scope_logs[0].log_records[0])


def _redacted(message: Any) -> bytes:
    """Serialize a message of the official encoder."""
    redact_message(message, utf8)
    return bytes(message.SerializeToString())
