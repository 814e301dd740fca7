"""Durable, counted OTLP delivery for any OpenTelemetry SDK; imports nothing else of chatscope.

delivery = Delivery(settings=DeliverySettings(spool_dir=Path("/var/lib/shop/telemetry")))
tracer_provider.add_span_processor(OtlpSpanProcessor(delivery))
logger_provider.add_log_record_processor(OtlpLogRecordProcessor(delivery))
reader = PeriodicExportingMetricReader(OtlpMetricExporter(delivery))
...
delivery.shutdown(5.0)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .delivery import Delivery, DeliverySettings
    from .exporter import OtlpMetricExporter
    from .pipeline import PipelineLimits
    from .processors import OtlpLogRecordProcessor, OtlpSpanProcessor
    from .proxy import is_loopback
    from .redacting import Redaction, redact_with
    from .self_metrics import observe
    from .settings import EndpointSettings, OtlpSettingsError, Signal, load_endpoints
    from .spool import Backlog, SpoolUnusableError
    from .statistics import Warnings
    from .variables import InvalidVariable, Protocol

__all__ = [
    "Backlog",
    "Delivery",
    "DeliverySettings",
    "EndpointSettings",
    "InvalidVariable",
    "OtlpLogRecordProcessor",
    "OtlpMetricExporter",
    "OtlpSettingsError",
    "OtlpSpanProcessor",
    "PipelineLimits",
    "Protocol",
    "Redaction",
    "Signal",
    "SpoolUnusableError",
    "Warnings",
    "is_loopback",
    "load_endpoints",
    "observe",
    "redact_with",
]

# Imported when they are first used: the SDK raises for some invalid variables while it is
# imported, and an application may want to check the variables first.
_MODULES: Final = {
    "Backlog": "spool",
    "Delivery": "delivery",
    "DeliverySettings": "delivery",
    "EndpointSettings": "settings",
    "InvalidVariable": "variables",
    "OtlpLogRecordProcessor": "processors",
    "OtlpMetricExporter": "exporter",
    "OtlpSettingsError": "settings",
    "OtlpSpanProcessor": "processors",
    "PipelineLimits": "pipeline",
    "Protocol": "variables",
    "Redaction": "redacting",
    "Signal": "settings",
    "SpoolUnusableError": "spool",
    "Warnings": "statistics",
    "is_loopback": "proxy",
    "load_endpoints": "settings",
    "observe": "self_metrics",
    "redact_with": "redacting",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
