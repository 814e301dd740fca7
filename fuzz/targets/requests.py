"""Bodies of requests: chat completions, embeddings, feedback, and the messages of WebSockets."""

import json
from collections.abc import Callable
from random import Random
from typing import Any, Final

from app.domain.errors import InvalidRequest, ServiceError
from app.domain.identity import Identity
from app.domain.provider import ProviderError
from app.domain.request import ChatRequest, message_text
from app.providers import simulated_output
from app.providers.openai_compatible import rendered
from app.transport import feedback
from app.wire.errors import error_object, http_status
from app.wire.formats import FORMATS, Format, count_tokens
from app.wire.parsing import parse_json, validate
from app.wire.request import completion_request, embedding_request
from app.wire.websocket import Question, parse_message
from chatscope.genai import content
from fuzz.source import Source, as_json, json_input
from fuzz.target import Target, ensure

_LIMITS: Final = {
    "max_message_chars": 4_000,
    "max_request_messages": 20,
    "max_request_chars": 8_000,
}
# Characters of an error: its texts are shortened, whatever the request has.
_LONGEST_ERROR: Final = 4_000

_WORDS: Final = (
    *("role", "user", "assistant", "system", "developer", "tool", "function", "content", "name"),
    *("text", "type", "image_url", "input_audio", "file", "refusal", "tool_calls", "tool_call_id"),
    *("function_call", "arguments", "id", "model", "messages", "stream", "stream_options"),
    *("include_usage", "temperature", "top_p", "top_k", "n", "stop", "seed", "max_tokens"),
    *("max_completion_tokens", "tools", "tool_choice", "none", "auto", "required", "parameters"),
    *("parallel_tool_calls", "response_format", "json_schema", "json_object", "schema", "strict"),
    *("properties", "items", "anyOf", "oneOf", "allOf", "$ref", "#", "#/properties/a", "enum"),
    *("const", "object", "array", "string", "integer", "number", "boolean", "null", "minimum"),
    *("maximum", "exclusiveMinimum", "multipleOf", "minItems", "maxItems", "uniqueItems"),
    *("minLength", "maxLength", "format", "date", "additionalProperties", "minProperties"),
    *("prefixItems", "metadata", "user", "safety_identifier", "modalities", "audio"),
    *("reasoning_effort", "logprobs", "top_logprobs", "logit_bias", "service_tier", "prediction"),
)

_CHAT: Final = (
    json.dumps({"messages": [{"role": "user", "content": "hi"}]}),
    json.dumps(
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "be short"},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "what is this?"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "c",
                            "type": "function",
                            "function": {"name": "find", "arguments": "{}"},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "c", "content": "found"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.5,
            "stop": ["x"],
            "n": 2,
            "max_tokens": 5,
            "seed": 1,
            "metadata": {"session_id": "s"},
        }
    ),
    json.dumps(
        {
            "messages": [{"role": "user", "content": "find the city"}],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "find",
                        "description": "city",
                        "parameters": {
                            "type": "object",
                            "properties": {
                                "city": {"type": "string"},
                                "count": {"type": "integer", "minimum": 1, "maximum": 9},
                                "tags": {
                                    "type": "array",
                                    "items": {"enum": ["a", "b"]},
                                    "minItems": 1,
                                },
                            },
                            "required": ["city", "count"],
                        },
                    },
                }
            ],
            "tool_choice": "auto",
            "parallel_tool_calls": True,
        }
    ),
    json.dumps(
        {
            "messages": [{"role": "user", "content": "json"}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "n",
                    "schema": {
                        "type": "object",
                        "properties": {
                            "a": {"$ref": "#/$defs/b"},
                            "c": {
                                "anyOf": [{"type": "null"}, {"type": "number", "multipleOf": 0.5}]
                            },
                        },
                        "required": ["a"],
                        "additionalProperties": False,
                        "$defs": {
                            "b": {
                                "type": "array",
                                "prefixItems": [{"type": "string", "format": "date"}],
                                "uniqueItems": True,
                                "items": {"allOf": [{"type": "string"}, {"maxLength": 3}]},
                            }
                        },
                    },
                },
            },
        }
    ),
)


def _refused(error: ServiceError) -> None:
    """Check an error: what a client receives is JSON, short, and the client's own mistake."""
    body = error_object(error, "t")
    ensure(len(as_json(body)) < _LONGEST_ERROR * 6, "an error is short")
    body["error"]["message"].encode()
    ensure(len(error.message) < _LONGEST_ERROR, "an error's message is short")
    ensure(400 <= http_status(error) < 500, "an invalid request is the client's mistake")


def _parsed(data: bytes, read: Callable[[Any], object]) -> None:
    try:
        read(parse_json(data))
    except (InvalidRequest, ProviderError) as error:
        _refused(error)


def _chat(data: Any) -> None:
    request = completion_request(data, _LIMITS)
    use(request.to_domain("m"))


def use(request: ChatRequest) -> None:
    """Do with a valid request what the service does with each."""
    values = (
        *(request.temperature, request.top_p, request.frequency_penalty, request.presence_penalty),
        *(request.token_limit, request.seed, request.stop, request.top_k, request.choices),
        *(request.reasoning_effort, request.response_format, request.output_type, request.user),
    )
    json.dumps(values, allow_nan=False)
    request.new_roles()
    Identity.of(request.body, request.metadata, {})
    for message in request.messages:
        message_text(message).encode()
    recorded = (content.input_messages(request.messages), content.tool_definitions(request.tools))
    for text, most in zip(
        recorded, (content.MAX_INPUT_BYTES, content.MAX_OTHER_BYTES), strict=True
    ):
        json.loads(text)
        ensure(len(text.encode()) <= most, "recorded content is limited")
    rendered(request.body).decode()
    simulated_output.check(request)
    tools = simulated_output.called_tools(request)
    if tools:
        simulated_output.tool_calls(tools, Random(1))
    if request.response_format in ("json_object", "json_schema"):
        simulated_output.json_output(request, "text", Random(1))


def _check_chat(data: bytes) -> None:
    _parsed(json_input(data, _CHAT, _WORDS), _chat)


_SCHEMAS: Final = tuple(
    json.dumps(found)
    for each in _CHAT[2:]
    for body in (json.loads(each),)
    for found in (
        body.get("response_format", {}).get("json_schema", {}).get("schema"),
        (body.get("tools") or [{}])[0].get("function", {}).get("parameters"),
    )
    if found
)


def _check_schema(data: bytes) -> None:
    schema = Source(data).edited(_SCHEMAS, _WORDS)
    body = {
        "messages": [{"role": "user", "content": "x"}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
    }
    _parsed(as_json(body), _chat)


_EMBEDDINGS: Final = (
    json.dumps({"input": "text", "model": "m"}),
    json.dumps({"input": ["a", "b"], "dimensions": 3, "encoding_format": "base64"}),
    json.dumps({"input": [[1, 2], [3]], "user": "u"}),
)
_EMBEDDING_WORDS: Final = ("input", "model", "dimensions", "encoding_format", "base64", "float")


def _embedding(data: Any) -> None:
    _, request = embedding_request(data, _LIMITS)
    rendered(request.body)


def _check_embeddings(data: bytes) -> None:
    _parsed(json_input(data, _EMBEDDINGS, _EMBEDDING_WORDS), _embedding)


_FEEDBACK: Final = (
    json.dumps({"response_id": "chatcmpl-0123456789abcdef", "score": 1}),
    json.dumps({"trace_id": "0" * 31 + "1", "label": "good", "comment": "x", "name": "helpful"}),
    json.dumps({"trace_id": "0" * 31 + "1", "span_id": "0" * 15 + "1", "score": 0.5}),
)


def _check_feedback(data: bytes) -> None:
    words = (*feedback._FIELDS, "good", "bad", "up", "down")
    _parsed(json_input(data, _FEEDBACK, words), feedback._rating)


_MESSAGES: Final = (
    json.dumps({"type": "message", "content": "hi"}),
    json.dumps({"type": "ping"}),
    json.dumps(
        {
            "type": "message",
            "content": "hi",
            "model": "m",
            "system": "s",
            "temperature": 0.5,
            "conversation_id": "c",
            "history": [{"question": "q", "response": "r"}],
            "acknowledge": True,
        }
    ),
)
_MESSAGE_WORDS: Final = (
    *("type", "message", "cancel", "ping", "content", "model", "system", "temperature"),
    *("conversation_id", "history", "question", "response", "acknowledge"),
)


def _message(text: str) -> None:
    data = parse_message(text)
    if data["type"] == "message":
        question = validate(Question, data, _LIMITS)
        ensure(question.type == "message" and isinstance(question.content, str), "it is a question")


def _check_message(data: bytes) -> None:
    text = json_input(data, _MESSAGES, _MESSAGE_WORDS).decode("utf-8", "surrogateescape")
    try:
        _message(text)
    except InvalidRequest as error:
        _refused(error)


_FORMAT_WORDS: Final = (
    *_WORDS,
    *("input", "instructions", "max_output_tokens", "reasoning", "effort", "summary", "thinking"),
    *("enabled", "disabled", "adaptive", "budget_tokens", "display", "omitted", "output_config"),
    *("output_format", "stop_sequences", "system", "metadata", "user_id", "input_schema", "custom"),
    *("any", "disable_parallel_tool_use", "tool_use", "tool_result", "tool_use_id", "is_error"),
    *("image", "document", "source", "base64", "url", "media_type", "data", "file_id", "title"),
    *("redacted_thinking", "input_text", "output_text", "input_image", "input_file", "detail"),
    *("file_data", "filename", "call_id", "output", "message", "function_call_output", "include"),
    *("message.output_text.logprobs", "verbosity", "truncation", "prompt", "suffix", "echo"),
    *("best_of", "store", "background", "previous_response_id", "allowed_tools", "mode"),
)
_BODIES: Final = {
    "/v1/messages": (
        json.dumps({"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}),
        json.dumps(
            {
                "max_tokens": 5,
                "system": [{"type": "text", "text": "s"}],
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "t"},
                            {
                                "type": "image",
                                "source": {
                                    "type": "base64",
                                    "media_type": "image/png",
                                    "data": "AA",
                                },
                            },
                            {
                                "type": "document",
                                "source": {"type": "text", "data": "d"},
                                "title": "t",
                            },
                        ],
                    },
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "thinking", "thinking": "h"},
                            {"type": "tool_use", "id": "i", "name": "n", "input": {"a": 1}},
                        ],
                    },
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "i",
                                "content": [{"type": "text", "text": "r"}],
                                "is_error": True,
                            }
                        ],
                    },
                ],
                "tools": [{"name": "n", "input_schema": {"type": "object"}}],
                "tool_choice": {"type": "tool", "name": "n", "disable_parallel_tool_use": True},
                "thinking": {"type": "enabled", "budget_tokens": 2000},
                "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
                "metadata": {"user_id": "u"},
                "stop_sequences": ["x"],
                "stream": True,
            }
        ),
    ),
    "/v1/responses": (
        json.dumps({"input": "hi"}),
        json.dumps(
            {
                "model": "m",
                "instructions": "i",
                "input": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "input_text", "text": "t"},
                            {"type": "input_image", "image_url": "data:,", "detail": "low"},
                            {"type": "input_file", "file_data": "d", "filename": "f"},
                        ],
                    },
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}]},
                    {"type": "function_call", "call_id": "c", "name": "n", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "c", "output": "o"},
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "output_text", "text": "t"},
                            {"type": "refusal", "refusal": "no"},
                        ],
                    },
                ],
                "tools": [{"type": "function", "name": "n", "parameters": {}, "strict": True}],
                "tool_choice": {"type": "function", "name": "n"},
                "text": {
                    "format": {"type": "json_schema", "name": "n", "schema": {}},
                    "verbosity": "low",
                },
                "reasoning": {"effort": "low", "summary": "auto"},
                "include": ["message.output_text.logprobs"],
                "top_logprobs": 2,
                "metadata": {"a": "b"},
                "truncation": "auto",
                "stream": True,
                "stream_options": {"include_obfuscation": False},
            }
        ),
    ),
    "/v1/completions": (
        json.dumps({"prompt": "hi"}),
        json.dumps(
            {
                "prompt": ["hi"],
                "model": "m",
                "max_tokens": 3,
                "logprobs": 2,
                "n": 2,
                "best_of": 2,
                "echo": False,
                "stream": True,
                "seed": 1,
                "logit_bias": {"1": 2},
                "stream_options": {"include_usage": True},
                "temperature": 0.5,
                "stop": ["x"],
            }
        ),
    ),
}
# A response of a provider with everything that a format translates.
_LOGPROBS: Final = {"content": [{"token": "t", "logprob": -0.5, "top_logprobs": []}]}
_CALL: Final = {"id": "c", "type": "function", "function": {"name": "n", "arguments": "{}"}}
COMPLETION: Final[dict[str, Any]] = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "logprobs": _LOGPROBS,
            "message": {
                "role": "assistant",
                "content": "text",
                "reasoning_content": "r",
                "refusal": None,
                "tool_calls": [_CALL],
            },
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}

_CHUNK: Final[dict[str, Any]] = {
    **COMPLETION,
    "object": "chat.completion.chunk",
    "choices": [{**each, "delta": each["message"]} for each in COMPLETION["choices"]],
}


def _format_check(path: str, form: Format) -> Callable[[bytes], None]:
    documents = _BODIES[path]

    def read(body: Any) -> None:
        exchange = form.read(body)
        try:
            request = completion_request(exchange.chat, _LIMITS, exchange.own_parameter)
        except InvalidRequest as error:
            as_json(form.error(error, "t"))
            raise
        as_json(dict(exchange.metadata))
        json.dumps(exchange.whole(COMPLETION), allow_nan=False)
        stream = exchange.stream()
        (stream.chunk(_CHUNK) + stream.end()).decode()
        request.to_domain("m")

    def check(data: bytes) -> None:
        text = json_input(data, documents, _FORMAT_WORDS)
        _parsed(text, read)
        if path == "/v1/messages":
            _parsed(text, count_tokens)

    return check


def _seeds(documents: tuple[str, ...]) -> tuple[bytes, ...]:
    indexes = [bytes([index]) for index in range(len(documents))]
    return (*indexes, *(b"\xff" + document.encode() for document in documents))


TARGETS: Final = (
    Target("chat_request", _check_chat, _seeds(_CHAT), _WORDS),
    Target("schema", _check_schema, _seeds(_SCHEMAS), _WORDS),
    Target("embeddings_request", _check_embeddings, _seeds(_EMBEDDINGS), _EMBEDDING_WORDS),
    Target("feedback_request", _check_feedback, _seeds(_FEEDBACK)),
    Target("websocket_message", _check_message, _seeds(_MESSAGES), _MESSAGE_WORDS),
    *(
        Target(
            f"{name}_request",
            _format_check(path, FORMATS[path]),
            _seeds(_BODIES[path]),
            _FORMAT_WORDS,
        )
        for name, path in (
            ("messages", "/v1/messages"),
            ("responses", "/v1/responses"),
            ("text_completions", "/v1/completions"),
        )
    ),
)
