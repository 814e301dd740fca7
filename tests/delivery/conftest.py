"""A receiver, and processes that send to it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.delivery.receiver import ScriptedReceiver

_ROOT = Path(__file__).parents[2]


class Emitter:
    """A process that emits through the package."""

    def __init__(self, errors: Path, *options: str) -> None:
        self._errors = errors
        with errors.open("w") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.delivery.emitter", *options],
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def wait_until_ready(self) -> None:
        self._expect("ready")

    def emit(self, prefix: str, first: int, last: int) -> None:
        """Emit a span, a log record and an increment of each number below `last`."""
        self.tell(f"emit {prefix} {first} {last}")
        self._expect("emitted")

    def tell(self, command: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def suspend(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.communicate()

    def quit(self) -> None:
        """Stop the process gracefully."""
        self.tell("quit")
        self._expect("ended")
        self._process.communicate(timeout=240)

    @property
    def console(self) -> list[str]:
        """Return all error lines that it printed."""
        return self._errors.read_text().splitlines()

    def _expect(self, word: str) -> None:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line == f"{word}\n", self.console


Start = Callable[..., Emitter]


@pytest.fixture
def receiver() -> Iterator[ScriptedReceiver]:
    receiver = ScriptedReceiver()
    with receiver.listening():
        yield receiver


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Return a directory that does not exist yet."""
    return tmp_path / "spool"


@pytest.fixture
def start(receiver: ScriptedReceiver, tmp_path: Path) -> Iterator[Start]:
    """Start processes; several concurrently with `wait=False` and `wait_until_ready`."""
    with ExitStack() as stack:
        count = 0

        def start(spool: Path | None, *options: str, wait: bool = True) -> Emitter:
            nonlocal count
            count += 1
            where = ("--spool", str(spool)) if spool else ()
            errors = tmp_path / f"console-{count}.txt"
            emitter = Emitter(errors, "--endpoint", receiver.endpoint, *where, *options)
            stack.callback(emitter.kill)
            if wait:
                emitter.wait_until_ready()
            return emitter

        yield start


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
