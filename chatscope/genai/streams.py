"""Iterators over the chunks of a response that record each chunk."""

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

_Item = TypeVar("_Item")


class StreamedCall(Protocol):
    """The call that a stream belongs to."""

    def current(self) -> Any:
        """Make the span current."""

    def item(self, item: object) -> None:
        """Record one item."""

    def mark(self, error: BaseException | None) -> None:
        """Note the outcome."""

    def finish(self, error: BaseException | None) -> None:
        """Note the outcome and record it."""


class _Cancelled(BaseException):
    """Marks the end of a stream that was closed before its last item."""


class _Stream(Generic[_Item]):
    """Base of both iterators; has the attributes of the recorded stream."""

    def __init__(self, call: StreamedCall, items: Any, owned: bool) -> None:
        self._call = call
        self._items = items
        self._end = call.finish if owned else call.mark

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._items, name)


class RecordedStream(_Stream[_Item]):
    """An iterator that records; closing it early records the call as cancelled."""

    def __init__(self, call: StreamedCall, items: Any, owned: bool) -> None:
        super().__init__(call, items, owned)
        self._iterator: Iterator[_Item] = iter(items)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Item:
        try:
            with self._call.current():
                item = next(self._iterator)
        except StopIteration:
            self._end(None)
            raise
        except BaseException as error:
            self._end(error)
            raise
        self._call.item(item)
        return item

    def __enter__(self) -> Self:
        enter = getattr(self._items, "__enter__", None)
        if enter is not None:
            enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        leave = getattr(self._items, "__exit__", None)
        try:
            return leave is not None and bool(leave(kind, error, traceback))
        finally:
            self._end(error or _Cancelled())

    def close(self) -> None:
        """Close the recorded stream, if it can be closed."""
        close = getattr(self._items, "close", None) or getattr(self._iterator, "close", None)
        try:
            if close is not None:
                close()
        finally:
            self._end(_Cancelled())


class RecordedAsyncStream(_Stream[_Item]):
    """An asynchronous iterator that records; closing it early records the call as cancelled."""

    def __init__(self, call: StreamedCall, items: Any, owned: bool) -> None:
        super().__init__(call, items, owned)
        self._iterator: AsyncIterator[_Item] = aiter(items)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _Item:
        try:
            with self._call.current():
                item = await anext(self._iterator)
        except StopAsyncIteration:
            self._end(None)
            raise
        except BaseException as error:
            self._end(error)
            raise
        self._call.item(item)
        return item

    async def __aenter__(self) -> Self:
        enter = getattr(self._items, "__aenter__", None)
        if enter is not None:
            await enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        leave = getattr(self._items, "__aexit__", None)
        try:
            return leave is not None and bool(await leave(kind, error, traceback))
        finally:
            self._end(error or _Cancelled())

    async def aclose(self) -> None:
        """Close the recorded stream, if it can be closed."""
        close = getattr(self._items, "aclose", None) or getattr(self._items, "close", None)
        try:
            if close is not None:
                await close()
        finally:
            self._end(_Cancelled())

    async def close(self) -> None:
        """Close the recorded stream, as the clients of OpenAI and Anthropic name it."""
        await self.aclose()
