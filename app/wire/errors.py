"""Errors in OpenAI's format, and the only mapping of errors to HTTP status codes.

{"error": {"message", "type", "param", "code", "trace_id"}}

and, if a provider reported a failure, `"provider": {"status", "code"}` in it.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from app.domain.errors import (
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ServiceError,
    ShuttingDown,
)
from app.domain.provider import ProviderError

_BAD_GATEWAY: Final = 502
_PROVIDER_STATUS: Final = {
    "connection": 503,
    "invalid_request": 400,
    "rate_limit_exceeded": 429,
    "stalled": 504,
    "timeout": 504,
    "unavailable": 503,
}


class HttpError(ServiceError):
    """A request that was refused for a reason that exists in HTTP only, with its own status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        headers: Mapping[str, str] | None = None,
        limit: str | None = None,
    ) -> None:
        super().__init__(message, code=code, limit=limit)
        # Not the enumeration: telemetry and servers expect a plain number.
        self.status = int(status)
        self.headers = dict(headers or {})


def http_status(error: ServiceError) -> int:
    """Return the status of the HTTP response."""
    match error:
        case HttpError():
            return error.status
        case ProviderError():
            return _PROVIDER_STATUS.get(error.error_type, _BAD_GATEWAY)
        case ModelNotFound():
            return 404
        case InvalidRequest():
            return 400
        case Overloaded() | ShuttingDown():
            # Not 429, which blames the client: proxies try another instance after a 503.
            return 503
    return 500


def http_headers(error: ServiceError) -> dict[str, str]:
    """Return the headers of the HTTP response, besides those of its body."""
    headers: dict[str, str] = {}
    if isinstance(error, HttpError):
        headers |= error.headers
    if isinstance(error, ProviderError):
        headers |= error.upstream.headers
    if error.retry_after:
        headers["retry-after"] = error.retry_after
    if isinstance(error, ShuttingDown):
        headers["connection"] = "close"
    return headers


def is_server_error(error: ServiceError) -> bool:
    """Whether the service or its provider is at fault, and not the client."""
    return http_status(error) >= HTTPStatus.INTERNAL_SERVER_ERROR


def error_object(error: ServiceError, trace_id: str) -> dict[str, Any]:
    """Return the JSON object, which is the same on every route."""
    found: dict[str, Any] = {
        "message": error.message,
        "type": _type(error),
        "param": error.param,
        "code": error.code,
        "trace_id": trace_id,
    }
    if isinstance(error, ProviderError):
        upstream = error.upstream
        if upstream.status is not None or upstream.code is not None:
            found["provider"] = {"status": upstream.status, "code": upstream.code}
    return {"error": found}


def _type(error: ServiceError) -> str:
    if not is_server_error(error):
        too_many = http_status(error) == HTTPStatus.TOO_MANY_REQUESTS
        return "rate_limit_error" if too_many else "invalid_request_error"
    return "provider_error" if isinstance(error, ProviderError) else "server_error"
