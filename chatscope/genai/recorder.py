"""Where recorders record to: the configured telemetry, or the global OpenTelemetry providers."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Tracer, TracerProvider
from opentelemetry.util.types import AttributeValue

from chatscope import configuration
from chatscope.genai.answer import Answer
from chatscope.genai.pricing import PriceTable
from chatscope.genai.recent import RecentResponses
from chatscope.genai.request import ModelRequest
from chatscope.instruments import Instruments

# Writes one log record: the level's name, the message, the attributes.
Log = Callable[[str, str, Mapping[str, AttributeValue]], None]
# Emits one event, which is a log record: its name, the level's name, the attributes, the context.
Emit = Callable[[str, str, Mapping[str, AttributeValue], Context], None]

SCOPE: Final = "chatscope"
_CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURING: Final = frozenset({"true", "span_only", "span_and_event"})
_CAPTURING_EVENTS: Final = frozenset({"event_only", "span_and_event"})
_logger: Final = logging.getLogger("chatscope.genai")


def log_by_standard_library(
    level: str, message: str, attributes: Mapping[str, AttributeValue]
) -> None:
    """Log by the logger `chatscope.genai`; the attributes are `extra`."""
    _logger.log(getattr(logging, level), message, extra=dict(attributes))


def emit_globally(
    name: str, level: str, attributes: Mapping[str, AttributeValue], context: Context
) -> None:
    """Emit an event with the global logger provider."""
    _logs.get_logger_provider().get_logger(SCOPE).emit(
        timestamp=time.time_ns(),
        context=context,
        severity_number=SeverityNumber["WARN" if level == "WARNING" else level],
        severity_text="WARN" if level == "WARNING" else level,
        body=name,
        attributes=dict(attributes),
        event_name=name,
    )


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Records operations; the providers are for instrumented clients.

    Texts of prompts and responses are recorded on spans with `capture_content`, and as events with
    `capture_events`.
    """

    tracer: Tracer
    instruments: Instruments
    prices: PriceTable
    capture_content: bool = False
    capture_events: bool = False
    log: Log = log_by_standard_library
    emit: Emit = emit_globally
    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    recent: RecentResponses = field(default_factory=RecentResponses)

    def start_answer(
        self, request: ModelRequest, *, started: float, served: bool = False
    ) -> Answer:
        """Start one response of a model; `started` is the perf_counter of its request's arrival.

        `served` if it is the response of this service to a client of its own.
        """
        return Answer(self, request, started=started, served=served)


class _Chosen:
    """A recorder in place of that of `configure()`, for tests."""

    recorder: Recorder | None = None


def use_recorder(recorder: Recorder) -> None:
    """Let all recorders of this process record with `recorder`."""
    _Chosen.recorder = recorder


def forget_recorder(recorder: Recorder) -> None:
    """Undo `use_recorder`, unless another recorder is in use by now."""
    if _Chosen.recorder is recorder:
        _Chosen.recorder = None


def current_recorder() -> Recorder:
    """Return the recorder of the configured telemetry, otherwise one of the global providers."""
    if _Chosen.recorder is not None:
        return _Chosen.recorder
    telemetry = configuration.current()
    if telemetry is not None:
        return telemetry.recorder
    return _of_providers(trace.get_tracer_provider(), metrics.get_meter_provider())


@lru_cache(maxsize=1)
def _of_providers(tracer_provider: TracerProvider, meter_provider: MeterProvider) -> Recorder:
    capture = os.environ.get(_CAPTURE, "").strip().lower()
    return Recorder(
        tracer=tracer_provider.get_tracer(SCOPE),
        instruments=Instruments(meter_provider.get_meter(SCOPE)),
        prices=PriceTable.load(),
        capture_content=capture in _CAPTURING,
        capture_events=capture in _CAPTURING_EVENTS,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
    )
