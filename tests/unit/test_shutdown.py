"""The duration of a shutdown: no longer than promised, whatever hangs."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.transport.deadline import AFTER_GRACE_SECONDS, Deadline
from tests.elapsed import takes_at_most
from tests.receiver import Receiver
from tests.unit.process import PATIENCE_SECONDS, patched, printed, process, served, until

pytestmark = pytest.mark.slow

_GRACE_SECONDS = 0.5
_LIMIT_SECONDS = _GRACE_SECONDS + AFTER_GRACE_SECONDS
# A provider that hangs in its call, in a thread of the event loop's pool, and when it is closed.
_HANGING_PROVIDER = """
import asyncio, sys, time
from app.providers import catalog

class Hanging:
    name, models, server, in_process = "hanging", ("hangs",), None, True

    def stream(self, request):
        sys.stderr.write("the provider hangs\\n")
        time.sleep(3600)
        yield

    async def close(self):
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
        await asyncio.Event().wait()

build = catalog.Catalog.__init__
def with_hanging(self, providers, *arguments, **options):
    build(self, [*providers, Hanging()], *arguments, **options)
catalog.Catalog.__init__ = with_hanging
"""


@contextmanager
def _collectors() -> Iterator[dict[str, str]]:
    """One for each signal: refuses connections, accepts and never answers, answers no call."""
    with (
        socket.create_server(("127.0.0.1", 0)) as refusing,
        socket.create_server(("127.0.0.1", 0)) as silent,
        Receiver() as hanging,
    ):
        port = refusing.getsockname()[1]
        refusing.close()
        hanging.hang()
        yield {
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": hanging.endpoint,
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": (f"http://127.0.0.1:{silent.getsockname()[1]}"),
        }


@contextmanager
def _unread(url: str) -> Iterator[None]:
    """A client that asks for a long response, and does not read it."""
    with _asked(url, b'{"messages":[{"role":"user","content":"hi"}],"stream":true}') as client:
        client.recv(1)
        yield


@contextmanager
def _asked(url: str, body: bytes) -> Iterator[socket.socket]:
    """A connection with a small receive buffer, on which a request was sent."""
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, int(port)))
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        head += f"content-length: {len(body)}\r\n"
        client.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
        yield client


@pytest.mark.parametrize("workers", ["1", "2"], ids=["alone", "workers"])
@pytest.mark.parametrize("spool", [True, False], ids=["spool", "memory"])
def test_stop_takes_no_longer_than_promised(workers: str, spool: bool, tmp_path: Path) -> None:
    with (
        _collectors() as collectors,
        process(
            WORKERS=workers,
            SHUTDOWN_GRACE_SECONDS=str(_GRACE_SECONDS),
            OTEL_SDK_DISABLED="false",
            SIMULATED_ANSWER_TOKENS="200000",
            SIMULATED_TOKENS_PER_SECOND="0",
            TELEMETRY_SPOOL_DIR=str(tmp_path) if spool else "",
            **collectors,
        ) as running,
    ):
        url = served(running)
        with (
            printed(running) as lines,
            _unread(url),
            takes_at_most(_LIMIT_SECONDS, factor=1.1),
        ):
            running.send_signal(signal.SIGTERM)
            running.wait(PATIENCE_SECONDS)
    assert not [line for line in lines if "Traceback" in line], "".join(lines)


@pytest.mark.parametrize("workers", ["1", "2"], ids=["alone", "workers"])
def test_provider_that_hangs_delays_no_stop_and_costs_no_telemetry(
    workers: str, tmp_path: Path
) -> None:
    with (
        Receiver() as receiver,
        process(
            WORKERS=workers,
            SHUTDOWN_GRACE_SECONDS=str(_GRACE_SECONDS),
            OTEL_SDK_DISABLED="false",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            # Nothing is sent before the end.
            OTEL_BSP_SCHEDULE_DELAY="3600000",
            OTEL_BLRP_SCHEDULE_DELAY="3600000",
            **patched(tmp_path, _HANGING_PROVIDER),
        ) as running,
    ):
        url = served(running)
        with printed(running) as lines:
            with _asked(url, b'{"model":"hangs","messages":[{"role":"user","content":"hi"}]}'):
                until(lambda: "the provider hangs" in "".join(lines), "the call of the provider")
            with takes_at_most(_LIMIT_SECONDS, factor=1.1):
                running.send_signal(signal.SIGTERM)
                running.wait(PATIENCE_SECONDS)
    # As often as it was printed: on a busy machine a worker may be ended before it says so.
    printed_times = sum("provider did not close in time" in line for line in lines)
    assert 1 <= printed_times <= int(workers)
    logged = [log.body for log in receiver.log_records]
    assert logged.count("provider did not close in time") == printed_times
    assert [span.name for span in receiver.spans if span.name == "chat hangs"]


def test_process_that_cannot_end_is_ended_and_shows_where_it_hangs(tmp_path: Path) -> None:
    """The main thread itself does not come back."""
    hangs = (
        "import time; from app.transport import admission\n"
        "async def close(self, grace): time.sleep(3600)\n"
        "admission.Admission.close = close\n"
    )
    environ = {"SHUTDOWN_GRACE_SECONDS": "0", **patched(tmp_path, hangs)}
    with process(**environ) as running:
        served(running)
        with printed(running) as lines, takes_at_most(AFTER_GRACE_SECONDS, factor=1.1):
            running.send_signal(signal.SIGTERM)
            assert running.wait(PATIENCE_SECONDS) == 1
    assert any("sitecustomize.py" in line and "in close" in line for line in lines)


def test_deadline_begins_once_and_is_shared() -> None:
    deadline = Deadline(grace_seconds=10)
    deadline.start()
    first = deadline.left()
    assert 14 < first <= 10 + AFTER_GRACE_SECONDS
    deadline.start()
    assert deadline.left() <= first
    assert deadline.left(before=20) == 0
