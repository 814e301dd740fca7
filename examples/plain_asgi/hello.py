"""An ASGI application without a framework: run it with `uvicorn hello:app`."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import chatscope

Message = MutableMapping[str, Any]

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger("hello")


async def hello(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Respond to each request with a greeting."""
    if scope["type"] != "http":
        raise RuntimeError(f"{scope['type']} is not supported")
    logger.info("greeting")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


chatscope.configure(service_name="hello")
app = chatscope.instrument(hello)
