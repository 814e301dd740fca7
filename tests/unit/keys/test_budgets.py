"""Budgets of keys and users, and the file that counts them."""

import asyncio
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.keys import budgets as module
from app.keys import sqlite_storage
from app.keys.budgets import BudgetExceeded, Budgets, Use
from app.keys.file import Key, Limits
from app.keys.ledger import CLOSING_SECONDS, Ledger
from app.keys.shared_storage import SharedStorage
from app.keys.sqlite_storage import SqliteStorage
from app.shared_store import SharedStore
from tests.store_server import PROGRAM, store_server
from tests.unit.process import ROOT

# A file, the URL of a server, or neither.
Place = Path | str | None

_PATIENCE_SECONDS = 60.0
_NOON = datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()


class _Clock:
    def __init__(self) -> None:
        self.now = _NOON

    def __call__(self) -> float:
        return self.now


def _key(name: str = "alice", **limits: Limits) -> Key:
    return Key(name=name, sha256="0" * 64, **limits)  # type: ignore[arg-type]


class _Budgets:
    """Budgets whose methods block; those of a server are asked in one event loop."""

    def __init__(self, place: Place, clock: Callable[[], float]) -> None:
        self._runner = asyncio.Runner()
        self._store = SharedStore(place) if isinstance(place, str) else None
        if self._store:
            ledger = Ledger(SharedStorage(self._store))
        else:
            ledger = Ledger(SqliteStorage(place) if isinstance(place, Path) else None)
        self._budgets = Budgets(ledger, clock)
        self.charge = self._budgets.charge
        self.seconds_until_reset = self._budgets.seconds_until_reset

    def check(self, key: Key, user: str | None = None) -> None:
        self._runner.run(self._budgets.check(key, user))

    def uses(self, keys: Sequence[Key]) -> list[Use]:
        return list(self._budgets.uses(keys))

    def close(self) -> None:
        self._budgets.close()
        if self._store:
            self._runner.run(self._store.close())
        self._runner.close()


@contextmanager
def _budgets(place: Place, clock: _Clock | None = None) -> Iterator[_Budgets]:
    budgets = _Budgets(place, clock or _Clock())
    try:
        yield budgets
    finally:
        budgets.close()


@pytest.fixture(params=["memory", "file", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Of the amounts; the same promises hold in each."""
    yield from _place(request.param, tmp_path)


@pytest.fixture(params=["file", "server"])
def shared_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Of the amounts of several processes."""
    yield from _place(request.param, tmp_path)


def _place(kind: str, tmp_path: Path) -> Iterator[Place]:
    match kind:
        case "memory":
            yield None
        case "file":
            yield tmp_path / "below" / "budgets.sqlite"
        case _ if PROGRAM is None:
            pytest.skip("neither Valkey nor Redis is installed")
        case _:
            with store_server() as server:
                yield server.url


def _refusal(budgets: _Budgets, key: Key, user: str | None = None) -> str:
    with pytest.raises(BudgetExceeded) as caught:
        budgets.check(key, user)
    assert caught.value.code == "budget_exceeded"
    return caught.value.message


def test_key_without_limits_is_never_refused(place: Place) -> None:
    with _budgets(place) as budgets:
        budgets.charge(_key(), None, tokens=10**12, usd=1e5)
        budgets.check(_key())


def test_tokens_are_counted_until_the_limit_is_reached(place: Place) -> None:
    key = _key(limits=Limits(tokens_per_day=100))
    with _budgets(place) as budgets:
        budgets.charge(key, None, tokens=99, usd=None)
        budgets.check(key)
        budgets.charge(key, None, tokens=1, usd=None)
        assert _refusal(budgets, key) == (
            "The daily budget of the key 'alice' is used up: 100 tokens of 100 tokens. "
            "It resets at 2026-11-29T00:00:00Z."
        )
        budgets.check(_key("bob", limits=Limits(tokens_per_day=100)))


def test_money_is_counted_exactly(place: Place) -> None:
    """A thousand times a tenth of a cent is a dollar, which it is not with binary fractions."""
    key = _key(limits=Limits(usd_per_day=1))
    with _budgets(place) as budgets:
        for _ in range(999):
            budgets.charge(key, None, tokens=0, usd=0.001)
        budgets.charge(key, None, tokens=0, usd=0.000999999)
        budgets.check(key)
        budgets.charge(key, None, tokens=0, usd=0.000000001)
        assert "1 USD of 1 USD" in _refusal(budgets, key)


def test_budget_is_whole_again_on_the_next_utc_day(place: Place) -> None:
    key, clock = _key(limits=Limits(tokens_per_day=1)), _Clock()
    with _budgets(place, clock) as budgets:
        budgets.charge(key, None, tokens=5, usd=None)
        clock.now += 12 * 3600 - 1.5
        _refusal(budgets, key)
        assert budgets.seconds_until_reset() == 2
        clock.now += 1.5
        budgets.check(key)
        assert budgets.seconds_until_reset() == 24 * 3600


def test_users_of_a_key_have_limits_of_their_own(place: Place) -> None:
    key = _key(user_limits=Limits(tokens_per_day=10), limits=Limits(tokens_per_day=25))
    with _budgets(place) as budgets:
        budgets.charge(key, "eve", tokens=10, usd=None)
        assert "of each user of the key 'alice'" in _refusal(budgets, key, "eve")
        for other in ("mallory", None):
            budgets.check(key, other)
        budgets.charge(key, "mallory", tokens=9, usd=None)
        budgets.check(key, "mallory")
        budgets.charge(key, None, tokens=6, usd=None)
        assert "of the key 'alice'" in _refusal(budgets, key, "mallory")


def test_users_beyond_the_most_that_are_remembered_share_one_budget(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_USERS", 3)
    key = _key(user_limits=Limits(tokens_per_day=10))
    other = _key("bob", user_limits=Limits(tokens_per_day=10))
    with _budgets(place) as budgets:
        for number in range(50):
            budgets.charge(key, f"user-{number}", tokens=1, usd=None)
        budgets.check(key, "user-0")
        _refusal(budgets, key, "user-49")
        _refusal(budgets, key, "user-never-seen")
        budgets.check(other, "user-49")


def test_uses_of_all_keys_are_exported(place: Place) -> None:
    keys = [_key(limits=Limits(usd_per_day=0.5)), _key("bob")]
    with _budgets(place) as budgets:
        budgets.charge(keys[0], None, tokens=7, usd=0.25)
        found = [(use.key, use.unit, use.used, use.limit) for use in budgets.uses(keys)]
    assert found == [
        *(("alice", "usd", 0.25, 0.5), ("alice", "token", 7.0, None)),
        *(("bob", "usd", 0.0, None), ("bob", "token", 0.0, None)),
    ]


def test_what_was_used_survives_a_restart_within_the_day(tmp_path: Path) -> None:
    file, clock = tmp_path / "budgets.sqlite", _Clock()
    key = _key(limits=Limits(tokens_per_day=5), user_limits=Limits(tokens_per_day=3))
    with _budgets(file, clock) as budgets:
        budgets.charge(key, "eve", tokens=4, usd=None)
    with _budgets(file, clock) as budgets:
        _refusal(budgets, key, "eve")
        budgets.check(key)
    clock.now += 24 * 3600
    with _budgets(file, clock) as budgets:
        budgets.check(key, "eve")
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM used").fetchone() == (0,)
    assert file.stat().st_mode & 0o777 == 0o600


def test_file_has_no_names_of_users(tmp_path: Path) -> None:
    file = tmp_path / "budgets.sqlite"
    with _budgets(file) as budgets:
        key = _key(user_limits=Limits(tokens_per_day=3))
        budgets.charge(key, "eve@example.org", tokens=4, usd=None)
    assert b"eve" not in file.read_bytes()


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="sqlite3 is not installed")
def test_amounts_of_one_person_are_deleted_by_the_documented_command(tmp_path: Path) -> None:
    file, key = tmp_path / "budgets.sqlite", _key(user_limits=Limits(tokens_per_day=3))
    with _budgets(file) as budgets:
        for user in ("ann", "eve"):
            budgets.charge(key, user, tokens=4, usd=None)
    [command] = re.findall(r"^sqlite3 .*$", (ROOT / "docs/privacy.md").read_text(), re.MULTILINE)
    environment = {**os.environ, "BUDGETS_FILE": str(file)}
    subprocess.run(["bash", "-c", command], check=True, env=environment, timeout=_PATIENCE_SECONDS)
    with _budgets(file) as budgets:
        budgets.check(key, "ann")
        _refusal(budgets, key, "eve")


def _until(happened: Callable[[], bool]) -> float:
    started = time.monotonic()
    while not happened():
        assert time.monotonic() - started < _PATIENCE_SECONDS
        time.sleep(0.005)
    return time.monotonic() - started


_WORKER = """
import sys
from pathlib import Path
from app.keys.budgets import Budgets
from app.keys.file import Key
from app.keys.ledger import Ledger
from app.keys.shared_storage import SharedStorage
from app.keys.sqlite_storage import SqliteStorage
from app.shared_store import SharedStore
place = sys.argv[1]
shared = "://" in place
storage = SharedStorage(SharedStore(place)) if shared else SqliteStorage(Path(place))
budgets = Budgets(Ledger(storage), lambda: float(sys.argv[2]))
for _ in range(200):
    budgets.charge(Key(name="alice", sha256="0" * 64), None, tokens=1, usd=0.000001)
budgets.close()
"""


def test_processes_share_the_budgets_and_lose_nothing(shared_place: Place) -> None:
    command = [sys.executable, "-c", _WORKER, str(shared_place), str(_NOON)]
    with ExitStack() as stack, _budgets(shared_place) as budgets:
        workers = [stack.enter_context(subprocess.Popen(command, cwd=ROOT)) for _ in range(3)]
        assert [worker.wait(_PATIENCE_SECONDS) for worker in workers] == [0, 0, 0]
        used = {use.unit: use.used for use in budgets.uses([_key()])}
    assert used == {"usd": 0.0006, "token": 600.0}


def test_charge_of_one_worker_is_seen_by_the_others_within_a_second(
    shared_place: Place,
) -> None:
    key = _key(limits=Limits(tokens_per_day=1))
    with _budgets(shared_place) as first, _budgets(shared_place) as second:

        def refused() -> bool:
            try:
                second.check(key)
            except BudgetExceeded:
                return True
            return False

        assert not refused()
        first.charge(key, None, tokens=1, usd=None)
        assert _until(refused) < 1.0


def test_charge_does_not_wait_for_a_locked_file_and_still_counts(tmp_path: Path) -> None:
    file, key = tmp_path / "budgets.sqlite", _key(limits=Limits(tokens_per_day=2))
    with _budgets(file) as budgets:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            started = time.monotonic()
            budgets.charge(key, None, tokens=2, usd=None)
            _refusal(budgets, key)
            assert time.monotonic() - started < 0.5
            other.execute("COMMIT")

        def stored() -> int:
            with closing(sqlite3.connect(file)) as reader:
                [(amount,)] = reader.execute("SELECT total(amount) FROM used").fetchall()
                return int(amount)

        _until(lambda: stored() == 2)


class _PausedAfterCommit:
    """Holds the writer where the file has a batch and the memory still has it, too."""

    def __init__(self) -> None:
        self.committed, self.resume = threading.Event(), threading.Event()
        self._transaction = sqlite_storage._transaction

    @contextmanager
    def __call__(self, connection: sqlite3.Connection, kind: str) -> Iterator[None]:
        with self._transaction(connection, kind):
            yield
        if kind == "IMMEDIATE":
            self.committed.set()
            assert self.resume.wait(_PATIENCE_SECONDS)


def test_charge_is_counted_once_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = _PausedAfterCommit()
    monkeypatch.setattr(sqlite_storage, "_transaction", pause)
    key = _key(user_limits=Limits(tokens_per_day=100), limits=Limits(tokens_per_day=3))
    with _budgets(tmp_path / "budgets.sqlite") as budgets:
        budgets.charge(key, "eve", tokens=2, usd=None)
        assert pause.committed.wait(_PATIENCE_SECONDS)
        budgets.check(key)
        assert [use.used for use in budgets.uses([key])] == [0.0, 2.0]
        budgets.charge(key, "eve", tokens=1, usd=None)
        assert "3 tokens of 3 tokens" in _refusal(budgets, key)
        pause.resume.set()
        budgets.close()
    with _budgets(tmp_path / "budgets.sqlite") as budgets:
        assert "3 tokens of 3 tokens" in _refusal(budgets, key)


def test_ended_processes_leave_nothing_in_the_file_after_the_day(tmp_path: Path) -> None:
    file, clock = tmp_path / "budgets.sqlite", _Clock()
    for _ in range(3):
        with _budgets(file, clock) as budgets:
            budgets.charge(_key(), None, tokens=1, usd=None)
        clock.now += 24 * 3600
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM batches").fetchone() == (1,)


def test_close_does_not_wait_for_a_locked_file(tmp_path: Path) -> None:
    file = tmp_path / "budgets.sqlite"
    budgets = _Budgets(file, _Clock())
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        budgets.charge(_key(), None, tokens=1, usd=None)
        started = time.monotonic()
        budgets.close()
        assert time.monotonic() - started < 2 * CLOSING_SECONDS


def test_check_and_charge_take_less_than_half_a_millisecond(tmp_path: Path) -> None:
    key = _key(limits=Limits(tokens_per_day=10**9, usd_per_day=10.0))
    with _budgets(tmp_path / "budgets.sqlite") as budgets:
        seconds = []
        for _ in range(300):
            started = time.perf_counter()
            budgets.check(key)
            budgets.charge(key, None, tokens=1, usd=0.001)
            seconds.append(time.perf_counter() - started)
    # The fastest tenth: on a busy machine the others wait for a processor.
    assert sorted(seconds)[30] < 0.0005
