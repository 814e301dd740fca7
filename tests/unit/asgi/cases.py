"""Generated HTTP requests, and an application that behaves as each case defines."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any, Final

from starlette.applications import Starlette
from starlette.routing import Mount, Route

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

TRACE_ID: Final = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID: Final = "b7ad6b7169203331"

# Values of each field; the first one is the default.
_VALUES: Final[dict[str, tuple[Any, ...]]] = {
    "method": (
        *("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "QUERY"),
        *("BREW", "PROPFIND", "get"),
    ),
    "scheme": ("http", "https"),
    "version": ("1.1", "1.0", "2", "3", None),
    "path": (
        *("/items/42", "/api/items/7", "/tenants/acme/items/1", "/numbers/5", "/", "/nope"),
        *("/files/a/b.css", "/äöü"),
    ),
    "root_path": ("", "/proxy"),
    "query": (b"", b"token=secret"),
    "host": (
        *(b"shop.example", None, b"shop.example:8443", b"[::1]:3000", b"[::1]", b"127.0.0.1"),
        *(b"shop.example:abc", b"shop.example:99999999", b"\xff\xfe", b""),
    ),
    "user_agent": (b"tests/1", None, b"Googlebot/2.1", b"caf\xe9", b""),
    "length": ("right", None, b"abc", b"-1", b"9" * 40),
    "request": ((b"12345678",), (), (b"1234", b"", b"56")),
    "status": (200, 201, 204, 301, 304, 400, 404, 422, 499, 500, 503),
    "response": ((b"hello",), (b"",), (b"a", b"bc", b"def"), (b"x",) * 40),
    "behaviour": (
        "responds", "raises before", "raises midway", "raises after", "no response", "incomplete",
        "client disconnects", "client disconnects, write fails", "cancelled", "trailers",
        "sends a file", "ignores the body",
    ),
    "app": ("starlette", "plain"),
    "parent": (None, "01", "00", "invalid"),
    "client": (("192.0.2.7", 5), None),
    "server": (("127.0.0.1", 3000), None, ("/run/shop.sock", None)),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One request and the application's behaviour."""

    fields: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return self.fields[name]

    def __str__(self) -> str:
        shown = {name: self.fields[name] for name in self.fields if self.is_unusual(name)}
        return " ".join(f"{name}={value!r}" for name, value in shown.items()) or "usual"

    def is_unusual(self, name: str) -> bool:
        """Return whether a field differs from the default request."""
        return bool(self.fields[name] != _VALUES[name][0])

    def scope(self) -> dict[str, Any]:
        """Return a new ASGI scope."""
        path = self.root_path + self.path
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            **({"http_version": self.version} if self.version else {}),
            "method": self.method,
            "scheme": self.scheme,
            "path": path,
            "raw_path": path.encode(),
            "root_path": self.root_path,
            "query_string": self.query,
            "headers": self._headers(),
            "client": self.client,
            "server": self.server,
            "state": {"case": self},
        }

    def _headers(self) -> list[tuple[bytes, bytes]]:
        length = self.length
        if length == "right":
            length = str(sum(map(len, self.request))).encode()
        found = [
            (b"host", self.host),
            (b"accept", b"*/*"),
            (b"user-agent", self.user_agent),
            (b"content-length", length),
        ]
        if self.parent == "invalid":
            found.append((b"traceparent", b"00-nonsense"))
        elif self.parent:
            value = f"00-{TRACE_ID}-{SPAN_ID}-{self.parent}"
            found += [(b"traceparent", value.encode()), (b"tracestate", b"shop=1")]
        return [(name, value) for name, value in found if value is not None]


def generate(count: int, seed: int = 15) -> list[Case]:
    """Return cases: each value alone, each behaviour with each status, and random mixtures."""
    chosen = random.Random(seed)  # noqa: S311
    usual = {name: values[0] for name, values in _VALUES.items()}
    alone = ({**usual, name: value} for name, values in _VALUES.items() for value in values)
    pairs = (
        {**usual, "behaviour": behaviour, "status": status}
        for behaviour in _VALUES["behaviour"]
        for status in (200, 404, 500)
    )
    cases = [Case(fields) for fields in chain(alone, pairs)]
    while len(cases) < count:
        # Half of the fields have defaults: in a mixture of many exceptions most would be masked.
        cases.append(
            Case(
                {
                    name: chosen.choice(values) if chosen.random() < 0.5 else values[0]
                    for name, values in _VALUES.items()
                }
            )
        )
    return cases


class DisconnectError(OSError):
    """The error that a server raises on a write to a closed connection."""


async def behave(scope: Any, receive: Receive, send: Send) -> None:
    """Respond as the case defines; a plain ASGI application."""
    case: Case = scope["state"]["case"]
    if case.behaviour != "ignores the body":
        while (message := await receive())["type"] == "http.request":
            if not message.get("more_body"):
                break
    if case.behaviour == "raises before":
        raise ValueError("a bug")
    if case.behaviour == "cancelled":
        raise asyncio.CancelledError
    if case.behaviour == "no response":
        return
    trailers = case.behaviour == "trailers"
    start = {"type": "http.response.start", "status": case.status, "trailers": trailers}
    await send({**start, "headers": [(b"content-type", b"text/plain")]})
    if case.behaviour == "sends a file":
        await send({"type": "http.response.pathsend", "path": __file__})
        return
    await _send_body(case, receive, send)
    if trailers:
        await send({"type": "http.response.trailers", "headers": [], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": []})
    if case.behaviour == "raises after":
        raise ValueError("a bug in background work")


async def _send_body(case: Case, receive: Receive, send: Send) -> None:
    first, *others = case.response
    for chunk, following in zip_longest(case.response, others):
        more = following is not None or case.behaviour in _BREAKS_OFF
        body = {"type": "http.response.body", "body": chunk, "more_body": more}
        await send(body)
        if case.behaviour in _BREAKS_OFF:
            break
    if case.behaviour == "raises midway":
        raise ValueError("a bug")
    if case.behaviour.startswith("client disconnects"):
        assert (await receive())["type"] == "http.disconnect"
    if case.behaviour == "client disconnects, write fails":
        await send({"type": "http.response.body", "body": first, "more_body": True})


_BREAKS_OFF: Final = (
    *("raises midway", "incomplete", "client disconnects", "client disconnects, write fails"),
)


class _Endpoint:
    """`behave` as an endpoint of Starlette, for all methods."""

    def __init__(self, scope: Any, receive: Receive, send: Send) -> None:
        self._arguments = (scope, receive, send)

    def __await__(self) -> Generator[Any, None, None]:
        return behave(*self._arguments).__await__()


def starlette() -> Starlette:
    """Return an application with mounts and parameters around `behave`."""
    items = Route("/items/{id}", _Endpoint)
    files: Any = behave
    return Starlette(
        routes=[
            Route("/", _Endpoint),
            items,
            Route("/numbers/{n:int}", _Endpoint),
            Mount("/api", routes=[items]),
            Mount("/tenants/{tenant}", Starlette(routes=[items])),
            Mount("/files", files),
        ]
    )


class Server:
    """The server's side of one case."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._incoming = self._messages()
        self.sent: list[Message] = []
        self._disconnected = False

    async def receive(self) -> Message:
        """Return the parts of the request's body, then the disconnect."""
        message = next(self._incoming)
        self._disconnected = message["type"] == "http.disconnect"
        return message

    async def send(self, message: Message) -> None:
        """Record a message; raise after the disconnect."""
        if self._disconnected and self._case.behaviour.endswith("write fails"):
            raise DisconnectError("closed")
        self.sent.append(dict(message))

    def _messages(self) -> Generator[Message, None, None]:
        parts = self._case.request or (b"",)
        for index, part in enumerate(parts, start=1):
            yield {"type": "http.request", "body": part, "more_body": index < len(parts)}
        while True:
            yield {"type": "http.disconnect"}
