"""The amounts of budgets in the server that replicas share.

Keys of one UTC day, which expire two days after the last change; `{day}` puts them in one slot of a
cluster:

    chatscope:{day}:keys        hash: key, a blank, unit → amount
    chatscope:{day}:users:KEY   hash: user, a blank, unit → amount
    chatscope:{day}:batches     hash: process → number of its last batch
"""

import asyncio
import threading
from collections.abc import Collection, Mapping
from typing import Any, Final, cast

from loguru import logger

from app.keys.ledger import Account
from app.shared_store import PREFIX, SharedStore

_EXPIRY_SECONDS: Final = 2 * 86_400
# A batch that was written, whose confirmation was lost, is written again: not twice. A script that
# fails is not undone: its number is first, and an amount that cannot be added is left out.
_ADD: Final = """
local problem = false
local last = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if last < tonumber(ARGV[2]) then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    redis.call('EXPIRE', KEYS[1], ARGV[3])
    for i = 2, #KEYS do
        local added = redis.pcall('HINCRBY', KEYS[i], ARGV[2 * i], ARGV[2 * i + 1])
        if type(added) == 'table' then
            problem = added.err
        end
        redis.pcall('EXPIRE', KEYS[i], ARGV[3])
    end
end
return problem
"""
# As one text: the client takes a second to parse a list of ten thousand users.
_USERS: Final = "return table.concat(redis.call('HKEYS', KEYS[1]), '\\n')"


class SharedStorage:
    """`Storage` in a server. `load` reads it; until it responds, amounts are those last read."""

    def __init__(self, store: SharedStore) -> None:
        self._store = store
        self._add = store.blocking_client.register_script(_ADD)
        self._list_users = store.client.register_script(_USERS)
        self._loading = asyncio.Lock()
        self._lock = threading.Lock()
        # With the number of the writer's last batch in it.
        self._amounts: dict[Account, tuple[int, int]] = {}
        self._first_day = ""  # earlier ones are dropped
        self._users: dict[tuple[str, str], set[str]] = {}  # by day and key

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """Those of the client."""
        return self._store.errors

    async def load(self, accounts: Collection[Account], writer: str) -> None:
        """Read amounts, and once for each day and key its users."""
        if found := await self._store.ask(lambda: self._read(accounts, writer), None):
            amounts, number = found
            with self._lock:
                for account, amount in amounts.items():
                    known = self._amounts.get(account, (0, 0))
                    # Not what was read before a batch was written, and arrives after it; and
                    # nothing of users that have used nothing: clients can name any number.
                    if number >= known[1] and (amount or known[0]):
                        self._amounts[account] = amount, number
        for day, key in {(day, key) for day, key, user, _ in accounts if user}:
            if (day, key) not in self._users:
                await self._load_users(day, key)

    def used(self, account: Account, writer: str) -> tuple[int, int]:
        """Return the amount that was last read or written."""
        with self._lock:
            return self._amounts.get(account, (0, 0))

    def keys(self, day: str, writer: str) -> tuple[Mapping[tuple[str, str], int], int]:
        """Ask the server for the amount of each key and unit; without it, return those of
        `used`."""

        def read() -> tuple[dict[str, str], str | None]:
            pipeline: Any = self._store.blocking_client.pipeline()
            pipeline.hgetall(_keys(day))
            pipeline.hget(_batches(day), writer)
            amounts, number = pipeline.execute()
            return amounts, number

        found = self._store.ask_blocking(read, None)
        if found is None:
            with self._lock:
                known = {
                    (key, unit): amount
                    for (known_day, key, user, unit), (amount, _) in self._amounts.items()
                    if known_day == day and not user
                }
                return known, max((number for _, number in self._amounts.values()), default=0)
        amounts, number = found
        by_key = {tuple(field.split(" ")): int(amount) for field, amount in amounts.items()}
        return cast("dict[tuple[str, str], int]", by_key), int(number or 0)

    def users(self, day: str, key: str) -> set[str]:
        """Return the users that `load` has read."""
        return set(self._users.get((day, key), ()))

    def add(self, amounts: Mapping[Account, int], writer: str, number: int, first_day: str) -> None:
        """Write a batch. Keys of days before `first_day` expire."""
        by_day: dict[str, dict[Account, int]] = {}
        for account, amount in amounts.items():
            by_day.setdefault(account[0], {})[account] = amount
        for day, of_day in by_day.items():
            keys, values = [_batches(day)], [writer, str(number), str(_EXPIRY_SECONDS)]
            for account, amount in of_day.items():
                keys.append(_key(account))
                values += [_field(account), str(amount)]
            try:
                problem = self._add(keys, values)
            except self._store.errors as error:
                self._store.failed(error)
                raise
            if problem:
                logger.error("an amount of a budget could not be added", error=problem)
        if by_day:
            self._store.responded()
        with self._lock:
            for account, amount in amounts.items():
                known, known_number = self._amounts.get(account, (0, 0))
                if known_number < number:
                    self._amounts[account] = known + amount, number
            if first_day != self._first_day:  # else nothing is left to drop; there may be many
                self._first_day = first_day
                self._amounts = {
                    account: amount
                    for account, amount in self._amounts.items()
                    if account[0] >= first_day
                }

    def close(self) -> None:
        """Do nothing: the connections belong to `SharedStore`."""

    async def _read(
        self, accounts: Collection[Account], writer: str
    ) -> tuple[dict[Account, int], int]:
        day = next(iter(accounts))[0]
        pipeline: Any = self._store.client.pipeline()
        for account in accounts:
            pipeline.hget(_key(account), _field(account))
        pipeline.hget(_batches(day), writer)
        *amounts, number = await pipeline.execute()
        found = (int(amount or 0) for amount in amounts)
        return dict(zip(accounts, found, strict=True)), int(number or 0)

    async def _load_users(self, day: str, key: str) -> None:
        async with self._loading:  # many requests may need the users of one key at once
            if (day, key) in self._users:
                return
            fields = await self._store.ask(lambda: self._list_users([_users(day, key)]), None)
            if fields is None:
                return
            found = {field.partition(" ")[0] for field in fields.split("\n")} - {""}
            self._users = {known: users for known, users in self._users.items() if known[0] >= day}
            self._users[day, key] = found


def _keys(day: str) -> str:
    return f"{PREFIX}{{{day}}}:keys"


def _users(day: str, key: str) -> str:
    return f"{PREFIX}{{{day}}}:users:{key}"


def _batches(day: str) -> str:
    return f"{PREFIX}{{{day}}}:batches"


def _key(account: Account) -> str:
    day, key, user, _ = account
    return _users(day, key) if user else _keys(day)


def _field(account: Account) -> str:
    _, key, user, unit = account
    return f"{user or key} {unit}"
