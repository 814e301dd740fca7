"""`POST /v1/responses`: OpenAI's Responses format, without stored responses."""

from collections.abc import Mapping
from typing import Any, Final

from app.domain.errors import ServiceError
from app.wire.errors import error_object
from app.wire.formats.base import Json, own_parameter
from app.wire.formats.reading import Value
from app.wire.formats.responses_object import ResponseObject
from app.wire.formats.responses_request import (
    effective_parameters,
    metadata,
    to_chat,
    wants_summary,
)
from app.wire.formats.responses_stream import ResponsesStream

_NAMES: Final = {
    "max_completion_tokens": "max_output_tokens",
    "messages": "input",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
}


class ResponsesExchange:
    """One request and its response."""

    def __init__(self, body: Value) -> None:
        """Raise InvalidRequest."""
        self.chat = to_chat(body)
        self.metadata = metadata(body)
        self._parameters = {**effective_parameters(body), "metadata": self.metadata}
        self._summary = wants_summary(body)
        self._instructions = "instructions" if body.get("instructions") else None

    def own_parameter(self, param: str) -> str:
        """Return the parameter that became `param` of the chat completion."""
        return own_parameter(param, _NAMES, self._instructions)

    def whole(self, completion: Mapping[str, Any]) -> Json:
        """Translate a `chat.completion`."""
        response = self._response()
        response.describe(completion)
        response.reader.read_whole(completion)
        return response.ended()

    def stream(self) -> ResponsesStream:
        """Return the translation of a streamed response."""
        return ResponsesStream(self._response())

    def _response(self) -> ResponseObject:
        model = self.chat.get("model", "")
        return ResponseObject(model, self._parameters, summary=self._summary)


class Responses:
    """The Responses format."""

    operation = "chat"
    trace_header = None

    def read(self, body: object) -> ResponsesExchange:
        """Translate a request. Raise InvalidRequest."""
        return ResponsesExchange(Value(body))

    def error(self, error: ServiceError, trace_id: str) -> Json:
        """Return the body of an error response, which is that of chat completions."""
        return error_object(error, trace_id)
