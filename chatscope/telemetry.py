"""The telemetry of one service: providers, log export, runtime metrics, and their end."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Token
from functools import cached_property
from typing import TYPE_CHECKING, Final

from opentelemetry.metrics import Meter

from chatscope import redaction
from chatscope.direct_spans import DirectTracer
from chatscope.genai.deferred import WORKER
from chatscope.guard import guarded
from chatscope.http_metrics import HttpMetrics
from chatscope.instruments import Instruments
from chatscope.logs.bridge import EVENTS_LOGGER, Bridge, enter, forget_context, leave
from chatscope.logs.guest import LogExport
from chatscope.logs.own import ExportedLog, LoguruLog, OwnLog
from chatscope.providers import (
    SHUTDOWN_SECONDS,
    Providers,
    adopt_providers,
    build_providers,
    set_global,
)
from chatscope.runtime import observe_process, record_end
from chatscope.settings import TelemetrySettings
from chatscope.tracing import use_tracer

if TYPE_CHECKING:
    from chatscope.genai.answer import Answer
    from chatscope.genai.feedback import Rating
    from chatscope.genai.recorder import Recorder
    from chatscope.genai.request import ModelRequest
    from chatscope.genai.steps import Embeddings

# After each record that a server logs while it ends.
_LAST_RECORD_SECONDS: Final = 0.3
_OWN_LOGGER: Final = "chatscope"
_ERROR: Final = 40
# Of the time for the shutdown, for streams that were closed a moment ago.
_SHARE_OF_DEFERRED: Final = 0.2


class Telemetry:
    """The telemetry of one service. `configure()` makes that of a process."""

    providers: Providers
    tracer: DirectTracer
    meter: Meter

    def __init__(self, settings: TelemetrySettings, providers: Providers | None = None) -> None:
        """Prepare; `providers`, for tests, are used in place of those that export."""
        self.settings = settings
        self._given = providers
        self._last_flush = 0.0  # s
        self._bridge: Bridge | None = None
        self._logs: LogExport | None = None
        self._stop_logging: Callable[[], None] | None = None

    def start(self, *, use_existing_providers: bool = False) -> None:
        """Build the providers and begin to export; a second call does nothing.

        `shutdown` ends that, at the latest by `atexit`.

        Raises OtlpSettingsError for invalid `OTEL_EXPORTER_OTLP_*` variables, ProvidersExistError
        for providers of another library that cannot be used.
        """
        if self._stop_logging is not None:
            return
        settings = self.settings
        redaction.install(
            settings.redact,
            values=settings.redact_values,
            patterns=settings.redact_patterns,
            user_id_key=settings.user_id_key,
        )
        if self._given is not None:
            self.providers = self._given
        elif use_existing_providers:
            self.providers = adopt_providers(settings)
        else:
            self.providers = build_providers(settings)
            set_global(self.providers)
        version = settings.service_version
        self.tracer = DirectTracer.of(self.providers.tracer_provider, settings.scope, version)
        self.meter = self.providers.meter_provider.get_meter(settings.scope, version)
        if settings.process_metrics:
            observe_process(self.meter)
        self._stop_logging = self._start_logging()
        if self._given is None:
            atexit.register(self.shutdown)

    @cached_property
    def instruments(self) -> Instruments:
        """The metrics of model calls and WebSockets, registered when they are first used."""
        settings = self.settings
        return Instruments(
            self.meter, settings.known_models, self.providers.tallies, settings.prefix
        )

    @cached_property
    def http_metrics(self) -> HttpMetrics:
        """The HTTP metrics, registered when the first application is instrumented."""
        shared, scope = self.providers.http_metrics, self.settings.scope
        if scope not in shared:
            shared[scope] = HttpMetrics(self.meter, self.providers.tallies)
        return shared[scope]

    @cached_property
    def recorder(self) -> Recorder:
        """Records model calls, tools and agents."""
        from chatscope.genai.pricing import PriceTable  # noqa: PLC0415
        from chatscope.genai.recorder import Recorder, emit_globally  # noqa: PLC0415

        return Recorder(
            tracer=self.tracer,
            instruments=self.instruments,
            prices=self.settings.prices or PriceTable.load(),
            capture_content=self.settings.capture_content,
            capture_events=self.settings.capture_events,
            log=self.own_log(EVENTS_LOGGER).log,
            emit=self._bridge.emit_event if self._bridge else emit_globally,
            tracer_provider=self.providers.tracer_provider,
            meter_provider=self.providers.meter_provider,
        )

    def start_answer(self, request: ModelRequest, *, started: float) -> Answer:
        """Start one response of a model; `started` is the perf_counter of its request's arrival."""
        return self.recorder.start_answer(request, started=started, served=True)

    def start_embeddings(
        self,
        *,
        model: str,
        provider: str,
        dimensions: int | None = None,
        server_address: str | None = None,
        server_port: int | None = None,
    ) -> Embeddings:
        """Start one request for embeddings."""
        from chatscope.genai.steps import Embeddings, EmbeddingsRequest  # noqa: PLC0415

        request = EmbeddingsRequest(
            model=model,
            provider=provider,
            dimensions=dimensions,
            server_address=server_address,
            server_port=server_port,
            attributes={},
        )
        return Embeddings(self.recorder, request)

    def record_feedback(self, rating: Rating) -> bool:
        """Record a valid rating of a response; return whether the response is known."""
        from chatscope.genai.feedback import record_rating  # noqa: PLC0415

        return record_rating(self.recorder, rating)

    def own_log(self, name: str) -> OwnLog:
        """Return the logger of the package itself, which bypasses the application's handlers."""
        if self.settings.console or self._bridge is None:
            return LoguruLog()
        return ExportedLog(self._bridge, name, self.settings.log_level)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Let spans and log records made inside belong to this telemetry."""
        token = self.enter_request()
        try:
            yield
        finally:
            leave(token)

    def enter_request(self) -> Token[Bridge | None]:
        """Do the same as `request` until `leave` is called with the result."""
        use_tracer(self.tracer)
        forget_context()
        return enter(self._bridge)

    def log_error(self, message: str, error: BaseException | None) -> None:
        """Export a log record that no handler of the application sees."""
        if self._bridge is not None:
            with guarded("exporting a log record"):
                self._bridge.emit(
                    _OWN_LOGGER,
                    level=_ERROR,
                    body=message,
                    attributes={},
                    timestamp=time.time_ns(),
                    error=error,
                )

    def attach_logs(self) -> None:
        """Add the log handlers again that the application or its server has removed."""
        if self._logs is not None:
            self._logs.attach()
            self._logs.after_each = None

    def detach_logs(self) -> None:
        """Export no more log records."""
        if self._stop_logging is not None:
            with guarded("ending the export of log records"):
                self._stop_logging()

    def flush(self, seconds: float = SHUTDOWN_SECONDS) -> bool:
        """Send what is queued, within `seconds`; False when that takes longer."""
        return self._stop_logging is None or self.providers.flush(seconds)

    def flush_last(self, seconds: float = SHUTDOWN_SECONDS) -> bool:
        """Flush, and send each later log record at once: the process may be killed.

        The time that this takes is not available to `shutdown`.
        """
        began = time.monotonic()
        flushed = self.flush(seconds)
        self._last_flush = time.monotonic() - began
        if self._logs is not None and self.providers.delivery is not None:
            delivery = self.providers.delivery
            self._logs.after_each = lambda: delivery.flush(_LAST_RECORD_SECONDS)
        return flushed

    def shutdown(self, seconds: float = SHUTDOWN_SECONDS) -> bool:
        """Send what is queued and stop, within `seconds`; False when something was lost."""
        if self._stop_logging is None:
            return True
        atexit.unregister(self.shutdown)
        seconds = max(0.0, min(seconds, SHUTDOWN_SECONDS - self._last_flush))
        deadline = time.monotonic() + seconds
        WORKER.flush(seconds * _SHARE_OF_DEFERRED)
        self.detach_logs()
        self._stop_logging = None
        if self.settings.process_metrics and self._given is None:
            with guarded("recording the end of the process"):
                record_end(self.meter, self.settings.prefix)
        return self.providers.shutdown(max(0.0, deadline - time.monotonic()))

    def _start_logging(self) -> Callable[[], None]:
        settings = self.settings
        self._bridge = Bridge(self.providers.logger_provider)
        if settings.console:
            return _take_over(settings, self._bridge, self.meter)
        self._logs = LogExport(self._bridge, settings.log_level, settings.quiet_paths)
        return self._logs.detach


def _take_over(settings: TelemetrySettings, bridge: Bridge, meter: Meter) -> Callable[[], None]:
    # These need loguru.
    from chatscope.logs.console import observe_console  # noqa: PLC0415
    from chatscope.logs.loguru_handler import start_export  # noqa: PLC0415
    from chatscope.logs.standard import hide_access_lines  # noqa: PLC0415

    observe_console(meter)
    hide_access_lines(settings.quiet_paths)
    return start_export(bridge, settings.log_level)
