"""The bodies of `POST /v1/chat/completions` and `POST /v1/embeddings`.

Validated is what this service needs itself. Everything else is passed to the provider, which
decides about it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic_core import to_json

from app.domain.embedding import EmbeddingRequest
from app.domain.errors import InvalidRequest
from app.domain.request import ChatRequest
from app.wire.parsing import MAX_PROBLEMS, joined, value_text

MAX_MODEL_LENGTH: Final = 200
# Payloads of content parts that are not text; a model does not read them as characters.
# A tuple, because a client's value may be an object, which no set can look up.
_MEDIA: Final = ("image_url", "input_audio", "file", "video_url", "audio")
_TEXTS: Final = ("text", "refusal")
_TOKEN_LIMITS: Final = ("max_completion_tokens", "max_tokens")
# Providers generate, and charge, as many responses.
_CHOICES: Final = ("n", "best_of")

Limits = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A value that the service cannot accept: its path, and what is accepted."""

    param: str
    text: str
    limit: str | None = None

    def __str__(self) -> str:
        return f"Invalid '{self.param}': {self.text}"


@dataclass(frozen=True, kw_only=True)
class CompletionRequest:
    """A valid body; `null` is treated as if the parameter were omitted."""

    body: Mapping[str, Any]
    model: str  # "": the default model
    stream: bool
    include_usage: bool  # at the end of a stream

    def to_domain(self, model: str) -> ChatRequest:
        """Return the request to a model."""
        return ChatRequest(model=model, body=self.body, stream=self.stream)


def completion_request(
    data: object, limits: Limits, shown: Callable[[str], str] = str
) -> CompletionRequest:
    """Return the body of a chat completion. Raise InvalidRequest with the first problems.

    `limits`: `max_message_chars` for one message, `max_request_messages` and
    `max_request_chars` for all of them, `max_answer_tokens` for the response; a missing one is
    unlimited. `default_answer_tokens` is the token limit of a request without one. `shown` returns
    the client's own name of a parameter.
    """
    body = with_token_limit(_object(data), limits)
    _raise_for(replace(each, param=shown(each.param)) for each in _problems(body, limits))
    options = body.get("stream_options") or {}
    return CompletionRequest(
        body=body,
        model=body.get("model") or "",
        stream=body.get("stream") or False,
        include_usage=options.get("include_usage") or False,
    )


def embedding_request(data: object, limits: Limits) -> tuple[str, EmbeddingRequest]:
    """Return the requested model and the request. Raise InvalidRequest."""
    body = _object(data)
    _raise_for(_embedding_problems(body, limits))
    model = body.get("model") or ""
    return model, EmbeddingRequest(model=model, body=body)


def with_token_limit(body: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """Return a chat completion with a token limit: its own, or `default_answer_tokens` if there is
    one. A number below 1 is none: to some servers it means an endless response."""
    default = limits.get("default_answer_tokens")
    given = {name: body[name] for name in _TOKEN_LIMITS if body.get(name) is not None}
    numbers = [_number(value) for value in given.values()]
    if default is None or any(each is None or each >= 1 for each in numbers):
        return body
    rest = {name: value for name, value in body.items() if name not in given}
    return {**rest, "max_completion_tokens": default}


def characters(message: Mapping[str, Any]) -> int:
    """Return the length of everything in a message that a model reads, except media."""
    count = 0
    for name, value in message.items():
        if type(value) is str:
            # The role is none of the text, and an ID is not read.
            count += len(value) if name not in ("role", "tool_call_id", "name") else 0
        elif isinstance(value, list) and name == "content":
            count += sum(_part_characters(part) for part in value)
        elif value and name not in _MEDIA:
            count += len(to_json(value))
    return count


def _part_characters(part: object) -> int:
    if isinstance(part, str):
        return len(part)
    if not isinstance(part, dict):
        return 0
    texts = [part.get(name) for name in _TEXTS]
    if any(isinstance(text, str) for text in texts):
        return sum(len(text) for text in texts if isinstance(text, str))
    kind = part.get("type")
    return 0 if isinstance(kind, str) and kind in _MEDIA else len(to_json(part))


def _object(data: object) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise InvalidRequest("Invalid 'body': it must be an object")
    return data


def _raise_for(problems: Iterator[Problem]) -> None:
    first: list[Problem] = []
    count = 0
    for problem in problems:
        count += 1
        if len(first) < MAX_PROBLEMS:
            first.append(problem)
    if not first:
        return
    limit = first[0].limit
    raise InvalidRequest(
        joined([str(problem) for problem in first], count),
        code=f"too_many_{limit}" if limit else "invalid_request",
        param=first[0].param,
        limit=limit,
    )


def _problems(body: Mapping[str, Any], limits: Limits) -> Iterator[Problem]:
    yield from _model_problems(body)
    yield from _messages_problems(body.get("messages"), limits)
    yield from _token_problems(body, limits)
    stream, options = body.get("stream"), body.get("stream_options")
    if stream is not None and not isinstance(stream, bool):
        yield Problem(param="stream", text=f"it must be true or false{value_text(stream)}")
    if options is None:
        return
    if not isinstance(options, dict):
        yield Problem(param="stream_options", text="it must be an object")
        return
    usage = options.get("include_usage")
    if usage is not None and not isinstance(usage, bool):
        text = f"it must be true or false{value_text(usage)}"
        yield Problem(param="stream_options.include_usage", text=text)


def _token_problems(body: Mapping[str, Any], limits: Limits) -> Iterator[Problem]:
    """Yield token limits that are too high, alone or for all choices together. Values that are no
    numbers are the provider's to refuse."""
    choices = max(1, *(_number(body.get(name)) or 1 for name in _CHOICES))
    text, total = "{count} tokens are requested", "all choices together have {count} tokens"
    most = 1.0
    for name in _TOKEN_LIMITS:
        if (tokens := _number(body.get(name))) is not None:
            yield from _limit_problems(name, "answer_tokens", tokens, text, limits)
            most = max(most, tokens)
    if most <= limits.get("max_answer_tokens", most):
        yield from _limit_problems("n", "answer_tokens", most * choices, total, limits)


def _number(value: object) -> float | None:
    """Return a number, at most 2^63, also one in a text, which lenient servers accept; None for
    anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(min(value, 2**63)) if isinstance(value, int) else float(value)
    except (ValueError, OverflowError):
        return None


def _embedding_problems(body: Mapping[str, Any], limits: Limits) -> Iterator[Problem]:
    yield from _model_problems(body)
    given = body.get("input")
    if not given or not isinstance(given, str | list):
        text = "it must be a text, a list of texts or a list of tokens, and not empty"
        yield Problem(param="input", text=text)
        return
    inputs = given if isinstance(given, list) else [given]
    count = sum(len(each) for each in inputs if isinstance(each, str))
    yield from _limit_problems("input", "request_chars", count, _ALL_CHARACTERS, limits)


_ALL_CHARACTERS: Final = "all contents together have {count} characters"


def _model_problems(body: Mapping[str, Any]) -> Iterator[Problem]:
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        yield Problem(param="model", text=f"it must be a text{value_text(model)}")
    elif model is not None and len(model) > MAX_MODEL_LENGTH:
        text = f"it must have at most {MAX_MODEL_LENGTH} characters"
        yield Problem(param="model", text=text)


def _messages_problems(messages: object, limits: Limits) -> Iterator[Problem]:
    if messages is None:
        yield Problem(param="messages", text="it is required")
        return
    if not isinstance(messages, list):
        yield Problem(param="messages", text=f"it must be a list{value_text(messages)}")
        return
    if not messages:
        yield Problem(param="messages", text="it must not be empty")
        return
    text = "there are {count} messages"
    exceeded = list(_limit_problems("messages", "request_messages", len(messages), text, limits))
    if exceeded:
        yield from exceeded
        return
    total = 0
    for position, message in enumerate(messages):
        path = f"messages[{position}]"
        if not isinstance(message, dict):
            yield Problem(param=path, text=f"it must be an object{value_text(message)}")
            continue
        if not isinstance(message.get("role"), str) or not message["role"]:
            text = "it is required" if "role" not in message else "it must be a text"
            yield Problem(param=f"{path}.role", text=text)
            continue
        count = characters(message)
        total += count
        text = "the content has {count} characters"
        yield from _limit_problems(path, "message_chars", count, text, limits)
    yield from _limit_problems("messages", "request_chars", total, _ALL_CHARACTERS, limits)


def _limit_problems(
    param: str, limit: str, count: float, text: str, limits: Limits
) -> Iterator[Problem]:
    maximum = limits.get(f"max_{limit}")
    if maximum is not None and count > maximum:
        described = f"{text.format(count=f'{count:.15g}')}, the maximum is {maximum}"
        yield Problem(param=param, text=described, limit=limit)
