"""A console that is not read, full, closed or gone: the service continues."""

import os
import pty
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pytest

from tests.hostile.outcome import attack, ends
from tests.hostile.service import How, Service, read_answers, started

# Far more than a pipe's 64 kB, or any queue in front of it.
_BATCHES, _BATCH = 10, 100
_REQUESTS = _BATCHES * _BATCH
_PATH = "/nothing/" + "x" * 400


@dataclass(frozen=True)
class Console:
    """Standard output and error of the service, and descriptors to close once it runs."""

    output: int | None = None
    inside: tuple[str, ...] = ()
    then_close: tuple[int, ...] = field(default=())


@contextmanager
def _unread_pipe() -> Iterator[Console]:
    reading, writing = os.pipe()
    try:
        yield Console(writing)
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def _broken_pipe() -> Iterator[Console]:
    reading, writing = os.pipe()
    try:
        yield Console(writing, then_close=(reading,))
    finally:
        os.close(writing)


@contextmanager
def _hung_up_terminal() -> Iterator[Console]:
    ours, theirs = pty.openpty()
    try:
        yield Console(theirs, then_close=(ours, theirs))
    finally:
        for one in (ours, theirs):
            with suppress(OSError):
                os.close(one)


@contextmanager
def _unread_terminal() -> Iterator[Console]:
    ours, theirs = pty.openpty()
    try:
        yield Console(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


@contextmanager
def _full_device() -> Iterator[Console]:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        yield Console(full)
    finally:
        os.close(full)


@contextmanager
def _closed() -> Iterator[Console]:
    # The next files that the service opens get the descriptors 0, 1 and 2.
    yield Console(subprocess.DEVNULL, ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"))


_CONSOLES: Mapping[str, Callable[[], AbstractContextManager[Console]]] = {
    "a pipe that nobody reads": _unread_pipe,
    "a pipe whose reader is gone": _broken_pipe,
    "a terminal that nobody reads": _unread_terminal,
    "a terminal that is gone": _hung_up_terminal,
    "a full device": _full_device,
    "nothing": _closed,
}


@pytest.mark.parametrize(
    ("console", "workers"),
    [
        *(pytest.param(console, "1", id=name) for name, console in _CONSOLES.items()),
        pytest.param(_unread_pipe, "2", id="a pipe that nobody reads, two workers"),
        pytest.param(_closed, "2", id="nothing, two workers"),
    ],
)
def test_service_serves_on_without_its_console(
    tmp_path: Path, console: Callable[[], AbstractContextManager[Console]], workers: str
) -> None:
    with (
        console() as chosen,
        started(
            tmp_path, How(inside=chosen.inside, console=chosen.output), WORKERS=workers
        ) as service,
    ):
        for one in chosen.then_close:
            os.close(one)
        _serves(service)
        ends(service)


def _serves(service: Service) -> None:
    request = f"GET {_PATH} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    with attack(service) as it, service.connect() as client:
        answers = read_answers(client)
        for _ in range(_BATCHES):
            client.sendall(request * _BATCH)
            for answer in islice(answers, _BATCH):
                assert answer.status == 404
        it.leaves("a span for each", lambda: len(it.spans) == _REQUESTS)
        it.leaves("a log record for each", lambda: len(it.logs) >= _REQUESTS)
