"""More connections than the limit, and clients that do not read their responses."""

import asyncio
import json
import resource
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from websockets.sync.client import connect

from app.providers.simulated import Behaviour, compose
from chatscope import names
from stack.waiting import poll_until
from tests.chaos.service import Service, even, limit_reached, service, value
from tests.chaos.watching import answers
from tests.running import PATIENCE_SECONDS, Stack
from tests.stack.turns import MODEL, Turn, http_turn, openai_client, sse_turn, websocket_url
from tests.unit.scripted import chat_request

_SOCKETS = 2_000
_MOST = 1_000
# Number of simultaneous connections.
_AT_ONCE = 500
_FILES = 2 * _SOCKETS
_HANDSHAKE = (
    "GET /ws/chat HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_PING, _PONG, _MASKED, _NO_MASK = 0x89, 0x8A, 0x80, b"\0\0\0\0"
_ASK = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "stream": True}
# About 20 MB of events, several times the size of a connection's buffers.
_TOKENS = 100_000
_ENDLESS = {
    "SIMULATED_ANSWER_TOKENS": str(_TOKENS),
    "SIMULATED_TOKENS_PER_SECOND": "0",
    "SIMULATED_FIRST_TOKEN_SECONDS": "0",
    "SEND_TIMEOUT_SECONDS": "2",
}
# Of the simulated model, which computes the whole response before its first token.
_MOST_MEMORY = 64 * 1024 * 1024


@contextmanager
def _open_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FILES:
        pytest.skip(f"{hard} open files are allowed here, {_FILES} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, _FILES), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class _Flood:
    """Open sockets that only send the WebSocket handshake."""

    def __init__(self, service: Service) -> None:
        self._host = service.facts["STACK_HOST"]
        self._port = service.port
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._inside: list[asyncio.StreamWriter] = []
        self._staying: set[asyncio.Task[None]] = set()
        self.answers: Counter[str] = Counter()

    async def come(self) -> None:
        await asyncio.gather(*(self._one() for _ in range(_SOCKETS)))

    async def go(self) -> None:
        for writer in self._inside:
            writer.close()
        await asyncio.gather(*self._staying, return_exceptions=True)

    async def _one(self) -> None:
        async with self._gate:
            reader, writer = await asyncio.open_connection(self._host, self._port)
            writer.write(_HANDSHAKE.format(host=self._host).encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            status = head.split()[1]
            if status == "101":
                self.answers[status] += 1
                self._inside.append(writer)
                self._staying.add(asyncio.create_task(_stay(reader, writer)))
                return
            length = int(head.lower().partition("content-length: ")[2].split()[0])
            body = json.loads(await reader.readexactly(length))
            self.answers[f"{status} {body['error']['code']}"] += 1
            writer.close()
            await writer.wait_closed()


async def _stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Respond to the server's pings; otherwise it closes the connection after a while."""
    while (head := await reader.read(2)) and head[0] == _PING:
        data = await reader.readexactly(head[1])
        writer.write(bytes((_PONG, _MASKED | len(data))) + _NO_MASK + data)


def _talk(facts: Mapping[str, str], flood: _Flood) -> dict[str, object]:
    """Return the end of a response on a connection that was opened before the flood."""
    with connect(websocket_url(facts)) as early, asyncio.Runner() as runner:
        runner.run(flood.come())
        early.send(json.dumps({"type": "message", "content": "hello"}))
        while (message := json.loads(early.recv(timeout=30)))["type"] == "delta":
            pass
        runner.run(flood.go())
    return dict(message)


def test_flood_of_sockets_is_refused_beyond_the_limit_and_served_below(
    stack: Stack, tmp_path: Path
) -> None:
    with _open_files(), service(stack, tmp_path, MAX_CONNECTIONS=str(_MOST)) as one:
        flood = _Flood(one)
        with answers(one.facts, (http_turn, sse_turn)):
            assert _talk(one.facts, flood)["type"] == "done"
        within = _MOST - 1
        assert flood.answers == {
            "101": within,
            "503 too_many_connections": _SOCKETS - within,
        }

        def over() -> bool:
            assert value(stack, names.SOCKET_CONNECTIONS.prometheus, one) == 0
            assert limit_reached(stack, one, "connections") == _SOCKETS - within
            return even(stack, one)

        poll_until(over, "the account of the flood to be even", PATIENCE_SECONDS)


def _short(facts: Mapping[str, str]) -> Turn:
    """Return a short response."""
    with openai_client(facts) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": "hello"}], max_tokens=5
        )
        return Turn(raw.text, raw.headers["x-trace-id"], 0, 0)


@contextmanager
def _asking(one: Service) -> Iterator[socket.socket]:
    """Request a long response without room to receive it."""
    body = json.dumps(_ASK).encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((one.facts["STACK_HOST"], one.port))
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        yield client


def _read_slowly(client: socket.socket) -> None:
    """Wait until the other side closes it."""
    client.settimeout(0.05)

    def over() -> bool:
        try:
            return not client.recv(100)
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True

    poll_until(over, "the end of the connection", PATIENCE_SECONDS)


def test_clients_that_do_not_read_are_disconnected_and_delay_no_other(
    stack: Stack, tmp_path: Path
) -> None:
    """Read a little from one of them at intervals."""
    whole = len(compose(chat_request(_ASK), Behaviour(answer_tokens=_TOKENS))[0])
    with service(stack, tmp_path, **_ENDLESS) as one:
        process = psutil.Process(one.pid)
        _short(one.facts)
        before = process.memory_info().rss
        with answers(one.facts, (_short,)), _asking(one), _asking(one) as slow:
            _read_slowly(slow)

            def cut() -> bool:
                assert limit_reached(stack, one, "send_seconds") == 2
                return True

            poll_until(cut, "both to be cut", PATIENCE_SECONDS)
        assert process.memory_info().rss - before < _MOST_MEMORY

        def recorded() -> bool:
            lines = stack.backends.loki(f'{{service_name="{one.name}"}} |= "answer cancelled"')
            assert len(lines) == 2
            for line in lines:
                assert line.metadata[names.prometheus_label(names.ERROR_TYPE)] == "cancelled"
                # The model was asked for no more than fits into the buffers.
                asked = line.metadata[names.prometheus_label(names.GEN_AI_USAGE_OUTPUT_TOKENS)]
                assert 0 < int(asked) < whole / 2
            assert value(stack, names.ANSWERS_ACTIVE.prometheus, one) == 0
            return even(stack, one)

        poll_until(recorded, "what became of their answers", PATIENCE_SECONDS)
