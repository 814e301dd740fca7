"""The official clients, talking to the translators instead of a service."""

import json
from collections.abc import Sequence
from typing import Any

import anthropic
import httpx2
import openai

from app.domain.errors import InvalidRequest, ServiceError
from app.wire.errors import http_status
from app.wire.formats import FORMATS, count_tokens

Json = dict[str, Any]
TRACE_ID = "f" * 32


class Endpoint:
    """Answers each request with the same completion; keeps the translated request."""

    def __init__(
        self,
        completion: Json | None = None,
        chunks: Sequence[Json] = (),
        error: ServiceError | None = None,
    ) -> None:
        """`error`: the response, or with `chunks` what ends the stream."""
        self.chat: Json = {}
        self.sent = b""
        self._completion = completion
        self._chunks = chunks
        self._error = error
        self._client = httpx2.Client(transport=httpx2.MockTransport(self._respond))

    def openai(self) -> openai.OpenAI:
        """Return OpenAI's client."""
        return openai.OpenAI(
            api_key="k", base_url="http://test/v1", http_client=self._client, max_retries=0
        )

    def anthropic(self) -> anthropic.Anthropic:
        """Return Anthropic's client."""
        return anthropic.Anthropic(
            api_key="k", base_url="http://test", http_client=self._client, max_retries=0
        )

    def events(self) -> list[Json]:
        """Return the data of all events sent, and check their framing."""
        found = []
        for block in self.sent.decode().removesuffix("\n\n").split("\n\n"):
            *name, data = block.split("\n")
            assert data.startswith("data: ")
            if data == "data: [DONE]":
                continue
            event = json.loads(data.removeprefix("data: "))
            assert name in ([], [f"event: {event.get('type')}"])
            found.append(event)
        return found

    def _respond(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        path = request.url.path
        try:
            if path == "/v1/messages/count_tokens":
                return httpx2.Response(200, json=count_tokens(body))
            exchange = FORMATS[path].read(body)
        except InvalidRequest as error:
            return self._refuse(path, error)
        self.chat = exchange.chat
        if self._error and not self._chunks:
            return self._refuse(path, self._error)
        if not exchange.chat.get("stream"):
            assert self._completion is not None
            return httpx2.Response(200, json=exchange.whole(self._completion))
        stream = exchange.stream()
        parts = [stream.chunk(chunk) for chunk in self._chunks]
        parts.append(stream.error(self._error, TRACE_ID) if self._error else stream.end())
        self.sent = b"".join(parts)
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, content=self.sent)

    def _refuse(self, path: str, error: ServiceError) -> httpx2.Response:
        return httpx2.Response(http_status(error), json=FORMATS[path].error(error, TRACE_ID))
