"""A whole response of OpenAI's format, made of the chunks of a stream."""

from collections.abc import Mapping
from typing import Any

from app.domain.provider import Chunk


class _Text(list[str]):
    """A text in pieces: joined once, because adding each to a long text would copy it."""


class Assembly:
    """Collects the chunks of one response."""

    def __init__(self) -> None:
        self._shared: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._calls: dict[tuple[int, int], dict[str, Any]] = {}  # by choice and number

    def add(self, chunk: Chunk) -> None:
        """Add the object of a chunk; a chunk that is only a text adds nothing."""
        if chunk.data is None:
            return
        self._shared |= {k: v for k, v in chunk.data.items() if k != "choices" and v is not None}
        for choice in chunk.data["choices"]:
            index = choice["index"]
            kept = self._choices.setdefault(index, {"message": {}})
            for name, value in choice["delta"].items():
                self._add_field(index, kept["message"], name, value)
            others = {k: v for k, v in choice.items() if k not in ("delta", "logprobs", "message")}
            # A later chunk, such as that of a content filter, has no finish reason.
            kept |= {k: v for k, v in others.items() if v is not None or k not in kept}
            if isinstance(logprobs := choice.get("logprobs"), dict):
                _add_logprobs(kept.setdefault("logprobs", {}), logprobs)

    def body(self) -> dict[str, Any]:
        """Return the response."""
        choices = [_joined(choice) for _, choice in sorted(self._choices.items())]
        return {**self._shared, "object": "chat.completion", "choices": choices}

    def _add_field(self, index: int, message: dict[str, Any], name: str, value: Any) -> None:
        before = message.get(name)
        if name == "tool_calls":
            calls = message.setdefault(name, [])
            for part in value or ():
                self._add_call(index, calls, part)
        elif isinstance(value, str) and name != "role":
            if isinstance(before, _Text):
                before.append(value)
            else:
                message[name] = _Text([value])
        elif type(before) is list and isinstance(value, list):
            before += value
        elif value is not None or name not in message:
            message[name] = list(value) if isinstance(value, list) else value

    def _add_call(self, index: int, calls: list[dict[str, Any]], part: Mapping[str, Any]) -> None:
        key = index, part["index"]
        function = part.get("function")
        function = function if isinstance(function, dict) else {}
        arguments = function.get("arguments")
        if key in self._calls:
            if arguments:
                kept = self._calls[key]["function"]
                if not isinstance(kept.get("arguments"), _Text):  # missing or null until now
                    kept["arguments"] = _Text()
                kept["arguments"].append(arguments)
            return
        pieces = {"arguments": _Text([arguments])} if isinstance(arguments, str) else {}
        self._calls[key] = {"type": "function", **part, "function": {**function, **pieces}}
        calls.append(self._calls[key])


def messages_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of a response, each with its finish reason."""
    return [
        {**choice["message"], "finish_reason": choice.get("finish_reason")}
        for choice in body["choices"]
    ]


def _joined(value: Any) -> Any:
    match value:
        case _Text():
            return "".join(value)
        case dict():
            return {name: _joined(each) for name, each in value.items()}
        case list():
            return [_joined(each) for each in value]
    return value


def _add_logprobs(kept: dict[str, Any], part: Mapping[str, Any]) -> None:
    for name, value in part.items():
        before = kept.get(name)
        if isinstance(before, list):
            before += value if isinstance(value, list) else ()
        elif before is None:  # also where an earlier chunk had null
            kept[name] = list(value) if isinstance(value, list) else value
