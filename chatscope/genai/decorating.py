"""Record a block of code, or a function of any kind: sync, async, generator, async generator."""

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractContextManager
from functools import partial, wraps
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

from chatscope.genai.handles import Handle, ModelCall
from chatscope.guard import guarded

H = TypeVar("H", bound=Handle[Any])
_Function = TypeVar("_Function", bound=Callable[..., Any])

_GENERATOR: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


class Recording(ABC, Generic[H]):
    """What `inference(...)` and the other recorders return.

    Use it once in a `with` or `async with` block, or as a decorator. The span is current inside of
    the block and of the function, but never across a `yield`. In a block inside a generator, make
    it current for a part of the block by `with handle.current():`.
    """

    def __init__(self) -> None:
        self._handle: H | None = None
        self._current: AbstractContextManager[None] | None = None

    @abstractmethod
    def start(self) -> H:
        """Start an operation whose end the caller records by `close`."""

    def started_for(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> H:
        """Start an operation for one call of a decorated function."""
        return self.start()

    def __enter__(self) -> H:
        return self._enter(sys._getframe(1).f_code.co_flags)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._current is not None:
            current, self._current = self._current, None
            current.__exit__(kind, error, traceback)
        if self._handle is not None:
            handle, self._handle = self._handle, None
            handle.finish(error)

    # Not `async def`: only the caller's frame shows whether it is a generator.
    def __aenter__(self) -> "_Ready[H]":
        return _Ready(self._enter(sys._getframe(1).f_code.co_flags))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: _Function) -> _Function:
        """Record each call of a function."""
        if inspect.isasyncgenfunction(function):
            recorded: Any = self._async_generator(function)
        elif inspect.isgeneratorfunction(function):
            recorded = self._generator(function)
        elif inspect.iscoroutinefunction(function):
            recorded = self._coroutine(function)
        else:
            recorded = self._function(function)
        return recorded  # type: ignore[no-any-return]

    def _enter(self, flags: int) -> H:
        self._handle = handle = self.start()
        if not flags & _GENERATOR:
            self._current = handle.current()
            self._current.__enter__()
        return handle

    def _function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            handle = self.started_for(function, args, kwargs)
            try:
                with handle.current():
                    value = function(*args, **kwargs)
            except BaseException as error:
                handle.finish(error)
                raise
            return _ended(handle, value)

        return recorded

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def recorded(*args: Any, **kwargs: Any) -> Any:
            handle = self.started_for(function, args, kwargs)
            try:
                with handle.current():
                    value = await function(*args, **kwargs)
            except BaseException as error:
                handle.finish(error)
                raise
            return _ended(handle, value)

        return recorded

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def recorded(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            handle = self.started_for(function, args, kwargs)
            steps = function(*args, **kwargs)
            resume: Callable[[], Any] = partial(next, steps)
            while True:
                try:
                    with handle.current():
                        item = resume()
                except StopIteration as end:
                    handle.finish(None)
                    return end.value
                except BaseException as error:
                    handle.finish(error)
                    raise
                _passed(handle, item)
                try:
                    sent = yield item
                except GeneratorExit as closed:
                    try:
                        with handle.current():
                            steps.close()
                    except BaseException as error:
                        handle.finish(error)
                        raise
                    handle.finish(closed)
                    raise
                except BaseException as thrown:
                    resume = partial(steps.throw, thrown)
                else:
                    resume = partial(steps.send, sent)

        return recorded

    def _async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def recorded(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            handle = self.started_for(function, args, kwargs)
            steps = function(*args, **kwargs)
            resume: Callable[[], Any] = partial(anext, steps)
            while True:
                try:
                    with handle.current():
                        item = await resume()
                except StopAsyncIteration:
                    handle.finish(None)
                    return
                except BaseException as error:
                    handle.finish(error)
                    raise
                _passed(handle, item)
                try:
                    sent = yield item
                except GeneratorExit as closed:
                    try:
                        with handle.current():
                            await steps.aclose()
                    except BaseException as error:
                        handle.finish(error)
                        raise
                    handle.finish(closed)
                    raise
                except BaseException as thrown:
                    resume = partial(steps.athrow, thrown)
                else:
                    resume = partial(steps.asend, sent)

        return recorded


class _Ready(Generic[H]):
    """An awaitable with its result."""

    def __init__(self, handle: H) -> None:
        self._handle = handle

    def __await__(self) -> Generator[None, None, H]:
        return self._handle
        yield


def _ended(handle: Handle[Any], value: Any) -> Any:
    """Record the return of a function; a returned stream records the end itself."""
    if isinstance(handle, ModelCall) and isinstance(value, Iterator | AsyncIterator):
        return handle.wrap(value, owned=True)
    with guarded("recording a return value"):
        handle.returned(value)
    handle.finish(None)
    return value


def _passed(handle: Handle[Any], item: object) -> None:
    """Record an item that a generator yields."""
    if isinstance(handle, ModelCall):
        handle.item(item)
