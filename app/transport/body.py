"""Reading a request's body: no further than its limit, and no longer."""

import asyncio

from starlette.requests import Request

from app.domain.errors import InvalidRequest, shorten

# What was not read cannot be skipped: it may have no end.
_CLOSE = {"connection": "close"}


async def read_body(request: Request, most_bytes: int, seconds: float) -> bytes:
    """The body of a JSON request. Raises InvalidRequest with status 408, 413 or 415."""
    _check_kind(request)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most_bytes:
        raise _too_large(most_bytes)
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, most_bytes)
    except TimeoutError:
        raise InvalidRequest(
            f"The body did not arrive in time; accepted are up to {seconds:g} s.",
            code="request_timeout",
            status=408,
            headers=_CLOSE,
            limit="receive_seconds",
        ) from None


async def _read(request: Request, most_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise _too_large(most_bytes)
    return bytes(body)


def _check_kind(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # A browser sends other types to any origin without asking first.
    if kind != "application/json":
        raise _unsupported("Type", kind, "application/json", "unsupported_media_type")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise _unsupported("Encoding", coding, "none", "unsupported_content_encoding")


def _unsupported(what: str, given: str, accepted: str, code: str) -> InvalidRequest:
    return InvalidRequest(
        f"Content-{what} '{shorten(given)}' is not supported; accepted is {accepted}.",
        code=code,
        status=415,
        headers=_CLOSE,
    )


def _too_large(most_bytes: int) -> InvalidRequest:
    return InvalidRequest(
        f"The body is too large; accepted are up to {most_bytes} bytes.",
        code="request_too_large",
        status=413,
        headers=_CLOSE,
        limit="body_bytes",
    )
