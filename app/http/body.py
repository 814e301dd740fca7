"""Reading a request's body, no further than its limit."""

from starlette.requests import Request

from app.errors import InvalidRequest


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The body of a JSON request. Raises InvalidRequest with status 413 or 415."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # A browser sends other types to any origin without asking first.
    if kind != "application/json":
        raise InvalidRequest(
            f"Content-Type '{kind}' is not supported; accepted is application/json.",
            code="unsupported_media_type",
            status=415,
        )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most_bytes:
        raise _too_large(most_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise _too_large(most_bytes)
    return bytes(body)


def _too_large(most_bytes: int) -> InvalidRequest:
    return InvalidRequest(
        f"The body is too large; accepted are up to {most_bytes} bytes.",
        code="request_too_large",
        status=413,
    )
