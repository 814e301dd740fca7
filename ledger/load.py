"""A steady load of numbered items, created by a separate process and recorded here."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

import httpx2

from ledger.account import RunRecord
from ledger.backends import SEARCHES
from stack.backends import Backends
from stack.facts import ROOT, own_environment
from stack.secrets import telemetry_variables

# Maximum time for which the load's process waits for an unreachable Collector before it exits.
_LINGER_SECONDS: Final = 60.0
# Of a backlog that the Collector accepts slowly.
_ENDS_SECONDS: Final = 10 * _LINGER_SECONDS
# Precision of the time after which an item was found.
_LOOK_EVERY_SECONDS: Final = 0.5


class LoadError(RuntimeError):
    """The load's process failed; the text is the end of its log."""


class Load(RunRecord):
    """The record of a run, and the process that creates its items."""

    def __init__(
        self, facts: Mapping[str, str], rate: float, directory: Path, environment: str
    ) -> None:
        super().__init__(token_hex(4))
        self._facts = facts
        self._rate = rate
        self._directory = directory
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None
        self._reader = threading.Thread()
        # The end of what its process wrote to the console, once that has ended.
        self.console = ""

    @property
    def pid(self) -> int:
        """The process ID of the load; 0 while it does not run."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start a process that continues with the next number and sends its predecessor's spool.

        Returns when it creates items, or has ended.
        """
        assert self._process is None  # noqa: S101
        options = {
            "--first": str(max(self.created, default=-1) + 1),
            "--rate": str(self._rate),
            "--spool": str(self._directory / "spool"),
            "--environment": self._environment,
            "--linger": str(_LINGER_SECONDS),
        }
        arguments = [text for pair in options.items() for text in pair]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ledger.source", self.run, *arguments],
                cwd=ROOT,
                env={**own_environment(), **telemetry_variables(self._facts)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # Ctrl-C must reach this process only.
                process_group=0,
            )
        started = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self._process, started))
        self._reader.start()
        started.wait()

    def kill(self) -> None:
        """Send SIGKILL; `start` starts a new process."""
        if self._process:
            self._process.kill()
            self._gone(self._process)
            self.uncertain |= {max(self.created)} if self.created else set()

    def end(self) -> None:
        """Stop creating items, and wait until the backlog is sent. Raises LoadError."""
        process = self._process
        if process is None:
            return
        assert process.stdin  # noqa: S101
        process.stdin.close()
        try:
            process.wait(_ENDS_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        self._gone(process)
        if process.returncode:
            raise LoadError(self.console)

    @property
    def _log(self) -> Path:
        return self._directory / "load.log"

    def _read(self, process: subprocess.Popen[str], started: threading.Event) -> None:
        assert process.stdout  # noqa: S101
        for number, created in parse(process.stdout):
            self.created[number] = created
            started.set()
        started.set()

    def _gone(self, process: subprocess.Popen[str]) -> None:
        process.wait()
        self._reader.join()
        self.console = self._log.read_text()[-2000:]
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()
        self._process = None


def parse(lines: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yield numbers and times in nanoseconds; an incomplete line is of an item never created."""
    for line in lines:
        if line.endswith("\n"):
            number, created = line.split()
            yield int(number), int(created)


@contextmanager
def steady_load(
    facts: Mapping[str, str], *, rate: float = 100.0, environment: str = "local"
) -> Iterator[Load]:
    """Create items inside; at the end all of them have been delivered to the Collector.

    Meanwhile they are searched in the backends, which may be unreachable. Loads of different
    environments are different streams in Loki. Raises LoadError.
    """
    with tempfile.TemporaryDirectory() as directory, Backends(facts) as backends:
        load = Load(facts, rate, Path(directory), environment)
        with _watched(backends, load):
            load.start()
            try:
                yield load
                load.end()
            finally:
                load.kill()


@contextmanager
def _watched(backends: Backends, run_record: RunRecord) -> Iterator[None]:
    """Search items continuously, to find out how long each takes to arrive."""
    done = threading.Event()

    def watch(search: Callable[[Backends, RunRecord], None]) -> None:
        while not done.wait(_LOOK_EVERY_SECONDS):
            # A backend that does not respond has found nothing.
            with suppress(httpx2.HTTPError):
                search(backends, run_record)

    watchers = [threading.Thread(target=watch, args=(search,)) for search in SEARCHES]
    for watcher in watchers:
        watcher.start()
    try:
        yield
    finally:
        done.set()
        for watcher in watchers:
            watcher.join()
