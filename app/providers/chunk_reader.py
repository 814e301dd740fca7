"""Chunks of a chat completion as providers send them: read once, normalized where necessary."""

import time
from collections.abc import Mapping
from typing import Any, Final

from app.domain.provider import Chunk, Completed
from app.json_text import joined_surrogates, repaired
from app.providers.failures import ended_early, error_in, malformed, parsed
from app.providers.message_format import measure, normalized
from app.providers.secrets import Cleaner
from app.providers.usage_format import is_standard, standard_usage, usage_in
from app.response_id import new_response_id
from chatscope.genai import Usage, merge_usage

OBJECT: Final = "chat.completion.chunk"
_HIGH_SURROGATES: Final = range(0xD800, 0xDC00)


class ChunkReader:
    """Reads the chunks of one response and keeps its metadata.

    A chunk that every client can read keeps its bytes. In others, what OpenAI's format requires
    is added, and what it does not have is converted.
    """

    def __init__(self, cleaner: Cleaner, shown_model: str | None = None) -> None:
        self._cleaner = cleaner
        self._shown_model = shown_model
        self._started = False
        self._finish_reasons: dict[int, str] = {}
        self._usage: Usage | None = None
        self._id: str | None = None
        self._model: str | None = None
        self._created = int(time.time())
        # Of text, by choice and field: the first half of a surrogate pair, which waits.
        self._halves: dict[tuple[int, str], str] = {}
        self._calls: dict[int, _Calls] = {}  # by choice

    @property
    def started(self) -> bool:
        """Whether a chunk was received."""
        return self._started

    def add(self, data: bytes) -> Chunk:
        """Return the chunk of an event. Raise ProviderError, also for the provider's error."""
        found, strict = parsed(data)
        if type(found) is not dict:
            raise malformed()
        return self.add_object(found, data if strict and b"\n" not in data else None)

    def add_object(self, found: dict[str, Any], raw: bytes | None) -> Chunk:
        """Return the chunk of a parsed event; `raw`: its bytes, if they are strict JSON."""
        if (failure := error_in(found, self._cleaner)) is not None:
            raise failure
        self._started = True
        self._id = self._id or _text(found.get("id"))
        self._model = _text(found.get("model")) or self._model
        usage = usage_in(found)
        if usage is not None:
            # The prompt may be reported first, and the completion last.
            usage = self._usage = merge_usage(self._usage, usage)
        measured = None
        if raw is not None and not self._halves and self._is_standard(found):
            measured = self._measure(found["choices"])
        if measured is None:
            found, raw = self._normalized(found, usage), None
            measured = self._measure(found["choices"]) or ("", 0)
        text, size = measured
        return Chunk(text, found, raw, size, usage)

    def finish(self) -> Chunk | None:
        """Return the chunk with the finish reason if the provider sent none, and only the mark of
        its end."""
        if not self._started:
            raise malformed()
        if self._finish_reasons:
            return None
        reason = "tool_calls" if self._calls else "stop"
        choice = {"index": 0, "delta": {}, "finish_reason": reason}
        return self.add_object({"choices": [choice]}, None)

    def completed(self) -> Completed:
        """Return the end of a complete response. Raise ProviderError if the stream ended early."""
        if not self._started:
            raise malformed()
        if not self._finish_reasons:
            raise ended_early()
        return Completed(
            finish_reason=self._finish_reasons[min(self._finish_reasons)],
            usage=self._usage,
            response_id=self._id,
            response_model=self._model,
        )

    def _is_standard(self, found: dict[str, Any]) -> bool:
        return (
            type(found.get("choices")) is list
            and found.get("object") == OBJECT
            and type(found.get("id")) is str
            and type(found.get("created")) is int
            and type(found.get("model")) is str
            and (self._shown_model is None or found["model"] == self._shown_model)
            and (found.get("usage") is None or is_standard(found["usage"]))
        )

    def _measure(self, choices: list[Any]) -> tuple[str, int] | None:
        """Return text and size of the choices; None if they have to be normalized."""
        text, size = "", 0
        for choice in choices:
            if type(choice) is not dict:
                return None
            index, delta = choice.get("index"), choice.get("delta")
            reason = choice.get("finish_reason")
            if type(index) is not int or type(delta) is not dict:
                return None
            if reason is not None:
                if type(reason) is not str or not reason:
                    return None
                self._finish_reasons[index] = reason
            measured = measure(delta)
            if measured is None:
                return None
            if (calls := delta.get("tool_calls")) and not self._are_numbered(index, calls):
                return None
            size += measured[1]
            if index == 0:
                text += measured[0]
        return text, size

    def _are_numbered(self, choice: int, calls: list[dict[str, Any]]) -> bool:
        seen = self._calls.setdefault(choice, _Calls())
        return all(seen.number(call) == call.get("index") for call in calls)

    def _normalized(self, found: dict[str, Any], usage: Usage | None) -> dict[str, Any]:
        choices = found.get("choices")
        if choices is None:
            choices = []
        if not isinstance(choices, list):
            raise malformed()
        self._id = self._id or new_response_id("chatcmpl-")
        rest = {name: value for name, value in found.items() if name != "choices"}
        fixed: dict[str, Any] = {
            **repaired(rest),
            "id": _text(found.get("id")) or self._id,
            "object": OBJECT,
            "created": found["created"] if type(found.get("created")) is int else self._created,
            "model": self._shown_model or self._model or "",
            "choices": [
                self._choice(choice, position)
                for position, choice in enumerate(choices)
                if isinstance(choice, dict)
            ],
        }
        if "usage" in found and not is_standard(found["usage"]):
            fixed["usage"] = standard_usage(found["usage"], usage)
        return fixed

    def _choice(self, choice: dict[str, Any], position: int) -> dict[str, Any]:
        index = choice["index"] if type(choice.get("index")) is int else position
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            # Whole messages, or the text of the older format.
            text = {"content": choice["text"]} if isinstance(choice.get("text"), str) else {}
            delta = choice["message"] if isinstance(choice.get("message"), dict) else text
        fixed = normalized(delta)
        for call in fixed.get("tool_calls") or ():
            call["index"] = self._calls.setdefault(index, _Calls()).number(call)
        fixed = {name: self._joined(index, name, value) for name, value in fixed.items()}
        reason = choice.get("finish_reason")
        others = {k: repaired(v) for k, v in choice.items() if k not in ("delta", "message")}
        return {
            **others,
            "index": index,
            "delta": fixed,
            "finish_reason": repaired(reason) if isinstance(reason, str) and reason else None,
        }

    def _joined(self, index: int, name: str, value: Any) -> Any:
        """Return a field without lone surrogates.

        A high surrogate at its end is kept for the next chunk, which may begin with the low one.
        """
        if not isinstance(value, str):
            return repaired(value)
        text = self._halves.pop((index, name), "") + value
        if text and ord(text[-1]) in _HIGH_SURROGATES:
            self._halves[index, name] = text[-1]
            text = text[:-1]
        return joined_surrogates(text)


class _Calls:
    """The tool calls of one choice: some providers do not number them, or number all of them 0."""

    def __init__(self) -> None:
        self._by_id: dict[str, int] = {}
        self._last = 0
        self._renumbered = False

    def number(self, call: Mapping[str, Any]) -> int:
        """Return the number of the call to which a part belongs."""
        call_id, number = call.get("id"), call.get("index")
        if not isinstance(call_id, str) or not call_id:
            # A further part of a call.
            if type(number) is int and not self._renumbered:
                self._last = number
            return self._last
        if call_id not in self._by_id:
            taken = self._by_id.values()
            free = type(number) is int and number not in taken
            self._by_id[call_id] = number if free else max(taken, default=-1) + 1  # type: ignore[assignment]
            self._renumbered |= self._by_id[call_id] != number
        self._last = self._by_id[call_id]
        return self._last


def _text(found: object) -> str | None:
    return joined_surrogates(found) if isinstance(found, str) and found else None
