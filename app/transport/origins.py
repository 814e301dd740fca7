"""Access of web pages: the Host and Origin headers, and CORS."""

import re
from collections.abc import Sequence, Set
from functools import lru_cache, partial
from http import HTTPStatus
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.domain.errors import shorten
from app.transport.response import response_writer
from app.wire.errors import HttpError

_METHODS = ("GET", "POST")
# A name, an IPv4 address or an IPv6 address in brackets, and a port (RFC 9110, section 7.2).
_HOST = re.compile(r"([A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?")


class Origins:
    """Refuses requests from web pages of other origins than our own and the listed ones, and
    requests under another name than ours.

    A page whose name was made to lead here (DNS rebinding) has our origin for a browser, but names
    its own host. No page can have an IP address for its name without being served from there.

    Must be outside of CORS, which forwards such a request and only hides its response. A client
    that sends no Origin is not a browser, and passes.
    """

    def __init__(self, app: ASGIApp, allowed: Sequence[str], hosts: Set[str]) -> None:
        """`hosts`: our names in lower case, also as `*.example.com`; `*`: any."""
        self._app = app
        self._allowed = frozenset(allowed)
        self._any_host = "*" in hosts
        self._hosts = frozenset(hosts)
        self._domains = tuple(host[1:] for host in hosts if host.startswith("*."))
        self._is_known = lru_cache(maxsize=256)(self._is_ours)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request. Raise HttpError with status 400, 403 or 421."""
        if scope["type"] in ("http", "websocket"):
            self._check(Headers(scope=scope), scope.get("http_version", ""))
        await self._app(scope, receive, send)

    def _check(self, headers: Headers, http_version: str) -> None:
        hosts = headers.getlist("host")
        # HTTP/1.0 has no Host, HTTP/1.1 requires one (RFC 9112, section 3.2); it may be empty.
        missing = not hosts and http_version == "1.1"
        if missing or len(hosts) > 1 or any(h and not _HOST.fullmatch(h) for h in hosts):
            raise HttpError(
                400,
                f"Host must be one host[:port] (got {_quoted(hosts) or 'none'}).",
                code="invalid_host",
            )
        host = "".join(hosts).lower()
        if not self._is_known(host):
            raise HttpError(
                421,
                f"The host {_quoted(hosts)} is not allowed; ALLOWED_HOSTS lists the allowed ones.",
                code="host_not_allowed",
            )
        origins = headers.getlist("origin")
        if not origins or self._is_allowed(origins, host):
            return
        raise HttpError(
            403,
            f"The origin {_quoted(origins)} is not allowed; FRONTEND_URL lists the allowed ones.",
            code="origin_not_allowed",
        )

    def _is_ours(self, host: str) -> bool:
        name = host.partition(":")[0].rstrip(".")
        if not name or self._any_host or host.startswith("["):
            return True
        if name in self._hosts or name.endswith(self._domains):
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True

    def _is_allowed(self, origins: Sequence[str], host: str) -> bool:
        """Compare as text: an origin is never parsed, however malformed it is."""
        origin = origins[0].lower()
        # A proxy may have terminated TLS: the client's scheme may differ from ours.
        own = host and origin in (f"http://{host}", f"https://{host}")
        return len(origins) == 1 and bool(own or origin in self._allowed)


class Cors(CORSMiddleware):
    """CORS for the listed origins, with errors in the format of the API."""

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=allowed,
            allow_methods=_METHODS,
            # Origins are checked exactly; clients send custom headers.
            allow_headers=("*",),
            allow_credentials=True,
            expose_headers=("x-trace-id", "retry-after", "request-id"),
        )

    async def simple_response(
        self, scope: Scope, receive: Receive, send: Send, request_headers: Headers
    ) -> None:
        """Add the CORS headers; only the start of the response passes through this middleware."""
        response_writer(scope).wrap_start(
            lambda start: partial(self.send, send=start, request_headers=request_headers)
        )
        await self.app(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Respond to a preflight request. Raise HttpError."""
        response = super().preflight_response(request_headers)
        if response.status_code < HTTPStatus.BAD_REQUEST:
            return response
        raise HttpError(
            400,
            f"{bytes(response.body).decode()}; allowed: {', '.join(_METHODS)} from the origins in "
            "FRONTEND_URL.",
            code="preflight_refused",
            headers={"vary": "Origin"},
        )


def _quoted(values: Sequence[str]) -> str:
    return ", ".join(f"'{shorten(value)}'" for value in values[:2])
