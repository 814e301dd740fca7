"""The template of the route that serves a request."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Host, Mount, Route

from chatscope.routes import route_template


async def _answer(_: Request) -> Response:
    return Response()


_ITEM = Route("/items/{id}", _answer)
_ROUTES = [
    Route("/", _answer),
    _ITEM,
    Mount("/api", routes=[Mount("/v1", routes=[_ITEM])]),
    Mount("/static", Starlette()),
    Host("admin.example", Starlette(routes=[_ITEM])),
]


@pytest.mark.parametrize(
    ("method", "host", "path", "template"),
    [
        ("GET", "a", "/", "/"),
        ("GET", "a", "/items/42", "/items/{id}"),
        ("POST", "a", "/items/42", "/items/{id}"),
        ("GET", "a", "/api/v1/items/42", "/api/v1/items/{id}"),
        ("GET", "a", "/api/v1/nope", "/api/v1"),
        ("GET", "a", "/static/a.css", "/static"),
        ("GET", "admin.example", "/only/here", ""),
        ("GET", "a", "/nope", None),
    ],
)
def test_template_is_that_of_the_first_route_that_matches(
    method: str, host: str, path: str, template: str | None
) -> None:
    headers = [(b"host", host.encode())]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    assert route_template(_ROUTES, scope) == template
