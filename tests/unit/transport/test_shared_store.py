"""Two replicas of the service with one store: rates, budgets and conversations hold for both."""

import asyncio
import hashlib
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from websockets.asyncio.client import connect

from app.keys.file import KeysFile
from app.shared_store import RETRY_SECONDS, TIMEOUT_SECONDS
from tests.memory import Memory
from tests.store_server import StoreServer, needs_store, store_server
from tests.unit.scripted import END, Scripted
from tests.unit.transport.live import Live, live

pytestmark = [pytest.mark.slow, pytest.mark.anyio, needs_store]

_BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
_PATIENCE_SECONDS = 60.0


@pytest.fixture
def server() -> Iterator[StoreServer]:
    with store_server() as server:
        yield server


@asynccontextmanager
async def _replicas(
    server: StoreServer, *providers: Scripted, **settings: Any
) -> AsyncIterator[list[tuple[Live, Memory]]]:
    async with AsyncExitStack() as stack:
        found = []
        for provider in providers or (None, None):
            memory = Memory()
            more = {"shared_store_url": SecretStr(server.url), **settings}
            found.append((await stack.enter_async_context(live(memory, provider, **more)), memory))
        yield found


async def _ask(replica: Live, key: str | None = None, **body: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    url = f"http://{replica.address}/v1/chat/completions"
    async with httpx2.AsyncClient(trust_env=False, timeout=_PATIENCE_SECONDS) as client:
        return await client.post(url, json={**_BODY, **body}, headers=headers)


def _keys(tmp_path: Path, entry: str) -> KeysFile:
    path = tmp_path / "keys.toml"
    digest = hashlib.sha256(b"alice").hexdigest()
    path.write_text(f'[[keys]]\nname = "alice"\nsha256 = "{digest}"\n{entry}\n')
    return KeysFile.read(path)


async def test_rates_are_those_of_all_replicas(server: StoreServer, tmp_path: Path) -> None:
    keys = _keys(tmp_path, "")
    rates = {"rate_limit_per_address": "5/hour", "rate_limit_per_key": "3/hour"}
    async with _replicas(server, keys_file=keys, **rates) as replicas:
        first, second = (replica for replica, _ in replicas)
        statuses = [
            (await _ask(replica, "alice")).status_code for replica in (first, second, first, second)
        ]
        assert statuses == [200, 200, 200, 429]
        assert (await _ask(first)).status_code == 401
        refused = await _ask(second)
    assert refused.status_code == 429
    assert "of your address is 5 requests per 3600 s" in refused.text
    assert 0 < int(refused.headers["retry-after"]) <= 3600


async def test_budget_is_that_of_all_replicas(server: StoreServer, tmp_path: Path) -> None:
    keys = _keys(tmp_path, "limits = { tokens_per_day = 20 }")
    async with _replicas(server, keys_file=keys) as replicas:
        first, second = (replica for replica, _ in replicas)
        long = {"max_tokens": 30}
        assert (await _ask(first, "alice", **long)).status_code == 200
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (refused := await _ask(second, "alice")).status_code == 200:
            assert time.monotonic() < deadline
    assert refused.status_code == 429
    assert "The daily budget of the key 'alice' is used up" in refused.text


async def test_replica_counts_for_itself_while_the_store_hangs(
    server: StoreServer, tmp_path: Path
) -> None:
    keys = _keys(tmp_path, "limits = { tokens_per_day = 1000000 }")
    rates = {"rate_limit_per_key": "3/hour"}
    async with _replicas(server, keys_file=keys, **rates) as replicas:
        (first, memory), (second, _) = replicas
        for _ in range(2):
            assert (await _ask(second, "alice")).status_code == 200
        assert memory.value("chatscope.shared_store.up") == 1
        server.signal(signal.SIGSTOP)
        started = time.monotonic()
        assert [(await _ask(first, "alice")).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert time.monotonic() - started < 4 * TIMEOUT_SECONDS + 2
        assert memory.value("chatscope.shared_store.up") == 0
        [line] = [log for log in memory.logs if "shared store" in str(log.log_record.body)]
        assert "does not respond" in str(line.log_record.body)
        server.signal(signal.SIGCONT)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while memory.value("chatscope.shared_store.up") == 0:
            assert time.monotonic() < deadline
            await asyncio.sleep(RETRY_SECONDS / 4)
        assert (await _ask(first, "alice")).status_code == 200
        assert (await _ask(second, "alice")).status_code == 429


async def test_metric_shows_the_store_of_a_replica_without_requests(server: StoreServer) -> None:
    async with _replicas(server, rate_limit_per_address="9/hour") as replicas:
        (_, memory), _ = replicas
        for number, shown in ((signal.SIGSTOP, 0), (signal.SIGCONT, 1)):
            server.signal(number)
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while await asyncio.to_thread(memory.value, "chatscope.shared_store.up") != shown:
                assert time.monotonic() < deadline
                await asyncio.sleep(RETRY_SECONDS / 4)


async def test_service_starts_and_responds_without_its_store(
    server: StoreServer, tmp_path: Path
) -> None:
    server.kill()
    keys = _keys(tmp_path, "limits = { tokens_per_day = 1000000 }")
    async with _replicas(server, keys_file=keys, rate_limit_per_address="9/hour") as replicas:
        (first, _), _ = replicas
        assert (await _ask(first, "alice")).status_code == 200


class _Talk:
    def __init__(self, socket: Any) -> None:
        self._socket = socket

    async def ask(self, content: str, **more: Any) -> dict[str, Any]:
        """Return the last message of the turn."""
        await self._socket.send(json.dumps({"type": "message", "content": content, **more}))
        while True:
            message: dict[str, Any] = json.loads(await self._socket.recv())
            if message["type"] in ("done", "error"):
                return message


@asynccontextmanager
async def _talk(replica: Live, **headers: str) -> AsyncIterator[_Talk]:
    async with connect(replica.socket_url, proxy=None, additional_headers=headers) as socket:
        yield _Talk(socket)


def _asked(provider: Scripted) -> list[list[str]]:
    return [[str(each["content"]) for each in request.messages] for request in provider.requests]


async def test_conversation_goes_on_at_another_replica(server: StoreServer) -> None:
    one, other = Scripted("a", END), Scripted("b", END)
    async with _replicas(server, one, other, shared_conversations=True) as replicas:
        (first, _), (second, _) = replicas
        async with _talk(first) as talk:
            conversation = (await talk.ask("one"))["conversation_id"]
            async with _talk(second) as elsewhere:
                done = await elsewhere.ask("two", conversation_id=conversation)
                assert done["conversation_id"] == conversation
                await elsewhere.ask("three", conversation_id=conversation)
        async with _talk(first) as talk:
            await talk.ask("four", conversation_id=conversation)
            await talk.ask("five", conversation_id=conversation, history=[])
        async with _talk(second) as talk:
            await talk.ask("six", conversation_id=conversation)
    assert _asked(one) == [["one"], ["one", "a", "two", "b", "three", "b", "four"], ["five"]]
    assert _asked(other) == [
        *(["one", "a", "two"], ["one", "a", "two", "b", "three"]),
        ["five", "a", "six"],
    ]
    with server.client() as client:
        [name] = client.scan_iter("*")
        assert conversation not in str(name)
        assert 0 < client.ttl(name) <= 3600


async def test_conversation_of_others_and_an_id_of_a_client_are_not_resumed(
    server: StoreServer,
) -> None:
    one, other = Scripted("a", END), Scripted("b", END)
    async with _replicas(server, one, other, shared_conversations=True) as replicas:
        (first, _), (second, _) = replicas
        async with _talk(first, **{"x-user-id": "ann"}) as talk:
            conversation = (await talk.ask("one"))["conversation_id"]
            await talk.ask("two", conversation_id="c-1")
        for headers in ({"x-user-id": "eve"}, {}):
            async with _talk(second, **headers) as talk:
                await talk.ask("mine", conversation_id=conversation)
        async with _talk(second, **{"x-user-id": "ann"}) as talk:
            await talk.ask("guessed", conversation_id="c-1")
    assert _asked(other) == [["mine"], ["mine"], ["guessed"]]


@pytest.mark.parametrize("shared", [False, True])
async def test_texts_are_stored_only_on_request(
    server: StoreServer,
    shared: bool,
) -> None:
    one, other = Scripted("a", END), Scripted("b", END)
    async with _replicas(server, one, other, shared_conversations=shared) as replicas:
        async with _talk(replicas[0][0]) as talk:
            await talk.ask("one")
        with server.client() as client:
            assert [client.get(name) for name in client.scan_iter("*")] == (
                ['[["one","a"]]'] if shared else []
            )


async def test_what_is_no_conversation_in_the_store_is_ignored(server: StoreServer) -> None:
    one, other = Scripted("a", END), Scripted("b", END)
    async with _replicas(server, one, other, shared_conversations=True) as replicas:
        (first, _), (second, _) = replicas
        async with _talk(first) as talk:
            conversation = (await talk.ask("one"))["conversation_id"]
        with server.client() as client:
            [name] = client.scan_iter("*")
            client.set(name, '{"a": 1}')
        async with _talk(second) as talk:
            assert (await talk.ask("two", conversation_id=conversation))["type"] == "done"
    assert _asked(other) == [["two"]]


async def test_turn_that_is_cancelled_while_the_store_hangs_has_an_end(
    server: StoreServer,
) -> None:
    one, other = Scripted("a", END), Scripted("b", END)
    async with _replicas(server, one, other, shared_conversations=True) as replicas:
        (first, _), (second, _) = replicas
        async with _talk(first) as talk:
            conversation = (await talk.ask("one"))["conversation_id"]
        server.signal(signal.SIGSTOP)
        async with connect(second.socket_url, proxy=None) as socket:
            message = {"type": "message", "content": "two", "conversation_id": conversation}
            await socket.send(json.dumps(message))
            await socket.send('{"type": "cancel"}')
            ends: list[str] = []
            while not ends:
                heard = json.loads(await socket.recv())
                ends += [heard["type"]] if heard["type"] != "delta" else []
    assert ends == ["done"]
