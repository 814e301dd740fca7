"""A span processor and a log record processor that deliver through one `Delivery`.

Items are encoded where they end, in the caller's thread, at a bounded cost each: nothing that
the application owns is touched later, the queue's size in bytes is exact, and no thread ever has
a long batch to encode while requests wait for the interpreter.
"""

from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from .delivery import Delivery
from .log_records import encode_log_record
from .sdk import LogRecordProcessor, ReadWriteLogRecord
from .settings import Signal
from .spans import encode_span


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
        _deliver(self._delivery, Signal.TRACES, span, encode_span, _official_span)

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
        _deliver(self._delivery, Signal.LOGS, log_record, encode_log_record, _official_log)

    def shutdown(self) -> None:
        """Deliver or keep what is queued; `Delivery.shutdown` does the rest."""
        self._pipeline.flush(5.0)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until the queue is empty; False when that takes longer."""
        return self._pipeline.flush(timeout_millis / 1000)


def _deliver(
    delivery: Delivery,
    signal: Signal,
    item: Any,
    own: Callable[[Any], bytes],
    official: Callable[[Any], bytes],
) -> None:
    """Encode and queue an item; with the official encoder where ours cannot."""
    pipeline = delivery.pipelines[signal]
    try:
        group = delivery.group(item.resource, item.instrumentation_scope)
        data = _encode(delivery, signal, item, own, official)
    except Exception as error:
        pipeline.statistics.count_not_encodable()
        delivery.warnings.warn("not-encodable", f"one of the {signal} cannot be encoded: {error!r}")
        return
    pipeline.put(group, data)


def _encode(
    delivery: Delivery,
    signal: Signal,
    item: Any,
    own: Callable[[Any], bytes],
    official: Callable[[Any], bytes],
) -> bytes:
    try:
        return own(item)
    except Exception as error:
        delivery.warnings.warn("fallback", f"the official encoder encodes {signal}: {error!r}")
    data = official(item)
    delivery.pipelines[signal].statistics.count_fallback()
    return data


def _official_span(span: ReadableSpan) -> bytes:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import (  # noqa: PLC0415
        encode_spans,
    )

    request = encode_spans([span])
    return bytes(request.resource_spans[0].scope_spans[0].spans[0].SerializeToString())


def _official_log(record: Any) -> bytes:
    from opentelemetry.exporter.otlp.proto.common._log_encoder import (  # noqa: PLC0415
        encode_logs,
    )

    request = encode_logs([record])
    return bytes(request.resource_logs[0].scope_logs[0].log_records[0].SerializeToString())
