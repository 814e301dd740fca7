"""The interface of a format: a request is translated to chat completions, responses back."""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final, Protocol

from app.domain.errors import ServiceError
from app.json_text import render
from app.wire.formats.reading import Value

Json = dict[str, Any]
_FIRST_MESSAGE: Final = "messages[0]"
# Parameters of chat completions for which the other formats have names of their own, or none.
_CHAT_ONLY: Final = frozenset(
    {
        "audio",
        "function_call",
        "functions",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "modalities",
        "n",
        "reasoning_effort",
        "response_format",
    }
)


class ResponseStream(Protocol):
    """One streamed response as server-sent events; each method returns the events to send."""

    def chunk(self, chunk: Mapping[str, Any]) -> bytes:
        """Translate one `chat.completion.chunk`; the result may be empty."""

    def end(self, usage: Mapping[str, Any] | None = None) -> bytes:
        """End the response; `usage` is that of chat completions, by default the chunks' own."""

    def error(self, error: ServiceError, trace_id: str) -> bytes:
        """End the response with an error."""


class Exchange(Protocol):
    """One request, and the translation of its response."""

    @property
    def chat(self) -> Json:
        """The request as the body of a chat completion."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Texts about the request for the records of the service; not sent to a provider."""

    def own_parameter(self, param: str) -> str:
        """Return the parameter of the request that became `param` of the chat completion."""

    def whole(self, completion: Mapping[str, Any]) -> Json:
        """Translate a `chat.completion`."""

    def stream(self) -> ResponseStream:
        """Return the translation of a streamed response."""


class Format(Protocol):
    """A wire format besides chat completions."""

    @property
    def operation(self) -> str:
        """`gen_ai.operation.name`."""

    @property
    def trace_header(self) -> str | None:
        """Header in which its clients look for the ID of a request, if any."""

    def read(self, body: object) -> Exchange:
        """Translate a request, given as parsed JSON. Raise InvalidRequest."""

    def error(self, error: ServiceError, trace_id: str) -> Json:
        """Return the body of an error response."""


def event(data: Json, name: str | None = None) -> bytes:
    """Render one server-sent event."""
    prefix = b"event: %b\n" % name.encode() if name else b""
    return prefix + b"data: %b\n\n" % render(data)


def own_parameter(param: str, names: Mapping[str, str], instructions: str | None = None) -> str:
    """Return a format's own name of a parameter of the chat completion, such as `messages[1].role`.

    `names` are those that differ, by the name in chat completions; `instructions` is the parameter
    that became the first message, if any.
    """
    if instructions and param.startswith(_FIRST_MESSAGE):
        return instructions
    return names.get(re.split(r"\W", param, maxsplit=1)[0], param)


def stream_parameters(body: Value) -> Json:
    """Return the chat parameters of a streamed response, which always ends with its usage."""
    stream = body.get("stream")
    if stream is None or not stream.boolean():
        return {}
    return {"stream": True, "stream_options": {"include_usage": True}}


def unknown_parameters(body: Value, known: Collection[str]) -> Json:
    """Return the parameters that the format does not have: the provider decides about them.

    Raise InvalidRequest for those that chat completions have and this format does not.
    """
    rest = {name: value for name, value in body.fields().items() if name not in known}
    for name in sorted(rest.keys() & _CHAT_ONLY):
        raise body.at(name).error("it is a parameter of chat completions, not of this format")
    return {name: value for name, value in rest.items() if value is not None}
