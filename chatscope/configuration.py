"""The telemetry of this process: configured once, ended with the process."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from chatscope.guard import guarded, warnings
from chatscope.processes import call_in_children
from chatscope.settings import SettingsError, TelemetrySettings, load_settings
from chatscope.signals import call_when_killed, delaying_the_end

if TYPE_CHECKING:
    from chatscope.telemetry import Telemetry

_lock: Final = threading.RLock()


class _Process:
    telemetry: Telemetry | None = None
    # In a test: `configure` and `shutdown` do nothing.
    replaced = False
    hooked = False


_process: Final = _Process()


def configure(
    settings: TelemetrySettings | None = None,
    *,
    use_existing_providers: bool = False,
    **options: Any,
) -> Telemetry:
    """Export the traces, metrics and log records of this process; return its telemetry.

    Settings are read from `OTEL_*` and `CHATSCOPE_*`; `options` replace them by name, or
    `settings` replaces all. A second call logs a warning and returns the telemetry of the first.
    `use_existing_providers` adds the export to the global providers of another library.

    Queued telemetry is sent when the process exits, also on SIGTERM. A forked process has its own
    instance ID, queues and counters.

    Raises SettingsError with all problems, ProvidersExistError if another library has set global
    providers and `use_existing_providers` is not set, or they cannot be used.
    """
    with _lock:
        if _process.telemetry is not None and _process.replaced:
            return _process.telemetry
        if _process.telemetry is not None:
            warnings.warn(
                "configured twice", "configure() was called before: the first call counts"
            )
            return _process.telemetry
        if settings is None:
            settings = load_settings(os.environ, **options)
        elif options:
            raise SettingsError([f"{name} is given beside settings" for name in options])
        # The SDK raises for some invalid variables while it is imported.
        from chatscope.providers import refuse_existing  # noqa: PLC0415
        from chatscope.telemetry import Telemetry  # noqa: PLC0415

        if not use_existing_providers:
            refuse_existing()
        telemetry = Telemetry(settings)
        telemetry.start(use_existing_providers=use_existing_providers)
        _process.telemetry = telemetry
        if not _process.hooked:
            _process.hooked = True
            atexit.register(shutdown)
            call_in_children(_began, shutdown)
        call_when_killed(shutdown)
        return telemetry


def current() -> Telemetry | None:
    """Return the telemetry of this process; None if it is not configured."""
    return _process.telemetry


def configured() -> Telemetry:
    """Return the telemetry of this process; configure it if that has not been done."""
    with _lock:
        return _process.telemetry or configure()


def shutdown(seconds: float | None = None) -> bool:
    """End the telemetry of this process, if there is any; False when something was lost.

    Sends what is queued, within `seconds`, 5 by default. The end of the process calls this.
    """
    with delaying_the_end():
        with _lock:
            if _process.replaced:
                return True
            telemetry, _process.telemetry = _process.telemetry, None
        if telemetry is None:
            return True
        return telemetry.shutdown() if seconds is None else telemetry.shutdown(seconds)


@contextmanager
def replaced(telemetry: Telemetry) -> Iterator[None]:
    """Use `telemetry`, which has started, as that of the process until the end of the block."""
    before = (_process.telemetry, _process.replaced)
    _process.telemetry, _process.replaced = telemetry, True
    try:
        yield
    finally:
        _process.telemetry, _process.replaced = before


def _began() -> None:
    """Prepare a forked process; a server may have configured logging there."""
    if _process.telemetry is not None:
        with guarded("attaching log handlers after a fork"):
            _process.telemetry.attach_logs()
