"""Budgets in the shared store: while it is down or hangs, and with many users and requests."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import pytest
from loguru import logger
from redis.exceptions import ConnectionError as Disconnected

from app.keys import budgets as module
from app.keys.budgets import BudgetExceeded, Budgets
from app.keys.file import Key, Limits
from app.keys.ledger import Ledger
from app.keys.shared_storage import SharedStorage
from app.shared_store import QUIET_SECONDS, RETRY_SECONDS, TIMEOUT_SECONDS, SharedStore
from tests.store_server import StoreServer, needs_store, store_server

pytestmark = [needs_store, pytest.mark.anyio]

_PATIENCE_SECONDS = 60.0
_KEY = Key(
    name="alice",
    sha256="0" * 64,
    limits=Limits(tokens_per_day=100),
    user_limits=Limits(tokens_per_day=50),
)


class _Replica:
    def __init__(self, store: SharedStore) -> None:
        self.store = store
        self.storage = SharedStorage(store)
        self.ledger = Ledger(self.storage)
        self.budgets = Budgets(self.ledger)

    async def used(self) -> int:
        """Return the tokens of the key, as a refusal would count them."""
        day = self.budgets._today()
        account = (day, _KEY.name, "", "token")
        await self.ledger.load([account])
        return self.ledger.used(account)


@asynccontextmanager
async def _replica(server: StoreServer) -> AsyncIterator[_Replica]:
    store = SharedStore(server.url)
    replica = _Replica(store)
    try:
        yield replica
    finally:
        await asyncio.to_thread(replica.budgets.close)
        await store.close()


@pytest.fixture
def server() -> Iterator[StoreServer]:
    with store_server() as server:
        yield server


def _stored(server: StoreServer) -> int:
    """Return all tokens of the key that the server has."""
    with server.client() as client:
        return sum(
            int(amount)
            for name in client.scan_iter("chatscope:*:keys")
            for field, amount in client.hgetall(name).items()
            if field == "alice token"
        )


@contextmanager
def _lines() -> Iterator[list[str]]:
    """Collect the messages of log lines."""
    lines: list[str] = []
    handler = logger.add(lambda message: lines.append(message.record["message"]))
    try:
        yield lines
    finally:
        logger.remove(handler)


async def _until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not await asyncio.to_thread(happened):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_charges_count_while_the_server_is_down_and_are_written_once_after_its_restart(
    server: StoreServer,
) -> None:
    async with _replica(server) as replica, _replica(server) as other:
        other.budgets.charge(_KEY, None, tokens=60, usd=None)
        await _until(lambda: _stored(server) == 60)
        assert await replica.used() == 60
        server.kill()
        for _ in range(4):
            replica.budgets.charge(_KEY, None, tokens=10, usd=None)
        with pytest.raises(BudgetExceeded, match="100 tokens of 100"):
            await replica.budgets.check(_KEY)
        # It does not know of the other's amounts; what it had read and used itself counts.
        await other.budgets.check(_KEY)
        server.start()
        await _until(lambda: _stored(server) == 100)
        await asyncio.sleep(RETRY_SECONDS)
        assert await other.used() == await replica.used() == 100
    assert _stored(server) == 100


async def test_hanging_server_delays_one_check_in_a_second(server: StoreServer) -> None:
    async with _replica(server) as replica:
        assert await replica.used() == 0
        server.signal(signal.SIGSTOP)
        started = time.monotonic()
        await replica.budgets.check(_KEY)
        assert time.monotonic() - started < 3 * TIMEOUT_SECONDS + 1
        started = time.monotonic()
        for _ in range(100):
            await replica.budgets.check(_KEY)
            replica.budgets.charge(_KEY, None, tokens=1, usd=None)
        assert time.monotonic() - started < 2 * TIMEOUT_SECONDS + 1
        with pytest.raises(BudgetExceeded):
            await replica.budgets.check(_KEY)
        server.signal(signal.SIGCONT)
        await _until(lambda: _stored(server) == 100)


async def test_batch_whose_confirmation_was_lost_is_counted_once(
    server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _replica(server) as replica:
        add = replica.storage._add
        lost: list[object] = []

        def lose_the_first(*arguments: object) -> None:
            add(*arguments)  # type: ignore[arg-type]
            if not lost:
                lost.append(arguments)
                raise Disconnected("the connection was lost")

        monkeypatch.setattr(replica.storage, "_add", lose_the_first)
        replica.budgets.charge(_KEY, None, tokens=7, usd=None)
        await _until(lambda: bool(lost))
        assert await replica.used() == 7
        await _until(replica.ledger._written)
        assert await replica.used() == 7
        assert _stored(server) == 7


async def test_amount_that_cannot_be_added_does_not_repeat_the_others(server: StoreServer) -> None:
    async with _replica(server) as replica:
        day = replica.budgets._today()
        with server.client() as client:
            field = f"{module._hash('eve')} token"
            client.hset(f"chatscope:{{{day}}}:users:alice", field, str(2**63 - 1))
        replica.budgets.charge(_KEY, "eve", tokens=5, usd=None)
        await _until(lambda: _stored(server) > 0)
        await asyncio.sleep(2 * RETRY_SECONDS)
        replica.budgets.charge(_KEY, None, tokens=2, usd=None)
        await _until(replica.ledger._written)
    assert _stored(server) == 7


async def test_answer_from_before_a_write_does_not_replace_a_newer_amount(
    server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _replica(server) as replica:
        replica.budgets.charge(_KEY, None, tokens=5, usd=None)
        await _until(replica.ledger._written)
        assert await replica.used() == 5

        async def late(accounts: list[tuple[str, str, str, str]], _: str) -> object:
            return dict.fromkeys(accounts, 0), 0

        monkeypatch.setattr(replica.storage, "_read", late)
        assert await replica.used() == 5


async def test_users_of_other_replicas_are_known(
    server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_USERS", 2000)
    async with _replica(server) as first:
        for number in range(2000):
            first.budgets.charge(_KEY, f"user-{number}", tokens=1, usd=None)
        await _until(first.ledger._written)
    async with _replica(server) as second:
        key = _KEY.model_copy(update={"limits": Limits()})
        for user in ("user-7", "user-2001", "user-2002"):
            await second.budgets.check(key, user)
            second.budgets.charge(key, user, tokens=49, usd=None)
        with pytest.raises(BudgetExceeded):  # 1 and 49 tokens
            await second.budgets.check(key, "user-7")
        with pytest.raises(BudgetExceeded):  # shares the account of the two
            await second.budgets.check(key, "user-2003")


async def test_many_amounts_are_written_in_batches_that_the_server_accepts_in_time(
    server: StoreServer,
) -> None:
    async with _replica(server) as replica:
        day = replica.budgets._today()
        users = {(day, "alice", f"{user}", "token"): 1 for user in range(3500)}
        with server.client() as client:
            client.config_set("slowlog-log-slower-than", 0)
            replica.ledger.add({**users, (day, "alice", "", "token"): 3})
            await _until(replica.ledger._written)
            batches = [
                int(words[2])
                for entry in client.slowlog_get(100)
                if (words := entry["command"].split())[0] == b"EVALSHA"
            ]
            assert client.hlen(f"chatscope:{{{day}}}:users:alice") == 3500
        assert max(batches) <= 1001  # keys, with that of the batch
        assert replica.ledger.used((day, "alice", "3499", "token")) == 1
    assert _stored(server) == 3


async def test_users_that_have_used_nothing_take_no_memory(server: StoreServer) -> None:
    async with _replica(server) as replica:
        for number in range(100):
            await replica.budgets.check(_KEY, f"user-{number}")
        assert not replica.storage._amounts


async def test_outage_is_one_line_of_the_writer(server: StoreServer) -> None:
    with _lines() as lines:
        async with _replica(server) as replica:
            server.kill()
            replica.budgets.charge(_KEY, None, tokens=1, usd=None)
            await asyncio.sleep(3 * RETRY_SECONDS)
            server.start()
            await _until(replica.ledger._written)
    assert lines.count("budgets could not be written") == 1


async def test_server_that_reads_and_does_not_write_is_one_outage(server: StoreServer) -> None:
    with _lines() as lines, server.client() as client:
        async with _replica(server) as replica:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            replica.budgets.charge(_KEY, None, tokens=1, usd=None)
            await _until(lambda: not replica.store.responds)
            ended = time.monotonic() + QUIET_SECONDS + 2 * RETRY_SECONDS
            while time.monotonic() < ended:
                assert await replica.used() == 1
                assert not replica.store.responds
                await asyncio.sleep(0.005)
            client.execute_command("REPLICAOF", "NO", "ONE")
            await _until(replica.ledger._written)
            while not replica.store.responds:
                await replica.used()
                await asyncio.sleep(0.1)
    assert len([line for line in lines if "shared store" in line]) == 2


async def test_amounts_go_to_the_new_primary_after_a_failover(server: StoreServer) -> None:
    async with _replica(server) as replica:
        replica.budgets.charge(_KEY, None, tokens=1, usd=None)
        await _until(lambda: _stored(server) == 1)
        with server.client() as client, store_server() as promoted:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            path = server.url.removeprefix("unix://")
            os.replace(promoted.url.removeprefix("unix://"), path)
            replica.budgets.charge(_KEY, None, tokens=2, usd=None)
            await _until(replica.ledger._written)
            assert _stored(server) == 2  # what is at its address now


async def test_many_questions_at_once_are_no_outage(server: StoreServer) -> None:
    with _lines() as lines:
        async with _replica(server) as replica:
            users = (f"user-{number}" for number in range(1000))
            await asyncio.gather(*(replica.budgets.check(_KEY, user) for user in users))
    assert not lines


@pytest.mark.parametrize("pauses", [[1.0], [0.3, 0.3, 0.3]])
async def test_blocked_event_loop_is_no_outage(server: StoreServer, pauses: list[float]) -> None:
    async def block() -> None:
        for pause in pauses:
            await asyncio.sleep(0)
            time.sleep(pause)  # noqa: ASYNC251

    with _lines() as lines:
        async with _replica(server) as replica:
            blocked = asyncio.create_task(block())
            await replica.budgets.check(_KEY, "user")
            await blocked
    assert not lines


async def test_failure_ends_the_wait_of_questions_that_are_not_asked_yet(
    server: StoreServer,
) -> None:
    async with _replica(server) as replica:
        asked: list[int] = []

        async def ask(number: int) -> None:
            asked.append(number)
            await replica.store.client.get("x")

        server.signal(signal.SIGSTOP)
        await asyncio.gather(
            *(replica.store.ask(partial(ask, number), None) for number in range(100))
        )
        assert len(asked) < 50


@pytest.mark.parametrize(
    "response",
    [
        *(
            b":one\r\n",
            b"$-\r\n",
            b"+OK\r\n",
            b"+\xff\r\n",
            b"*1\r\n" * 3000,
            b"%1\r\n*0\r\n*0\r\n",
        ),
        *(b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\r\n"),
    ],
)
async def test_no_response_of_a_server_fails_a_request(response: bytes) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(response)
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    store = SharedStore(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    replica = _Replica(store)
    for _ in range(2):
        await replica.budgets.check(_KEY, "eve")
        replica.budgets.charge(_KEY, "eve", tokens=1, usd=None)
    assert not store.responds
    uses = await asyncio.to_thread(lambda: list(replica.budgets.uses([_KEY])))
    assert [use.used for use in uses] == [0.0, 2.0]
    assert replica.ledger._writer is not None
    await asyncio.sleep(RETRY_SECONDS)
    assert replica.ledger._writer.is_alive()
    await asyncio.to_thread(replica.budgets.close)
    await store.close()
    server.close()


async def test_users_are_read_once_for_many_requests(
    server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _replica(server) as replica:
        asked: list[object] = []
        list_users = replica.storage._list_users

        async def count(keys: list[str]) -> str:
            asked.append(keys)
            return str(await list_users(keys))

        monkeypatch.setattr(replica.storage, "_list_users", count)
        await asyncio.gather(*(replica.budgets.check(_KEY, "eve") for _ in range(5)))
        assert len(asked) == 1


async def test_server_has_no_names_of_users_and_forgets_after_two_days(server: StoreServer) -> None:
    async with _replica(server) as replica:
        replica.budgets.charge(_KEY, "eve@example.org", tokens=4, usd=0.1)
        await _until(replica.ledger._written)
    with server.client() as client:
        names = list(client.scan_iter("*"))
        assert len(names) == 3
        for name in names:
            assert "eve" not in str(client.hgetall(name))
            assert 0 < client.ttl(name) <= 2 * 86_400


async def test_connections_share_the_certificate_authorities() -> None:
    store = SharedStore("rediss://store.example")
    pool: Any = store.client.connection_pool
    connections = [pool.make_connection() for _ in range(2)]
    contexts = {connection.ssl_context.get() for connection in connections}
    assert len(contexts) == 1
    await store.close()
