"""Providers that ignore the spans, metrics and log records of given instrumentation scopes.

FastAPI 0.165 instruments itself as soon as there are global providers. An application that is
instrumented here as well would have two server spans for each request, and count it twice.
"""

from collections.abc import Set as AbstractSet
from typing import Any, Final

from opentelemetry._logs import Logger, NoOpLogger
from opentelemetry.metrics import Meter, NoOpMeter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.trace import NoOpTracer, Tracer

from chatscope.direct_logs import DirectLoggerProvider
from chatscope.direct_spans import DirectTracerProvider

# The scopes of frameworks that instrument themselves.
FRAMEWORKS: Final = ("fastapi",)


class MutingTracerProvider(DirectTracerProvider):
    """Ignores spans of the scopes in `muted`."""

    def __init__(self, muted: AbstractSet[str], **options: Any) -> None:
        super().__init__(**options)
        self._muted = muted

    def get_tracer(self, instrumenting_module_name: str, *arguments: Any, **options: Any) -> Tracer:
        """Return a tracer; one that does nothing for a muted scope."""
        if instrumenting_module_name in self._muted:
            return NoOpTracer()
        return super().get_tracer(instrumenting_module_name, *arguments, **options)


class MutingMeterProvider(MeterProvider):
    """Ignores metrics of the scopes in `muted`."""

    def __init__(self, muted: AbstractSet[str], **options: Any) -> None:
        super().__init__(**options)
        self._muted = muted

    def get_meter(self, name: str, *arguments: Any, **options: Any) -> Meter:
        """Return a meter; one that does nothing for a muted scope."""
        if name in self._muted:
            return NoOpMeter(name)
        return super().get_meter(name, *arguments, **options)


class MutingLoggerProvider(DirectLoggerProvider):
    """Ignores log records of the scopes in `muted`."""

    def __init__(self, muted: AbstractSet[str], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._muted = muted

    def get_logger(self, name: str, *arguments: Any, **options: Any) -> Logger:
        """Return a logger; one that does nothing for a muted scope."""
        if name in self._muted:
            return NoOpLogger(name)
        return super().get_logger(name, *arguments, **options)
