"""Rate limits for each API key and each client address, in the process that serves them, or of all
replicas with a shared store."""

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from app.shared_store import PREFIX, SharedStore
from app.wire.errors import HttpError

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.aio.strategies import FixedWindowRateLimiter as SharedLimiter

_RATES: Final = "app.rates"
_PROTECTED: Final = ("/v1/", "/ws/chat")


class RateLimiter:
    """Counts requests and WebSocket messages. Windows are fixed: a minute begins with the first."""

    def __init__(
        self, per_key: str | None, per_address: str | None, shared: SharedStore | None = None
    ) -> None:
        """Rates such as `60/minute; 1000/day`; None: no limit. Raise ValueError otherwise."""
        # The library is a twentieth of the time of a startup: only if there are rates.
        from limits import parse_many  # noqa: PLC0415
        from limits.storage import MemoryStorage  # noqa: PLC0415
        from limits.strategies import FixedWindowRateLimiter  # noqa: PLC0415

        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._shared = shared
        self._shared_limiter = _shared_limiter(shared) if shared else None
        self._per_key = parse_many(per_key) if per_key else []
        self._per_address = parse_many(per_address) if per_address else []

    async def check_address(self, address: str) -> None:
        """Count a request of a client address. Raise HttpError, 429, above its rate."""
        await self._check("address_requests", "your address", self._per_address, address)

    async def check_key(self, name: str) -> None:
        """Count a request with a key. Raise HttpError, 429, above its rate."""
        await self._check("key_requests", f"the API key '{name}'", self._per_key, name)

    async def _check(
        self, limit: str, whose: str, rates: Sequence["RateLimitItem"], who: str
    ) -> None:
        for rate in rates:
            reset = await self._hit(rate, limit, who)
            if reset is not None:
                raise _exceeded(limit, whose, rate, math.ceil(max(1.0, reset - time.time())))

    async def _hit(self, rate: "RateLimitItem", limit: str, who: str) -> float | None:
        """Count one request. Return the time at which its window ends if it is above the rate."""
        shared, limiter = self._shared, self._shared_limiter
        if shared and limiter:

            async def ask() -> tuple[float | None]:
                if await limiter.hit(rate, limit, who):
                    return (None,)
                return ((await limiter.get_window_stats(rate, limit, who)).reset_time,)

            if answer := await shared.ask(ask, None):
                return answer[0]
        if self._limiter.hit(rate, limit, who):
            return None
        return self._limiter.get_window_stats(rate, limit, who).reset_time


def _shared_limiter(shared: SharedStore) -> "SharedLimiter":
    from limits.aio.storage import RedisStorage  # noqa: PLC0415
    from limits.aio.strategies import FixedWindowRateLimiter as SharedLimiter  # noqa: PLC0415

    # Its connections are those of the pool; the URL has no meaning here.
    storage = RedisStorage(
        "async+redis://",
        implementation="redispy",
        key_prefix=f"{PREFIX}rates",
        connection_pool=shared.client.connection_pool,  # type: ignore[arg-type]
    )
    return SharedLimiter(storage)


class RateLimits:
    """Middleware that counts each request to the API by its address, and lets `hit` count more.

    Must be outside of the authentication, so that guesses of keys count.
    """

    def __init__(self, app: ASGIApp, limiter: RateLimiter) -> None:
        self._app = app
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request. Raise HttpError with status 429."""
        if scope["type"] in ("http", "websocket") and scope["path"].startswith(_PROTECTED):
            scope[_RATES] = self._limiter
            await self._limiter.check_address(_address(scope))
        await self._app(scope, receive, send)


async def hit_key(scope: Scope, name: str) -> None:
    """Count a request with the key of that name. Raise HttpError with status 429."""
    if limiter := _limiter(scope):
        await limiter.check_key(name)


async def hit_message(scope: Scope, key_name: str | None) -> None:
    """Count a message of a WebSocket connection, as a request. Raise HttpError with status 429."""
    if limiter := _limiter(scope):
        await limiter.check_address(_address(scope))
        if key_name is not None:
            await limiter.check_key(key_name)


def _limiter(scope: Scope) -> RateLimiter | None:
    found = scope.get(_RATES)
    return found if isinstance(found, RateLimiter) else None


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _exceeded(limit: str, whose: str, rate: "RateLimitItem", seconds: int) -> HttpError:
    return HttpError(
        429,
        f"The rate limit of {whose} is {rate.amount} requests per {rate.get_expiry()} s; try again "
        f"in {seconds} s.",
        code="rate_limit_exceeded",
        headers={"retry-after": str(seconds)},
        limit=limit,
    )
