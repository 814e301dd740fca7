"""A provider that does what its script says, and tells when it was given up."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from app.domain.provider import Completed, TextDelta
from app.wire.request import ChatRequest
from chatscope.genai.request import Usage

MODEL = "scripted-1"
END = Completed(finish_reason="stop", usage=Usage(3, 2), response_id="r-1", response_model=MODEL)

Step = str | Completed | Exception | asyncio.Event


class Scripted:
    """Texts come out, exceptions are raised, events are waited for."""

    name = "scripted"
    models = (MODEL,)
    server: tuple[str, int] | None = None
    in_process = True

    def __init__(self, *steps: Step) -> None:
        self._steps: Sequence[Step] = steps
        self.requests: list[ChatRequest] = []
        self.asked = asyncio.Event()
        self.left = asyncio.Event()  # the stream is over, however
        self.closed = False

    async def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta | Completed]:
        self.requests.append(request)
        self.asked.set()
        try:
            for step in self._steps:
                match step:
                    case str():
                        yield TextDelta(step)
                    case Completed():
                        yield step
                    case asyncio.Event():
                        await step.wait()
                    case _:
                        raise step
        finally:
            self.left.set()

    async def close(self) -> None:
        self.closed = True
