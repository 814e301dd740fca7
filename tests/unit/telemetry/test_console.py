"""Standard error that is not read, closed, full or in another encoding: nothing waits for it."""

import fcntl
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import httpx2
import pytest

from chatscope import names
from chatscope.logs.console import Console
from stack.waiting import poll_until
from tests.elapsed import assert_at_most, takes, takes_at_most
from tests.receiver import Receiver
from tests.unit.process import PATIENCE_SECONDS

_ROOT = Path(__file__).parents[3]
_REPORT = re.compile(r"(\d+) log lines? dropped: standard error was not writable")
# A line is queued in microseconds; the factor is for a busy machine.
_STEP_SECONDS = 0.1
pytestmark = pytest.mark.timeout(240)


@contextmanager
def _pipe() -> Iterator[tuple[int, TextIO]]:
    """The reading end, and the writing end as the smallest pipe that there is."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with open(writing, "w", encoding="utf-8") as stream:
        try:
            yield reading, stream
        finally:
            os.close(reading)


def _read_until(reading: int, last: str) -> str:
    found = b""
    while last.encode() not in found:
        found += os.read(reading, 4096)
    return found.decode()


def test_line_never_waits_for_a_reader_and_the_gap_is_reported_in_its_place() -> None:
    with _pipe() as (reading, stream):
        console = Console(lambda: stream, capacity=100_000)
        longest = 0.0
        for number in range(20_000):
            started = time.perf_counter()
            console.write(f"line {number}\n")
            longest = max(longest, time.perf_counter() - started)
        assert_at_most(longest, _STEP_SECONDS, factor=1.0)
        with takes(0.1):
            assert not console.flush(0.1)
        dropped = console.dropped
        shown = _read_until(reading, "log lines dropped").splitlines()
        console.write("afterwards\n")
        shown += _read_until(reading, "afterwards\n").splitlines()
    kept = 20_000 - dropped
    assert 0 < kept < 20_000
    assert shown[:kept] == [f"line {number}" for number in range(kept)]
    report = _REPORT.search(shown[kept])
    assert report is not None
    assert int(report[1]) == dropped
    assert shown[-1] == "afterwards"
    assert sum("dropped" in line for line in shown) == 1


def test_pipe_that_another_process_made_non_blocking_loses_nothing() -> None:
    with _pipe() as (reading, stream):
        os.set_blocking(stream.fileno(), False)
        console = Console(lambda: stream)
        lines = "".join(f"line {number}\n" for number in range(3_000))
        for line in lines.splitlines(keepends=True):
            console.write(line)
        assert _read_until(reading, "line 2999\n") == lines
    assert console.dropped == 0


def _without_reader() -> TextIO:
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w", encoding="utf-8")


def _closed() -> TextIO:
    stream = io.StringIO()
    stream.close()
    return stream


def _closed_below() -> TextIO:
    stream = open(os.dup(2), "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    os.close(stream.fileno())
    return stream


def _full_disk() -> TextIO:
    return open("/dev/full", "w", encoding="utf-8")


@pytest.mark.parametrize(
    "make", [lambda: None, _without_reader, _closed, _closed_below, _full_disk]
)
def test_lines_that_cannot_be_written_are_counted_and_reported_later(
    make: Callable[[], TextIO | None],
) -> None:
    stream, later = make(), io.StringIO()
    streams = [stream]
    console = Console(lambda: streams[-1])
    for number in range(10):
        console.write(f"line {number}\n")
    assert console.flush(60.0)
    assert console.dropped == 10
    streams.append(later)
    console.write("afterwards\n")
    assert console.flush(60.0)
    report, line = later.getvalue().splitlines()
    assert "10 log lines dropped" in report
    assert line == "afterwards"
    assert console.dropped == 10


@pytest.mark.parametrize(
    ("encoding", "wanted"),
    [
        ("ascii", b"a\\xdf\\U0001f600\\ud800\n"),
        ("latin-1", b"a\xdf\\U0001f600\\ud800\n"),
        ("utf-8", "aß😀".encode() + b"\\ud800\n"),
    ],
)
def test_character_that_the_terminal_lacks_is_replaced(
    encoding: str, wanted: bytes, tmp_path: Path
) -> None:
    with open(tmp_path / "err", "w", encoding=encoding) as stream:
        console = Console(lambda: stream)
        console.write("aß😀\ud800\n")
        assert console.flush(60.0)
    assert (tmp_path / "err").read_bytes() == wanted
    assert console.dropped == 0


def test_forked_process_writes_its_own_lines_only() -> None:
    with _pipe() as (reading, stream):
        console = Console(lambda: stream)
        console.write("parent\n")
        assert _read_until(reading, "parent\n") == "parent\n"
        if (child := os.fork()) == 0:
            console.write("child\n")
            os._exit(0 if console.flush(60.0) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert _read_until(reading, "child\n") == "child\n"


# --- `python -m app`


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def _service(stderr: int | TextIO, **environ: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process, and its base URL; it is killed where a test ends early."""
    port = environ.setdefault("PORT", str(_free_port()))
    process = subprocess.Popen(
        [sys.executable, "-m", "app"],
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"], "OTEL_SDK_DISABLED": "true", **environ},
        stderr=stderr,
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _is_up(client: httpx2.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx2.TransportError:
        return False


# Their lines have more than the console and a pipe keep, 2 MiB and 64 KiB.
_MANY = 1_500


def _send(client: httpx2.Client, count: int) -> None:
    """Requests whose access lines have two kilobytes each, and a further line beside it."""
    for _ in range(count):
        assert client.get(f"/{'x' * 2_000}").status_code == 404
    with takes_at_most(1.0, factor=1.0):
        assert client.get("/healthz").status_code == 200


def _end(process: subprocess.Popen[bytes]) -> None:
    """Half a second for the console, and what an interpreter takes on a busy machine."""
    with takes_at_most(0.5 + 4.0, factor=1.0):
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.slow
def test_service_answers_and_ends_while_nobody_reads_its_log() -> None:
    reading, writing = os.pipe()
    shown: list[str] = []
    paused = threading.Event()

    def read() -> None:
        with open(reading, encoding="utf-8") as pipe:
            while not paused.is_set() and (line := pipe.readline()):
                shown.append(line)
            paused.wait()  # keeps the pipe open

    with (
        Receiver() as receiver,
        _service(
            writing,
            OTEL_SDK_DISABLED="false",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            MAX_REFUSAL_LINES="1000000",
        ) as (process, url),
        httpx2.Client(base_url=url, trust_env=False, timeout=PATIENCE_SECONDS) as client,
    ):
        os.close(writing)
        poll_until(lambda: _is_up(client), "the service")
        _send(client, _MANY)
        threading.Thread(target=read, daemon=True).start()
        poll_until(
            lambda: _kept(shown) + _reported(shown) == 2 * _MANY, "a line or a report of each"
        )
        assert _reported(shown) > 0
        poll_until(lambda: _dropped(receiver) == _reported(shown), "the metric")
        poll_until(lambda: _requests(receiver) == _MANY, "a log record of each request")
        paused.set()
        _send(client, 200)
        _end(process)


def _reported(shown: list[str]) -> int:
    return sum(int(found[1]) for line in shown if (found := _REPORT.search(line)))


def _kept(shown: list[str]) -> int:
    return sum(" 404 " in line or "request refused" in line for line in shown)


def _requests(receiver: Receiver) -> int:
    return sum(record.body.endswith(" 404") for record in receiver.log_records)


def _dropped(receiver: Receiver) -> float:
    points = [p for p in receiver.metric_points if p.name == names.CONSOLE_DROPPED.name]
    return points[-1].value if points else -1


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full", "2> >(exec true)"])
def test_service_runs_without_a_standard_error(shell: str) -> None:
    port = _free_port()
    process = subprocess.Popen(
        ["bash", "-c", f"exec {sys.executable} -m app {shell}"],
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"], "OTEL_SDK_DISABLED": "true", "PORT": str(port)},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx2.Client(base_url=url, trust_env=False, timeout=PATIENCE_SECONDS) as client:
            poll_until(lambda: _is_up(client), "the service")
            _send(client, 80)
        _end(process)
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_failed_start_ends_while_nobody_reads_its_log() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        _pipe() as (_, stream),
    ):
        os.write(stream.fileno(), b"x" * 4096)
        with _service(stream, PORT=str(taken.getsockname()[1])) as (process, _):
            assert process.wait(PATIENCE_SECONDS) not in (0, None)


def test_failed_start_prints_all_lines_in_order() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "app"],
            cwd=_ROOT,
            env={"PATH": os.environ["PATH"], "OTEL_SDK_DISABLED": "true", "PORT": port},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    assert done.returncode != 0
    clocks = re.findall(r"^(\d\d:\d\d:\d\d\.\d{3}) ", done.stderr, re.M)
    assert clocks == sorted(clocks)
    assert "address already in use" in done.stderr
