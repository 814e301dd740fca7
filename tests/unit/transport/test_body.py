"""Bodies of requests: what is read, and what is refused before or while it is read."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from starlette.requests import Request

from app.transport.body import read_body
from app.wire.errors import HttpError

pytestmark = pytest.mark.anyio
_JSON = {"content-type": "application/json"}


class _Client:
    """Sends chunks, and then nothing more if `hangs`."""

    def __init__(self, *chunks: bytes, hangs: bool = False) -> None:
        self._chunks = list(chunks)
        self._hangs = hangs
        self.asked = 0

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        if self._hangs and not self._chunks:
            await asyncio.Event().wait()
        body = self._chunks.pop(0)
        return {"type": "http.request", "body": body, "more_body": self._hangs or self._chunks}


async def _read(client: _Client, headers: Mapping[str, str] = _JSON, seconds: float = 5.0) -> bytes:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    request = Request({"type": "http", "method": "POST", "headers": encoded}, client.receive)
    return await read_body(request, 10, seconds)


@pytest.mark.parametrize(
    "headers",
    [
        _JSON,
        {"content-type": " Application/JSON ; charset=utf-8"},
        {**_JSON, "content-encoding": " Identity "},
        {**_JSON, "content-length": "10"},
        {**_JSON, "content-length": "many"},
    ],
)
async def test_json_as_long_as_the_limit_is_read(headers: dict[str, str]) -> None:
    assert await _read(_Client(b"01234", b"56789"), headers) == b"0123456789"


@pytest.mark.parametrize(
    ("headers", "code", "message"),
    [
        ({}, "media_type", "Content-Type '' is not supported; accepted: application/json."),
        (
            {"content-type": "text/plain"},
            "media_type",
            "Content-Type 'text/plain' is not supported; accepted: application/json.",
        ),
        (
            {**_JSON, "content-encoding": "gzip"},
            "content_encoding",
            "Content-Encoding 'gzip' is not supported; accepted: none.",
        ),
    ],
)
async def test_other_types_and_encodings_are_refused_unread(
    headers: dict[str, str], code: str, message: str
) -> None:
    client = _Client(b"{}")
    with pytest.raises(HttpError) as caught:
        await _read(client, headers)
    error = caught.value
    assert (error.status, error.code, error.message) == (415, f"unsupported_{code}", message)
    assert error.headers == {"connection": "close"}
    assert client.asked == 0


@pytest.mark.parametrize(("headers", "asked"), [({"content-length": "11"}, 0), ({}, 2)])
async def test_longer_body_is_refused_as_soon_as_that_is_known(
    headers: dict[str, str], asked: int
) -> None:
    client = _Client(b"012345", b"67890", b"x")
    with pytest.raises(HttpError) as caught:
        await _read(client, {**_JSON, **headers})
    error = caught.value
    assert (error.status, error.code, error.limit) == (413, "request_too_large", "body_bytes")
    assert error.message == "The body is larger than 10 bytes."
    assert error.headers == {"connection": "close"}
    assert client.asked == asked


async def test_body_that_does_not_arrive_is_given_up() -> None:
    async with asyncio.timeout(30):
        with pytest.raises(HttpError) as caught:
            await _read(_Client(b"{", hangs=True), seconds=0.05)
    error = caught.value
    assert (error.status, error.code, error.limit) == (408, "request_timeout", "receive_seconds")
    assert error.message == "The body did not arrive within 0.05 s."
    assert error.headers == {"connection": "close"}
