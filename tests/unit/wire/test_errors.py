"""Errors: one format, one status for each."""

from collections.abc import Callable

import pytest

from app.domain.errors import (
    InternalError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ServiceError,
    ShuttingDown,
)
from app.domain.provider import ProviderError
from app.wire.errors import HttpError, error_object, http_headers, http_status

_TRACE = "f" * 32


@pytest.mark.parametrize(
    ("make", "status", "kind", "code"),
    [
        (lambda: InvalidRequest("bad", param="n"), 400, "invalid_request_error", "invalid_request"),
        (lambda: ModelNotFound("x", ["y"]), 404, "invalid_request_error", "model_not_found"),
        (lambda: HttpError(413, "big", code="large"), 413, "invalid_request_error", "large"),
        (lambda: HttpError(503, "no", code="not_ready"), 503, "server_error", "not_ready"),
        (InternalError, 500, "server_error", "internal_error"),
        (lambda: Overloaded("answers", 7), 503, "server_error", "too_many_answers"),
        (ShuttingDown, 503, "server_error", "shutting_down"),
        (lambda: ProviderError("timeout", "late"), 504, "provider_error", "timeout"),
        (lambda: ProviderError("stalled", "late"), 504, "provider_error", "stalled"),
        (lambda: ProviderError("connection", "no"), 503, "provider_error", "connection"),
        (lambda: ProviderError("unavailable", "no"), 503, "provider_error", "unavailable"),
        (lambda: ProviderError("not_found", "no"), 502, "provider_error", "not_found"),
        (lambda: ProviderError("of_a_plugin", "no"), 502, "provider_error", "of_a_plugin"),
        (
            lambda: ProviderError("rate_limit_exceeded", "busy"),
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
        ),
        (
            lambda: ProviderError("invalid_request", "no"),
            400,
            "invalid_request_error",
            "invalid_request",
        ),
    ],
)
def test_each_error_has_the_same_format_with_its_status_type_and_code(
    make: Callable[[], ServiceError], status: int, kind: str, code: str
) -> None:
    error = make()
    assert http_status(error) == status
    assert error_object(error, _TRACE) == {
        "error": {
            "message": error.message,
            "type": kind,
            "param": error.param,
            "code": code,
            "trace_id": _TRACE,
        }
    }
    assert error.message


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (ProviderError("rate_limit_exceeded", "busy", retry_after="7"), {"retry-after": "7"}),
        (Overloaded("answers", 7), {"retry-after": "2"}),
        (ShuttingDown(), {"retry-after": "2", "connection": "close"}),
        (HttpError(405, "no", code="x", headers={"allow": "GET"}), {"allow": "GET"}),
        (InvalidRequest("bad"), {}),
    ],
)
def test_headers_follow_from_the_error(error: ServiceError, headers: dict[str, str]) -> None:
    assert http_headers(error) == headers
