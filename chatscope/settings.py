"""The settings of telemetry, in a module that does not import the SDK.

The SDK reads some environment variables while it is imported, and raises for an invalid value; so
whoever validates the environment must be able to import this first.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from chatscope.genai.pricing import PriceTable


@dataclass(frozen=True, kw_only=True)
class TelemetrySettings:
    """All that telemetry wants to know; the exporters' own OTEL_* variables stand beside it."""

    service_name: str = "chatscope"
    service_version: str | None = None
    endpoint: str | None = None  # None: OTEL_EXPORTER_OTLP_*, else the Collector on this host
    span_delay_ms: int = 200
    log_delay_ms: int = 200
    metric_interval_ms: int = 1000
    capture_content: bool = False
    log_level: str = "INFO"
    known_models: frozenset[str] = frozenset()
    # Paths that health checks ask every few seconds: no span, no metric, no access line.
    quiet_paths: frozenset[str] = frozenset({"/healthz", "/readyz"})
    # Which middleware records HTTP requests: ours, or opentelemetry-instrumentation-asgi.
    http_instrumentation: Literal["chatscope", "stock"] = "chatscope"
    # What waits in memory: nearly nothing, unless the Collector is away and there is no disk to
    # wait on; then, at 50 turns a second, a minute's. An item takes 3.3 kB (bench/queues.py), so
    # full queues take 80 MB.
    span_queue: int = 16_384
    log_queue: int = 8_192
    # Small ones: encoding a batch holds the interpreter's lock, and with it all answers, seven
    # times shorter than with the SDK's 512 (bench/queues.py).
    span_batch: int = 64
    log_batch: int = 64
    # Where spans and log records wait on disk while the Collector is away, half of the bytes for
    # each; None: in memory only. An item takes 130 to 250 bytes there, packed: the default
    # holds eight minutes at 2,000 of each a second, and more than an hour at 50 turns a second.
    spool_dir: Path | None = None
    spool_bytes: int = 256 * 1024 * 1024
    prices: PriceTable = field(default_factory=PriceTable.load)
