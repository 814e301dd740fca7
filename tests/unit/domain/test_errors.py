"""Errors: one shape everywhere."""

import json
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

_KEYS = {"message", "type", "param", "code", "trace_id"}


@pytest.mark.parametrize(
    ("make", "status", "kind", "code"),
    [
        (lambda: InvalidRequest("bad", param="n"), 400, "invalid_request_error", "invalid_request"),
        (lambda: ModelNotFound("x", ["y"]), 404, "invalid_request_error", "model_not_found"),
        (InternalError, 500, "server_error", "internal_error"),
        (lambda: ProviderError("timeout", 504, "late"), 504, "provider_error", "timeout"),
        (
            lambda: ProviderError("rate_limit_exceeded", 429, "busy"),
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
        ),
        (lambda: ProviderError("no", 400, "no"), 400, "invalid_request_error", "no"),
    ],
)
def test_each_error_has_the_one_shape_with_its_status_type_and_code(
    make: Callable[[], ServiceError], status: int, kind: str, code: str
) -> None:
    response = make().to_response("f" * 32)
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
    error = ModelNotFound("x", ["a", "b"])
    assert error.message == "The model 'x' does not exist here. There are: a, b."
    assert error.param == "model"


def test_long_model_name_is_repeated_in_part() -> None:
    assert f"'{'x' * 100}' does" in ModelNotFound("x" * 100, ["a"]).message
    assert f"'{'x' * 100}…' does" in ModelNotFound("x" * 101, ["a"]).message


@pytest.mark.parametrize(
    ("make", "code", "message", "headers"),
    [
        (
            lambda: Overloaded("answers", 7),
            "too_many_answers",
            "There is no place for more answers now, accepted are up to 7 at the same time; "
            "try again in 2 s.",
            {"retry-after": "2"},
        ),
        (
            ShuttingDown,
            "shutting_down",
            "The service is shutting down; try again in 2 s.",
            {"retry-after": "2", "connection": "close"},
        ),
    ],
)
def test_service_without_room_says_when_to_try_again(
    make: Callable[[], ServiceError], code: str, message: str, headers: dict[str, str]
) -> None:
    response = make().to_response("")
    told = json.loads(bytes(response.body))["error"]
    assert (response.status_code, told["code"], told["message"]) == (503, code, message)
    assert headers.items() <= dict(response.headers).items()


def test_reached_limit_is_named() -> None:
    assert Overloaded("answers", 7).limit == "answers"
    assert InvalidRequest("bad", limit="message_chars").limit == "message_chars"


def test_internal_error_leads_to_its_trace() -> None:
    assert InternalError().message == (
        "The service failed on this request. Its trace id leads to the reason."
    )


def test_invalid_request_may_have_a_status_and_headers() -> None:
    error = InvalidRequest("bad", status=415, headers={"accept": "application/json"})
    response = error.to_response("")
    assert response.status_code == 415
    assert response.headers["accept"] == "application/json"


def test_providers_words_follow_the_message_and_stay_out_of_telemetry() -> None:
    error = ProviderError("invalid_request", 400, "It refused:", detail="its words", param="n")
    assert (error.message, error.telemetry_text) == ("It refused: its words", "It refused:")
    assert (error.param, str(error)) == ("n", "It refused: its words")
