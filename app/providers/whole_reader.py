"""Chat completions that are sent as a whole, and their conversion from and to chunks."""

import time
from collections.abc import Iterator
from typing import Any, Final

from app.domain.provider import Completed
from app.json_text import repaired
from app.providers.failures import error_in, malformed, parsed, reported_error
from app.providers.message_format import measure, normalized
from app.providers.secrets import Cleaner
from app.providers.usage_format import has_standard_usage, standard_usage, usage_in
from app.response_id import new_response_id

OBJECT: Final = "chat.completion"


def parse_body(data: bytes, cleaner: Cleaner) -> tuple[dict[str, Any], bytes | None]:
    """Return the object of a body, and its bytes if they are strict JSON. Raise ProviderError."""
    found, strict = parsed(data)
    if isinstance(found, list) and found:
        raise reported_error(found, cleaner)
    if not isinstance(found, dict):
        raise malformed()
    if (failure := error_in(found, cleaner)) is not None:
        raise failure
    choices = found.get("choices")
    if not isinstance(choices, list) or not any(isinstance(each, dict) for each in choices):
        raise malformed()
    return found, data if strict else None


def read_whole(found: dict[str, Any], raw: bytes | None, shown_model: str | None) -> Completed:
    """Return the response; `raw`: its bytes, if they are strict JSON.

    They are kept if every client can read them.
    """
    usage = usage_in(found)
    model = found["model"] if isinstance(found.get("model"), str) else None
    body = found
    measured = _measure(found) if raw is not None and _is_standard(found, shown_model) else None
    if measured is None:
        body, raw = _normalized(found, shown_model), None
        measured = _measure(body) or ("", 0)
    first = body["choices"][0]
    return Completed(
        finish_reason=first["finish_reason"],
        usage=usage,
        response_id=body["id"],
        response_model=repaired(model),
        body=body,
        raw=raw,
        text=measured[0],
        size=measured[1],
    )


def as_chunks(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the chunks of a response that was sent as a whole though a stream was requested."""
    shared = {k: v for k, v in found.items() if k not in ("object", "choices", "usage")}
    choices = [choice for choice in found["choices"] if isinstance(choice, dict)]
    yield {**shared, "choices": [{**choice, "delta": _delta(choice)} for choice in choices]}
    if found.get("usage") is not None:
        yield {**shared, "choices": [], "usage": found["usage"]}


def _delta(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    if not isinstance(message, dict):
        return {"role": "assistant", "content": choice.get("text")}
    delta = {name: value for name, value in message.items() if value is not None}
    if isinstance(calls := delta.get("tool_calls"), list):
        delta["tool_calls"] = [
            {**call, "index": number} for number, call in enumerate(calls) if isinstance(call, dict)
        ]
    return delta


def _is_standard(found: dict[str, Any], shown_model: str | None) -> bool:
    return (
        found.get("object") == OBJECT
        and type(found.get("id")) is str
        and type(found.get("created")) is int
        and type(found.get("model")) is str
        and (shown_model is None or found["model"] == shown_model)
        and has_standard_usage(found)
    )


def _measure(found: dict[str, Any]) -> tuple[str, int] | None:
    """Return text and size of the choices; None if they have to be normalized."""
    text, size = "", 0
    for position, choice in enumerate(found["choices"]):
        if type(choice) is not dict or type(choice.get("index")) is not int:
            return None
        message, reason = choice.get("message"), choice.get("finish_reason")
        if type(message) is not dict or type(reason) is not str or not reason:
            return None
        measured = measure(message)
        if measured is None or "role" not in message:
            return None
        size += measured[1]
        if position == 0:
            text = measured[0]
    return text, size


def _normalized(found: dict[str, Any], shown_model: str | None) -> dict[str, Any]:
    rest = {name: value for name, value in found.items() if name != "choices"}
    model = found["model"] if isinstance(found.get("model"), str) else ""
    choices = [choice for choice in found["choices"] if isinstance(choice, dict)]
    fixed: dict[str, Any] = {
        **repaired(rest),
        "id": found["id"] if isinstance(found.get("id"), str) else new_response_id("chatcmpl-"),
        "object": OBJECT,
        "created": found["created"] if type(found.get("created")) is int else int(time.time()),
        "model": shown_model or model,
        "choices": [_choice(choice, position) for position, choice in enumerate(choices)],
    }
    if not has_standard_usage(found):
        fixed["usage"] = standard_usage(found.get("usage"), usage_in(found))
    return fixed


def _choice(choice: dict[str, Any], position: int) -> dict[str, Any]:
    message = choice.get("message")
    if not isinstance(message, dict):
        message = {"content": choice.get("text")}
    fixed = repaired({"role": "assistant", "content": None, **normalized(message)})
    for call in fixed.get("tool_calls") or ():
        call.pop("index", None)
        call.setdefault("type", "function")
    reason = choice.get("finish_reason")
    default = "tool_calls" if fixed.get("tool_calls") else "stop"
    return {
        "logprobs": None,
        **repaired({k: v for k, v in choice.items() if k not in ("message", "text")}),
        "index": choice["index"] if type(choice.get("index")) is int else position,
        "message": fixed,
        "finish_reason": repaired(reason) if isinstance(reason, str) and reason else default,
    }
