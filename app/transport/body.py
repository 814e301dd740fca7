"""Reading of a request's body, with limits on its size and time."""

import asyncio
from typing import Final

from starlette.requests import Request

from app.domain.errors import shorten
from app.wire.errors import HttpError

# The rest of the body cannot be skipped: it may be endless.
_CLOSE: Final = {"connection": "close"}


async def read_body(request: Request, max_bytes: int, seconds: float) -> bytes:
    """Return the body of a JSON request. Raise HttpError with status 408, 413 or 415."""
    _check_type(request)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, max_bytes)
    except TimeoutError:
        raise HttpError(
            408,
            f"The body did not arrive within {seconds:g} s.",
            code="request_timeout",
            headers=_CLOSE,
            limit="receive_seconds",
        ) from None


async def _read(request: Request, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def _check_type(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # A browser sends some other types to any origin without a preflight request.
    if media_type != "application/json":
        raise _unsupported("Type", media_type, "application/json", "unsupported_media_type")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise _unsupported("Encoding", coding, "none", "unsupported_content_encoding")


def _unsupported(header: str, value: str, accepted: str, code: str) -> HttpError:
    return HttpError(
        415,
        f"Content-{header} '{shorten(value)}' is not supported; accepted: {accepted}.",
        code=code,
        headers=_CLOSE,
    )


def _too_large(max_bytes: int) -> HttpError:
    return HttpError(
        413,
        f"The body is larger than {max_bytes} bytes.",
        code="request_too_large",
        headers=_CLOSE,
        limit="body_bytes",
    )
