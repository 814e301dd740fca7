"""Log lines about refused requests, with a limit: a flood of requests must not be one of lines."""

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from loguru import logger

from app.domain.errors import ServiceError
from chatscope.logs import log_access

ACCESS_LOGGER: Final = "uvicorn.access"
OnLimit = Callable[[str], None]
LIMIT: Final = "refusal_lines"
_BURST_SECONDS: Final = 10
# Reasons are codes, statuses and messages of the server; none is a client's own text.
_MAX_REASONS: Final = 200
_FIRST_REFUSAL: Final = 400


class _Reason:
    """The lines that one reason may still have, and the number of those left out."""

    def __init__(self, now: float, allowed: float) -> None:
        self.since = now
        self.allowed = allowed
        self.left_out = 0


class RefusalLog:
    """Logs refusals: of each reason `per_second` lines a second, on average over ten seconds.

    The next line of the reason has the number of those that were left out before it as
    `left_out`. For each one, `on_limit` is called with the name of this limit.
    """

    def __init__(
        self, per_second: int, on_limit: OnLimit, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`on_limit` is also called with the name of each limit that refused a request."""
        self._per_second = per_second
        self._on_limit = on_limit
        self._clock = clock
        self._reasons: dict[str, _Reason] = {}

    def log(self, text: str, error: ServiceError) -> None:
        """Log the code only, because the message may contain the client's text; count the limit."""
        if error.limit:
            self._on_limit(error.limit)
        extra = self.admit(error.code)
        if extra is not None:
            logger.log(error.log_level, text, code=error.code, param=error.param, **extra)

    def log_disconnect(self, text: str) -> None:
        """Log that a client disconnected before its request was complete."""
        extra = self.admit(text)
        if extra is not None:
            logger.info(text, **extra)

    def admit(self, reason: str) -> dict[str, int] | None:
        """Return further attributes of a line, or None if it must be left out."""
        now, most = self._clock(), float(self._per_second * _BURST_SECONDS)
        if reason not in self._reasons and len(self._reasons) >= _MAX_REASONS:
            reason = ""
        found = self._reasons.setdefault(reason, _Reason(now, most))
        found.allowed = min(most, found.allowed + (now - found.since) * self._per_second)
        found.since = now
        if found.allowed < 1:
            found.left_out += 1
            self._on_limit(LIMIT)
            return None
        found.allowed -= 1
        left_out, found.left_out = found.left_out, 0
        return {"left_out": left_out} if left_out else {}


class ServerLog(logging.LoggerAdapter):  # type: ignore[type-arg]
    """A logger for uvicorn's protocols, whose lines about refusals have the same limit."""

    def __init__(self, name: str, refusals: RefusalLog) -> None:
        """`name`: that of uvicorn's own logger."""
        super().__init__(logging.getLogger(name), {})
        self._refusals = refusals
        self._is_access = name == ACCESS_LOGGER

    @property
    def level(self) -> int:
        """The level of the logger."""
        return int(self.logger.level)

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """Log, unless there were too many lines of the same reason."""
        reason = _reason(level, msg, args)
        extra = {} if reason is None else self._refusals.admit(reason)
        if extra is None:
            return
        if self._is_access and self.isEnabledFor(level):
            log_access(args, extra)
        else:
            self.logger.log(level, msg, *args, extra=extra, stacklevel=2, **kwargs)


def _reason(level: int, msg: object, args: tuple[Any, ...]) -> str | None:
    """Return why a line of uvicorn is about a refusal: warnings are about clients, and the status
    of a response is the last argument, or the last word, of its line."""
    if level == logging.WARNING:
        return str(msg)
    last = args[-1] if args and isinstance(args[-1], int) else str(msg).rpartition(" ")[2]
    status = int(last) if str(last).isdecimal() else 0
    return f"{msg} {status}" if status >= _FIRST_REFUSAL and level == logging.INFO else None
