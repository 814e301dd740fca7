"""Which web pages may open a WebSocket: a browser asks nobody before it opens one."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.websockets import WebSocket

from app.errors import InvalidRequest


def check_origin(websocket: WebSocket, allowed: Sequence[str]) -> None:
    """Raise InvalidRequest, 403, for a page that is neither listed nor our own.

    A client without an Origin is no browser, and passes.
    """
    origin = websocket.headers.get("origin")
    if origin is None or origin.lower() in allowed:
        return
    own = websocket.headers.get("host", "").lower()
    if own and urlsplit(origin.lower()).netloc == own:
        return
    raise InvalidRequest(
        "This origin is not allowed; FRONTEND_URL lists those that are.",
        code="origin_not_allowed",
        status=403,
    )
