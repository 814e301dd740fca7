"""The sending side of one HTTP request."""

from collections.abc import Callable
from typing import Final

from starlette.types import Message, Scope, Send

from app.domain.turn import ClientDisconnected

_KEY: Final = "app.response_writer"
# On every response, errors included: no page runs or frames it, or reads it without CORS, and no
# address of ours is sent to other sites.
SECURITY_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}


class ResponseWriter:
    """The ASGI `send` of a request. The only object that knows how far the response got."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.started = False  # the status may have been sent
        self.complete = False  # the last byte was sent
        self._send = send
        self._send_start = send
        scope[_KEY] = self

    async def __call__(self, message: Message) -> None:
        """Send. Raise ClientDisconnected if the server reports it."""
        try:
            if message["type"] == "http.response.start":
                self.started = True
                await self._send_start(message)
                return
            await self._send(message)
        except OSError as error:
            raise ClientDisconnected from error
        self.complete = not message.get("more_body", False)

    def wrap_start(self, wrap: Callable[[Send], Send]) -> None:
        """Let a middleware change the status and headers. Chunks do not pass through it."""
        self._send_start = wrap(self._send_start)


def response_writer(scope: Scope) -> ResponseWriter:
    """Return the writer of a request."""
    writer = scope[_KEY]
    assert isinstance(writer, ResponseWriter)  # noqa: S101
    return writer
