"""Errors: one shape everywhere."""

import json

import pytest

from app.chat.provider import ProviderError
from app.errors import InternalError, InvalidRequest, ModelNotFound, ServiceError

_KEYS = {"message", "type", "param", "code", "trace_id"}


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (InvalidRequest("bad", param="n"), 400, "invalid_request_error", "invalid_request"),
        (ModelNotFound("x", ["y"]), 404, "invalid_request_error", "model_not_found"),
        (InternalError(), 500, "server_error", "internal_error"),
        (ProviderError("timeout", 504, "late"), 504, "provider_error", "timeout"),
        (
            ProviderError("rate_limit_exceeded", 429, "busy"),
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
        ),
        (ProviderError("no", 400, "no"), 400, "invalid_request_error", "no"),
    ],
)
def test_each_error_has_the_one_shape_with_its_status_type_and_code(
    error: ServiceError, status: int, kind: str, code: str
) -> None:
    response = error.to_response("f" * 32)
    told = json.loads(bytes(response.body))["error"]
    assert response.status_code == status
    assert told.keys() == _KEYS
    assert (told["type"], told["code"], told["trace_id"]) == (kind, code, "f" * 32)
    assert told["message"]


def test_a_socket_message_has_the_same_error_and_the_trace_id_where_done_has_it() -> None:
    error = InvalidRequest("bad", param="content")
    message = error.to_socket_message("a" * 32)
    assert message == {"type": "error", "trace_id": "a" * 32, **error.body("a" * 32)}


def test_when_to_come_again_is_a_header() -> None:
    response = ProviderError("rate_limit_exceeded", 429, "busy", retry_after="7").to_response("")
    assert response.headers["retry-after"] == "7"


def test_an_unknown_model_is_told_which_there_are() -> None:
    assert "There are: a, b." in ModelNotFound("x", ["a", "b"]).message
