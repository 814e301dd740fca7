"""Observability for Python services: traces, metrics and log records, delivered over OTLP.

    import chatscope

    chatscope.configure(service_name="shop")     # once per process
    app = chatscope.instrument(app)              # an ASGI application

A worker or a script needs only `configure()`. See docs/your-service.md. Public are the names in
`__all__` of this module and of `chatscope.genai`, `.logs`, `.names`, `.otlp`, `.redaction` and
`.testing`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from chatscope.applications import InstrumentationError, instrument
    from chatscope.configuration import configure, shutdown
    from chatscope.genai import (
        ModelCall,
        Usage,
        current_call,
        embeddings,
        execute_tool,
        inference,
        instrument_clients,
        invoke_agent,
        record_feedback,
        record_llm_response_time,
        record_message,
        record_socket_connection,
        record_token_usage,
        uninstrument_clients,
    )
    from chatscope.providers import Providers, ProvidersExistError
    from chatscope.redaction import redact
    from chatscope.sdk_variables import invalid_variables
    from chatscope.settings import SettingsError, TelemetrySettings
    from chatscope.telemetry import Telemetry
    from chatscope.tracing import current_trace_id, span
    from chatscope.websocket import SocketConnection, socket_connection

__version__ = "0.1.0"

__all__ = [
    "InstrumentationError",
    "ModelCall",
    "Providers",
    "ProvidersExistError",
    "SettingsError",
    "SocketConnection",
    "Telemetry",
    "TelemetrySettings",
    "Usage",
    "configure",
    "current_call",
    "current_trace_id",
    "embeddings",
    "execute_tool",
    "inference",
    "instrument",
    "instrument_clients",
    "invalid_variables",
    "invoke_agent",
    "record_feedback",
    "record_llm_response_time",
    "record_message",
    "record_socket_connection",
    "record_token_usage",
    "redact",
    "shutdown",
    "socket_connection",
    "span",
    "uninstrument_clients",
]

# Imported when they are first used: the SDK raises for some invalid variables while it is
# imported, and `chatscope.otlp` imports nothing else of this package.
_MODULES: Final = {
    "InstrumentationError": "applications",
    "ModelCall": "genai",
    "Providers": "providers",
    "ProvidersExistError": "providers",
    "SettingsError": "settings",
    "SocketConnection": "websocket",
    "Telemetry": "telemetry",
    "TelemetrySettings": "settings",
    "Usage": "genai",
    "configure": "configuration",
    "current_call": "genai",
    "current_trace_id": "tracing",
    "embeddings": "genai",
    "execute_tool": "genai",
    "inference": "genai",
    "instrument": "applications",
    "instrument_clients": "genai",
    "invalid_variables": "sdk_variables",
    "invoke_agent": "genai",
    "record_feedback": "genai",
    "record_llm_response_time": "genai",
    "record_message": "genai",
    "record_socket_connection": "genai",
    "record_token_usage": "genai",
    "redact": "redaction",
    "shutdown": "configuration",
    "socket_connection": "websocket",
    "span": "tracing",
    "uninstrument_clients": "genai",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
