"""A steady load of numbered items, made by a process of its own; what it made is known here."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Final

from ledger.account import Book
from ledger.stores import LOOKS
from stack.backends import Backends
from stack.facts import ROOT, own_environment
from stack.secrets import telemetry_variables

# At its end, the load's process waits so long for a Collector that is away.
_LINGER_SECONDS: Final = 60.0
# A service has 5 s to shut down.
_ENDS_SECONDS: Final = _LINGER_SECONDS + 15.0
# How exactly it is known after how long an item was found.
_LOOK_EVERY_SECONDS: Final = 0.5


class LoadError(RuntimeError):
    """The load's process failed by itself; the text is its own."""


class Load(Book):
    """The book of a run, and the process that makes its items."""

    def __init__(self, facts: Mapping[str, str], rate: float, directory: Path) -> None:
        super().__init__(token_hex(4))
        self._facts = facts
        self._rate = rate
        self._directory = directory
        self._process: subprocess.Popen[str] | None = None
        self._reader = threading.Thread()

    @property
    def pid(self) -> int:
        """Of the process that makes the items; 0 while there is none."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """A process that goes on with the next number, and sends what one before it left.

        Returns when it makes items, or has ended.
        """
        assert self._process is None  # noqa: S101
        options = {
            "--first": str(max(self.created, default=-1) + 1),
            "--rate": str(self._rate),
            "--spool": str(self._directory / "spool"),
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
                # Ctrl-C is for us.
                process_group=0,
            )
        began = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self._process, began))
        self._reader.start()
        began.wait()

    def kill(self) -> None:
        """By SIGKILL. `start` puts another process in its place."""
        if self._process:
            self._process.kill()
            self._gone(self._process)
            self.doubtful |= {max(self.created)} if self.created else set()

    def end(self) -> None:
        """It makes no more, and ends when it has sent what waits. Raises LoadError."""
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
            raise LoadError(self._log.read_text()[-2000:])

    @property
    def _log(self) -> Path:
        return self._directory / "load.log"

    def _read(self, process: subprocess.Popen[str], began: threading.Event) -> None:
        assert process.stdout  # noqa: S101
        for number, created in told(process.stdout):
            self.created[number] = created
            began.set()
        began.set()

    def _gone(self, process: subprocess.Popen[str]) -> None:
        process.wait()
        self._reader.join()
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()
        self._process = None


def told(lines: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Numbers, and when in nanoseconds; a killed process's half line is of an item never made."""
    for line in lines:
        if line.endswith("\n"):
            number, created = line.split()
            yield int(number), int(created)


@contextmanager
def steady_load(facts: Mapping[str, str], *, rate: float = 100.0) -> Iterator[Load]:
    """Inside, items are made; after it, all that were made have been handed to the Collector.

    Meanwhile they are looked for in the stores, of which any may be away. Raises LoadError.
    """
    with tempfile.TemporaryDirectory() as directory, Backends(facts) as stores:
        load = Load(facts, rate, Path(directory))
        with _watched(stores, load):
            load.start()
            try:
                yield load
                load.end()
            finally:
                load.kill()


@contextmanager
def _watched(stores: Backends, book: Book) -> Iterator[None]:
    """Inside, it is seen after how long each item is found."""
    over = threading.Event()

    def watch(look: Callable[[Backends, Book], None]) -> None:
        while not over.wait(_LOOK_EVERY_SECONDS):
            look(stores, book)

    watchers = [threading.Thread(target=watch, args=(look,)) for look in LOOKS]
    for watcher in watchers:
        watcher.start()
    try:
        yield
    finally:
        over.set()
        for watcher in watchers:
            watcher.join()
