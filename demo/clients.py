"""Clients for each transport: the official OpenAI client and WebSocket; independent of locust."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from demo.telemetry import client_span

Message = ChatCompletionMessageParam

# Longer than the service's own limit for a stalled model (ANSWER_STALL_SECONDS), whose error comes
# first.
TIMEOUT_SECONDS = 150.0
_CONNECT_SECONDS = 5.0
_CLOSE_SECONDS = 2.0
# Error codes of the client, where the service sent none.
DISCONNECTED = "client_connection"
TIMED_OUT = "client_timeout"
# The demo ended before the response.
STOPPED = "client_stopped"


class RequestError(Exception):
    """A failed request; `code` is the service's stable code, or the client's own."""

    def __init__(self, code: str, trace_id: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.trace_id = trace_id


@dataclass(frozen=True)
class ToolCall:
    """A tool that the model calls; `arguments` is JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Response:
    """A response; `first_token` is in seconds since the request, None if not streamed."""

    text: str
    first_token: float | None = None
    tool_calls: Sequence[ToolCall] = ()
    # For responses over HTTP.
    id: str = field(default="", compare=False)
    model: str = field(default="", compare=False)


@dataclass(frozen=True)
class Identity:
    """User, session and conversation of a request, as the service records them."""

    user: str = ""
    session: str = ""
    conversation: str = ""
    api_key: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """Return the request headers for this identity."""
        found = {
            "x-user-id": self.user,
            "x-session-id": self.session,
            "x-conversation-id": self.conversation,
            "Authorization": f"Bearer {self.api_key}" if self.api_key else "",
        }
        return {name: value for name, value in found.items() if value}


class HttpClient:
    """The official client with the service's address: whole responses, and streams (SSE)."""

    identity = Identity()

    def __init__(self, url: str, timeout: float = TIMEOUT_SECONDS) -> None:
        # The service is local: a proxy of this machine would not find it.
        self._openai = openai.OpenAI(
            base_url=f"{url}/v1",
            api_key="none",
            max_retries=0,
            http_client=openai.DefaultHttpxClient(
                trust_env=False,
                timeout=httpx2.Timeout(timeout, connect=_CONNECT_SECONDS),
            ),
        )
        self._url = url
        # Resolved now: the first access is a slow import, which must not count as response time.
        self._completions = self._openai.chat.completions

    def models(self) -> dict[str, str]:
        """Return the owner of each model, by model name."""
        with _errors_by_code():
            return {model.id: model.owned_by for model in self._openai.models.list()}

    def ask(
        self,
        messages: Sequence[Message],
        model: str,
        temperature: float | None = None,
        **parameters: Any,
    ) -> Response:
        """Request a whole response; `parameters` are added to the request."""
        if temperature is not None:
            parameters["temperature"] = temperature
        with _errors_by_code(), self._span("/v1/chat/completions") as headers:
            completion: ChatCompletion = self._completions.create(
                model=model,
                messages=messages,
                user=self.identity.user or openai.omit,
                extra_headers=headers,
                **parameters,
            )
            message = completion.choices[0].message
            calls = [
                ToolCall(call.id, call.function.name, call.function.arguments)
                for call in message.tool_calls or []
                if call.type == "function"
            ]
            return Response(
                message.content or "", tool_calls=calls, id=completion.id, model=completion.model
            )

    def stream(
        self, messages: Sequence[Message], model: str, leave_after: int | None = None
    ) -> Response:
        """Read a stream; disconnect after `leave_after` chunks."""
        started = time.perf_counter()
        chunks: list[str] = []
        first = None
        response_id = ""
        with (
            _errors_by_code(),
            self._span("/v1/chat/completions") as headers,
            self._completions.create(
                model=model,
                messages=messages,
                stream=True,
                user=self.identity.user or openai.omit,
                extra_headers=headers,
            ) as stream,
        ):
            for chunk in stream:
                response_id = chunk.id
                chunk_text = "".join(choice.delta.content or "" for choice in chunk.choices)
                if chunk_text and first is None:
                    first = time.perf_counter() - started
                chunks += [chunk_text] if chunk_text else []
                if len(chunks) == leave_after:
                    break
        return Response("".join(chunks), first, id=response_id, model=model)

    def rate(self, response_id: str, label: str, comment: str) -> None:
        """Rate a response."""
        rating = {"response_id": response_id, "label": label, "comment": comment}
        with _errors_by_code():
            self._openai.post("/feedback", body=rating, cast_to=object)

    def embed(self, texts: Sequence[str], model: str) -> list[list[float]]:
        """Return the embeddings of texts."""
        with _errors_by_code(), self._span("/v1/embeddings") as headers:
            found = self._openai.embeddings.create(
                model=model,
                input=list(texts),
                user=self.identity.user or openai.omit,
                extra_headers=headers,
            )
            return [each.embedding for each in found.data]

    @contextmanager
    def _span(self, path: str) -> Iterator[dict[str, str]]:
        with client_span("POST", self._url + path, _address(self._url)) as headers:
            yield {**headers, **self.identity.headers}

    def close(self) -> None:
        """Close the connections."""
        self._openai.close()


class Conversation:
    """A WebSocket connection, whose history the service keeps."""

    def __init__(
        self, url: str, timeout: float = TIMEOUT_SECONDS, identity: Identity = Identity()
    ) -> None:
        self._timeout = timeout
        self._closing = ExitStack()
        websocket_url = url.replace("http", "ws", 1) + "/ws/chat"
        with _errors_by_code(), client_span("GET", websocket_url, _address(url)) as headers:
            self._socket = self._closing.enter_context(
                connect(
                    websocket_url,
                    additional_headers={**headers, **identity.headers},
                    open_timeout=_CONNECT_SECONDS,
                    close_timeout=_CLOSE_SECONDS,
                    proxy=None,
                )
            )

    def ask(self, question: str, model: str, cancel_after: int | None = None) -> Response:
        """Send a message and read the response; cancel it after `cancel_after` chunks."""
        message = {"type": "message", "content": question, "model": model}
        return self.send_frame(message, cancel_after)

    def send_frame(self, message: dict[str, str], cancel_after: int | None = None) -> Response:
        """Send any frame, and read until the resulting response ends."""
        started = time.perf_counter()
        chunks: list[str] = []
        first = None
        with _errors_by_code():
            self._socket.send(json.dumps(message))
            while (frame := self._receive())["type"] == "delta":
                first = first or time.perf_counter() - started
                chunks.append(frame["content"])
                if len(chunks) == cancel_after:
                    self._socket.send(json.dumps({"type": "cancel"}))
        if frame["type"] == "error":
            raise RequestError(frame["error"]["code"], frame["trace_id"])
        return Response("".join(chunks), first)

    def __enter__(self) -> "Conversation":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.close()

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=self._timeout))
        return message


@contextmanager
def _errors_by_code() -> Iterator[None]:
    try:
        yield
    except (openai.APITimeoutError, httpx2.TimeoutException, TimeoutError) as error:
        raise RequestError(TIMED_OUT) from error
    except (openai.APIConnectionError, httpx2.TransportError, OSError) as error:
        raise RequestError(DISCONNECTED) from error
    except openai.APIError as error:
        raise _service_error(error.body, type(error).__name__) from error
    except InvalidStatus as error:
        raise _service_error(
            _json(error.response.body), f"status_{error.response.status_code}"
        ) from error
    except ConnectionClosed as error:
        raise RequestError(f"closed_{error.rcvd.code}" if error.rcvd else DISCONNECTED) from error
    except WebSocketException as error:
        raise RequestError(DISCONNECTED) from error


def _service_error(body: object, default: str) -> RequestError:
    """Return the service's error, from an `error` object or its content."""
    inside = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(inside, dict):
        return RequestError(default)
    return RequestError(str(inside.get("code") or default), str(inside.get("trace_id") or ""))


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _json(body: bytes | bytearray | None) -> object:
    try:
        return json.loads(body or b"")
    except ValueError:
        return None
