"""Facts of a response, read from the objects of common clients or from their JSON.

Known are strings, and the chat completions, chunks, embeddings and responses of the OpenAI format
and the messages and events of the Anthropic format. Other objects have no facts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from chatscope.genai.request import Usage
from chatscope.genai.usage import usage_within

_OTHER_OUTPUT: Final = (
    *("tool_calls", "reasoning", "reasoning_content", "refusal"),
    *("partial_json", "thinking"),
)


@dataclass(frozen=True)
class Facts:
    """Facts of a response or of a chunk; None if unknown.

    An empty `text` is output without a text, such as a part of a tool call.
    """

    text: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    id: str | None = None
    model: str | None = None


def read(found: Any) -> Facts:
    """Return the facts of a response or of a chunk."""
    if isinstance(found, str):
        return Facts(text=found)
    # Events of a stream wrap the response: `message` (Anthropic), `response` (OpenAI Responses).
    inner = _get(found, "message") or _get(found, "response")
    facts = _read(found)
    return _merged(facts, _read(inner)) if _is_object(inner) else facts


def is_event(found: Any) -> bool:
    """Whether it is one of the typed events of a stream."""
    return isinstance(_get(found, "type"), str)


def _read(found: Any) -> Facts:
    choices = _get(found, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    chunk = _get(choice, "delta")
    delta = _get(found, "delta")  # Anthropic's, and that of an event of OpenAI Responses
    if isinstance(delta, str) and _get(found, "type") != "response.output_text.delta":
        delta = ""  # such as the arguments of a tool call
    return Facts(
        text=_first(
            _text(_get(chunk, "content")),
            _text(_get(_get(choice, "message"), "content")),
            _text(delta),
            _text(_get(delta, "text")),
            _text(_get(found, "output_text")),
            _blocks(_get(found, "content")),
            "" if _has_other_output(chunk) or _has_other_output(delta) else None,
        ),
        finish_reason=_first(
            _text(_get(choice, "finish_reason")),
            _text(_get(found, "stop_reason")),
            _text(_get(delta, "stop_reason")),
        ),
        usage=usage_within(found),
        id=_text(_get(found, "id")),
        model=_text(_get(found, "model")),
    )


def _has_other_output(delta: Any) -> bool:
    """Whether a delta contains a part of a tool call, of a reasoning or of a refusal."""
    return any(_get(delta, name) for name in _OTHER_OUTPUT)


def _merged(outer: Facts, inner: Facts) -> Facts:
    names = [field.name for field in fields(Facts)]
    return Facts(**{name: _first(getattr(outer, name), getattr(inner, name)) for name in names})


def _blocks(content: Any) -> str | None:
    """Return the text of Anthropic's content blocks."""
    if not isinstance(content, list):
        return None
    texts = [text for block in content if isinstance(text := _get(block, "text"), str)]
    return "".join(texts) if texts else None


def _get(found: Any, name: str) -> Any:
    if isinstance(found, Mapping):
        return found.get(name)
    return getattr(found, name, None) if _is_object(found) else None


def _is_object(found: Any) -> bool:
    return found is not None and not isinstance(found, str | bytes | int | float | list)


def _text(found: Any) -> str | None:
    return found if isinstance(found, str) else None


def _first(*found: Any) -> Any:
    return next((value for value in found if value is not None), None)
