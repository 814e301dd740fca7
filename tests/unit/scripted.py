"""A scripted provider, its catalog, and requests to it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from app.domain.provider import Chunk, Completed, Event, Provider, Started
from app.domain.request import ChatRequest
from app.providers.blocking import BlockingProvider
from app.providers.catalog import Catalog
from app.wire.request import completion_request
from chatscope.genai.request import Usage

MODEL = "scripted-1"
END = Completed(finish_reason="stop", usage=Usage(3, 2), response_id="r-1", response_model=MODEL)

Step = str | Event | Exception | asyncio.Event | float


class Scripted:
    """Yields texts, raises exceptions, waits for events, and pauses for numbers of seconds."""

    name = "scripted"
    models = (MODEL,)
    server: tuple[str, int] | None = None
    in_process = True

    def __init__(self, *steps: Step) -> None:
        self._steps: Sequence[Step] = steps
        self.requests: list[ChatRequest] = []
        self.asked = asyncio.Event()
        self.left = asyncio.Event()  # the stream has ended, in any way
        self.closed = False

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event]:
        self.requests.append(request)
        self.asked.set()
        try:
            for step in self._steps:
                match step:
                    case str():
                        yield Chunk(step)
                    case Started() | Chunk() | Completed():
                        yield step
                    case asyncio.Event():
                        await step.wait()
                    case float():
                        await asyncio.sleep(step)
                    case _:
                        raise step
        finally:
            self.left.set()

    async def close(self) -> None:
        self.closed = True


def catalog_of(
    *providers: Provider | BlockingProvider, stall_seconds: float = 30.0, max_calls: int = 100
) -> Catalog:
    """Return a catalog of the providers; the first model of the first one is the default."""
    default = providers[0].models[0]
    return Catalog(providers, default, stall_seconds=stall_seconds, max_calls=max_calls)


def chat_request(data: Mapping[str, Any]) -> ChatRequest:
    """Return the request of a body in OpenAI's format."""
    return completion_request(data, {}).to_domain(data.get("model", ""))
