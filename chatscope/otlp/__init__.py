"""Durable, counted OTLP delivery for any OpenTelemetry SDK; imports nothing else of chatscope.

delivery = Delivery(settings=DeliverySettings(spool_dir=Path("/var/lib/shop/telemetry")))
tracer_provider.add_span_processor(OtlpSpanProcessor(delivery))
logger_provider.add_log_record_processor(OtlpLogRecordProcessor(delivery))
reader = PeriodicExportingMetricReader(OtlpMetricExporter(delivery))
...
delivery.shutdown(5.0)
"""

from .delivery import Delivery, DeliverySettings
from .exporter import OtlpMetricExporter
from .pipeline import PipelineLimits
from .processors import OtlpLogRecordProcessor, OtlpSpanProcessor
from .self_metrics import observe
from .settings import EndpointSettings, OtlpSettingsError, Protocol, Signal, load_endpoints
from .spool import Backlog, SpoolUnusableError
from .statistics import Warnings

__all__ = [
    "Backlog",
    "Delivery",
    "DeliverySettings",
    "EndpointSettings",
    "OtlpLogRecordProcessor",
    "OtlpMetricExporter",
    "OtlpSettingsError",
    "OtlpSpanProcessor",
    "PipelineLimits",
    "Protocol",
    "Signal",
    "SpoolUnusableError",
    "Warnings",
    "load_endpoints",
    "observe",
]
