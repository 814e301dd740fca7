"""Each intended difference between our middleware and the stock one, with its reason."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from tests.unit.asgi.cases import Case

MISSING: Final = "(missing)"
_HEADER: Final = b"x-trace-id"
_METHODS: Final = {"BREW": "HTTP", "PROPFIND": "HTTP", "get": "GET"}
_ROUTES: Final = {
    "/items/42": "/items/{id}",
    "/api/items/7": "/api/items/{id}",
    "/tenants/acme/items/1": "/tenants/{tenant}/items/{id}",
    "/numbers/5": "/numbers/{n}",
    "/": "/",
    "/files/a/b.css": "/files",
}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# Host and default port of the scheme, as requested by the client.
_HOSTS: Final[dict[bytes | None, tuple[str, int | None]]] = {
    b"shop.example": ("shop.example", None),
    b"shop.example:8443": ("shop.example", 8443),
    b"[::1]:3000": ("::1", 3000),
    b"[::1]": ("::1", None),
    b"127.0.0.1": ("127.0.0.1", None),
    b"shop.example:abc": ("shop.example", None),
    b"shop.example:99999999": ("shop.example", None),
    b"\xff\xfe": ("ÿþ", None),
}


@dataclass(frozen=True)
class Difference:
    """Facts that may differ, the reason, and whether ours is the intended one."""

    facts: str  # a regular expression
    reason: str
    is_intended: Callable[[Case, Any, Any], bool]


@dataclass(frozen=True)
class Found:
    """One fact that differs in one case."""

    case: Case
    fact: str
    ours: Any
    stock: Any

    def __str__(self) -> str:
        return f"{self.fact}: ours {self.ours!r}, stock {self.stock!r}, for {self.case}"


def route(case: Case) -> str:
    """Return the route template of a case; MISSING without one."""
    return _ROUTES.get(case.path, MISSING) if case.app == "starlette" else MISSING


def _is_named_by_route(case: Case, ours: Any, _: Any) -> bool:
    template = route(case)
    method = _METHODS.get(case.method, case.method)
    return bool(ours == (method if template is MISSING else f"{method} {template}"))


def _has_trace_id(_: Case, ours: Any, stock: Any) -> bool:
    start, *rest = ours
    headers = [name for name in start["headers"] if name != _HEADER]
    without = {**start, "headers": headers} if headers else _without_headers(start)
    return bool(_HEADER in start["headers"] and [without, *rest] == stock)


def _without_headers(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "headers"}


def _is_asked_for(case: Case, ours: Any, _: Any, *, port: bool) -> bool:
    if case.host:
        address, number = _HOSTS[case.host]
        return bool(ours == ((number or _DEFAULT_PORTS[case.scheme]) if port else address))
    server = case.server or (MISSING, MISSING)
    return bool(ours == (MISSING if server[port] is None else server[port]))


def _is_counted(case: Case, ours: Any, _: Any) -> bool:
    sends_file = case.behaviour == "sends a file" and case.method != "HEAD"
    is_unknown = sends_file and (case.app == "plain" or route(case) is not MISSING)
    return (ours is MISSING) == is_unknown


def _has_no_usable_length(case: Case, *_: Any) -> bool:
    return case.length in (None, b"abc", b"-1", b"9" * 40)


def _tells_why_it_ended(case: Case, ours: Any, stock: Any) -> bool:
    if case.behaviour.startswith(("client disconnects", "cancelled")):
        return bool(ours == "cancelled" and stock is MISSING)
    if case.behaviour in ("no response", "incomplete"):
        return bool(ours == "incomplete_response" and stock is MISSING)
    return bool(case.behaviour.startswith("raises") and ours == "ValueError" and stock is MISSING)


def _is_a_disconnect(case: Case, *_: Any) -> bool:
    return bool(case.behaviour == "client disconnects, write fails")


DIFFERENCES: Final = (
    Difference(
        r".*\[http\.route\]",
        "The stock middleware has no route; ours has the template that the router matched.",
        lambda case, ours, stock: ours == route(case) and stock is MISSING,
    ),
    Difference(
        r"span\.name",
        "The stock middleware uses the raw path, an unbounded number of names.",
        _is_named_by_route,
    ),
    Difference(
        "response",
        "Ours adds the trace ID to each response, in a header.",
        _has_trace_id,
    ),
    Difference(
        r"span\[server\.address\]",
        "The stock middleware has where the server listens, with its port; the conventions ask "
        "for the name that the client used.",
        lambda *found: _is_asked_for(*found, port=False),
    ),
    Difference(
        r"span\[server\.port\]",
        "As above.",
        lambda *found: _is_asked_for(*found, port=True),
    ),
    Difference(
        r"span\[url\.query\]",
        "A query may have secrets: ours never records it.",
        lambda case, ours, _: ours is MISSING and case.query != b"",
    ),
    Difference(
        r"span\[user_agent\.synthetic\.type\]",
        "A guess from user_agent.original, which every backend can make.",
        lambda case, ours, _: ours is MISSING and b"bot" in case.user_agent,
    ),
    Difference(
        r"http\.server\.response\.body\.size.*",
        "The stock middleware records the announced size, so none of a stream; ours counts bytes. "
        "The size of a file that the server sends is not known to either.",
        _is_counted,
    ),
    Difference(
        r"http\.server\.request\.body\.size.*",
        "The stock middleware records any announced number and nothing else; ours counts bytes "
        "where no valid length is announced.",
        _has_no_usable_length,
    ),
    Difference(
        r".*\[error\.type\]",
        "The stock middleware has no reason for a response that did not end.",
        _tells_why_it_ended,
    ),
    Difference(
        r".*\[http\.response\.status_code\]",
        "A server responds to an exception with 500, which only the server sees.",
        lambda case, ours, stock: (
            ours == 500 and stock is MISSING and case.behaviour == "raises before"
        ),
    ),
    Difference(
        r"span\.status",
        "A response that the application did not complete is an error.",
        lambda case, ours, _: ours == "ERROR" and case.behaviour in ("no response", "incomplete"),
    ),
    Difference(
        r"span\.status|span\.events",
        "A client that disconnects is no error of the service.",
        lambda case, ours, _: _is_a_disconnect(case) and ours in ("UNSET", []),
    ),
    Difference(
        r"span\.events",
        "Starlette raises an exception after its 500 response, when the stock span has ended.",
        lambda case, ours, stock: (
            ours == ["exception"] and stock == [] and case.behaviour.startswith("raises")
        ),
    ),
    Difference(
        r"span\.status\.description",
        "The text of an exception may have secrets: it is in the event only, where it is limited.",
        lambda case, ours, _: ours is None,
    ),
)


def differing(case: Case, ours: dict[str, Any], stock: dict[str, Any]) -> Iterable[Found]:
    """Return the facts that differ."""
    for fact in sorted(ours.keys() | stock.keys()):
        found = Found(case, fact, ours.get(fact, MISSING), stock.get(fact, MISSING))
        if found.ours != found.stock:
            yield found


def explanation(found: Found) -> Difference | None:
    """Return the listed difference that matches; None for an unintended one."""
    for each in DIFFERENCES:
        if re.fullmatch(each.facts, found.fact) and each.is_intended(
            found.case, found.ours, found.stock
        ):
            return each
    return None
