"""A logger provider whose records are encoded where they are made.

The SDK creates three objects for a record before a processor sees it. Where the only processor is
`OtlpLogRecordProcessor`, and for values that need no conversion, the fields are encoded instead.
All other records, and those of a provider with further processors, pass through the SDK.
"""

import os
from time import time_ns
from typing import Any, Final

from opentelemetry._logs import Logger, NoOpLogger, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.environment_variables import (
    OTEL_ATTRIBUTE_COUNT_LIMIT,
    OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT,
    OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT,
    OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT,
    OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED,
)
from opentelemetry.trace import get_current_span
from opentelemetry.util.types import Attributes

from chatscope.otlp import OtlpLogRecordProcessor
from chatscope.otlp.log_records import encode_plain, plain_attributes
from chatscope.otlp.sdk import LogRecordProcessor

# Work of the SDK beyond creating a record: limit its attributes, count it.
_SDK_OPTIONS: Final = (
    OTEL_ATTRIBUTE_COUNT_LIMIT,
    OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT,
    OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT,
    OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT,
    OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED,
)


class DirectLoggerProvider(LoggerProvider):
    """An SDK provider with fast loggers."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._is_limited = any(os.environ.get(name) for name in _SDK_OPTIONS)
        self._processors: list[LogRecordProcessor] = []
        # The processor that records may be given to without the SDK.
        self.direct: OtlpLogRecordProcessor | None = None

    def add_log_record_processor(self, log_record_processor: LogRecordProcessor) -> None:
        """Call `log_record_processor` for each record."""
        self.direct = None
        super().add_log_record_processor(log_record_processor)
        self._processors.append(log_record_processor)
        first = self._processors[0]
        if len(self._processors) == 1 and type(first) is OtlpLogRecordProcessor:
            self.direct = None if self._is_limited else first

    def get_logger(self, name: str, *arguments: Any, **options: Any) -> Logger:
        """Return a logger; one that does nothing where the SDK is disabled."""
        logger = super().get_logger(name, *arguments, **options)
        return logger if isinstance(logger, NoOpLogger) else _Logger(name, logger, self)


class _Logger(Logger):
    def __init__(self, name: str, logger: Any, provider: DirectLoggerProvider) -> None:
        super().__init__(name)
        self._logger = logger
        self._provider = provider

    def enabled(self, **options: Any) -> bool:
        """Whether a record of this kind has a processor."""
        return bool(self._logger.enabled(**options))

    def emit(  # noqa: PLR0913 - one signature, as the SDK has it
        self,
        record: Any = None,
        *,
        timestamp: int | None = None,
        observed_timestamp: int | None = None,
        context: Context | None = None,
        severity_number: SeverityNumber | None = None,
        severity_text: str | None = None,
        body: Any = None,
        attributes: Attributes = None,
        event_name: str | None = None,
        exception: BaseException | None = None,
    ) -> None:
        """Encode and queue a record, or give it to the SDK."""
        logger, processor = self._logger, self._provider.direct
        if processor is not None and record is None and exception is None and type(body) is str:
            try:
                encoded = plain_attributes(attributes)
                data = (
                    encoded
                    if encoded is None
                    else encode_plain(
                        (timestamp, observed_timestamp or time_ns()),
                        (severity_number, severity_text),
                        body,
                        encoded,
                        # An empty context means the current one, as in the SDK.
                        get_current_span(context or None).get_span_context(),
                        event_name,
                    )
                )
            except Exception:
                data = None  # the processor reports it
            if data is not None:
                processor.deliver(logger.resource, logger.instrumentation_scope, data)
                return
        fields = {
            "timestamp": timestamp,
            "observed_timestamp": observed_timestamp,
            "context": context,
            "severity_number": severity_number,
            "severity_text": severity_text,
            "body": body,
            "attributes": attributes,
            "event_name": event_name,
            "exception": exception,
        }
        logger.emit(record, **fields)
