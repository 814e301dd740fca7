"""Where recorders record to: the configured telemetry, or the global OpenTelemetry providers."""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Tracer, TracerProvider
from opentelemetry.util.types import AttributeValue

from chatscope import configuration
from chatscope.genai.answer import Answer
from chatscope.genai.pricing import PriceTable
from chatscope.genai.request import ModelRequest
from chatscope.instruments import Instruments

# Writes one log record: the level's name, the message, the attributes.
Log = Callable[[str, str, Mapping[str, AttributeValue]], None]

SCOPE: Final = "chatscope"
_CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURING: Final = frozenset({"true", "span_only", "span_and_event"})
_logger: Final = logging.getLogger("chatscope.genai")


def log_by_standard_library(
    level: str, message: str, attributes: Mapping[str, AttributeValue]
) -> None:
    """Log by the logger `chatscope.genai`; the attributes are `extra`."""
    _logger.log(getattr(logging, level), message, extra=dict(attributes))


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Records operations; the providers are for instrumented clients."""

    tracer: Tracer
    instruments: Instruments
    prices: PriceTable
    capture_content: bool = False
    log: Log = log_by_standard_library
    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None

    def start_answer(self, request: ModelRequest, *, started: float) -> Answer:
        """Start one response of a model; `started` is the perf_counter of its request's arrival."""
        return Answer(self, request, started=started)


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
    return Recorder(
        tracer=tracer_provider.get_tracer(SCOPE),
        instruments=Instruments(meter_provider.get_meter(SCOPE)),
        prices=PriceTable.load(),
        capture_content=os.environ.get(_CAPTURE, "").strip().lower() in _CAPTURING,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
    )
