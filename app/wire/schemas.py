"""JSON schemas of requests, responses and errors, for the OpenAPI description.

Names of parameters, limits and types come from the code that reads them. What a provider decides
about has no schema here: it is passed on.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from pydantic import TypeAdapter

from app.wire.formats.messages_request import PARAMETERS as MESSAGES
from app.wire.formats.responses_request import PARAMETERS as RESPONSES
from app.wire.formats.text_completions import PARAMETERS as TEXT_COMPLETIONS
from app.wire.request import MAX_MODEL_LENGTH
from app.wire.websocket import Question
from chatscope.genai import Rating

Schema = dict[str, Any]
_PLACE: Final = "#/components/schemas/"

_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_MODEL: Final[Schema] = {"type": ["string", "null"], "maxLength": MAX_MODEL_LENGTH}
_FLAG: Final[Schema] = {"type": ["boolean", "null"]}
_OBJECTS: Final[Schema] = {"type": "array", "items": {"type": "object"}}
_SOME_TEXT: Final[Schema] = {"type": ["string", "null"]}
_KNOWN: Final[Mapping[str, Schema]] = {
    "model": _MODEL,
    "stream": _FLAG,
    "stream_options": {
        "type": ["object", "null"],
        "properties": {"include_usage": _FLAG},
    },
}


def reference(name: str) -> Schema:
    """Return a reference to a schema of `schemas`."""
    return {"$ref": f"{_PLACE}{name}"}


def schemas(limits: Mapping[str, int]) -> dict[str, Schema]:
    """Return all schemas by name; `limits` are those of requests."""
    return {
        "ChatCompletionRequest": _chat(limits),
        "ResponsesRequest": _request(
            RESPONSES, ["input"], {"input": {"type": ["string", "array"], "minItems": 1}}
        ),
        "MessagesRequest": _request(MESSAGES, ["max_tokens", "messages"], _MESSAGES),
        "CountTokensRequest": _request(MESSAGES, ["messages"], _MESSAGES),
        "TextCompletionRequest": _request(
            TEXT_COMPLETIONS,
            ["prompt"],
            {"prompt": {"type": ["string", "array"], "items": _TEXT, "minItems": 1, "maxItems": 1}},
        ),
        "EmbeddingRequest": _request(
            ("model", "input"),
            ["input"],
            {"input": {"type": ["string", "array"], "minLength": 1, "minItems": 1}},
        ),
        "Feedback": _feedback(),
        **_named("WebSocketMessage", TypeAdapter(Question)),
        **_RESPONSES,
    }


def _request(names: Collection[str], required: list[str], types: Mapping[str, Schema]) -> Schema:
    known = {**_KNOWN, **types}
    return {
        "type": "object",
        "required": required,
        "properties": {name: known.get(name, {}) for name in sorted(names)},
    }


def _chat(limits: Mapping[str, int]) -> Schema:
    messages: Schema = {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "required": ["role"],
            "properties": {"role": {"type": "string", "minLength": 1}, "content": {}},
        },
    }
    if (maximum := limits.get("max_request_messages")) is not None:
        messages["maxItems"] = maximum
    return _request((*_KNOWN, "messages"), ["messages"], {"messages": messages})


_MESSAGES: Final[Mapping[str, Schema]] = {
    "max_tokens": {"type": "integer", "minimum": 1, "exclusiveMaximum": 2**63},
    "messages": {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "required": ["role", "content"],
            "properties": {
                "role": {"enum": ["user", "assistant", "system"]},
                "content": {"type": ["string", "array"]},
            },
        },
    },
}


def _feedback() -> Schema:
    found = _from(TypeAdapter(Rating))
    for name, limit in _FEEDBACK.items():
        [variant] = (each for each in found["properties"][name]["anyOf"] if each["type"] != "null")
        variant.update(limit)
    either = ({"required": ["label"]}, {"required": ["score"]})
    of = ({"required": ["response_id"]}, {"required": ["trace_id"]})
    return {**found, "allOf": [{"anyOf": list(either)}, {"anyOf": list(of)}]}


# docs/api.md has the same.
_FEEDBACK: Final[Mapping[str, Schema]] = {
    "label": {"minLength": 1, "maxLength": 64},
    "score": {"minimum": 0, "maximum": 1},
    "comment": {"minLength": 1, "maxLength": 4_000},
    "name": {"minLength": 1, "maxLength": 64},
    "response_id": {"minLength": 1, "maxLength": 256},
    "trace_id": {"pattern": "^[0-9a-f]{32}$"},
    "span_id": {"pattern": "^[0-9a-f]{16}$"},
    "model": {"minLength": 1, "maxLength": MAX_MODEL_LENGTH},
}


def _from(adapter: TypeAdapter[Any]) -> Schema:
    found = adapter.json_schema(ref_template=_PLACE + "{model}")
    return {**found, "additionalProperties": False}


def _named(name: str, adapter: TypeAdapter[Any]) -> dict[str, Schema]:
    """Return a schema with those that it refers to."""
    found = _from(adapter)
    return {**found.pop("$defs", {}), name: found}


def _object(required: Mapping[str, Schema], **optional: Schema) -> Schema:
    properties = {**required, **optional}
    return {"type": "object", "required": list(required), "properties": properties}


_USAGE: Final = {
    "oneOf": [
        {"type": "null"},
        _object(dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), _COUNT)),
    ]
}
_ERROR: Final = _object(
    {
        "message": _TEXT,
        "type": _TEXT,
        "param": _SOME_TEXT,
        "code": _TEXT,
        "trace_id": _TEXT,
    },
    provider={"type": "object"},
)
_RESPONSES: Final[Mapping[str, Schema]] = {
    "ChatCompletion": _object(
        {
            "id": _TEXT,
            "object": {"const": "chat.completion"},
            "created": {"type": "integer"},
            "model": _TEXT,
            "choices": {
                "type": "array",
                "minItems": 1,
                "items": _object(
                    {
                        "index": {"type": "integer"},
                        "message": _object({"role": _TEXT, "content": _SOME_TEXT}),
                        "finish_reason": _TEXT,
                    }
                ),
            },
        },
        usage=_USAGE,
    ),
    "Response": _object(
        {
            "id": _TEXT,
            "object": {"const": "response"},
            "status": {"enum": ["completed", "incomplete", "failed"]},
            "model": _TEXT,
            "output": _OBJECTS,
        },
    ),
    "Message": _object(
        {
            "id": _TEXT,
            "type": {"const": "message"},
            "role": {"const": "assistant"},
            "model": _TEXT,
            "content": _OBJECTS,
            "stop_reason": _TEXT,
            "usage": _object({"input_tokens": _COUNT, "output_tokens": _COUNT}),
        },
    ),
    "TokenCount": _object({"input_tokens": _COUNT}),
    "TextCompletion": _object(
        {
            "id": _TEXT,
            "object": {"const": "text_completion"},
            "created": {"type": "integer"},
            "model": _TEXT,
            "choices": {
                "type": "array",
                "items": _object({"text": _TEXT, "index": {"type": "integer"}}),
            },
        },
        usage=_USAGE,
    ),
    "Embeddings": _object({"object": {"const": "list"}, "data": _OBJECTS, "model": _TEXT}),
    "FeedbackRecorded": _object(
        {
            "object": {"const": "feedback"},
            "response_id": _SOME_TEXT,
            "trace_id": _SOME_TEXT,
            "label": _TEXT,
            "known": {"type": "boolean"},
        },
    ),
    "Model": _object(
        {
            "id": _TEXT,
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": _TEXT,
        },
        pricing=_object({"prompt": _TEXT, "completion": _TEXT}),
        context_length={"type": "integer", "minimum": 1},
        architecture={"type": "object"},
    ),
    "Models": _object(
        {"object": {"const": "list"}, "data": {"type": "array", "items": reference("Model")}}
    ),
    # Of a stream.
    "Event": _object({"data": _TEXT}, event=_TEXT),
    "Status": _object({"status": {"enum": ["ok", "ready"]}}),
    "Error": _object({"error": _ERROR}),
    "MessagesError": _object(
        {
            "type": {"const": "error"},
            "error": _object({"type": _TEXT, "message": _TEXT, "details": {"type": "object"}}),
            "request_id": _TEXT,
        },
    ),
}
