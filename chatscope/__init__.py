"""Observability for Python services: traces, metrics and log records, delivered over OTLP.

    import chatscope

    chatscope.configure(service_name="shop")     # once per process
    app = chatscope.instrument(app)              # an ASGI application

A worker or a script needs only `configure()`. See docs/your-service.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from chatscope.applications import InstrumentationError, instrument
    from chatscope.configuration import configure, shutdown
    from chatscope.providers import ProvidersExistError
    from chatscope.settings import SettingsError, TelemetrySettings
    from chatscope.telemetry import Telemetry
    from chatscope.tracing import current_trace_id

__version__ = "0.1.0"

__all__ = [
    "InstrumentationError",
    "ProvidersExistError",
    "SettingsError",
    "Telemetry",
    "TelemetrySettings",
    "configure",
    "current_trace_id",
    "instrument",
    "shutdown",
]

# Imported when they are first used: the SDK raises for some invalid variables while it is
# imported, and `chatscope.otlp` imports nothing else of this package.
_MODULES: Final = {
    "InstrumentationError": "applications",
    "ProvidersExistError": "providers",
    "SettingsError": "settings",
    "Telemetry": "telemetry",
    "TelemetrySettings": "settings",
    "configure": "configuration",
    "current_trace_id": "tracing",
    "instrument": "applications",
    "shutdown": "configuration",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
