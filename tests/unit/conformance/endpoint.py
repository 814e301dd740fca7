"""What an OpenAI-compatible endpoint may answer with."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

from starlette.responses import JSONResponse, Response, StreamingResponse

Answers = Callable[[], Response]


def refuses(status: int, **headers: str) -> Answers:
    """An error with that status; underscores of headers become hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"error": {"message": "their words", "code": "x"}}
    return lambda: JSONResponse(body, status, named)


def streams(*events: str, silent: bool = False, pause: float = 0.0) -> Answers:
    """Server-sent events, after a pause each; then the end of the stream, or silence."""

    async def body() -> AsyncIterator[str]:
        for event in events:
            await asyncio.sleep(pause)
            yield f"data: {event}\n\n"
        if silent:
            await asyncio.Event().wait()

    return lambda: StreamingResponse(body(), media_type="text/event-stream")


def text(content: str) -> str:
    """A chunk with a piece of the answer."""
    return _chunk([{"index": 0, "delta": {"content": content}, "finish_reason": None}])


def refusal(content: str) -> str:
    """A chunk with a piece of a refusal."""
    return _chunk([{"index": 0, "delta": {"refusal": content}, "finish_reason": None}])


def reasoning(content: str) -> str:
    """A chunk with a piece of the reasoning."""
    return _chunk([{"index": 0, "delta": {"reasoning_content": content}, "finish_reason": None}])


def end() -> str:
    """The chunk that ends an answer."""
    return _chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}])


def usage(prompt: int, completion: int) -> str:
    """The chunk that tells the usage."""
    return _chunk([], usage={"prompt_tokens": prompt, "completion_tokens": completion})


def _chunk(choices: list[object], **more: object) -> str:
    shared = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return json.dumps({**shared, "choices": choices, **more})
