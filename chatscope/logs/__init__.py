"""Log records: those of loguru and the standard library, exported beside their own handlers.

The public names are for a process whose loguru and standard library logging this package takes
over (`TelemetrySettings(console=True)`), and need loguru; `without_texts` does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from chatscope.logs.loguru_handler import buffer_logs, print_buffered_logs
    from chatscope.logs.standard import log_access
    from chatscope.withholding import without_texts

__all__ = ["buffer_logs", "log_access", "print_buffered_logs", "without_texts"]

# Imported when they are first used: loguru is optional.
_MODULES: Final = {
    "buffer_logs": "logs.loguru_handler",
    "log_access": "logs.standard",
    "print_buffered_logs": "logs.loguru_handler",
    "without_texts": "withholding",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"chatscope.{_MODULES[name]}"), name)
