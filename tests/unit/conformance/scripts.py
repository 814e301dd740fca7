"""The provider's behaviour in a case: a script, executed by a provider of each kind."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.domain.provider import Chunk, Completed, Event, Provider
from app.domain.request import ChatRequest
from app.providers.blocking import BlockingProvider
from app.providers.openai_compatible import OpenAICompatibleProvider
from app.settings import SIMULATED_MODEL
from chatscope import span
from chatscope.genai.request import Usage
from tests.unit.conformance.endpoint import Answers
from tests.unit.serving import serving

# A model with a price.
MODEL = SIMULATED_MODEL
END = Completed(finish_reason="stop", usage=Usage(3, 2), response_id="r-1", response_model=MODEL)


class Silence:
    """The provider sends nothing more until the end of the case."""


SILENCE = Silence()
Step = str | Completed | Exception | Silence


class Stage:
    """Events by which the provider and the client of a case synchronize."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.silent = asyncio.Event()  # the script reached its silence
        self.read = asyncio.Event()  # the client has read everything before it
        self.over = asyncio.Event()  # the case is over: hanging calls may end
        self.over_in_threads = threading.Event()

    def end(self) -> None:
        self.over.set()
        self.over_in_threads.set()


class Says:
    """Yields texts and raises exceptions.

    `closing`: its action when it is closed early; if `traced`, it keeps its own span current around
    its yields until then.
    """

    def __init__(
        self,
        *steps: Step,
        closing: Literal["well", "raises", "hangs"] = "well",
        blocking: bool = False,
        traced: bool = False,
    ) -> None:
        self.steps = steps
        self.closing = closing
        self.blocking = blocking
        self.traced = traced

    @property
    def pieces(self) -> int:
        ends = [i for i, step in enumerate(self.steps) if not isinstance(step, str)]
        return ends[0] if ends else len(self.steps)

    @asynccontextmanager
    async def provider(self, stage: Stage) -> AsyncIterator[Provider | BlockingProvider]:
        try:
            yield (_Blocking if self.blocking else _Player)(self, stage)
        finally:
            stage.end()


@dataclass(frozen=True)
class _Named:
    _script: Says
    _stage: Stage

    def own_span(self) -> AbstractContextManager[object]:
        return span("the provider's own") if self._script.traced else nullcontext()

    name = "scripted"
    models = (MODEL,)
    server = None
    in_process = True

    async def close(self) -> None:
        pass


class _Player(_Named):
    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event]:
        try:
            with self.own_span():
                for line in self._script.steps:
                    match line:
                        case str():
                            yield Chunk(line)
                        case Completed():
                            yield line
                        case Silence():
                            self._stage.silent.set()
                            await asyncio.Event().wait()
                        case _:
                            raise line
        finally:
            if self._script.closing == "raises":
                raise RuntimeError("closing failed")
            while self._script.closing == "hangs" and not self._stage.over.is_set():
                with suppress(asyncio.CancelledError):
                    await self._stage.over.wait()


class _Blocking(_Named):
    def stream(self, request: ChatRequest) -> Generator[Event]:
        with self.own_span():
            for line in self._script.steps:
                match line:
                    case str():
                        yield Chunk(line)
                    case Completed():
                        yield line
                    case Silence():
                        self._stage.loop.call_soon_threadsafe(self._stage.silent.set)
                        self._stage.over_in_threads.wait()
                    case _:
                        raise line


class Endpoint:
    """An OpenAI-compatible endpoint with one response per entry of `answers`, the last repeated."""

    pieces = 0

    def __init__(self, *answers: Answers, max_retries: int = 0, timeout: float = 10.0) -> None:
        self._answers = answers
        self._max_retries = max_retries
        self._timeout = timeout

    @asynccontextmanager
    async def provider(self, stage: Stage) -> AsyncIterator[Provider]:
        asked = 0

        async def answer(_: Request) -> Response:
            nonlocal asked
            asked += 1
            return self._answers[min(asked, len(self._answers)) - 1]()

        app = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
        async with serving(app) as server:
            yield OpenAICompatibleProvider(
                base_url=f"http://{server}/v1",
                api_key="sk-test",
                models=(MODEL,),
                timeout=self._timeout,
                connect_timeout=5.0,
                max_retries=self._max_retries,
            )


Script = Says | Endpoint
