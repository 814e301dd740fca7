"""Which web pages may use the service: the Origin and Host of a request, and CORS."""

import re
from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.domain.errors import InvalidRequest, shorten
from app.transport.failures import answer_error, log_refusal
from chatscope.tracing import current_trace_id

_METHODS = ("GET", "POST")
# A name, an IPv4 address or an IPv6 address in brackets, and a port (RFC 9110, section 7.2).
_HOST = re.compile(r"([A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?")


class Origins:
    """Refuses requests of web pages that are neither our own nor listed, and invalid hosts.

    Stands outside CORS, which would let such a request through and only hide its response. A
    client that sends no Origin is no browser, and passes.
    """

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        self._app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with 400 or 403."""
        answer = self._app
        if scope["type"] in ("http", "websocket"):
            try:
                self._check(Headers(scope=scope), scope.get("http_version", ""))
            except InvalidRequest as error:
                answer = await answer_error(HTTPConnection(scope), error)
        await answer(scope, receive, send)

    def _check(self, headers: Headers, http_version: str) -> None:
        hosts = headers.getlist("host")
        # HTTP/1.0 knows none, HTTP/1.1 demands one (RFC 9112, section 3.2); an empty one names
        # nothing.
        missing = not hosts and http_version == "1.1"
        if missing or len(hosts) > 1 or any(h and not _HOST.fullmatch(h) for h in hosts):
            raise InvalidRequest(
                f"Invalid Host header ({_shown(hosts) or 'none'}): accepted is one host[:port].",
                code="invalid_host",
            )
        origins = headers.getlist("origin")
        if not origins or self._is_allowed(origins, "".join(hosts).lower()):
            return
        raise InvalidRequest(
            f"The origin {_shown(origins)} is not allowed; FRONTEND_URL lists those that are.",
            code="origin_not_allowed",
            status=403,
        )

    def _is_allowed(self, origins: Sequence[str], host: str) -> bool:
        """Compare as text: an origin is never parsed, however malformed it is."""
        origin = origins[0].lower()
        # A proxy in front of us may have ended TLS: its scheme is not ours.
        own = host and origin in (f"http://{host}", f"https://{host}")
        return len(origins) == 1 and bool(own or origin in self._allowed)


class Cors(CORSMiddleware):
    """CORS for the listed origins, with its refusals in our error shape."""

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=allowed,
            allow_methods=_METHODS,
            # The exact origins are the gate; clients bring headers of their own.
            allow_headers=("*",),
            allow_credentials=True,
            expose_headers=("x-trace-id", "retry-after"),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight request."""
        response = super().preflight_response(request_headers)
        if response.status_code < HTTPStatus.BAD_REQUEST:
            return response
        error = InvalidRequest(
            f"{bytes(response.body).decode()}; accepted are the methods {' and '.join(_METHODS)} "
            "from the origins in FRONTEND_URL.",
            code="preflight_refused",
            headers={"vary": "Origin"},
        )
        log_refusal("request refused", error)
        return error.to_response(current_trace_id())


def _shown(values: Sequence[str]) -> str:
    return ", ".join(f"'{shorten(value)}'" for value in values[:2])
