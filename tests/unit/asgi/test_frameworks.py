"""The route template with the routers of several frameworks, each as its application is used."""

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route
from starlette.staticfiles import StaticFiles

from chatscope.asgi import HttpTelemetry
from chatscope.direct_spans import DirectTracer
from chatscope.guard import containing_errors
from chatscope.http_metrics import HttpMetrics
from chatscope.routes import RouteFinder
from tests.memory import Memory


async def _ok(_: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


class _CopiesScope:
    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(dict(scope), receive, send)


def _starlette(*, copies_scope: bool = False) -> Any:
    item = Route("/items/{id:int}", _ok, methods=["GET"])
    routes = [
        item,
        Route("/items/new", _ok, methods=["POST"]),
        Mount("/api", routes=[Mount("/v1", routes=[item])]),
        Mount("/tenants/{tenant:str}", Starlette(routes=[item])),
        Host("admin.example", Starlette(routes=[item])),
    ]
    return Starlette(routes=routes, middleware=[Middleware(_CopiesScope)] if copies_scope else [])


def _fastapi() -> Any:
    fastapi = pytest.importorskip("fastapi")
    app, items, deep, sub = (
        fastapi.FastAPI(),
        fastapi.APIRouter(prefix="/items"),
        fastapi.APIRouter(prefix="/deep"),
        fastapi.FastAPI(),
    )
    for router in (app, items, deep, sub):
        router.get("/{item_id}")(lambda item_id: item_id)
    items.include_router(deep, prefix="/mid")
    app.include_router(items, prefix="/api")
    app.mount("/sub/{tenant}", sub)
    app.mount("/files", StaticFiles(directory="."))
    app.mount("/litestar/{tenant}", _litestar())
    return app


def _litestar() -> Any:
    litestar = pytest.importorskip("litestar")

    async def item() -> str:
        return "ok"

    handler = litestar.get("/items/{item_id:int}")(item)
    router = litestar.Router("/api", route_handlers=[handler])
    return litestar.Litestar([router], logging_config=None)  # which would change the root logger


def _quart() -> Any:
    quart = pytest.importorskip("quart")
    app = quart.Quart("shop")

    async def item(item_id: int) -> str:
        return str(item_id)

    app.get("/items/<int:item_id>")(item)
    return app


def _served(app: Any, method: str, path: str, host: str = "shop.example") -> str:
    memory = Memory()
    metrics = HttpMetrics(memory.providers.meter_provider.get_meter("test"), memory.tallies)
    tracer = DirectTracer.of(memory.providers.tracer_provider, "test")
    around = HttpTelemetry(app, RouteFinder(app), tracer, metrics)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", host.encode())],
        "client": ("192.0.2.7", 5),
        "server": ("127.0.0.1", 3000),
    }
    incoming = [{"type": "http.request", "body": b"", "more_body": False}]
    ended = asyncio.Event()

    async def receive() -> Any:
        if incoming:
            return incoming.pop()
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            ended.set()

    asyncio.run(asyncio.wait_for(around(scope, receive, send), 10))
    assert memory.value("http.server.request.duration") == 1
    [span] = memory.spans
    attributes = span.attributes or {}
    assert span.name == f"{method} {attributes.get('http.route', '')}".strip()
    return str(attributes.get("http.route", ""))


_STARLETTE = [
    ("GET", "/items/42", "/items/{id}"),
    ("POST", "/items/42", "/items/{id}"),
    ("POST", "/items/new", "/items/new"),
    ("GET", "/api/v1/items/42", "/api/v1/items/{id}"),
    ("GET", "/api/v1/nope", "/api/v1"),
    ("GET", "/tenants/acme/items/42", "/tenants/{tenant}/items/{id}"),
    ("GET", "/nope", ""),
]


@pytest.mark.parametrize("copies_scope", [False, True])
@pytest.mark.parametrize(("method", "path", "route"), _STARLETTE)
def test_starlette(method: str, path: str, route: str, copies_scope: bool) -> None:
    assert _served(_starlette(copies_scope=copies_scope), method, path) == route


def test_starlette_host() -> None:
    assert _served(_starlette(), "GET", "/items/1", "admin.example") == "/items/{id}"


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/42", "/{item_id}"),
        ("POST", "/42", "/{item_id}"),
        ("GET", "/api/items/42", "/api/items/{item_id}"),
        ("POST", "/api/items/42", "/api/items/{item_id}"),
        ("GET", "/api/items/mid/deep/42", "/api/items/mid/deep/{item_id}"),
        ("GET", "/sub/acme/42", "/sub/{tenant}/{item_id}"),
        ("GET", "/docs", "/docs"),
        ("GET", "/files/a.css", "/files"),
        ("GET", "/litestar/acme/api/items/42", "/litestar/{tenant}/api/items/{item_id}"),
        ("GET", "/no/such/path", ""),
    ],
)
def test_fastapi(method: str, path: str, route: str) -> None:
    assert _served(_fastapi(), method, path) == route


@pytest.mark.parametrize(
    ("path", "route"), [("/api/items/42", "/api/items/{item_id}"), ("/nope", "")]
)
def test_litestar(path: str, route: str) -> None:
    assert _served(_litestar(), "GET", path) == route


@pytest.mark.parametrize(("path", "route"), [("/items/42", "/items/<int:item_id>"), ("/nope", "")])
def test_quart(path: str, route: str) -> None:
    assert _served(_quart(), "GET", path) == route


def test_request_is_recorded_without_its_route_where_that_cannot_be_found() -> None:
    class Odd:
        @property
        def path_format(self) -> str:
            raise LookupError

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = Odd()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    with containing_errors():
        assert _served(app, "GET", "/odd") == ""
