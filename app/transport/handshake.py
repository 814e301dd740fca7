"""WebSocket handshakes (RFC 6455, section 4.2), checked before a connection leaves HTTP."""

from collections.abc import Iterable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from websockets.exceptions import InvalidUpgrade
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request as HandshakeRequest
from websockets.server import ServerProtocol

from app.domain.errors import InvalidRequest, shorten

_VERSION = "13"
_LONGEST_REASON = 200
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
    """Raise InvalidRequest, 426 or 400, unless the WebSocket server would accept this request.

    The server's own code decides, on the same bytes: it answers some requests that it cannot
    parse with nothing at all.
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
    raise _refusal(problem, headers)


async def refuse_handshake(request: Request) -> Response:
    """Answer an HTTP request to the WebSocket endpoint. Raises InvalidRequest always."""
    scope = request.scope
    method = scope["method"].encode()
    check_handshake(method, scope["raw_path"], scope["headers"], scope["http_version"])
    raise _invalid("an earlier request of this connection is not answered yet")


def _refusal(problem: Exception, headers: Iterable[tuple[bytes, bytes]]) -> InvalidRequest:
    name = b"sec-websocket-version"
    versions = [value.decode("latin-1") for key, value in headers if key.lower() == name]
    if versions not in ([], [_VERSION]):
        return InvalidRequest(
            f"WebSocket version {shorten(', '.join(versions))} is not supported; accepted is "
            f"{_VERSION}.",
            code="unsupported_websocket_version",
            status=426,
            headers={**_UPGRADE, "sec-websocket-version": _VERSION},
        )
    return _invalid(f"{problem.__cause__ or problem}")


def _invalid(reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid WebSocket handshake: {shorten(reason, _LONGEST_REASON)}. Accepted are one "
        "Sec-WebSocket-Key of 16 bytes in base64, Sec-WebSocket-Version 13, and no body.",
        code="invalid_handshake",
    )


def _upgrade_required() -> InvalidRequest:
    return InvalidRequest(
        "This endpoint accepts WebSocket handshakes only: GET over HTTP/1.1 with "
        "'Connection: Upgrade' and 'Upgrade: websocket'.",
        code="upgrade_required",
        status=426,
        headers=_UPGRADE,
    )
