# ruff: noqa: PLC0415 - each process imports what it measures.
"""Runs the workloads of bench.instructions below valgrind.

    valgrind ... python -P bench/instructions/workloads.py NAME...

Modules are imported once, and a forked process runs a service or a workload. An instruction count
is taken by another fork that ends at once: valgrind counts the instructions of each process, and
those of its parent before the fork. A workload is warmed up before its first count. Prints, as
JSON, the IDs of the two processes of each workload, and the repetitions between their forks.

This file imports nothing of bench, because it also measures other commits, whose `app` and
`chatscope` are then in PYTHONPATH.

- Telemetry is encoded, queued and batched as usual, and accepted by a client without a network,
  because the speed of a receiver would change the path that a batch takes.
- The garbage collector is off: one full collection more or less would be several percent.
- Nothing depends on the time: sleeps last a thousand times longer, computations do not pause, lines
  of the console are queued and not written, and the provider of a relayed stream sends a packet
  after the client has received the one before.
"""

import asyncio
import ctypes
import gc
import json
import os
import random
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from threading import RLock
from typing import Any, Final, NoReturn

_SECONDS: Final = 600.0  # until a process is stuck
_POLL_SECONDS: Final = 0.05
_LONGER: Final = 1_000
# For what other threads and tasks still do when a client has its response, or a flush ends.
_SETTLE_SECONDS: Final = 0.3
# Repetitions before the first count, and between the two. A batch holds more spans and records.
_WARM: Final = 80
_TIMES: Final = 320
_WARM_RESPONSES: Final = 20
_RESPONSES: Final = 40
_PACKET_CHUNKS: Final = 8
_PATH: Final = "/v1/chat/completions"
_SIMULATED: Final = "simulated-1"
_RELAYED: Final = "relayed"
_HOUR_MS: Final = "3600000"
_LIBRARY: Final = ctypes.PyDLL(None)
_ENVIRON: Final = {
    "OPENAI_MODELS": _RELAYED,
    "SIMULATED_FIRST_TOKEN_SECONDS": "0",
    "SIMULATED_TOKENS_PER_SECOND": "0",
    "OTEL_BSP_SCHEDULE_DELAY": _HOUR_MS,
    "OTEL_BLRP_SCHEDULE_DELAY": _HOUR_MS,
    "OTEL_METRIC_EXPORT_INTERVAL": _HOUR_MS,
    # On an overloaded machine, both sides may wait for minutes.
    **dict.fromkeys(
        (
            "RECEIVE_TIMEOUT_SECONDS",
            "SEND_TIMEOUT_SECONDS",
            "ANSWER_STALL_SECONDS",
            "OPENAI_TIMEOUT_SECONDS",
            "OPENAI_CONNECT_TIMEOUT_SECONDS",
        ),
        str(_SECONDS),
    ),
}

# Takes a count; returns the ID of the process that it ends with.
Count = Callable[[], int]


@dataclass(frozen=True)
class Service:
    """A process of the service, with a connection to it and the listener of its provider."""

    connection: socket.socket
    provider: socket.socket
    count: Count


@dataclass(frozen=True)
class Counts:
    """Processes whose counts differ by `times` repetitions."""

    before: int
    after: int
    times: int


def main(names: Sequence[str]) -> int:
    """Run the workloads, by default all, and print their counts."""
    gc.disable()
    _import_package()
    chosen = names or WORKLOADS
    found = {name: _in_process(_IN_PROCESS[name]) for name in chosen if name in _IN_PROCESS}
    for environ, drivers in _SERVICES:
        if driven := [name for name in chosen if name in drivers]:
            _import_service()
            with _service(environ) as service:
                found |= {name: drivers[name](service) for name in driven}
    print(json.dumps({name: vars(counts) for name, counts in found.items()}))
    return 0


def _import_package() -> None:
    """Import the package, and replace the network of its export."""
    import loguru  # noqa: F401

    import chatscope.logs.console
    import chatscope.otlp.delivery
    import chatscope.otlp.pipeline
    import chatscope.otlp.steps
    import chatscope.telemetry

    for module, name, value in (
        (chatscope.otlp.delivery, "connect", _Accepting),
        # How often an idle spool is looked at.
        (chatscope.otlp.pipeline, "_IDLE", _SECONDS),
        # How long a computation goes on before it pauses.
        (chatscope.otlp.steps, "_STEP", _SECONDS),
        # How long lines of the console are collected before they are written.
        (chatscope.logs.console, "_GATHER_SECONDS", _SECONDS),
    ):
        if not hasattr(module, name):
            raise RuntimeError(f"{module.__name__} has no {name} to replace")
        setattr(module, name, value)


def _import_service() -> None:
    import app.serving

    with suppress(ImportError):  # imported where they are used: this only saves time
        import httptools  # noqa: F401
        import uvloop  # noqa: F401

        import app.providers.openai_compatible  # noqa: F401


class _Accepting:
    """A client that accepts each batch at once (chatscope.otlp.client.Client)."""

    timeout = 10.0

    def __init__(self, _: object) -> None:
        self.lock = RLock()

    def send(self, body: bytes) -> Future[Any]:
        """Accept."""
        from chatscope.otlp.client import accepted

        assert isinstance(body, bytes)
        future: Future[Any] = Future()
        future.set_result(accepted(b""))
        return future

    def close(self) -> None:
        """Do nothing."""


def _count() -> int:
    """Take a count of this process; return the ID of the process that has it."""
    # Of the C library: Python's fork calls what the package does for a process that goes on.
    process = int(_LIBRARY.fork())
    if process == 0:
        _LIBRARY._exit(0)
    os.waitpid(process, 0)
    return process


def _in_process(prepare: Callable[[], Callable[[int], None]]) -> Counts:
    """Run a workload in a forked process."""

    def call() -> None:
        repeat = prepare()
        counts = []
        for times in (_WARM, _TIMES):
            repeat(times)
            time.sleep(_SETTLE_SECONDS)
            counts.append(_count())
        os.write(write, struct.pack("qq", *counts))

    read, write = os.pipe()
    process = _forked(call)
    os.close(write)
    with open(read, "rb") as results:
        result = results.read()
    _, status = os.waitpid(process, 0)
    if status != 0:
        raise RuntimeError("the process of a workload failed")
    before, after = struct.unpack("qq", result)
    return Counts(before, after, _TIMES)


def _forked(call: Callable[[], object]) -> int:
    """Start a process for a call; return its ID."""
    process = os.fork()
    if process == 0:
        _end_with(call)
    return process


def _end_with(call: Callable[[], object]) -> NoReturn:
    code = 1
    try:
        random.seed(0)  # of trace IDs
        os.dup2(2, 1)  # the result of this program is the only text on the standard output
        call()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


# -- of the service


@contextmanager
def _service(environ: Mapping[str, str]) -> Iterator[Service]:
    """Run `python -m app` in a forked process."""
    read, write = os.pipe()
    port = _free_port()

    def count() -> None:
        os.write(write, struct.pack("q", _count()))

    def on_signal(*_: object) -> None:
        asyncio.get_running_loop().call_later(_SETTLE_SECONDS, count)

    def serve() -> None:
        from app.__main__ import main as run

        signal.signal(signal.SIGUSR1, on_signal)
        os.environ.update({**_ENVIRON, **environ})
        os.environ["PORT"] = str(port)
        os.environ["OPENAI_BASE_URL"] = f"http://127.0.0.1:{provider.getsockname()[1]}/v1"
        _lengthen_sleeps()
        sys.argv = ["app"]
        run()

    with socket.create_server(("127.0.0.1", 0)) as provider:
        provider.settimeout(_SECONDS)
        process = _forked(serve)

        def ask_for_count() -> int:
            os.kill(process, signal.SIGUSR1)
            (counted,) = struct.unpack("q", os.read(read, 8))
            return int(counted)

        try:
            with _connected(process, port) as connection:
                yield Service(connection, provider, ask_for_count)
        finally:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(process, 0)
            os.close(read)
            os.close(write)


def _lengthen_sleeps() -> None:
    """Let what is done periodically be done never, because a count would depend on the time."""
    sleep = asyncio.sleep

    async def longer(delay: float, result: Any = None) -> Any:
        return await sleep(delay * _LONGER, result)

    asyncio.sleep = longer


def _json_responses(service: Service) -> Counts:
    def ask(times: int) -> int:
        for _ in range(times):
            service.connection.sendall(_request(_SIMULATED, stream=False))
            head, body = _read_until(service.connection, b"\r\n\r\n")
            _read_exactly(service.connection, body, _content_length(head))
        return service.count()

    return Counts(ask(_WARM_RESPONSES), ask(_RESPONSES), _RESPONSES)


def _chunks(service: Service, *, packet: int = 1) -> Counts:
    """Relay a stream whose provider sends so many chunks in a packet."""
    client = service.connection
    client.sendall(_request(_RELAYED, stream=True))
    provider, _ = service.provider.accept()

    def relay(first: int, end: int) -> int:
        for start in range(first, end, packet):
            numbers = range(start, start + packet)
            _send_part(provider, b"".join(map(_event, numbers)))
            # The last chunk of the packet has arrived when its text has.
            _read_until(client, _text(numbers[-1]).encode())
        return service.count()

    with provider:
        head, body = _read_until(provider, b"\r\n\r\n")
        _read_exactly(provider, body, _content_length(head))
        provider.sendall(_STREAM_HEAD)
        counts = Counts(relay(0, _WARM), relay(_WARM, _WARM + _TIMES), _TIMES)
        _send_part(provider, _LAST_EVENT + b"data: [DONE]\n\n")
        provider.sendall(b"0\r\n\r\n")
        _read_until(client, b"0\r\n\r\n")
    return counts


_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _send_part(provider: socket.socket, part: bytes) -> None:
    provider.sendall(b"%x\r\n%s\r\n" % (len(part), part))


def _text(number: int) -> str:
    return f" word{number:06}"


def _event(number: int) -> bytes:
    return _rendered({"content": _text(number)}, None)


def _rendered(delta: Mapping[str, str], reason: str | None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    head = {"id": "r-1", "object": "chat.completion.chunk", "created": 1, "model": _RELAYED}
    return f"data: {json.dumps({**head, 'choices': [choice], **more})}\n\n".encode()


_USAGE: Final = {"prompt_tokens": 4, "completion_tokens": 9, "total_tokens": 13}
_LAST_EVENT: Final = _rendered({}, "stop", usage=_USAGE)


def _request(model: str, *, stream: bool) -> bytes:
    message = {"role": "user", "content": "How are you?"}
    body = json.dumps({"model": model, "stream": stream, "messages": [message]}).encode()
    return (
        f"POST {_PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\nuser-agent: bench\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


def _content_length(head: bytes) -> int:
    [length] = [
        line.partition(b":")[2]
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    ]
    return int(length)


def _read_until(connection: socket.socket, end: bytes) -> tuple[bytes, bytes]:
    """Return what arrives before `end`, and after it; a response must be successful."""
    found = b""
    while end not in found:
        found += _received(connection)
    if found.startswith(b"HTTP/") and not found.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(found.decode(errors="replace"))
    before, _, after = found.partition(end)
    return before, after


def _read_exactly(connection: socket.socket, found: bytes, size: int) -> None:
    while len(found) < size:
        found += _received(connection)


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(65_536)
    if not data:
        raise RuntimeError("the connection was closed")
    return data


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _connected(process: int, port: int) -> socket.socket:
    """Connect to the service as soon as it accepts connections."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline and os.waitpid(process, os.WNOHANG) == (0, 0):
        with suppress(ConnectionRefusedError):
            return socket.create_connection(("127.0.0.1", port), timeout=_SECONDS)
        time.sleep(_POLL_SECONDS)
    raise RuntimeError("the service does not accept connections")


# -- of the package


def _spans() -> Callable[[int], None]:
    flush = _configure()
    from opentelemetry import trace

    tracer = trace.get_tracer("bench")

    def repeat(times: int) -> None:
        for number in range(times):
            attributes: dict[str, str | int] = {
                "http.request.method": "POST",
                "url.path": "/v1/chat/completions",
                "http.route": "/v1/chat/completions",
                "http.response.status_code": 200,
                "server.port": 3000,
                "client.address": "127.0.0.1",
                "user_agent.original": "python-client/3",
                "gen_ai.request.model": "simulated-1",
                "gen_ai.usage.output_tokens": number % 100,
                "gen_ai.response.id": f"chatcmpl-{number}",
            }
            tracer.start_span("POST /v1/chat/completions", attributes=attributes).end()
        flush()

    return repeat


def _log_records() -> Callable[[int], None]:
    from loguru import logger

    logger.remove()  # its default sink writes to the standard error output
    flush = _configure()

    def repeat(times: int) -> None:
        for number in range(times):
            logger.info("order {} placed", number, customer="c-1", total=12.5)
        flush()

    return repeat


def _requests() -> Callable[[int], None]:
    async def bare(
        _: object, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}", "more_body": False})

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(_: object) -> None:
        return None

    async def ask(times: int) -> None:
        for _ in range(times):
            await app(_scope(), receive, send)

    def repeat(times: int) -> None:
        loop.run_until_complete(ask(times))
        flush()

    flush = _configure()
    import chatscope

    app: Any = chatscope.instrument(bare)
    loop = asyncio.new_event_loop()
    return repeat


def _configure() -> Callable[[], object]:
    """Export the telemetry of this process; return a function that sends what is queued."""
    import chatscope

    os.environ.update(_ENVIRON)
    telemetry = chatscope.configure(service_name="bench")
    # Once, with the metrics and the spool: what threads begin with is not counted.
    telemetry.flush()
    assert telemetry.providers.delivery is not None
    return telemetry.providers.delivery.flush


def _scope() -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/orders",
        "raw_path": b"/orders",
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"127.0.0.1:3000"),
            (b"content-type", b"application/json"),
            (b"content-length", b"2"),
            (b"user-agent", b"bench"),
        ],
        "client": ("127.0.0.1", 40_000),
        "server": ("127.0.0.1", 3000),
    }


def _python() -> Callable[[int], None]:
    """Nothing of ours: its figure differs between interpreters, and between nothing else."""

    def repeat(times: int) -> None:
        for number in range(times):
            text = json.dumps({f"key {each}": [each, number, {}] for each in range(20)})
            assert sorted(json.loads(text).items())

    return repeat


_IN_PROCESS: Final[Mapping[str, Callable[[], Callable[[int], None]]]] = {
    "python": _python,
    "request": _requests,
    "span": _spans,
    "log_record": _log_records,
}
_ON: Final[Mapping[str, Callable[[Service], Counts]]] = {
    "json_response": _json_responses,
    "chunk": _chunks,
    "chunk_of_packet": partial(_chunks, packet=_PACKET_CHUNKS),
}
_OFF: Final[Mapping[str, Callable[[Service], Counts]]] = {"json_response_off": _json_responses}
_SERVICES: Final[Sequence[tuple[Mapping[str, str], Mapping[str, Callable[[Service], Counts]]]]] = (
    ({}, _ON),
    ({"OTEL_SDK_DISABLED": "true"}, _OFF),
)
WORKLOADS: Final = (*_IN_PROCESS, *_ON, *_OFF)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
