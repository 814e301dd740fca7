"""Worker processes that share one address: started, supervised, restarted and stopped."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from socket import AF_INET, AF_INET6, create_server, socket

from loguru import logger

from app import collection
from app.serving import exit_on_signals
from app.settings import Settings
from app.transport.deadline import PARENT_KILLS_BEFORE, TELEMETRY_ENDS_BEFORE, Deadline
from app.worker import READY, work
from chatscope import Telemetry

_BACKLOG = 2048
# A worker that exits as soon as it is ready must not keep a processor busy with restarts.
_RESTART_PAUSE_SECONDS = 0.5
# Not fork: threads and channels of the exporters do not survive it.
_processes = get_context("spawn")


def run_workers(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the process's exit code."""
    telemetry = Telemetry(settings.telemetry(), None)
    telemetry.start()
    collection.resume()
    deadline = Deadline(settings.shutdown_grace_seconds)
    try:
        return _supervise(settings, telemetry, deadline)
    finally:
        deadline.start()
        telemetry.shutdown(deadline.left(TELEMETRY_ENDS_BEFORE))


def _supervise(settings: Settings, telemetry: Telemetry, deadline: Deadline) -> int:
    try:
        listener = _listen(settings)
    except OSError as error:
        logger.error(str(error))
        return 1
    with listener:
        supervisor = Supervisor(settings, listener, telemetry, deadline)
        with exit_on_signals(supervisor.stop, supervisor.kill):
            return supervisor.run()


@dataclass
class _Worker:
    """One process. It stops when the parent closes its end of the connection, or is killed."""

    number: int
    process: SpawnProcess
    connection: Connection
    _ready: bool = False

    def was_ready(self) -> bool:
        """Whether it was ready at any time."""
        with suppress(EOFError, OSError):
            self._ready = self._ready or (
                self.connection.poll() and self.connection.recv() == READY
            )
        return self._ready


class Supervisor:
    """Keeps the configured number of workers running."""

    def __init__(
        self, settings: Settings, listener: socket, telemetry: Telemetry, deadline: Deadline
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._telemetry = telemetry
        self._deadline = deadline
        self._workers: list[_Worker] = []
        self._stop_reader, self._stop_writer = os.pipe()
        # The kernel may deliver a signal to another thread (always after SIGCONT), which does not
        # interrupt the main thread's wait: the signal itself must write to the pipe.
        os.set_blocking(self._stop_writer, False)
        signal.set_wakeup_fd(self._stop_writer, warn_on_full_buffer=False)

    def run(self) -> int:
        """Run until `stop()` or until a worker cannot start; return the exit code."""
        self._start_all()
        healthy = True
        while healthy and not self._is_stopping():
            healthy = all(self._replace(worker) for worker in self._ended())
        return 0 if self._end() and healthy else 1

    def stop(self) -> None:
        """Begin the shutdown; safe in a signal handler."""
        self._deadline.start()
        self._deadline.enforce(before=0.0)
        os.write(self._stop_writer, b"x")

    def kill(self) -> None:
        """Kill all workers; safe in a signal handler."""
        for worker in self._workers:
            with suppress(OSError):
                worker.process.kill()

    def _start_all(self) -> None:
        """Start the first worker alone: if it cannot start, no other could, and the error is logged
        once."""
        first = self._start(0)
        self._workers = [first]
        wait([self._stop_reader, first.process.sentinel, first.connection])
        if not self._is_stopping() and first.was_ready():
            others = range(1, self._settings.workers)
            self._workers += [self._start(number) for number in others]
            logger.info("workers started", workers=len(self._workers))

    def _start(self, number: int) -> _Worker:
        ours, theirs = _processes.Pipe()
        process = _processes.Process(
            target=work, args=(self._settings, self._listener, theirs), name=f"worker-{number}"
        )
        process.start()
        theirs.close()
        return _Worker(number, process, ours)

    def _ended(self) -> list[_Worker]:
        """Wait for a stop or the end of workers; return the workers that have ended."""
        ended = wait([self._stop_reader, *(worker.process.sentinel for worker in self._workers)])
        return [worker for worker in self._workers if worker.process.sentinel in ended]

    def _is_stopping(self) -> bool:
        return bool(wait([self._stop_reader], timeout=0))

    def _replace(self, worker: _Worker) -> bool:
        """Restart a worker that ended; return False if it was never ready: no other would be."""
        worker.process.join()
        lost = {
            "worker": worker.process.name,
            "pid": worker.process.pid,
            "exit_code": worker.process.exitcode,
        }
        if not worker.was_ready():
            logger.error("worker cannot start", **lost)
            return False
        logger.error("worker ended and is restarted", **lost)
        wait([self._stop_reader], timeout=_RESTART_PAUSE_SECONDS)
        worker.connection.close()
        self._workers[self._workers.index(worker)] = self._start(worker.number)
        return True

    def _end(self) -> bool:
        """Stop all workers concurrently; return whether each ended in time and without error."""
        logger.info("stopping workers", workers=len(self._workers))
        for worker in self._workers:
            worker.connection.close()
        self._deadline.start()
        # Concurrently with the workers' telemetry: sequentially it would take twice as long if the
        # Collector hangs. Log lines after this are printed only.
        self._telemetry.shutdown(self._deadline.left(TELEMETRY_ENDS_BEFORE))
        for worker in self._workers:
            worker.process.join(self._deadline.left(PARENT_KILLS_BEFORE))
            if worker.process.exitcode is None:
                logger.error("worker does not stop and is killed", worker=worker.process.name)
                worker.process.kill()
                worker.process.join()
        return all(worker.process.exitcode == 0 for worker in self._workers)


def _listen(settings: Settings) -> socket:
    """Bind the address for all workers and listen before they start: early clients wait.

    Raise OSError.
    """
    family = AF_INET6 if ":" in settings.host else AF_INET
    listener = create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    host = f"[{settings.host}]" if family is AF_INET6 else settings.host
    # The same line as uvicorn's without workers.
    logger.info(f"Uvicorn running on http://{host}:{listener.getsockname()[1]}")
    return listener
