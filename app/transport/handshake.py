"""Validation of WebSocket handshakes (RFC 6455, section 4.2) before the connection is upgraded."""

from collections.abc import Iterable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from websockets.exceptions import InvalidUpgrade
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request as HandshakeRequest
from websockets.server import ServerProtocol

from app.domain.errors import shorten
from app.wire.errors import HttpError

_VERSION = "13"
_MAX_REASON_LENGTH = 200
_UPGRADE = {"upgrade": "websocket", "connection": "upgrade"}


def request_head(
    method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]], version: bytes = b"1.1"
) -> bytes:
    """Serialize the head of a request."""
    lines = [b"%s %s HTTP/%s" % (method, target, version)]
    lines += [b"%s: %s" % header for header in headers]
    return b"\r\n".join([*lines, b"", b""])


def check_handshake(
    method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]], version: str
) -> None:
    """Raise HttpError, 426 or 400, unless the WebSocket server would accept this request.

    The same library validates the same bytes: the server sends no response at all to some requests
    that it cannot parse.
    """
    if version != "1.1":  # RFC 9110, section 7.8: HTTP/1.0 has no upgrade
        raise _upgrade_required()
    server = ServerProtocol(extensions=[ServerPerMessageDeflateFactory()])
    server.receive_data(request_head(method, target, headers))
    for event in server.events_received():
        if isinstance(event, HandshakeRequest):
            server.accept(event)
    problem = server.handshake_exc
    if problem is None:
        return
    if isinstance(problem, InvalidUpgrade):
        raise _upgrade_required()
    raise _to_error(problem, headers)


async def refuse_handshake(request: Request) -> Response:
    """Refuse an HTTP request to the WebSocket endpoint. Always raise HttpError."""
    scope = request.scope
    method = scope["method"].encode()
    check_handshake(method, scope["raw_path"], scope["headers"], scope["http_version"])
    raise _invalid("an earlier request on this connection has not been answered yet")


def _to_error(problem: Exception, headers: Iterable[tuple[bytes, bytes]]) -> HttpError:
    name = b"sec-websocket-version"
    versions = [value.decode("latin-1") for key, value in headers if key.lower() == name]
    if versions not in ([], [_VERSION]):
        return HttpError(
            426,
            f"WebSocket version {shorten(', '.join(versions))} is not supported; accepted: "
            f"{_VERSION}.",
            code="unsupported_websocket_version",
            headers={**_UPGRADE, "sec-websocket-version": _VERSION},
        )
    return _invalid(f"{problem.__cause__ or problem}")


def _invalid(reason: str) -> HttpError:
    return HttpError(
        400,
        f"Invalid WebSocket handshake: {shorten(reason, _MAX_REASON_LENGTH)}. Required: one "
        "Sec-WebSocket-Key of 16 bytes in base64, Sec-WebSocket-Version 13, and no body.",
        code="invalid_handshake",
    )


def _upgrade_required() -> HttpError:
    return HttpError(
        426,
        "This endpoint accepts WebSocket handshakes only: GET over HTTP/1.1 with "
        "'Connection: Upgrade' and 'Upgrade: websocket'.",
        code="upgrade_required",
        headers=_UPGRADE,
    )
