"""Responses of an OpenAI-compatible endpoint."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

from starlette.responses import JSONResponse, Response, StreamingResponse

Answers = Callable[[], Response]


def refuses(status: int, **headers: str) -> Answers:
    """Respond with an error status; underscores of headers become hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"error": {"message": "their words", "code": "x"}}
    return lambda: JSONResponse(body, status, named)


def streams(*events: str, silent: bool = False, pause: float = 0.0) -> Answers:
    """Send server-sent events, with a pause before each; then end the stream, or stay silent."""

    async def body() -> AsyncIterator[str]:
        for event in events:
            await asyncio.sleep(pause)
            yield f"data: {event}\n\n"
        if silent:
            await asyncio.Event().wait()

    return lambda: StreamingResponse(body(), media_type="text/event-stream")


def text(content: str) -> str:
    """Return a chunk of a response."""
    return _chunk([{"index": 0, "delta": {"content": content}, "finish_reason": None}])


def refusal(content: str) -> str:
    """Return a chunk of a refusal."""
    return _chunk([{"index": 0, "delta": {"refusal": content}, "finish_reason": None}])


def reasoning(content: str) -> str:
    """Return a chunk of the reasoning."""
    return _chunk([{"index": 0, "delta": {"reasoning_content": content}, "finish_reason": None}])


def end() -> str:
    """Return the chunk that ends a response."""
    return _chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}])


def usage(prompt: int, completion: int) -> str:
    """Return the chunk that reports the usage."""
    return _chunk([], usage={"prompt_tokens": prompt, "completion_tokens": completion})


def _chunk(choices: list[object], **more: object) -> str:
    shared = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return json.dumps({**shared, "choices": choices, **more})
