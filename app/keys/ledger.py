"""The amounts that keys and users have used in each UTC day, in memory and in a storage that
several processes share.

Amounts are written by one thread, in batches. Each has a number, which the storage has too: it
shows which amounts of memory are in those that were read. Libraries for rate limits count whole
requests, not money.
"""

import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from typing import Final, Protocol, TypeVar

from loguru import logger

_T = TypeVar("_T")

# Day, key, user (empty: the key itself), unit.
Account = tuple[str, str, str, str]

_RETRY_SECONDS: Final = 1.0
# Part of the five seconds in which a process ends.
CLOSING_SECONDS: Final = 1.0
# Amounts of this time are written together, but not more: a storage has to write them in time.
_BATCH_SECONDS: Final = 0.02
_MOST_IN_BATCH: Final = 1000


class Storage(Protocol):
    """A storage of amounts. `writer` is a process; its `number` is that of its last batch."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """Exceptions of the methods if the storage cannot be used."""

    async def load(self, accounts: Collection[Account], writer: str) -> None:
        """Read what the synchronous methods need about these accounts; never raise."""

    def used(self, account: Account, writer: str) -> tuple[int, int]:
        """Return an amount, and the number of the writer's last batch in it."""

    def keys(self, day: str, writer: str) -> tuple[Mapping[tuple[str, str], int], int]:
        """Return the amount of each key, without its users, and unit; and the number. It may be
        slow, and is for any thread."""

    def users(self, day: str, key: str) -> set[str]:
        """Return the users of a key that have an account on this day."""

    def add(self, amounts: Mapping[Account, int], writer: str, number: int, first_day: str) -> None:
        """Write a batch, once, however often it is called; drop what is before `first_day`. It
        may be slow, and is called by one thread."""

    def close(self) -> None:
        """Release resources; `keys` may be called after it: for the last export of metrics."""


class Ledger:
    """Amounts by account, as whole numbers. Without a storage they are kept in memory."""

    def __init__(self, storage: Storage | None = None) -> None:
        self._storage = storage
        # Amounts that no batch has yet; all of them without a storage.
        self._pending: defaultdict[Account, int] = defaultdict(int)
        # The batch that is being written, and its number.
        self._batch: dict[Account, int] = {}
        self._number = 0
        self._writer_id = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._first_day = ""  # earlier ones are dropped
        self._closing = threading.Event()
        self._closed = False
        self._writer: threading.Thread | None = None

    async def load(self, accounts: Collection[Account]) -> None:
        """Read the amounts of accounts, before `used` and `users` are called for them."""
        if self._storage is not None:
            await self._storage.load(accounts, self._writer_id)

    def used(self, account: Account) -> int:
        """Return the amount of one account; what could not be written yet is included."""
        with self._lock:
            used, stored = self._read(lambda storage: storage.used(account, self._writer_id))
            return (used or 0) + sum(each.get(account, 0) for each in self._unwritten(stored))

    def keys(self, day: str) -> dict[tuple[str, str], int]:
        """Return the amount of each key, without its users, and unit on this day.

        For any thread, and slow: an amount that is written meanwhile may be missing.
        """
        # Without the lock, because `used` must not wait for this.
        amounts, stored = self._read(
            lambda storage: storage.keys(day, self._writer_id), even_closed=True
        )
        found = defaultdict(int, amounts or {})
        with self._lock:
            for unwritten in self._unwritten(stored):
                for (unwritten_day, key, user, unit), amount in unwritten.items():
                    if unwritten_day == day and not user:
                        found[key, unit] += amount
        return found

    def users(self, day: str, key: str) -> set[str]:
        """Return the users of a key that have an account on this day."""
        with self._lock:
            found, _ = self._read(lambda storage: (storage.users(day, key), 0))
            for amounts in (self._batch, self._pending):
                found = (found or set()) | {
                    user for d, k, user, _ in amounts if (d, k) == (day, key)
                }
        return (found or set()) - {""}

    def add(self, amounts: Mapping[Account, int]) -> None:
        """Add amounts; returns at once. They are written to the storage by another thread."""
        with self._lock:
            for account, amount in amounts.items():
                if amount:
                    self._pending[account] += amount
        self._write_soon()

    def forget_before(self, day: str) -> None:
        """Drop the accounts of earlier days."""
        with self._lock:
            for account in [account for account in self._pending if account[0] < day]:
                del self._pending[account]
            self._first_day = day
        self._write_soon()

    def close(self) -> None:
        """Write what is pending; wait at most CLOSING_SECONDS for it."""
        self._closing.set()
        self._changed.set()
        if self._writer:
            self._writer.join(CLOSING_SECONDS)
        with self._lock:
            self._closed = True
            if self._storage is not None:
                self._storage.close()

    def _read(
        self, read: Callable[[Storage], tuple[_T, int]], *, even_closed: bool = False
    ) -> tuple[_T | None, int | None]:
        """Return what a storage contains, and the number of the last batch in it; None and None
        without one, or if it cannot be read."""
        if self._storage is None or (self._closed and not even_closed):
            return None, None
        try:
            return read(self._storage)
        except self._storage.errors as error:
            _report("read", error)
            return None, None

    def _unwritten(self, stored: int | None) -> list[Mapping[Account, int]]:
        """Return the amounts that the storage lacked when the number of the last batch in it was
        `stored`.

        The caller has the lock, which the writer never holds for long. The number is read together
        with the amounts: only the storage shows when a batch is written.
        """
        return [self._pending] if stored == self._number else [self._pending, self._batch]

    def _write_soon(self) -> None:
        if self._storage is None:
            return
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_all, name="budgets", daemon=True)
            self._writer.start()
        self._changed.set()

    def _write_all(self) -> None:
        assert self._storage is not None  # noqa: S101
        fails = False
        while not (self._closing.is_set() and self._written()):
            self._changed.wait()
            self._closing.wait(_BATCH_SECONDS)
            self._changed.clear()
            try:
                self._write(self._storage)
                fails = False
            except self._storage.errors as error:
                if not fails:  # one line, not one for each retry
                    _report("written", error)
                fails = True
                if self._closing.is_set():
                    return
                self._closing.wait(_RETRY_SECONDS)
                self._changed.set()

    def _written(self) -> bool:
        with self._lock:
            return not (self._pending or self._batch)

    def _write(self, storage: Storage) -> None:
        with self._lock:
            if not self._batch:  # else: it could not be written
                first = list(islice(self._pending, _MOST_IN_BATCH))
                self._batch = {account: self._pending.pop(account) for account in first}
                self._number += 1
            batch, number, day = self._batch, self._number, self._first_day
        storage.add(batch, self._writer_id, number, day)
        with self._lock:
            self._batch = {}
            if self._pending:
                self._changed.set()


def _report(verb: str, error: Exception) -> None:
    logger.error(f"budgets could not be {verb}", error=str(error))
