"""Chat completions as a provider sends them, whole and in chunks that are cut anywhere."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Json = dict[str, Any]
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 30,
    "total_tokens": 130,
    "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
    "completion_tokens_details": {"reasoning_tokens": 12},
}
_SHARED = {"id": "chatcmpl-1", "created": 1_800_000_000, "model": "served-model"}


def call(call_id: str, name: str, arguments: str) -> Json:
    """Return a tool call."""
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def completion(message: Json, finish_reason: str | None = "stop", **choice: Any) -> Json:
    """Return a whole completion."""
    full = {"role": "assistant", "content": None, "refusal": None, **message}
    choices = [{"index": 0, "message": full, "finish_reason": finish_reason, **choice}]
    return {"object": "chat.completion", **_SHARED, "choices": choices, "usage": USAGE}


def chunk(delta: Json, **choice: Any) -> Json:
    """Return one chunk."""
    choices = [{"index": 0, "delta": delta, "finish_reason": None, **choice}]
    return {"object": "chat.completion.chunk", **_SHARED, "choices": choices}


def chunks(whole: Json, cuts: Sequence[int] = ()) -> list[Json]:
    """Return a whole completion as chunks; `cuts` are the lengths of its pieces of text."""
    lengths = iter(cuts)
    [choice] = whole["choices"]
    deltas = [{"role": "assistant", "content": ""}, *_deltas(choice["message"], lengths)]
    last = chunk({}, finish_reason=choice["finish_reason"])
    end = {"object": "chat.completion.chunk", **_SHARED, "choices": [], "usage": whole["usage"]}
    return [*map(chunk, deltas), last, end]


def _deltas(message: Mapping[str, Any], lengths: Iterator[int]) -> Iterator[Json]:
    for name in ("reasoning_content", "content", "refusal"):
        for piece in _pieces(message.get(name) or "", lengths):
            yield {name: piece}
    for index, tool in enumerate(message.get("tool_calls", [])):
        function = tool["function"]
        yield {"tool_calls": [{**tool, "index": index, "function": {**function, "arguments": ""}}]}
        for piece in _pieces(function["arguments"], lengths):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _pieces(text: str, lengths: Iterable[int]) -> Iterator[str]:
    """Yield the text in pieces of these lengths, and what is left."""
    for length in lengths:
        if length >= len(text):
            break
        yield text[:length]
        text = text[length:]
    if text:
        yield text


CALLS = [
    call("call_a", "weather", '{"city":"Bern"}'),
    call("call_b", "time", '{"zone":{"of":"Bern"}}'),
]
CASES = {
    "text": completion({"content": "Grüezi, wörld"}),
    "empty": completion({"content": ""}),
    "tool call": completion({"tool_calls": CALLS[:1]}, "tool_calls"),
    "parallel tool calls": completion({"tool_calls": CALLS}, "tool_calls"),
    "text and tool calls": completion(
        {"content": "Let me see.", "tool_calls": CALLS}, "tool_calls"
    ),
    "reasoning": completion({"reasoning_content": "Hm, 2+2.", "content": "4"}),
    "reasoning and tool": completion(
        {"reasoning_content": "Look it up.", "tool_calls": CALLS[:1]}, "tool_calls"
    ),
    "refusal": completion({"refusal": "I can't help with that."}),
    "length": completion({"content": "Once upon"}, "length"),
    "content filter": completion({"content": "How to"}, "content_filter"),
}
