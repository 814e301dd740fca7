"""The rate limit of a simulated model, with the headers of a real one."""

from app.providers.simulated_failures import failure

_MINUTE = 60


class Quota:
    """Requests per minute by the clock; None: without limit."""

    def __init__(self, per_minute: int | None) -> None:
        self._per_minute = per_minute
        self._minute = -1
        self._used = 0

    def take(self, now: float) -> dict[str, str]:
        """Count a request at a Unix time, and return the headers of its response.

        Raise ProviderError if it exceeds the limit.
        """
        if self._per_minute is None:
            return {}
        minute, seconds = divmod(now, _MINUTE)
        if minute != self._minute:
            self._minute, self._used = int(minute), 0
        exceeded = self._used >= self._per_minute
        self._used += not exceeded
        headers = {
            "x-ratelimit-limit-requests": str(self._per_minute),
            "x-ratelimit-remaining-requests": str(self._per_minute - self._used),
            "x-ratelimit-reset-requests": f"{_MINUTE - int(seconds)}s",
        }
        if exceeded:
            raise failure("rate_limit_exceeded", headers)
        return headers
