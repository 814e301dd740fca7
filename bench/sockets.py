"""Idle connections and concurrent streams of one worker.

    python -m bench.sockets
    python -m bench.sockets --sockets 1000 --streams 100

The service, `python -m app`, exports its telemetry to a receiver that accepts everything. Measured
are, in this order, each with a service of its own:

- resident memory of an idle connection: an HTTP connection that is kept alive after a response, and
  a WebSocket that offers compression, as browsers do. Memory of the kernel is not included.
- streams of the simulated model at 20 chunks a second each, over server-sent events: the longest
  gap between two packets of any stream, the 99th percentile of all gaps, and the CPU of the service
  for a chunk. A gap of a stream without any delay is 50 ms.
"""

import argparse
import asyncio
import json
import resource
import socket
import sys
import time
from collections.abc import Sequence
from statistics import quantiles
from typing import Final

from rich.table import Table

from bench.otlp import receiver
from bench.results import Recorder, Row
from bench.service import Service, cpu_seconds, running
from stack.terminal import Terminal

_MOST_SOCKETS: Final = 5_000
_MOST_SECONDS: Final = 60
_CHUNKS_PER_SECOND: Final = 20
_SETTLE_SECONDS: Final = 3.0
_FILES_BESIDE_SOCKETS: Final = 100
_SOCKET: Final = (
    b"GET /ws/chat HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n"
    b"user-agent: Mozilla/5.0 (X11; Linux x86_64) bench\r\n\r\n"
)
_KEPT_ALIVE: Final = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
_IDLE: Final = {"idle WebSocket": (_SOCKET, b"101"), "idle HTTP connection": (_KEPT_ALIVE, b"200")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table and write the result."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.sockets", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--sockets", type=int, default=_MOST_SOCKETS)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=20, help="length of each stream")
    given = parser.parse_args(arguments)
    recorder = Recorder("sockets", sys.argv[1:] if arguments is None else arguments)
    if given.sockets > _MOST_SOCKETS or given.seconds > _MOST_SECONDS:
        parser.error(f"at most {_MOST_SOCKETS} sockets and {_MOST_SECONDS} seconds")
    _raise_file_limit(max(given.sockets, given.streams))
    exports, endpoint = receiver()
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "MAX_CONNECTIONS": str(given.sockets),
        "MAX_ANSWERS": str(max(1, given.streams)),
        "SIMULATED_TOKENS_PER_SECOND": str(_CHUNKS_PER_SECOND),
        "SIMULATED_ANSWER_TOKENS": str(_CHUNKS_PER_SECOND * given.seconds),
    }
    rows = []
    for name, (request, status) in _IDLE.items():
        if given.sockets:
            with running(environ) as service:
                rows.append(_idle(service, name, request, status, given.sockets))
    if given.streams:
        with running(environ) as service:
            rows += _streams(service, given.streams, given.seconds)
    exports.stop(0)
    table = Table("", "variant", "value", "unit", title="One worker", box=None)
    for row in rows:
        table.add_row(row.row, row.variant, f"{row.value:.1f}", row.unit)
    Terminal().print(table)
    recorder.write(rows)
    return 0


def _idle(service: Service, name: str, request: bytes, status: bytes, count: int) -> Row:
    """Return the memory of one of so many idle connections."""
    held = [_connected(service.port, request, status) for _ in range(10)]
    time.sleep(_SETTLE_SECONDS)
    before = service.process.memory_info().rss
    held += [_connected(service.port, request, status) for _ in range(count - 10)]
    time.sleep(_SETTLE_SECONDS)
    after = service.process.memory_info().rss
    for connection in held:
        connection.close()
    each_kb = (after - before) / (count - 10) / 1e3
    return Row.of(f"{name}, memory", f"{count} connections", [each_kb], "kB")


def _connected(port: int, request: bytes, status: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(request)
    response = b""
    while b"\r\n\r\n" not in response:
        part = connection.recv(4096)
        if not part:
            break
        response += part
    if status not in response.partition(b"\r\n")[0]:
        raise RuntimeError(f"unexpected response: {response[:300]!r}")
    return connection


def _streams(service: Service, count: int, seconds: int) -> list[Row]:
    """Return the gaps and the CPU of so many concurrent streams."""
    before = cpu_seconds(service.process)
    gaps, chunks, complete = asyncio.run(_read(service.port, count, seconds))
    spent = cpu_seconds(service.process) - before
    if complete != count:
        raise RuntimeError(f"{count - complete} of {count} streams did not end as they must")
    variant = f"{count} streams, {_CHUNKS_PER_SECOND} chunks/s each"
    return [
        Row.of("longest gap", variant, [max(gaps) * 1e3], "ms"),
        Row.of("99th percentile of gaps", variant, [quantiles(gaps, n=100)[-1] * 1e3], "ms"),
        Row.of("CPU of a chunk", variant, [spent / chunks * 1e6], "µs"),
    ]


async def _read(port: int, count: int, seconds: int) -> tuple[list[float], int, int]:
    loop = asyncio.get_running_loop()
    readers: list[_Reader] = []
    for _ in range(count):
        _, reader = await loop.create_connection(_Reader, "127.0.0.1", port)
        readers.append(reader)
        # Streams that start together would also send together.
        await asyncio.sleep(1 / _CHUNKS_PER_SECOND / 10)
    await asyncio.wait([each.ended for each in readers], timeout=seconds + _MOST_SECONDS)
    gaps = [gap for each in readers for gap in each.gaps]
    return gaps, sum(each.chunks for each in readers), sum(each.complete for each in readers)


class _Reader(asyncio.Protocol):
    """One stream: the gaps between its packets, and the number of its events."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self.chunks = 0
        self.complete = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._last = 0.0
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        message = {"role": "user", "content": "How are you?"}
        body = json.dumps({"model": "simulated-1", "stream": True, "messages": [message]}).encode()
        transport.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        )

    def data_received(self, data: bytes) -> None:
        """Note the gap since the packet before."""
        now = time.perf_counter()
        chunks = data.count(b"data: {")
        if self._last and chunks:
            self.gaps.append(now - self._last)
        self._last = now if chunks else self._last
        self.chunks += chunks
        if b"data: [DONE]" in data:
            self.complete = True
            if self._transport:
                self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if not self.ended.done():
            self.ended.set_result(None)


def _raise_file_limit(sockets: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = sockets + _FILES_BESIDE_SOCKETS
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))


if __name__ == "__main__":
    raise SystemExit(main())
