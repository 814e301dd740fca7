"""Any OpenAI-compatible endpoint, through the official `openai` client."""

import re
from codecs import getincrementaldecoder
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk

from app.domain.provider import Completed, ProviderError, TextDelta, Upstream
from app.providers.http_client import TracedClient, error_type
from app.providers.secrets import Redactor, redactor
from app.wire.request import MEDIA, ChatRequest
from chatscope.genai.request import Usage
from chatscope.redaction import without_texts

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
_THEIRS = "The model's endpoint"
_LONGEST_WORDS = 500
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# Of one call: a thousand times what any model takes.
_MOST_TOKENS = 1_000_000_000
# How an answer that is none shows itself in the client, which checks no shapes.
_MALFORMED = (ValueError, AttributeError, TypeError, LookupError)
# Their status, to our error type, our status and what happened.
_STATUSES = {
    401: ("authentication", 502, "did not take our key"),
    403: ("permission_denied", 502, "does not allow us this"),
    404: ("not_found", 502, "does not know the model, or is somewhere else"),
    408: ("timeout", 504, "timed out"),
    429: ("rate_limit_exceeded", 429, "takes no more requests for now"),
    503: ("unavailable", 503, "is not available"),
    504: ("timeout", 504, "timed out"),
}


class OpenAICompatibleProvider:
    """Streams always, also for those who want the answer in one piece."""

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
    ) -> None:
        """Timeouts in seconds: `timeout` is the longest silence, not the whole answer."""
        self.models = tuple(models)
        self.server = _server(base_url)
        self._redact = redactor(api_key, base_url)
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            # Local endpoints want no key, but the client does not start without one.
            api_key=api_key or "none",
            timeout=httpx2.Timeout(timeout, connect=connect_timeout),
            max_retries=max_retries,
            http_client=TracedClient(base_url),
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[TextDelta | Completed]:
        """Text as it comes; the usage that the endpoint tells at the end."""
        end = _End()
        failure: ProviderError | None = None
        try:
            async with await self._client.chat.completions.create(**_arguments(request)) as chunks:
                async for chunk in chunks:
                    if text := end.take(chunk):
                        yield TextDelta(text)
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            failure = _translated(error, self._redact, started=end.started)
            failure.__cause__ = without_texts(error)
        except _MALFORMED as error:
            failure = ProviderError("bad_response", 502, f"{_THEIRS} sent what is no answer.")
            failure.__cause__ = without_texts(error)
        if failure:  # raised here: the original, with its texts, is no context of it
            raise failure
        yield end.completed()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


class _End:
    """What a stream tells about itself on its way."""

    def __init__(self) -> None:
        self.started = False
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._id: str | None = None
        self._model: str | None = None
        self._characters = getincrementaldecoder("utf-16-le")("replace")

    def take(self, chunk: ChatCompletionChunk) -> str | None:
        """The text of a chunk; the rest is kept.

        The client checks no shapes: of an answer that is none, anything may be missing here.
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
        return None if text is None else self._whole(str(text))

    def _whole(self, text: str) -> str:
        """Characters that UTF-8 has: JSON may cut an emoji in two, even over two chunks, and half
        of one can be sent to nobody."""
        return self._characters.decode(text.encode("utf-16-le", "surrogatepass"))

    def completed(self) -> Completed:
        """The end of a whole answer. Raises ProviderError for one that just stopped."""
        if not self.started:
            raise ProviderError("bad_response", 502, f"{_THEIRS} sent what is no answer.")
        if self._finish_reason is None:
            raise ProviderError("broken_stream", 502, f"{_THEIRS} broke off its answer.")
        return Completed(
            finish_reason=self._finish_reason,
            usage=self._usage,
            response_id=self._id,
            response_model=self._model,
        )


def _usage(told: Any) -> Usage | None:
    """None for numbers that cannot be: one that is too large would stand in all sums for ever."""
    counts = int(told.prompt_tokens), int(told.completion_tokens)
    return Usage(*counts) if all(0 <= count <= _MOST_TOKENS for count in counts) else None


def _arguments(request: ChatRequest) -> dict[str, Any]:
    given = {name: getattr(request, name) for name in _PASSED_ON}
    return {
        "model": request.model,
        "messages": [message.wire() for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        **{name: value for name, value in given.items() if value is not None},
        **({"stop": request.stop} if request.stop else {}),
    }


def _server(base_url: str) -> tuple[str, int]:
    parts = urlsplit(base_url)
    return parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme, 443)


def _translated(error: Exception, redact: Redactor, *, started: bool) -> ProviderError:
    """Of the endpoint's own words only those about the request: others may tell of our key."""
    if isinstance(error, openai.APIStatusError):
        return _of_status(error, redact)
    # What the client wraps is its cause.
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
    if isinstance(cause, httpx2.TimeoutException) and error_type(cause) == "timeout":
        return ProviderError("timeout", 504, f"{_THEIRS} was silent for too long.")
    if isinstance(error, openai.APIConnectionError | httpx2.HTTPError):
        if started:
            return ProviderError("broken_stream", 502, f"{_THEIRS} broke off its answer.")
        return ProviderError("connection", 503, f"{_THEIRS} cannot be reached.")
    said = Upstream(code=_code(error, redact))
    message = f"{_THEIRS} failed while it answered."
    return ProviderError("server_error", 502, message, upstream=said)


def _of_status(error: openai.APIStatusError, redact: Redactor) -> ProviderError:
    upstream = error.status_code
    said = Upstream(status=upstream, code=_code(error, redact))
    if upstream in (400, 413, 422):
        return ProviderError(
            "invalid_request",
            400,
            f"{_THEIRS} refused the request:",
            detail=_their_words(error, redact),
            param=_param(error, redact),
            upstream=said,
        )
    known = _STATUSES.get(upstream)
    if known is None and upstream >= 500:
        known = ("server_error", 502, "failed")
    error_type, status, what = known or ("bad_response", 502, f"answered with status {upstream}")
    return ProviderError(
        error_type,
        status,
        f"{_THEIRS} {what}.",
        retry_after=_retry_after(error.response),
        upstream=said,
    )


def _their_words(error: openai.APIStatusError, redact: Redactor) -> str:
    body = error.body
    words = body.get("message") if isinstance(body, dict) else None
    return redact(str(words or "it gave no reason"))[:_LONGEST_WORDS]


def _param(error: openai.APIStatusError, redact: Redactor) -> str | None:
    param: object = error.param
    return redact(param)[:_LONGEST_WORDS] if isinstance(param, str) else None


def _code(error: Exception, redact: Redactor) -> str | None:
    """The endpoint's code, if it is a word: telemetry records it."""
    code = getattr(error, "code", None)
    return (
        code if isinstance(code, str) and _WORD.fullmatch(code) and redact(code) == code else None
    )


def _retry_after(response: httpx2.Response) -> str | None:
    seconds = response.headers.get("retry-after", "")
    return seconds if seconds.isdecimal() else None
