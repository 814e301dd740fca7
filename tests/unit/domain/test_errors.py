"""Messages of the errors."""

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


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModelNotFound("x", ["a", "b"]), "The model 'x' does not exist. Available models: a, b."),
        (
            Overloaded("answers", 7),
            "Too many concurrent answers (maximum 7); try again in 2 s.",
        ),
        (ShuttingDown(), "The service is shutting down; try again in 2 s."),
        (InternalError(), "Internal error; look up the trace ID for details."),
    ],
)
def test_message_says_what_to_do(error: ServiceError, message: str) -> None:
    assert (error.message, str(error)) == (message, message)


def test_unknown_model_is_the_invalid_parameter() -> None:
    assert ModelNotFound("x", ["a", "b"]).param == "model"


def test_long_model_name_is_shortened() -> None:
    assert f"'{'x' * 100}' does" in ModelNotFound("x" * 100, ["a"]).message
    assert f"'{'x' * 100}…' does" in ModelNotFound("x" * 101, ["a"]).message


def test_reached_limit_is_named() -> None:
    assert Overloaded("answers", 7).limit == "answers"
    assert InvalidRequest("bad", limit="message_chars").limit == "message_chars"


def test_text_of_a_provider_follows_the_message_and_stays_out_of_telemetry() -> None:
    error = ProviderError("invalid_request", "It refused:", detail="its words", param="n")
    assert (error.message, error.telemetry_text) == ("It refused: its words", "It refused")
    assert (error.param, str(error)) == ("n", "It refused: its words")
