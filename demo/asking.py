"""One question by each way in, with the clients that people use; knows nothing of load."""

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

# Longer than the service lets a silent model live (ANSWER_STALL_SECONDS): its own word comes first.
PATIENCE_SECONDS = 150.0
_CONNECT_SECONDS = 5.0
_CLOSE_SECONDS = 2.0
# What the client saw where the service said nothing.
LOST = "client_connection"
SILENT = "client_timeout"
# The demo ended before the answer did.
STOPPED = "client_stopped"


class AskError(Exception):
    """A question without an answer: the service's stable code, or what the client saw."""

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
class Answer:
    """What came; `first_token` is in seconds since the question, and None in one piece."""

    text: str
    first_token: float | None = None
    tool_calls: Sequence[ToolCall] = ()
    # Of a response over HTTP.
    id: str = field(default="", compare=False)
    model: str = field(default="", compare=False)


@dataclass(frozen=True)
class Identity:
    """Who asks, as the service records it."""

    user: str = ""
    session: str = ""
    conversation: str = ""
    api_key: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that say so."""
        found = {
            "x-user-id": self.user,
            "x-session-id": self.session,
            "x-conversation-id": self.conversation,
            "Authorization": f"Bearer {self.api_key}" if self.api_key else "",
        }
        return {name: value for name, value in found.items() if value}


class HttpClient:
    """The official client, pointed at the service: answers in one piece, and streamed (SSE)."""

    identity = Identity()

    def __init__(self, url: str, patience: float = PATIENCE_SECONDS) -> None:
        # The service is near: a proxy of this machine would not find it.
        self._openai = openai.OpenAI(
            base_url=f"{url}/v1",
            api_key="none",
            max_retries=0,
            http_client=openai.DefaultHttpxClient(
                trust_env=False,
                timeout=httpx2.Timeout(patience, connect=_CONNECT_SECONDS),
            ),
        )
        self._url = url
        # Looked up now: the first time it is a slow import, which no answer shall be charged with.
        self._completions = self._openai.chat.completions

    def models(self) -> dict[str, str]:
        """Who runs each model, by its name."""
        with _errors_by_code():
            return {model.id: model.owned_by for model in self._openai.models.list()}

    def ask(
        self,
        messages: Sequence[Message],
        model: str,
        temperature: float | None = None,
        **parameters: Any,
    ) -> Answer:
        """Ask and wait for the whole answer; `parameters` are further ones of the request."""
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
            return Answer(
                message.content or "", tool_calls=calls, id=completion.id, model=completion.model
            )

    def stream(
        self, messages: Sequence[Message], model: str, leave_after: int | None = None
    ) -> Answer:
        """Read the answer as it comes; `leave_after` so many pieces hang up."""
        asked = time.perf_counter()
        pieces: list[str] = []
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
                piece = "".join(choice.delta.content or "" for choice in chunk.choices)
                if piece and first is None:
                    first = time.perf_counter() - asked
                pieces += [piece] if piece else []
                if len(pieces) == leave_after:
                    break
        return Answer("".join(pieces), first, id=response_id, model=model)

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
        self, url: str, patience: float = PATIENCE_SECONDS, identity: Identity = Identity()
    ) -> None:
        self._patience = patience
        self._closing = ExitStack()
        place = url.replace("http", "ws", 1) + "/ws/chat"
        with _errors_by_code(), client_span("GET", place, _address(url)) as headers:
            self._socket = self._closing.enter_context(
                connect(
                    place,
                    additional_headers={**headers, **identity.headers},
                    open_timeout=_CONNECT_SECONDS,
                    close_timeout=_CLOSE_SECONDS,
                    proxy=None,
                )
            )

    def ask(self, question: str, model: str, cancel_after: int | None = None) -> Answer:
        """Ask and read the answer; `cancel_after` so many pieces call it off."""
        message = {"type": "message", "content": question, "model": model}
        return self.say(message, cancel_after)

    def say(self, message: dict[str, str], cancel_after: int | None = None) -> Answer:
        """Send any message, and read until what it led to has ended."""
        asked = time.perf_counter()
        pieces: list[str] = []
        first = None
        with _errors_by_code():
            self._socket.send(json.dumps(message))
            while (told := self._receive())["type"] == "delta":
                first = first or time.perf_counter() - asked
                pieces.append(told["content"])
                if len(pieces) == cancel_after:
                    self._socket.send(json.dumps({"type": "cancel"}))
        if told["type"] == "error":
            raise AskError(told["error"]["code"], told["trace_id"])
        return Answer("".join(pieces), first)

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
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=self._patience))
        return message


@contextmanager
def _errors_by_code() -> Iterator[None]:
    try:
        yield
    except (openai.APITimeoutError, httpx2.TimeoutException, TimeoutError) as error:
        raise AskError(SILENT) from error
    except (openai.APIConnectionError, httpx2.TransportError, OSError) as error:
        raise AskError(LOST) from error
    except openai.APIError as error:
        raise _told(error.body, type(error).__name__) from error
    except InvalidStatus as error:
        raise _told(_json(error.response.body), f"status_{error.response.status_code}") from error
    except ConnectionClosed as error:
        raise AskError(f"closed_{error.rcvd.code}" if error.rcvd else LOST) from error
    except WebSocketException as error:
        raise AskError(LOST) from error


def _told(body: object, otherwise: str) -> AskError:
    """The error as the service tells it, in an `error` object or as the inside of one."""
    inside = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(inside, dict):
        return AskError(otherwise)
    return AskError(str(inside.get("code") or otherwise), str(inside.get("trace_id") or ""))


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _json(body: bytes | bytearray | None) -> object:
    try:
        return json.loads(body or b"")
    except ValueError:
        return None
