"""The route template that a request will take: known before the application runs."""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Host, Match, Mount
from starlette.types import Scope


def route_template(routes: Sequence[BaseRoute], scope: Scope) -> str | None:
    """The template, such as `/items/{id}`, through mounts; None when no route matches.

    A route that matches but for its method (405) counts as a match.
    """
    for route in routes:
        match, child_scope = route.matches(scope)
        if match is not Match.NONE:
            return _template(route, {**scope, **child_scope})
    return None


def _template(route: BaseRoute, scope: Scope) -> str:
    path: str = getattr(route, "path", "")
    if isinstance(route, Mount | Host) and route.routes:
        return path + (route_template(route.routes, scope) or "")
    return path
