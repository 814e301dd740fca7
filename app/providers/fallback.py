"""Fallbacks: the next model is tried when a provider fails before its first event."""

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from app.domain.attempt import Attempt, OnAttempt
from app.domain.provider import Chunk, Event, Model, ProviderError, ResponseStream
from app.domain.request import ChatRequest

# The client's request caused it: another provider would refuse it too.
_CLIENT_ERRORS: Final = frozenset({"invalid_request"})


@dataclass(frozen=True)
class Candidate:
    """A model, and how long it may take until its first event if another one can be tried."""

    model: Model
    seconds: float


class FallbackStream:
    """The events of the first attempt that yields one; the failed attempts before it yield none.

    Attempts run one after another, each in the context in which this object was created. If all
    fail, the error is that of the first one: the model that the client requested.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        request: ChatRequest,
        *,
        seconds: float,
        on_attempt: OnAttempt | None = None,
        is_content: Callable[[Event], bool] = lambda event: True,
    ) -> None:
        """`seconds`: the time of all attempts together until the first event.

        Events before the first one for which `is_content` is true are held back: they do not
        choose an attempt.
        """
        self._candidates = candidates
        self._request = request
        self._deadline = time.monotonic() + seconds
        self._on_attempt = on_attempt or _ignore
        self._is_content = is_content
        self._held: deque[Event] = deque()  # of the chosen attempt
        self._context = contextvars.copy_context()
        self._stream: ResponseStream | None = None  # of the running attempt
        self._chosen = False  # its first event has come
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event. Raise ProviderError if all attempts fail."""
        if self._closed:
            raise StopAsyncIteration
        if not self._chosen:
            await self._choose()
        if self._held:
            return self._held.popleft()
        assert self._stream is not None  # noqa: S101
        return await anext(aiter(self._stream))

    @property
    def ended(self) -> float:
        """The perf_counter at which the provider ended, or now."""
        now = time.perf_counter()
        ended: float = getattr(self._stream, "ended", now)
        return ended

    @property
    def has_chunk(self) -> bool:
        """Whether the next event is a chunk that has arrived."""
        if self._held or self._stream is None:
            return bool(self._held) and isinstance(self._held[0], Chunk)
        return self._stream.has_chunk

    async def aclose(self) -> None:
        """End the running attempt; no other begins."""
        self._closed = True
        if self._stream:
            await self._stream.aclose()

    async def _choose(self) -> None:
        first_error: ProviderError | None = None
        for position, candidate in enumerate(self._candidates):
            is_last = position + 1 == len(self._candidates)
            left = self._deadline - time.monotonic()
            started = time.monotonic()
            seconds = left if is_last else min(left, candidate.seconds)
            try:
                await self._attempt(candidate.model, seconds)
            except ProviderError as error:
                first_error = first_error or error
                self._report(position, candidate, started, error)
                if self._closed or not self._may_try_another(error):
                    break
                continue
            self._chosen = True
            self._report(position, candidate, started)
            return
        self._closed = True
        assert first_error is not None  # noqa: S101  there is at least one candidate
        raise first_error

    async def _attempt(self, model: Model, seconds: float) -> None:
        """Read a new stream until its first event; close it if that fails."""
        self._held.clear()
        stream = self._context.run(model.stream, self._request)
        self._stream = stream
        try:
            async with asyncio.timeout(max(0.0, seconds)) as limit:
                while not (self._held and self._is_content(self._held[-1])):
                    self._held.append(await anext(aiter(stream)))
        except StopAsyncIteration:
            await stream.aclose()
            raise ProviderError("broken_stream", "The provider's stream was empty.") from None
        except TimeoutError:
            if not limit.expired():
                raise
            await stream.aclose()
            raise ProviderError("stalled", "The model stopped responding.") from None
        except ProviderError:
            await stream.aclose()
            raise

    def _may_try_another(self, error: ProviderError) -> bool:
        return error.error_type not in _CLIENT_ERRORS and time.monotonic() < self._deadline

    def _report(
        self,
        position: int,
        candidate: Candidate,
        started: float,
        error: ProviderError | None = None,
    ) -> None:
        self._on_attempt(
            Attempt(
                number=position + 1,
                model=candidate.model,
                error_type=error.error_type if error else None,
                status=error.upstream.status if error else None,
                seconds=time.monotonic() - started,
                headers=error.upstream.headers if error else {},
            )
        )


def _ignore(_: Attempt) -> None:
    """Record nothing."""
