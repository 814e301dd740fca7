"""The objects of the OpenAI wire format, compared whole."""

import json
import time
from typing import Any

import pytest

from app.domain.errors import InternalError
from app.domain.turn import Summary
from app.wire.completion import Completion, error_event, usage_object
from app.wire.errors import error_object
from chatscope.genai.request import Usage

_SUMMARY = Summary(
    model="m", finish_reason="length", usage=Usage(3, 2), cost=None, seconds=1.0, trace_id="t"
)
_USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def _shared(found: dict[str, Any]) -> dict[str, Any]:
    """Check and return the fields that all objects of a response share."""
    assert found["id"].startswith("chatcmpl-")
    assert abs(found["created"] - time.time()) < 60
    return {name: found[name] for name in ("id", "created")} | {"model": "m"}


def test_response_in_one_piece() -> None:
    found = json.loads(Completion("m", include_usage=False).whole("Hé", _SUMMARY))
    message = {"role": "assistant", "content": "Hé", "refusal": None}
    assert found == {
        **_shared(found),
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}],
        "usage": _USAGE,
    }


def test_ids_of_responses_differ() -> None:
    ids = {
        json.loads(Completion("m", include_usage=False).whole("", _SUMMARY))["id"] for _ in range(3)
    }
    assert len(ids) == 3


@pytest.mark.parametrize("include_usage", [True, False])
def test_chunks_of_a_stream(include_usage: bool) -> None:
    completion = Completion("m", include_usage=include_usage)
    sent = completion.first() + completion.delta("Hé") + completion.last(_SUMMARY)
    *events, done, rest = sent.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    chunks = [json.loads(each.removeprefix(b"data: ")) for each in events]
    shared = {**_shared(chunks[0]), "object": "chat.completion.chunk"}

    def chunk(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**shared, "choices": [choice], **({"usage": None} if include_usage else {})}

    assert chunks == [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hé"}),
        chunk({}, "length"),
        *([{**shared, "choices": [], "usage": _USAGE}] if include_usage else []),
    ]


def test_response_that_nobody_counted_has_no_usage() -> None:
    assert usage_object(None) is None


def test_error_event_is_one_line_of_data() -> None:
    error = InternalError()
    event = error_event(error, "t")
    assert (event[:6], event[-2:], event.count(b"\n")) == (b"data: ", b"\n\n", 2)
    assert json.loads(event[6:]) == error_object(error, "t")
