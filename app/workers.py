"""Several processes that serve one address: started, watched, replaced and stopped together."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from socket import AF_INET, AF_INET6, create_server, socket

from loguru import logger

from app.server import exit_on_signals
from app.settings import Settings
from app.shutdown import PARENT_KILLS_BEFORE, TELEMETRY_ENDS_BEFORE, Deadline
from app.worker import READY, work
from chatscope.telemetry import Telemetry

_BACKLOG = 2048
# A worker that dies as soon as it is ready shall not keep a processor busy.
_PAUSE_SECONDS = 0.5
# Not fork: exporters have threads and channels, which do not survive it.
_processes = get_context("spawn")


def run_workers(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the process's exit code."""
    telemetry = Telemetry(settings.telemetry(), None)
    telemetry.start()
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
    """One process; it stops when our end of the connection is closed, however we end."""

    number: int
    process: SpawnProcess
    connection: Connection
    _ready: bool = False

    def was_ready(self) -> bool:
        """Whether it has served."""
        with suppress(EOFError, OSError):
            self._ready = self._ready or (
                self.connection.poll() and self.connection.recv() == READY
            )
        return self._ready


class Supervisor:
    """Keeps as many workers as there should be."""

    def __init__(
        self, settings: Settings, listener: socket, telemetry: Telemetry, deadline: Deadline
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._telemetry = telemetry
        self._deadline = deadline
        self._workers: list[_Worker] = []
        self._told, self._tell = os.pipe()
        # The kernel may hand a signal to another thread, always so right after SIGCONT, which
        # does not interrupt the main thread's wait: the signal itself has to write to the pipe.
        os.set_blocking(self._tell, False)
        signal.set_wakeup_fd(self._tell, warn_on_full_buffer=False)

    def run(self) -> int:
        """Until `stop()`, or until a worker cannot even start. 0 when all ended well."""
        self._start_all()
        well = True
        while well and not self._told_to_stop():
            well = all(self._replace(worker) for worker in self._ended())
        return 0 if self._end() and well else 1

    def stop(self) -> None:
        """Begin to stop; safe in a signal handler."""
        self._deadline.start()
        self._deadline.enforce(before=0.0)
        os.write(self._tell, b"x")

    def kill(self) -> None:
        """End all workers at once; safe in a signal handler."""
        for worker in self._workers:
            with suppress(OSError):
                worker.process.kill()

    def _start_all(self) -> None:
        """The first worker alone: where it cannot start, none could, and one says why."""
        first = self._start(0)
        self._workers = [first]
        wait([self._told, first.process.sentinel, first.connection])
        if not self._told_to_stop() and first.was_ready():
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
        self._deadline.start()
        # While they end theirs: one after the other would take twice as long where the
        # Collector hangs. What is logged after this is printed only.
        self._telemetry.shutdown(self._deadline.left(TELEMETRY_ENDS_BEFORE))
        for worker in self._workers:
            worker.process.join(self._deadline.left(PARENT_KILLS_BEFORE))
            if worker.process.exitcode is None:
                logger.error("worker does not stop, and is killed", worker=worker.process.name)
                worker.process.kill()
                worker.process.join()
        return all(worker.process.exitcode == 0 for worker in self._workers)


def _listen(settings: Settings) -> socket:
    """Bind the address, once for all, and listen before any worker is there: early clients wait.

    Raises OSError.
    """
    family = AF_INET6 if ":" in settings.host else AF_INET
    listener = create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    host = f"[{settings.host}]" if family is AF_INET6 else settings.host
    # As uvicorn has it where there are no workers.
    logger.info(f"Uvicorn running on http://{host}:{listener.getsockname()[1]}")
    return listener
