"""`POST /v1/messages` and `/v1/messages/count_tokens`: Anthropic's format."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import to_json

from app.domain.errors import ServiceError
from app.wire.formats.base import Json, own_parameter
from app.wire.formats.messages_object import MessageObject, render_error
from app.wire.formats.messages_request import metadata, to_chat, to_prompt, wants_thinking
from app.wire.formats.messages_stream import MessagesStream
from app.wire.formats.reading import Value
from app.wire.request import characters

_CHARACTERS_PER_TOKEN: Final = 4
_NAMES: Final = {
    "max_completion_tokens": "max_tokens",
    "messages": "messages",  # without the position, which may differ
    "parallel_tool_calls": "tool_choice",
    "reasoning_effort": "output_config.effort",
    "response_format": "output_config.format",
    "stop": "stop_sequences",
    "user": "metadata.user_id",
}


class MessagesExchange:
    """One request and its response."""

    def __init__(self, body: Value) -> None:
        """Raise InvalidRequest."""
        self.chat = to_chat(body)
        self.metadata = metadata(body)
        self._system = "system" if body.get("system") else None
        self._thinking = wants_thinking(body)
        self._stop_sequences: list[str] = body.at("stop_sequences").json or []

    def own_parameter(self, param: str) -> str:
        """Return the parameter that became `param` of the chat completion."""
        return own_parameter(param, _NAMES, self._system)

    def whole(self, completion: Mapping[str, Any]) -> Json:
        """Translate a `chat.completion`."""
        message = self._message()
        message.describe(completion)
        message.reader.read_whole(completion)
        return message.ended()

    def stream(self) -> MessagesStream:
        """Return the translation of a streamed response."""
        return MessagesStream(self._message())

    def _message(self) -> MessageObject:
        return MessageObject(
            self.chat.get("model", ""),
            thinking=self._thinking,
            stop_sequences=self._stop_sequences,
        )


class Messages:
    """Anthropic's format."""

    operation = "chat"
    trace_header = "request-id"

    def read(self, body: object) -> MessagesExchange:
        """Translate a request. Raise InvalidRequest."""
        return MessagesExchange(Value(body))

    def error(self, error: ServiceError, trace_id: str) -> Json:
        """Return the body of an error response."""
        return render_error(error, trace_id)


def count_tokens(body: object) -> Json:
    """Estimate the input tokens of a request from the length of its texts.

    Raise InvalidRequest. A provider's own count differs, and media are not counted.
    """
    prompt = to_prompt(Value(body))
    length = sum(characters(message) for message in prompt["messages"])
    if tools := prompt.get("tools"):
        length += len(to_json(tools))
    return {"input_tokens": -(-length // _CHARACTERS_PER_TOKEN)}
