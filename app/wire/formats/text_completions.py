"""`POST /v1/completions`: OpenAI's legacy text completions, as one message of the user."""

import time
from collections.abc import Mapping
from typing import Any, Final

from app.domain.errors import ServiceError
from app.response_id import new_response_id
from app.wire.errors import error_object
from app.wire.formats.base import (
    Json,
    event,
    own_parameter,
    stream_parameters,
    unknown_parameters,
)
from app.wire.formats.blocks import objects
from app.wire.formats.reading import (
    Value,
    optional_boolean,
    optional_integer,
    optional_number,
    optional_text,
    without_none,
)

_DONE: Final = b"data: [DONE]\n\n"
_DEFAULT_MAX_TOKENS: Final = 16
# The same in both formats.
_PASSED: Final = ("logit_bias", "stop")
PARAMETERS: Final = frozenset(
    {
        *_PASSED,
        "best_of",
        "echo",
        "frequency_penalty",
        "logprobs",
        "max_tokens",
        "model",
        "n",
        "presence_penalty",
        "prompt",
        "seed",
        "stream",
        "stream_options",
        "suffix",
        "temperature",
        "top_p",
        "user",
    }
)
_FINISH_REASONS: Final = ("stop", "length", "content_filter")


class TextCompletionsExchange:
    """One request and its response."""

    def __init__(self, body: Value) -> None:
        """Raise InvalidRequest."""
        self.chat = _to_chat(body)
        self.metadata: dict[str, str] = {}
        options = body.get("stream_options")
        self._include_usage = bool(options and optional_boolean(options, "include_usage"))

    def own_parameter(self, param: str) -> str:
        """Return the parameter that became `param` of the chat completion."""
        return own_parameter(param, {"messages": "prompt", "top_logprobs": "logprobs"})

    def whole(self, completion: Mapping[str, Any]) -> Json:
        """Translate a `chat.completion`."""
        shared = _Shared(self.chat.get("model", ""), completion)
        choices = [_Choice(index).whole(choice) for index, choice in _choices(completion)]
        usage = completion.get("usage")
        return shared.render(choices) | {"usage": usage if isinstance(usage, dict) else None}

    def stream(self) -> "TextCompletionsStream":
        """Return the translation of a streamed response."""
        return TextCompletionsStream(self.chat.get("model", ""), include_usage=self._include_usage)


class TextCompletionsStream:
    """One streamed response."""

    def __init__(self, model: str, *, include_usage: bool) -> None:
        self._model = model
        self._include_usage = include_usage
        self._shared: _Shared | None = None
        self._choices: dict[int, _Choice] = {}
        self._usage: Mapping[str, Any] | None = None

    def chunk(self, chunk: Mapping[str, Any]) -> bytes:
        """Translate one chunk; empty if it has neither text nor an end."""
        self._shared = self._shared or _Shared(self._model, chunk)
        if isinstance(usage := chunk.get("usage"), dict):
            self._usage = usage
        parts = (
            self._choices.setdefault(index, _Choice(index)).part(choice)
            for index, choice in _choices(chunk)
        )
        choices = [part for part in parts if part]
        return event(self._shared.render(choices)) if choices else b""

    def end(self, usage: Mapping[str, Any] | None = None) -> bytes:
        """Render the usage if the client requested it, and the end marker."""
        if not self._include_usage:
            return _DONE
        shared = self._shared or _Shared(self._model, {})
        return event(shared.render([]) | {"usage": usage or self._usage}) + _DONE

    def error(self, error: ServiceError, trace_id: str) -> bytes:
        """Report the error that ends the stream."""
        return event(error_object(error, trace_id))


class TextCompletions:
    """OpenAI's legacy text completions."""

    operation = "text_completion"
    trace_header = None

    def read(self, body: object) -> TextCompletionsExchange:
        """Translate a request. Raise InvalidRequest."""
        return TextCompletionsExchange(Value(body))

    def error(self, error: ServiceError, trace_id: str) -> Json:
        """Return the body of an error response, which is that of chat completions."""
        return error_object(error, trace_id)


def _to_chat(body: Value) -> Json:
    _refuse(body)
    top_logprobs = optional_integer(body, "logprobs", 0)
    max_tokens = optional_integer(body, "max_tokens", 1)
    return without_none(
        {
            **unknown_parameters(body, PARAMETERS),
            **{name: body.at(name).json for name in _PASSED},
            **stream_parameters(body),
            "model": optional_text(body, "model"),
            "messages": [{"role": "user", "content": _prompt(body.need("prompt"))}],
            "max_tokens": _DEFAULT_MAX_TOKENS if max_tokens is None else max_tokens,
            "n": optional_integer(body, "n", 1),
            "logprobs": None if top_logprobs is None else True,
            "top_logprobs": top_logprobs,
            "seed": optional_integer(body, "seed", -(2**63)),
            **{
                name: optional_number(body, name)
                for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty")
            },
            "user": optional_text(body, "user"),
        }
    )


def _refuse(body: Value) -> None:
    """Refuse what chat completions cannot do, except for values that request nothing."""
    if suffix := body.get("suffix"):
        raise suffix.error("it is not supported; chat models cannot insert text")
    if optional_boolean(body, "echo"):
        raise body.at("echo").error("it is not supported; the only accepted value is false")
    best_of = optional_integer(body, "best_of", 1)
    if best_of is not None and best_of != (optional_integer(body, "n", 1) or 1):
        raise body.at("best_of").error("it is not supported, unless it equals 'n'")


def _prompt(prompt: Value) -> str:
    """Return the prompt: a text, or a list of one text."""
    if isinstance(prompt.json, list):
        if any(isinstance(item, int | list) for item in prompt.json):
            raise prompt.error("token IDs are not supported; send a text")
        if len(prompt.json) != 1:
            raise prompt.error("it must be one text; send a request for each prompt")
        prompt = next(prompt.items())
    return prompt.text()


class _Shared:
    """The fields that all objects of a response have."""

    def __init__(self, model: str, completion: Mapping[str, Any]) -> None:
        created, reported = completion.get("created"), completion.get("model")
        self._fields = {
            "id": new_response_id("cmpl-"),
            "object": "text_completion",
            "created": created if isinstance(created, int) else int(time.time()),
            "model": reported if isinstance(reported, str) and reported else model,
        }

    def render(self, choices: list[Json]) -> Json:
        return {**self._fields, "choices": choices}


class _Choice:
    """One choice of a response; counts its characters for the offsets of its tokens."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._offset = 0

    def whole(self, choice: Mapping[str, Any]) -> Json:
        text = _text(choice.get("message"))
        reason = choice.get("finish_reason") or "stop"
        return self._render(text, _token_logprobs(choice), reason)

    def part(self, choice: Mapping[str, Any]) -> Json | None:
        text, reason = _text(choice.get("delta")), choice.get("finish_reason")
        tokens = _token_logprobs(choice)
        return self._render(text, tokens, reason) if text or reason or tokens else None

    def _render(self, text: str, tokens: list[Json] | None, reason: object) -> Json:
        finish_reason = reason if reason in _FINISH_REASONS else "stop"
        return {
            "text": text,
            "index": self._index,
            "logprobs": self._logprobs(tokens) if tokens else None,
            "finish_reason": finish_reason if reason else None,
        }

    def _logprobs(self, tokens: list[Json]) -> Json:
        texts = [str(token.get("token", "")) for token in tokens]
        offsets = []
        for text in texts:
            offsets.append(self._offset)
            self._offset += len(text)
        return {
            "tokens": texts,
            "token_logprobs": [token.get("logprob") for token in tokens],
            "top_logprobs": [_alternatives(token) for token in tokens],
            "text_offset": offsets,
        }


def _choices(completion: Mapping[str, Any]) -> list[tuple[int, Json]]:
    choices = objects(completion.get("choices"))
    indexes = (choice.get("index") for choice in choices)
    return [
        (index if isinstance(index, int) else 0, choice)
        for index, choice in zip(indexes, choices, strict=True)
    ]


def _text(message: object) -> str:
    """Return the text of a message or delta; a refusal is text too."""
    if not isinstance(message, dict):
        return ""
    content = message.get("content")
    parts = [content] if isinstance(content, str) else [p.get("text") for p in objects(content)]
    return "".join(part for part in (*parts, message.get("refusal")) if isinstance(part, str))


def _token_logprobs(choice: Mapping[str, Any]) -> list[Json] | None:
    given = choice.get("logprobs")
    return objects(given.get("content")) if isinstance(given, dict) else None


def _alternatives(token: Json) -> Json:
    found = objects(token.get("top_logprobs"))
    return {str(each.get("token", "")): each.get("logprob") for each in found}
