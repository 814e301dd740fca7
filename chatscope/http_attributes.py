"""Attributes of HTTP and WebSocket requests, read from an ASGI scope.

Source: https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Final

from opentelemetry.propagators.textmap import Getter

from chatscope import names
from chatscope.attributes import MAX_IDENTIFIER, MAX_PATH
from chatscope.http_metrics import Kind
from chatscope.otlp.values import plain

Headers = Mapping[bytes, bytes]
Attributes = Mapping[str, str | int]
Scope = MutableMapping[str, Any]

_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}
)
_DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
# A host name has at most 253 characters; a port and a colon follow. Longer ones are not kept.
_LONGEST_HOST: Final = 260
_LONGEST_METHOD: Final = 64
# Headers that may be divided into several: RFC 9110, section 5.3.
_LISTS: Final = frozenset({b"tracestate", b"baggage"})
_MAX_PORT: Final = 65_535


class HeaderGetter(Getter[Headers]):
    """Reads headers by name for a propagator; of equal names, the last."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        """Return the value of a header; None without one."""
        value = carrier.get(key.lower().encode("latin-1", "replace"))
        return None if value is None else [text_of(value)]

    def keys(self, carrier: Headers) -> list[str]:
        """Return the names of all headers."""
        return [text_of(name) for name in carrier]


HEADERS: Final = HeaderGetter()


def text_of(value: bytes) -> str:
    """Return a header's value: UTF-8, else Latin-1, which every value is."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def kind_of(scope: Scope) -> Kind:
    """Return what the request has in common with others, for metrics."""
    method = scope["method"]
    if method not in _METHODS:
        method = method.upper() if method.upper() in _METHODS else names.OTHER
    return _kind(method, scope.get("scheme", "http"), scope.get("http_version"))


def request_attributes(
    scope: Scope, kind: Kind, headers: Headers
) -> tuple[Attributes, dict[str, str | int]]:
    """Return the attributes that a span of the request starts with; the query is not among them.

    The first are those that requests of a client share, the second are of the request alone.
    """
    own: dict[str, str | int] = {names.URL_PATH: scope["path"][:MAX_PATH]}
    method = scope["method"]
    if method != kind.attributes[names.HTTP_REQUEST_METHOD]:
        own[names.HTTP_REQUEST_METHOD_ORIGINAL] = method[:_LONGEST_METHOD]
    client = scope.get("client")
    if client:
        address = client[0]
        # A proxy may have passed on any text.
        own[names.CLIENT_ADDRESS] = address[:MAX_IDENTIFIER] if address else address
        own[names.CLIENT_PORT] = client[1]
    host, user_agent = headers.get(b"host"), headers.get(b"user-agent")
    if host and (user_agent is None or len(user_agent) <= MAX_IDENTIFIER):
        return _shared(kind, host[: _LONGEST_HOST + 1], user_agent), own
    if user_agent:
        own[names.USER_AGENT] = text_of(user_agent)[:MAX_IDENTIFIER]
    return {**kind.attributes, **server_attributes(scope, headers)}, own


def server_attributes(scope: Scope, headers: Headers) -> Attributes:
    """Return the address and port that the client asked for; without them, the server's own."""
    host = headers.get(b"host")
    scheme = scope.get("scheme", "http")
    if host:
        return _server(host, scheme)
    server = scope.get("server")
    if not server:
        return {}
    return _named(server[0], server[1])


def _server(host: bytes, scheme: str) -> Attributes:
    return _parsed(host, scheme) if len(host) <= _LONGEST_HOST else {}


def content_length(headers: Headers) -> int | None:
    """Return the announced length of the request's body; None without a valid one."""
    value = headers.get(b"content-length")
    # A server refuses what is longer, or no number; one that does not is not trusted here.
    if value is None or len(value) > len(str(2**63)) or not value.isdigit():
        return None
    return int(value)


@lru_cache(maxsize=256)
def _kind(method: str, scheme: str, version: str | None) -> Kind:
    attributes: dict[str, str | int] = {
        names.HTTP_REQUEST_METHOD: method,
        names.URL_SCHEME: scheme,
    }
    if version:
        attributes[names.NETWORK_PROTOCOL_VERSION] = version
    return Kind("HTTP" if method == names.OTHER else method, (method, scheme), attributes)


@lru_cache(maxsize=1024)
def _shared(kind: Kind, host: bytes, user_agent: bytes | None) -> Attributes:
    _, scheme = kind.active
    found = {**kind.attributes, **_server(host, scheme)}
    if user_agent:
        found[names.USER_AGENT] = text_of(user_agent)
    return plain(found)


@lru_cache(maxsize=1024)
def _parsed(host: bytes, scheme: str) -> Attributes:
    """Split a Host header: a name, an IPv4 address, or an IPv6 address in brackets."""
    text = text_of(host).strip()
    address, port = text, ""
    if not text.endswith("]") and ":" in text:
        address, _, port = text.rpartition(":")
    is_ip6 = address[:1] == "[" and address[-1:] == "]"
    if not address or (not is_ip6 and ("[" in address or ":" in address)):
        return {}
    is_number = port.isascii() and port.isdigit() and len(port) <= len(str(_MAX_PORT))
    return _named(address.strip("[]"), int(port) if is_number else _DEFAULT_PORTS.get(scheme))


def _named(address: str, port: int | None) -> Attributes:
    if port is None or not 0 < port <= _MAX_PORT:
        return {names.SERVER_ADDRESS: address}
    return {names.SERVER_ADDRESS: address, names.SERVER_PORT: port}


def headers_of(scope: Scope) -> Headers:
    """Return the headers by name, in lower case as ASGI has them.

    Of equal names it is the last, but the parts of a `tracestate` or `baggage` are joined.
    """
    raw = scope["headers"]
    found: dict[bytes, bytes] = dict(raw)
    if len(found) != len(raw):
        for name in _LISTS & found.keys():
            found[name] = b",".join([value for each, value in raw if each == name])
    return found
