"""The route template of a request, such as `/items/{id}`: from the router's own result.

Frameworks leave what they matched in the ASGI scope. Where a middleware handed the router a copy of
the scope, the routes of the application are matched again.
"""

import re
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import suppress
from typing import Any, Final

from chatscope.guard import report

Scope = MutableMapping[str, Any]
FindRoute = Callable[[Scope], str | None]

# Starlette's path convertors are not part of the template: `{id:int}` is `{id}`.
_CONVERTOR: Final = re.compile(r"{(\w+):\w+}")
_KEPT_PREFIXES: Final = 1024


class RouteFinder:
    """Finds the template of the route that served a request of one application.

    To be called when the application has begun to respond, or later.
    """

    def __init__(self, app: object) -> None:
        """`app` is the framework's application: its routes are the fallback."""
        self._app = app
        # Mounted paths as requested, to their templates.
        self._prefixes: dict[str, str] = {}

    def __call__(self, scope: Scope) -> str | None:
        """Return the template; None for a request that no route matches."""
        try:
            template = scope.get("path_template")  # Litestar
            if type(template) is str:
                return self._mounted(template, scope)
            route = scope.get("route")  # Starlette, FastAPI
            if route is not None:
                return self._mounted(_own_path(route, scope), scope) or None
            if "router" in scope:
                # FastAPI leaves its own routes there, but not those of Starlette, such as mounts.
                return _matched_again(scope) or None if "endpoint" in scope else None
            url_map = getattr(self._app, "url_map", None)
            if url_map is not None:
                return _match_rule(url_map, scope)
            routes = getattr(self._app, "routes", None)
            return route_template(routes, scope) or None if routes else None
        except Exception as error:  # in code of the framework or the application
            report("finding the route of a request", error)
            return None

    def _mounted(self, path: str, scope: Scope) -> str:
        """Return the template `path` with those of the mounts around it."""
        root_path = scope.get("root_path", "")
        # Where the server's own root path ends, those of mounts begin.
        prefix = root_path[len(scope.get("app_root_path", root_path)) :]
        if not prefix:
            return path
        template = self._prefixes.get(prefix)
        if template is None:
            template = _prefix(prefix, path, scope)
            if len(self._prefixes) >= _KEPT_PREFIXES:
                self._prefixes.clear()
            self._prefixes[prefix] = template
        return template + path


def _prefix(prefix: str, path: str, scope: Scope) -> str:
    """Return the template of a mounted path, which may have parameters."""
    template = _matched_again(scope)
    if template is None or not template.endswith(path):
        return prefix if template is None else template
    return template[: len(template) - len(path)]


def _matched_again(scope: Scope) -> str | None:
    """Match the routes of the outermost router, as before the scope was changed by mounts."""
    routes = getattr(scope.get("router"), "routes", ())
    path, root_path = scope["path"], scope.get("root_path", "")
    before = {
        **scope,
        # Litestar takes the root path off.
        "path": path if path.startswith(root_path) else root_path + path,
        "root_path": scope.get("app_root_path", ""),
        "path_params": {},
        "fastapi": {},
    }
    return route_template(routes, before)


def route_template(routes: Iterable[Any], scope: Scope) -> str | None:
    """Match Starlette's routes; return the template, through mounts, or None.

    A route that matches but for its method (405) counts as a match.
    """
    partial: str | None = None
    for route in routes:
        if not hasattr(route, "matches"):
            continue  # of a framework that does not route as Starlette does
        match, child_scope = route.matches(scope)
        if match.name == "FULL":
            return _template(route, {**scope, **child_scope})
        if match.name == "PARTIAL" and partial is None:
            partial = _template(route, {**scope, **child_scope})
    return partial


def _template(route: Any, scope: Scope) -> str:
    if _is_mount(route):
        path = _CONVERTOR.sub(r"{\1}", getattr(route, "path", ""))
        return path + (route_template(route.routes or (), scope) or "")
    return _own_path(route, scope)


def _own_path(route: Any, scope: Scope) -> str:
    """Return the template of a route without the mounts around it."""
    if _is_mount(route):
        return ""
    # FastAPI >= 0.137 keeps the prefixes of included routers apart from the route.
    included = scope.get("fastapi")
    effective = included.get("effective_route_context") if isinstance(included, dict) else None
    if effective is not None and scope.get("route", route) in (
        getattr(effective, "original_route", None),
        route,
    ):
        route = effective
    path: str = getattr(route, "path_format", None) or getattr(route, "path", None) or ""
    return _CONVERTOR.sub(r"{\1}", path) if ":" in path else path


def _is_mount(route: object) -> bool:
    """Whether it is Starlette's Mount or Host: both have routes of their own."""
    return hasattr(route, "routes") and hasattr(route, "app")


def _match_rule(url_map: Any, scope: Scope) -> str | None:
    """Match the rules of Quart, or of anything else on Werkzeug."""
    with suppress(Exception):  # NotFound, MethodNotAllowed, RequestRedirect
        websocket = scope["type"] == "websocket"
        host = dict(scope["headers"]).get(b"host", b"localhost").decode("latin-1")
        adapter = url_map.bind(host, url_scheme=scope.get("scheme", "http"))
        rule, _ = adapter.match(
            scope["path"], scope.get("method", "GET"), return_rule=True, websocket=websocket
        )
        return str(rule.rule)
    return None
