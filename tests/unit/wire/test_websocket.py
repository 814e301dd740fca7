"""Messages of the WebSocket."""

import json

import pytest

from app.domain.errors import InvalidRequest
from app.domain.turn import Summary
from app.wire.errors import error_object
from app.wire.websocket import parse_message, render_delta, render_done, render_error
from chatscope.genai.request import Usage


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "binary_message"),
        ("{", "invalid_json"),
        ("[]", "unknown_type"),
        ('"message"', "unknown_type"),
        ('{"type": "shout"}', "unknown_type"),
        ('{"type": ["message"]}', "unknown_type"),
        ("{}", "unknown_type"),
    ],
)
def test_message_of_unknown_type_is_refused(text: str | None, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_message(text)
    assert caught.value.code == code


@pytest.mark.parametrize("kind", ["message", "cancel", "ping"])
def test_message_of_known_type_is_returned(kind: str) -> None:
    data = {"type": kind, "content": "x"}
    assert parse_message(json.dumps(data)) == data


def test_chunk_is_one_message() -> None:
    assert json.loads(render_delta('a"é')) == {"type": "delta", "content": 'a"é'}


@pytest.mark.parametrize("usage", [Usage(3, 2), None])
def test_end_has_the_figures_of_the_response(usage: Usage | None) -> None:
    summary = Summary(
        model="m",
        finish_reason="stop",
        usage=usage,
        cost=0.5,
        seconds=1.23456,
        trace_id="t",
        first_token_seconds=0.23456,
    )
    counts = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert json.loads(render_done(summary, "c")) == {
        "type": "done",
        "model": "m",
        "finish_reason": "stop",
        "usage": counts if usage else None,
        "cost": 0.5,
        "first_token_seconds": 0.235,
        "seconds": 1.235,
        "conversation_id": "c",
        "trace_id": "t",
    }


def test_error_is_the_same_as_over_http_with_the_trace_id_where_done_has_it() -> None:
    error = InvalidRequest("bad", param="content")
    expected = {"type": "error", "trace_id": "a" * 32, **error_object(error, "a" * 32)}
    assert json.loads(render_error(error, "a" * 32)) == expected
