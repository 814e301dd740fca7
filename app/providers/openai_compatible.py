"""Any OpenAI-compatible endpoint, through the official `openai` client."""

import dataclasses
import re
from codecs import getincrementaldecoder
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk

from app.domain.provider import Completed, Event, ProviderError, TextDelta, Upstream
from app.domain.request import MEDIA, ChatRequest, Message
from app.providers.http_client import TracedClient, error_type
from app.providers.secrets import Redactor, redactor
from chatscope.genai import Usage
from chatscope.logs import without_texts

_PASSED_ON = (
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "max_tokens",
    "max_completion_tokens",
    "seed",
    "user",
)
_ENDPOINT = "The model's endpoint"
_MAX_DETAIL_LENGTH = 500
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# For one call: a thousand times the context of any model.
_MAX_TOKENS = 1_000_000_000
# Exceptions caused by malformed responses; the client does not validate them.
_MALFORMED = (ValueError, AttributeError, TypeError, LookupError)
# Error type and description for a status of the endpoint.
_BY_STATUS = {
    401: ("authentication", "rejected the API key"),
    403: ("permission_denied", "denied permission"),
    404: ("not_found", "does not have this model, or has another address"),
    408: ("timeout", "timed out"),
    429: ("rate_limit_exceeded", "exceeded its rate limit"),
    503: ("unavailable", "is unavailable"),
    504: ("timeout", "timed out"),
}


class OpenAICompatibleProvider:
    """Always streams, even if the client wants the response as a whole."""

    name = "openai"
    in_process = False
    media = MEDIA

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str | None,
        models: Sequence[str],
        timeout: float,
        connect_timeout: float,
        max_retries: int,
        client: openai.AsyncOpenAI | None = None,
    ) -> None:
        """Timeouts in seconds; `timeout` is the longest silence of the endpoint.

        `client` replaces the client that the arguments describe.
        """
        self.models = tuple(models)
        self.server = _server(base_url)
        self._redact = redactor(api_key, base_url)
        self._client = client or openai.AsyncOpenAI(
            base_url=base_url,
            # Local endpoints need no key, but the client requires one.
            api_key=api_key or "none",
            timeout=httpx2.Timeout(timeout, connect=connect_timeout),
            max_retries=max_retries,
            http_client=TracedClient(base_url),
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event]:
        """Yield the text as it arrives, then the usage that the endpoint reports."""
        state = _StreamState()
        failure: ProviderError | None = None
        try:
            async with await self._client.chat.completions.create(**_arguments(request)) as chunks:
                async for chunk in chunks:
                    if text := state.add(chunk):
                        yield TextDelta(text)
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            failure = _to_provider_error(error, self._redact, started=state.started)
            failure.__cause__ = without_texts(error)
        except _MALFORMED as error:
            failure = _malformed()
            failure.__cause__ = without_texts(error)
        if failure:  # outside `except`: the original, with its texts, must not be the context
            raise failure
        yield state.completed()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


class _StreamState:
    """The metadata of a stream, collected from its chunks."""

    def __init__(self) -> None:
        self.started = False
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._id: str | None = None
        self._model: str | None = None
        self._characters = getincrementaldecoder("utf-16-le")("replace")

    def add(self, chunk: ChatCompletionChunk) -> str | None:
        """Return the text of a chunk and keep its metadata.

        The client does not validate responses: any attribute of a malformed one may be missing.
        """
        self.started = True
        self._id = chunk.id or self._id
        self._model = chunk.model or self._model
        if chunk.usage:
            self._usage = _usage(chunk.usage)
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        self._finish_reason = choice.finish_reason or self._finish_reason
        text = choice.delta.content
        return None if text is None else self._decode(str(text))

    def _decode(self, text: str) -> str:
        """Return text that UTF-8 can encode: JSON may split an emoji into two surrogates, even in
        two chunks. The first half waits for the second."""
        return self._characters.decode(text.encode("utf-16-le", "surrogatepass"))

    def completed(self) -> Completed:
        """Return the end of a complete response. Raise ProviderError if the stream ended early."""
        if not self.started:
            raise _malformed()
        if self._finish_reason is None:
            raise _ended_early()
        return Completed(
            finish_reason=self._finish_reason,
            usage=self._usage,
            response_id=self._id,
            response_model=self._model,
        )


def _usage(reported: Any) -> Usage | None:
    """Return None for impossible numbers: a huge one would stay in the counters for ever."""
    counts = int(reported.prompt_tokens), int(reported.completion_tokens)
    return Usage(*counts) if all(0 <= count <= _MAX_TOKENS for count in counts) else None


def _arguments(request: ChatRequest) -> dict[str, Any]:
    given = {name: getattr(request, name) for name in _PASSED_ON}
    return {
        "model": request.model,
        "messages": [forwarded_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        **{name: value for name, value in given.items() if value is not None},
        **({"stop": list(request.stop)} if request.stop else {}),
    }


def forwarded_message(message: Message) -> dict[str, Any]:
    """Return the message as the client sent it."""
    fields = {field.name: getattr(message, field.name) for field in dataclasses.fields(message)}
    omits_content = fields.pop("omits_content")
    sent = {name: value for name, value in fields.items() if value is not None}
    return sent if omits_content else {**sent, "content": message.content}


def _server(base_url: str) -> tuple[str, int]:
    parts = urlsplit(base_url)
    return parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme, 443)


def _to_provider_error(error: Exception, redact: Redactor, *, started: bool) -> ProviderError:
    """Return an error with the endpoint's own text only if that describes an invalid request: other
    texts may contain the API key."""
    if isinstance(error, openai.APIStatusError):
        return _of_status(error, redact)
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
    if isinstance(cause, httpx2.TimeoutException) and error_type(cause) == "timeout":
        return ProviderError("timeout", f"{_ENDPOINT} stopped responding.")
    if isinstance(error, openai.APIConnectionError | httpx2.HTTPError):
        if started:
            return _ended_early()
        return ProviderError("connection", f"{_ENDPOINT} is unreachable.")
    upstream = Upstream(code=_code(error, redact))
    message = f"{_ENDPOINT} failed during its response."
    return ProviderError("server_error", message, upstream=upstream)


def _of_status(error: openai.APIStatusError, redact: Redactor) -> ProviderError:
    status = error.status_code
    upstream = Upstream(status=status, code=_code(error, redact))
    if status in (400, 413, 422):
        return ProviderError(
            "invalid_request",
            f"{_ENDPOINT} refused the request:",
            detail=_detail(error, redact),
            param=_param(error, redact),
            upstream=upstream,
        )
    known = _BY_STATUS.get(status)
    if known is None and status >= 500:
        known = ("server_error", "failed")
    error_type, description = known or ("bad_response", f"responded with status {status}")
    return ProviderError(
        error_type,
        f"{_ENDPOINT} {description}.",
        retry_after=_retry_after(error.response),
        upstream=upstream,
    )


def _malformed() -> ProviderError:
    return ProviderError("bad_response", f"{_ENDPOINT} sent a malformed response.")


def _ended_early() -> ProviderError:
    return ProviderError("broken_stream", f"{_ENDPOINT} ended the stream before its final message.")


def _detail(error: openai.APIStatusError, redact: Redactor) -> str:
    body = error.body
    text = body.get("message") if isinstance(body, dict) else None
    return redact(str(text or "no reason given"))[:_MAX_DETAIL_LENGTH]


def _param(error: openai.APIStatusError, redact: Redactor) -> str | None:
    param: object = error.param
    return redact(param)[:_MAX_DETAIL_LENGTH] if isinstance(param, str) else None


def _code(error: Exception, redact: Redactor) -> str | None:
    """Return the endpoint's code if it is one word: telemetry records it."""
    code = getattr(error, "code", None)
    return (
        code if isinstance(code, str) and _WORD.fullmatch(code) and redact(code) == code else None
    )


def _retry_after(response: httpx2.Response) -> str | None:
    seconds = response.headers.get("retry-after", "")
    return seconds if seconds.isdecimal() else None
