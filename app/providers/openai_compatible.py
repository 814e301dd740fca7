"""Any OpenAI-compatible endpoint: the official client sends, its responses are read as bytes."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx2
import openai
from pydantic_core import to_json

from app.domain.embedding import Embedded, EmbeddingRequest
from app.domain.provider import Event, ProviderError, Started
from app.domain.request import ChatRequest
from app.json_text import has_infinity
from app.providers.client_failures import of_exception
from app.providers.failures import malformed, parsed, reported_error
from app.providers.http_client import TracedClient
from app.providers.response_headers import passed_on
from app.providers.response_reader import ResponseReader
from app.providers.secrets import Cleaner, redactor
from app.providers.usage_format import usage_in

_CHAT: Final = "/chat/completions"
_EMBEDDINGS: Final = "/embeddings"
# Of embeddings.
_MAX_BYTES: Final = 64 * 1024 * 1024
# An endpoint sends nothing until a response that is not streamed is complete.
_WHOLE_TIMES: Final = 10.0
# For the end of the connection's response after its last event, so that it can be reused.
_DRAIN_SECONDS: Final = 0.2
# How a refusal of the options names them.
_STREAM_OPTIONS: Final = (b"stream_options", b"include_usage")
_REFUSED: Final = (400, 422)
_FAILURES: Final = (openai.OpenAIError, httpx2.HTTPError, TimeoutError)


class OpenAICompatibleProvider:
    """Passes requests on with all their parameters, and responses with all their fields."""

    name = "openai"
    in_process = False
    by_deployment = False  # paths begin with the deployment, which has the model's name (Azure)

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

        A response that is not streamed may take ten times as long to begin.
        `client` replaces the client that the arguments describe.
        """
        self.models = tuple(models)
        self.server = _server(base_url)
        self.whole_seconds = timeout * _WHOLE_TIMES
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._redact = redactor(api_key, base_url)
        self._refuses_stream_options = False
        self._client = client or openai.AsyncOpenAI(
            base_url=base_url,
            # Local endpoints need no key, but the client requires one.
            api_key=api_key or "none",
            timeout=httpx2.Timeout(timeout, connect=connect_timeout),
            max_retries=max_retries,
            http_client=TracedClient(base_url),
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event]:
        """Yield the chunks as they arrive, or a response that was requested as a whole."""
        cleaner = Cleaner(self._redact, request.body)
        reader = ResponseReader(request, cleaner)
        failure: ProviderError | None = None
        response: openai.AsyncStream[object] | None = None
        received: AsyncGenerator[bytes] | None = None
        try:
            response = await self._call(request)
            yield Started(headers=passed_on(response.response.headers))
            received = response.response.aiter_raw()
            while not reader.done:
                data = await self._next_bytes(received, whole=not request.stream)
                if data is None:
                    break
                for event in reader.feed(data):
                    yield event
            for event in reader.end():
                yield event
        except _FAILURES as error:
            failure = of_exception(error, cleaner, started=reader.started)
        finally:
            if response is not None:
                await _release(response, received, drain=reader.done)
        if failure:  # outside `except`: the original, with its texts, must not be the context
            raise failure

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """Return the endpoint's response as it is."""
        cleaner = Cleaner(self._redact, request.body)
        try:
            response = await self._post(_EMBEDDINGS, {**request.body, "model": request.model})
            received = response.response.aiter_raw()
            try:
                body = await self._body(received)
            finally:
                await _release(response, received, drain=False)
        except _FAILURES as error:
            failure = of_exception(error, cleaner, started=False)
        else:
            found, _ = parsed(body)
            if isinstance(found, dict) and isinstance(found.get("data"), list):
                model = found.get("model")
                return Embedded(
                    raw=body,
                    usage=usage_in(found),
                    response_model=model if isinstance(model, str) else None,
                    headers=passed_on(response.response.headers),
                )
            failure = reported_error(found, cleaner) if _is_error(found) else malformed()
        raise failure

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _call(self, request: ChatRequest) -> openai.AsyncStream[object]:
        """Request a response; without the stream's options if the endpoint refuses these."""
        body = {**request.body, "model": request.model, "stream": request.stream}
        if not request.stream:
            return await self._post(_CHAT, body, read_timeout=self.whole_seconds)
        options = request.body.get("stream_options")
        with_usage = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        if not self._refuses_stream_options:
            try:
                return await self._post(_CHAT, {**body, "stream_options": with_usage})
            except openai.APIStatusError as error:
                if not _is_about_options(error):
                    raise
        without = {name: value for name, value in body.items() if name != "stream_options"}
        response = await self._post(_CHAT, without)
        self._refuses_stream_options = True
        return response

    async def _post(
        self, path: str, body: Mapping[str, Any], *, read_timeout: float | None = None
    ) -> openai.AsyncStream[object]:
        """Send a request and return its response, whose body was not read."""
        timeout = httpx2.Timeout(
            self._timeout, connect=self._connect_timeout, read=read_timeout or self._timeout
        )
        if self.by_deployment:
            path = f"/deployments/{quote(str(body['model']), safe='')}{path}"
        return await self._client.post(
            path,
            content=rendered(body),
            cast_to=object,
            options={"timeout": timeout},
            # The only public way to a body that the client does not read; also for one response.
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )

    async def _next_bytes(self, received: AsyncGenerator[bytes], *, whole: bool) -> bytes | None:
        """Return what arrives next; None at the end. Raise TimeoutError for a silent endpoint.

        `whole`: the client's timeout is that of a whole response, which is longer.
        """
        if not whole:
            return await anext(received, None)
        async with asyncio.timeout(self._timeout):
            return await anext(received, None)

    async def _body(self, received: AsyncGenerator[bytes]) -> bytes:
        parts, size = [], 0
        while (data := await self._next_bytes(received, whole=True)) is not None:
            parts.append(data)
            size += len(data)
            if size > _MAX_BYTES:
                raise malformed()
        return b"".join(parts)


async def _release(
    response: openai.AsyncStream[object], received: AsyncGenerator[bytes] | None, *, drain: bool
) -> None:
    """Close the response. `drain`: its last event was received, and its end may follow at once:
    then the connection is reused."""
    with suppress(Exception):
        if drain and received is not None:
            async with asyncio.timeout(_DRAIN_SECONDS):
                await anext(received, None)
        if received is not None:
            await received.aclose()
    await response.response.aclose()


def rendered(body: Mapping[str, Any]) -> bytes:
    """Return the JSON of a request. Raise ProviderError for a number that JSON lacks."""
    content = to_json(body)
    if has_infinity(content):
        raise ProviderError("invalid_request", "A number of the request is not finite.")
    return content


def _is_error(found: object) -> bool:
    return isinstance(found, list) or (isinstance(found, dict) and "error" in found)


def _is_about_options(error: openai.APIStatusError) -> bool:
    content = error.response.content
    return error.status_code in _REFUSED and any(name in content for name in _STREAM_OPTIONS)


def _server(base_url: str) -> tuple[str, int]:
    parts = urlsplit(base_url)
    return parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme, 443)
