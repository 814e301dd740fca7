"""Several processes that serve one address: started, watched, replaced and stopped together."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from socket import socket

import uvicorn
from loguru import logger

from app.server import Stop, exit_on_signals, serve
from app.settings import Settings
from app.telemetry.instrument import Telemetry

_BACKLOG = 2048
# A worker that dies as soon as it is ready shall not keep a processor busy.
_PAUSE_SECONDS = 0.5
# What a worker takes to stop, besides its answers' grace: telemetry's end, and some air.
_STOP_SECONDS = 10.0
_READY = "ready"
# Not fork: exporters have threads and channels, which do not survive it.
_processes = get_context("spawn")


def run_workers(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit code."""
    telemetry = Telemetry(settings.telemetry(), None)
    telemetry.start()
    try:
        with _listen(settings) as listener:
            supervisor = Supervisor(settings, listener, telemetry)
            with exit_on_signals(supervisor.stop, supervisor.kill):
                return supervisor.run()
    finally:
        telemetry.shutdown()


@dataclass(frozen=True)
class _Worker:
    """One process; it stops when our end of the connection is closed, however we end."""

    number: int
    process: SpawnProcess
    connection: Connection

    def was_ready(self) -> bool:
        try:
            return self.connection.poll() and self.connection.recv() == _READY
        except (EOFError, OSError):
            return False


class Supervisor:
    """Keeps as many workers as there should be."""

    def __init__(self, settings: Settings, listener: socket, telemetry: Telemetry) -> None:
        self._settings = settings
        self._listener = listener
        self._telemetry = telemetry
        self._workers: list[_Worker] = []
        self._told, self._tell = os.pipe()

    def run(self) -> int:
        """Until `stop()`, or until a worker cannot even start. 0 when all ended well."""
        self._workers = [self._start(number) for number in range(self._settings.workers)]
        logger.info("workers started", workers=len(self._workers))
        well = True
        while well and not self._told_to_stop():
            well = all(self._replace(worker) for worker in self._ended())
        return 0 if self._end() and well else 1

    def stop(self) -> None:
        """Begin to stop; safe in a signal handler."""
        os.write(self._tell, b"x")

    def kill(self) -> None:
        """End all workers at once; safe in a signal handler."""
        for worker in self._workers:
            with suppress(OSError):
                worker.process.kill()

    def _start(self, number: int) -> _Worker:
        ours, theirs = _processes.Pipe()
        process = _processes.Process(
            target=_work, args=(self._settings, self._listener, theirs), name=f"worker-{number}"
        )
        process.start()
        theirs.close()
        return _Worker(number, process, ours)

    def _ended(self) -> list[_Worker]:
        """Wait until there is something to do; the workers that have ended."""
        ended = wait([self._told, *(worker.process.sentinel for worker in self._workers)])
        return [worker for worker in self._workers if worker.process.sentinel in ended]

    def _told_to_stop(self) -> bool:
        return bool(wait([self._told], timeout=0))

    def _replace(self, worker: _Worker) -> bool:
        """Start another in its place; False for one that never came up, as no other would."""
        worker.process.join()
        lost = {
            "worker": worker.process.name,
            "pid": worker.process.pid,
            "exit_code": worker.process.exitcode,
        }
        if not worker.was_ready():
            logger.error("worker cannot start", **lost)
            return False
        logger.error("worker ended; another takes its place", **lost)
        wait([self._told], timeout=_PAUSE_SECONDS)
        worker.connection.close()
        self._workers[self._workers.index(worker)] = self._start(worker.number)
        return True

    def _end(self) -> bool:
        """Stop all at the same time; whether each ended well, and in time."""
        logger.info("stopping workers", workers=len(self._workers))
        for worker in self._workers:
            worker.connection.close()
        deadline = time.monotonic() + self._settings.shutdown_grace_seconds + _STOP_SECONDS
        # While they end theirs: one after the other would take twice as long where the
        # Collector hangs. What is said after this is said on the console only.
        self._telemetry.shutdown()
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.exitcode is None:
                logger.error("worker does not stop, and is killed", worker=worker.process.name)
                worker.process.kill()
                worker.process.join()
        return all(worker.process.exitcode == 0 for worker in self._workers)


def _work(settings: Settings, listener: socket, parent: Connection) -> None:
    """A worker's whole life, in its own process."""
    # A terminal interrupts us together with our parent, who then stops us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def stop_with_parent(stop: Stop) -> None:
        with suppress(EOFError, OSError):
            parent.recv()
        stop()

    def watch_parent(stop: Stop) -> None:
        threading.Thread(target=stop_with_parent, args=(stop,), daemon=True).start()

    def tell_parent() -> None:
        with suppress(OSError):  # it is gone, which the other thread hears as well
            parent.send(_READY)

    sys.exit(serve(settings, sockets=[listener], ready=tell_parent, stoppable=watch_parent))


def _listen(settings: Settings) -> socket:
    """The address, bound once for all. Exits with 1 when it is taken, as uvicorn does."""
    listener = uvicorn.Config(
        "none:none", host=settings.host, port=settings.port, log_config=None
    ).bind_socket()
    # Before any worker is there: who comes early waits, and is not turned away.
    listener.listen(_BACKLOG)
    return listener
