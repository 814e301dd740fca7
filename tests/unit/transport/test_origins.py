"""Which origins and hosts may use the service."""

from contextlib import nullcontext
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from app.transport.origins import Origins
from app.wire.errors import HttpError

_LISTED = "https://chat.example"


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("not called here")


async def _unused(*_: object) -> Any:
    raise AssertionError("not called here")


def _check(*headers: tuple[str, str], version: str = "1.1") -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    hosts = {"localhost", "a.example", "*.b.example"}
    Origins(_app, [_LISTED], hosts)._check(Headers(raw=raw), version)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("a.example", None),
        ("a.example", _LISTED),
        ("a.example", _LISTED.upper()),
        ("a.example", "http://a.example"),
        ("A.example:8000", "https://a.EXAMPLE:8000"),
        ("[::1]:3000", "http://[::1]:3000"),
        ("", _LISTED),
        ("", None),
    ],
)
def test_own_and_listed_origins_and_clients_without_one_pass(host: str, origin: str | None) -> None:
    _check(("host", host), *([("origin", origin)] if origin else []))


@pytest.mark.anyio
@pytest.mark.parametrize(("version", "passes"), [("1.1", False), ("1.0", True)])
async def test_version_of_the_request_decides_about_a_missing_host(
    version: str, passes: bool
) -> None:
    passed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["http_version"])

    scope: Scope = {"type": "http", "http_version": version, "headers": []}
    with nullcontext() if passes else pytest.raises(HttpError):
        await Origins(app, [], set())(scope, _unused, _unused)
    assert passed == ([version] if passes else [])


@pytest.mark.parametrize(
    "host",
    [
        *("localhost:3000", "LOCALHOST", "localhost.", "a.example", "x.b.example:80"),
        *("127.0.0.1:3000", "192.0.2.7", "[::1]:3000", "[2001:db8::7]", ""),
    ],
)
def test_own_names_and_addresses_pass(host: str) -> None:
    _check(("host", host))


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:3000", "a.example.evil.example", "b.example", "xb.example"),
        *("localhost.evil.example", "127.0.0.1.evil.example", "127.1", "2130706433", "0x7f.1"),
    ],
)
def test_another_name_is_misdirected_whatever_its_origin(host: str) -> None:
    for origin in ([], [("origin", f"http://{host}")], [("origin", _LISTED)]):
        with pytest.raises(HttpError) as refused:
            _check(("host", host), *origin)
        assert (refused.value.status, refused.value.code) == (421, "host_not_allowed")


def test_any_name_passes_on_request() -> None:
    Origins(_app, [], {"*"})._check(Headers(raw=[(b"host", b"evil.example")]), "1.1")


def test_http_1_0_needs_no_host() -> None:
    _check(version="1.0")
    _check(("origin", _LISTED), version="1.0")


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ([("host", "a.example"), ("origin", "https://b.example")], "'https://b.example'"),
        ([("host", "a.example"), ("origin", "null")], "'null'"),
        ([("host", "a.example"), ("origin", "http://a.example:81")], "'http://a.example:81'"),
        ([("host", ""), ("origin", "http://")], "'http://'"),
        ([("host", "a.example"), ("origin", f"{_LISTED}/")], f"'{_LISTED}/'"),
        (
            [("host", "a.example"), ("origin", _LISTED), ("origin", _LISTED)],
            f"'{_LISTED}', '{_LISTED}'",
        ),
        ([("host", "a.example"), *[("origin", "x")] * 3], "'x', 'x'"),
        ([("host", "a.example"), ("origin", "http://[")], "'http://['"),
    ],
)
def test_other_origins_are_refused_by_name(headers: list[tuple[str, str]], shown: str) -> None:
    with pytest.raises(HttpError) as caught:
        _check(*headers)
    assert (caught.value.status, caught.value.code) == (403, "origin_not_allowed")
    assert caught.value.message == (
        f"The origin {shown} is not allowed; FRONTEND_URL lists the allowed ones."
    )


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ([], "none"),
        ([("host", "a"), ("host", "a")], "'a', 'a'"),
        ([("host", "a/b")], "'a/b'"),
        ([("host", "a:123456")], "'a:123456'"),
        ([("host", "[::g]")], "'[::g]'"),
        ([("host", "x" * 50 + " ")], f"'{'x' * 40}…'"),
    ],
)
def test_request_names_one_valid_host(headers: list[tuple[str, str]], shown: str) -> None:
    with pytest.raises(HttpError) as caught:
        _check(*headers)
    assert (caught.value.status, caught.value.code) == (400, "invalid_host")
    assert caught.value.message == f"Host must be one host[:port] (got {shown})."
