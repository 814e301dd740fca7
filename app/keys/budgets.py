"""Budgets: limits of money and tokens for each key, and for each user of a key, per UTC day."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from app.domain.errors import ServiceError
from app.keys.file import UNITS, Key, Limits, Unit
from app.keys.ledger import Account, Ledger

# The ledger has whole numbers: billionths of a dollar, so that sums are exact.
_PER_UNIT: Final[dict[Unit, int]] = {"usd": 10**9, "token": 1}
# Of one key on one day; further users share one account.
MAX_USERS: Final = 10_000
_OTHER_USERS: Final = "_OTHER"
_KEY_ITSELF: Final = ""


class BudgetExceeded(ServiceError):
    """A limit of the day is reached; the message names it, the used amount and the time of the
    reset."""

    def __init__(
        self, key: Key, unit: Unit, limit: Decimal, used: Decimal, reset: datetime, *, user: bool
    ) -> None:
        whose = f"of each user of the key '{key.name}'" if user else f"of the key '{key.name}'"
        super().__init__(
            f"The daily budget {whose} is used up: {_amount(unit, used)} of "
            f"{_amount(unit, limit)}. It resets at {reset:%Y-%m-%dT%H:%M:%SZ}.",
            code="budget_exceeded",
        )
        self.reset = reset


@dataclass(frozen=True)
class Use:
    """The amount that a key has used today, and its limit, if any."""

    key: str
    unit: Unit
    used: float
    limit: float | None


class Budgets:
    """Refuses calls of keys and users whose budget is used up, and counts what calls used.

    A call is counted when it has ended: calls that run at the same time may exceed a limit by what
    they use.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._clock = clock
        self._day = ""
        self._users: dict[str, set[str]] = {}  # of today, by key

    async def check(self, key: Key, user: str | None = None) -> None:
        """Raise BudgetExceeded if a limit of the key, or of its user, is reached."""
        day = self._today()
        if accounts := list(_accounts(day, key, user)):
            await self._ledger.load(accounts)
        self._check(key, key.limits, (day, key.name, _KEY_ITSELF), user=False)
        if user and key.user_limits.amounts():
            self._check(key, key.user_limits, (day, key.name, self._user(key, user)), user=True)

    def charge(self, key: Key, user: str | None, *, tokens: int, usd: float | None) -> None:
        """Count the tokens and US dollars of one call; `usd` is None if the model has no price."""
        day = self._today()
        amounts: dict[Unit, int] = {"usd": _to_ledger("usd", usd or 0.0), "token": max(0, tokens)}
        accounts = [_KEY_ITSELF]
        if user and key.user_limits.amounts():
            accounts.append(self._user(key, user))
        self._ledger.add(
            {
                (day, key.name, account, unit): amount
                for account in accounts
                for unit, amount in amounts.items()
                if amount
            }
        )

    def uses(self, keys: Sequence[Key]) -> Iterator[Use]:
        """Yield what each key has used today, in each unit."""
        amounts = self._ledger.keys(self._today())
        for key in keys:
            limits = key.limits.amounts()
            for unit in UNITS:
                used = amounts.get((key.name, unit), 0) / _PER_UNIT[unit]
                limit = limits.get(unit)
                yield Use(key.name, unit, used, None if limit is None else float(limit))

    def seconds_until_reset(self) -> int:
        """Return the seconds until the next UTC day, at least 1."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        return max(1, -int(-(_reset(now) - now).total_seconds() // 1))

    def close(self) -> None:
        """Write the amounts that are still in memory to the storage."""
        self._ledger.close()

    def _check(
        self, key: Key, limits: Limits, account: tuple[str, str, str], *, user: bool
    ) -> None:
        for unit, limit in limits.amounts().items():
            used = self._used(account, unit)
            if used >= limit:
                now = datetime.fromtimestamp(self._clock(), UTC)
                raise BudgetExceeded(key, unit, limit, used, _reset(now), user=user)

    def _used(self, account: tuple[str, str, str], unit: Unit) -> Decimal:
        full: Account = (*account, unit)
        return Decimal(self._ledger.used(full)) / _PER_UNIT[unit]

    def _user(self, key: Key, user: str) -> str:
        """Return the account of a user, or of all further users."""
        account = _hash(user)
        known = self._users.get(key.name)
        if known is None:
            known = self._users[key.name] = self._ledger.users(self._day, key.name)
        if account not in known:
            if len(known) >= MAX_USERS:
                return _OTHER_USERS
            known.add(account)
        return account

    def _today(self) -> str:
        day = datetime.fromtimestamp(self._clock(), UTC).date().isoformat()
        if day != self._day:
            self._day = day
            self._users = {}
            self._ledger.forget_before(day)
        return day


def _accounts(day: str, key: Key, user: str | None) -> Iterator[Account]:
    """Yield the accounts that the limits of a key and its user can be about."""
    for unit in key.limits.amounts():
        yield day, key.name, _KEY_ITSELF, unit
    if user:
        for unit in key.user_limits.amounts():
            yield day, key.name, _hash(user), unit
            yield day, key.name, _OTHER_USERS, unit


def _hash(user: str) -> str:
    """Return the account of a user: a hash, because budgets need no names."""
    return hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _reset(now: datetime) -> datetime:
    return datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)


def _to_ledger(unit: Unit, amount: float) -> int:
    exact = Decimal(str(amount)) * _PER_UNIT[unit]
    return max(0, int(exact.to_integral_value(ROUND_HALF_UP)))


def _amount(unit: Unit, amount: Decimal) -> str:
    if unit == "token":
        return f"{amount:f} tokens"
    return f"{amount.quantize(Decimal('0.000001')).normalize():f} USD"
