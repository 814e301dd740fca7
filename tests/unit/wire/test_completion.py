"""The objects of the OpenAI wire format, compared whole."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from app.domain.errors import InternalError
from app.domain.provider import Chunk
from app.domain.turn import Summary
from app.wire.completion import Completion, usage_object
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
    sent = completion.delta(Chunk("Hé")) + completion.last(_SUMMARY)
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


_RELAYED: dict[str, Any] = {
    "id": "theirs",
    "choices": [{"index": 0, "delta": {"content": "Hé"}}],
}
_COUNTED = {**_RELAYED, "usage": _USAGE}
_LAST = {"id": "theirs", "choices": [], "usage": _USAGE}


def test_providers_chunk_keeps_its_bytes() -> None:
    completion = Completion("m", include_usage=False)
    raw = b'{ "id" : "theirs" }'
    assert completion.delta(Chunk("Hé", _RELAYED, raw)) == b"data: " + raw + b"\n\n"
    assert completion.last(_SUMMARY) == b"data: [DONE]\n\n"


def test_usage_that_was_not_requested_is_removed() -> None:
    completion = Completion("m", include_usage=False)
    usage = Usage(3, 2)
    sent = completion.delta(Chunk("Hé", _COUNTED, b"not used", usage=usage))
    assert json.loads(sent.removeprefix(b"data: ")) == _RELAYED
    assert completion.delta(Chunk("", _LAST, b"not used", usage=usage)) == b""


def test_usage_that_was_requested_is_passed_on_or_made() -> None:
    completion = Completion("m", include_usage=True)
    assert json.loads(completion.delta(Chunk("", _LAST, usage=Usage(3, 2)))[6:]) == _LAST
    assert completion.last(_SUMMARY) == b"data: [DONE]\n\n"
    completion = Completion("m", include_usage=True)
    completion.delta(Chunk("Hé", _RELAYED))
    event, done, _ = completion.last(_SUMMARY).split(b"\n\n")
    assert json.loads(event[6:])["usage"] == _USAGE
    assert done == b"data: [DONE]"


def test_whole_response_of_the_provider_is_passed_on() -> None:
    summary = replace(_SUMMARY, body={"id": "theirs"})
    completion = Completion("m", include_usage=False)
    assert completion.whole("", summary) == b'{"id":"theirs"}'
    assert completion.whole("", replace(summary, raw=b'{ "id":"theirs"}')) == b'{ "id":"theirs"}'


def test_response_that_nobody_counted_has_no_usage() -> None:
    assert usage_object(None) is None


def test_error_event_is_one_line_of_data() -> None:
    error = InternalError()
    event = Completion("m", include_usage=False).error(error, "t")
    assert (event[:6], event[-2:], event.count(b"\n")) == (b"data: ", b"\n\n", 2)
    assert json.loads(event[6:]) == error_object(error, "t")
