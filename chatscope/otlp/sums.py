"""The pipeline of metrics: cumulative sums, of which only the newest matter.

A failed export costs nothing, because the next one brings the same sums and more. But a process
that ends while the receiver is unavailable makes no next export: so each failed one takes the
place of the one before it in the spool, under this process's claim, and another process sends it
after the claim has expired.
"""

import time
from typing import Final

from .client import Outcome, Result
from .pipeline import Pipeline

# s; besides three intervals. While a process lives, no other process sends its sums: newer ones may
# have been accepted already.
_CLAIM: Final = 20.0


class SumsPipeline(Pipeline):
    """Sends whole exports in the caller's thread."""

    def _reset(self) -> None:
        super()._reset()
        self._kept: list[int] = []
        self._unsaved = 0  # points of the newest export that are neither accepted nor on disk
        self._ending = False

    def export(self, requests: list[tuple[bytes, int]], interval: float) -> bool:
        """Send encoded requests with their numbers of points; whether all were accepted.

        `interval` is the time in seconds until the next export.
        """
        with self._busy:
            return not self._ending and self._export(requests, interval)

    def shutdown(self, seconds: float) -> int:
        """Let an export in progress end, and stop; the number of points lost by it.

        No newer sums follow: those that were kept may be sent now.
        """
        deadline = time.monotonic() + seconds
        self._ending = True
        if self._busy.acquire(timeout=max(0.0, seconds / 2)):
            for number in self._kept:
                self.spool.release(number)
            self._busy.release()
        return super().shutdown(deadline - time.monotonic()) + self._unsaved

    def _export(self, requests: list[tuple[bytes, int]], interval: float) -> bool:
        self.start()
        for position, (body, points) in enumerate(requests):
            result = self._result(body, points)
            if result.outcome is Outcome.ACCEPTED:
                self._count(result, points)
                continue
            self.statistics.count_exported(points, result.error_type)
            if result.outcome is Outcome.UNAVAILABLE:
                self._became_unavailable(f"{result.error_type}: {result.message}")
                self._replace_kept(requests[position:], interval)
                return False
        self._replace_kept([], interval)
        return True

    def _result(self, body: bytes, points: int) -> Result:
        if not self._available:
            return Result(Outcome.UNAVAILABLE, "unavailable", "the receiver is unavailable")
        try:
            return self._call(body, points).result(min(self._patience, self._time_left()))
        except TimeoutError:
            return Result(Outcome.UNAVAILABLE, "timeout", f"no response within {self._patience} s")

    @property
    def _patience(self) -> float:
        # Without a disk there is no place to keep the sums: the call may take its time.
        return 0.5 if self.spool.path is not None else self._client.timeout

    def _replace_kept(self, requests: list[tuple[bytes, int]], interval: float) -> None:
        if self.spool.path is None:
            self._unsaved = sum(points for _, points in requests)
            return
        claim = _CLAIM + 3 * interval
        numbers = [self.spool.append(body, points, claim) for body, points in requests]
        for number in self._kept:
            self.spool.remove(number)
        self._kept = [number for number in numbers if number]
        kept = zip(requests, numbers, strict=True)
        self._unsaved = sum(points for (_, points), number in kept if not number)
