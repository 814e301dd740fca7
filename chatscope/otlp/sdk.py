"""The names of the OpenTelemetry SDK that are not public yet, checked when this is imported.

The logs SDK has no public module: https://github.com/open-telemetry/opentelemetry-python/issues/1751.
Everything else of this package uses public names only.
"""

try:
    from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
except ImportError as error:  # pragma: no cover - an SDK outside the declared range
    raise ImportError(
        "this version of opentelemetry-sdk has no LogRecordProcessor where versions 1.39 to 1.45"
        f" have it ({error}); install a version from the range that this package declares"
    ) from error

__all__ = ["LogRecordProcessor", "ReadWriteLogRecord"]
