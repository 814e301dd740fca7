"""One serving process: file limit, signals, the application, its server and its telemetry."""

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from socket import socket
from types import FrameType
from typing import Final

from loguru import logger

from app import collection
from app.main import create_app
from app.settings import Settings
from app.transport.deadline import TELEMETRY_ENDS_BEFORE, Deadline
from app.transport.server import Server
from chatscope import Telemetry

# More than any sensible MAX_CONNECTIONS, and less than any kernel refuses.
_MAX_OPEN_FILES: Final = 65_536
# Standard streams, listeners, the spool, the exporter's connections.
_OTHER_FILES: Final = 100
# Exit code of a process that was ended by a signal, as a shell reports it: this plus its number.
_EXIT_BY_SIGNAL: Final = 128

Stop = Callable[[], None]


def serve(
    settings: Settings,
    *,
    sockets: list[socket] | None = None,
    on_ready: Callable[[], None] = lambda: None,
    on_start: Callable[[Stop], None] = lambda stop: None,
) -> int:
    """Build the service and serve until it is stopped; return the process's exit code.

    `on_start` is called before the start, with a function that stops the server as a signal does;
    `on_ready` when requests are accepted. After the first stop, the process ends within the grace
    period and AFTER_GRACE_SECONDS.
    """
    report_file_limit(settings, raise_file_limit())
    app = create_app(settings, shutdown_with_app=False)
    telemetry: Telemetry = app.state.telemetry
    deadline = Deadline(settings.shutdown_grace_seconds)

    def report_ready() -> None:
        collection.resume()
        on_ready()

    try:
        # Now: a failure during the server's first event would turn every response into a 500.
        app.middleware_stack = app.build_middleware_stack()
        server = Server(app, settings, deadline, on_ready=report_ready)

        def stop() -> None:
            server.stop()
            deadline.enforce()

        with exit_on_signals(stop):
            on_start(stop)
            server.run(sockets)
        return 0
    except SystemExit:  # raised by uvicorn, which has logged why it cannot start
        return 1
    except Exception:
        logger.exception("the service failed")
        return 1
    finally:
        deadline.start()
        telemetry.shutdown(deadline.left(TELEMETRY_ENDS_BEFORE))


def raise_file_limit() -> int:
    """Raise the soft limit of open files as far as the hard limit allows; return it.

    The usual soft limit of a shell, 1024, is reached before MAX_CONNECTIONS: clients would get no
    response instead of a refusal, and telemetry could not open its spool.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_OPEN_FILES if soft == resource.RLIM_INFINITY else soft


def report_file_limit(settings: Settings, limit: int) -> None:
    """Log a warning if so many open files are too few for the connections that are allowed."""
    # A response has a connection of its client, and one to its provider.
    needed = settings.max_connections + 2 * settings.max_answers + _OTHER_FILES
    if limit < needed:
        logger.warning(
            f"only {limit} files can be open at once: MAX_CONNECTIONS={settings.max_connections} "
            f"and MAX_ANSWERS={settings.max_answers} need {needed}; raise the limit of open files "
            f"(ulimit -n), or lower MAX_CONNECTIONS"
        )


@contextmanager
def exit_on_signals(stop: Stop, kill: Callable[[], None] = lambda: None) -> Iterator[None]:
    """The first SIGTERM or SIGINT calls `stop`; the second calls `kill` and ends the process.

    Both are called in the middle of the main thread's work: they must not take locks, so they must
    not log.
    """
    stopping = False

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            kill()
            os._exit(_EXIT_BY_SIGNAL + number)
        stopping = True
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
