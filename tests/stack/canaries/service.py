"""What a client of the service, and its provider, can put anywhere."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
from websockets.exceptions import InvalidHandshake, WebSocketException
from websockets.sync.client import ClientConnection, connect

from tests.stack.canaries.planting import Garden
from tests.stack.canaries.provider import OTHERS, STATUSES

_PATIENCE = 30.0
_CHAT = "/v1/chat/completions"
# Headers of a client; the first ones are recorded.
_HEADERS = (
    *("user-agent", "x-forwarded-for", "tracestate", "authorization", "cookie", "x-api-key"),
    *("referer", "forwarded", "x-request-id", "baggage", "proxy-authorization"),
    *("openai-organization", "accept-language", "x-forwarded-host", "x-forwarded-proto"),
    *("x-user-id", "x-session-id", "x-conversation-id", "origin", "content-encoding"),
)
_TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Client:
    """Sends everything; `answers` are what came back."""

    def __init__(self, url: str, garden: Garden) -> None:
        self._url = url
        self._garden = garden
        self.answers: list[str] = []

    def plant_all(self) -> None:
        """Plant in every place of the service."""
        with httpx2.Client(base_url=self._url, timeout=_PATIENCE, trust_env=False) as self._http:
            self._paths_and_headers()
            self._parameters()
            self._endpoints()
            self._upstream()
        self._raw()
        self._websocket()

    # -- requests

    def _ask(self, body: object, headers: dict[str, str] | None = None, path: str = _CHAT) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = {"content-type": "application/json", **(headers or {})}
        with suppress(httpx2.HTTPError):
            self.answers.append(self._http.post(path, content=content, headers=head).text)

    def _chat(self, **fields: object) -> dict[str, object]:
        return {"model": "simulated-1", "messages": [_message("Hello")], **fields}

    def _paths_and_headers(self) -> None:
        secret = self._garden.secret
        for path in (
            f"/nothing/{secret('path of nothing')}",
            f"/v1/models/{secret('path of a model')}",
            f"/no%0d%0ax%1b/{secret('path with line breaks')}",
            f"/no?token={secret('query of nothing')}",
            f"/no/{quote(self._garden.mail('e-mail in a path'), safe='')}",
        ):
            self._http.get(path)
        self._ask(self._chat(), path=f"{_CHAT}?x={secret('query of a completion')}")
        for name in _HEADERS:
            text = secret(f"header {name}")
            value = {"tracestate": f"vendor={text}", "authorization": f"Bearer {text}"}.get(name)
            headers = {name: value or text}
            if name == "tracestate":
                headers["traceparent"] = _TRACEPARENT
            self._ask(self._chat(), headers)
        self._ask(self._chat(), {f"x-{secret('name of a header')}": "1"})
        self._ask(self._chat(), {"content-type": secret("content type")})

    def _parameters(self) -> None:
        secret, words = self._garden.secret, self._garden.words
        hello = _message("Hello")
        function = {"name": words("name of a tool"), "description": words("text of a tool")}
        image = {"type": "image_url", "image_url": {"url": f"https://x/{words('URL of an image')}"}}
        format_ = {"name": words("name of a schema"), "schema": {}}
        for body in (
            self._chat(messages=[_message(words("prompt"))]),
            self._chat(messages=[_message(words("prompt, streamed"))], stream=True),
            self._chat(messages=[_message(words("instructions"), "system"), hello]),
            self._chat(messages=[_message(secret("key in a prompt"))]),
            self._chat(messages=[{**hello, "name": words("name of a message")}]),
            self._chat(messages=[hello, {**_message("x", "tool"), "tool_call_id": words("call")}]),
            self._chat(user=secret("user")),
            self._chat(metadata={"note": words("metadata")}),
            self._chat(metadata={words("key of metadata"): "x"}),
            self._chat(metadata={"user_id": secret("metadata user_id")}),
            self._chat(metadata={"conversation_id": secret("metadata conversation_id")}),
            self._chat(prompt_cache_key=words("prompt_cache_key")),
            self._chat(safety_identifier=secret("safety_identifier")),
            self._chat(nothing=words("value of an unknown parameter")),
            self._chat(**{secret("unknown parameter"): 1}),
            self._chat(temperature=words("value of a wrong type")),
            self._chat(temperature=secret("key of a wrong type")),
            self._chat(messages=[_message("x", words("role"))]),
            self._chat(messages=[{**hello, secret("unknown key of a message"): 1}]),
            self._chat(messages=[{**hello, "content": [{"type": words("type of a part")}]}]),
            self._chat(messages=[{**hello, "content": [image]}]),
            self._chat(tools=[{"type": "function", "function": function}]),
            self._chat(response_format={"type": "json_schema", "json_schema": format_}),
            self._chat(stop=[words("stop sequence")]),
            self._chat(model=secret("unknown model")),
            self._chat(messages=[_message(words("too long message") + "x" * 200_000)]),
        ):
            self._ask(body)
        self._ask(f'{{"model": {words("malformed JSON")}'.encode())
        self._ask(words("no JSON").encode())

    def _endpoints(self) -> None:
        words = self._garden.words
        hello = {"model": "simulated-1", "max_tokens": 9}
        self._ask({**hello, "input": words("input of a response")}, path="/v1/responses")
        self._ask(
            {**hello, "messages": [_message(words("text of a message"))]}, path="/v1/messages"
        )
        self._ask({**hello, "prompt": words("prompt of a text completion")}, path="/v1/completions")
        embedded = {"model": "simulated-embedding-1", "input": words("input of an embedding")}
        self._ask(embedded, path="/v1/embeddings")
        rating = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "score": 0.1}
        for name in ("comment", "label", "name"):
            text = self._garden.secret(f"{name} of a rating")
            self._ask({**rating, name: text}, path="/v1/feedback")

    def _upstream(self) -> None:
        for kind in (*STATUSES, *OTHERS):
            for stream in (False, True):
                streamed = ", streamed" if stream else ""
                prompt = self._garden.words(f"prompt that up-{kind} repeats{streamed}")
                self._ask({"model": f"up-{kind}", "messages": [_message(prompt)], "stream": stream})
        for stream in (False, True):
            prompt = self._garden.words(f"prompt for up-fields{', streamed' if stream else ''}")
            body = {"messages": [_message(prompt)], "stream": stream}
            self._ask({**body, "model": "up-fields"})
            self._ask({**body, "model": "up-ok"})

    # -- raw bytes

    def _raw(self) -> None:
        secret = self._garden.secret
        for request in (
            f"GET http://me:{secret('user of a target')}@x/nothing HTTP/1.1\r\nHost: x\r\n\r\n",
            f"GET /nothing#{secret('fragment')} HTTP/1.1\r\nHost: x\r\n\r\n",
            f"GET /nothing HTTP/1.1\r\nHost: {secret('Host')}\r\n\r\n",
            f"{secret('method')} /nothing HTTP/1.1\r\nHost: x\r\n\r\n",
            f"GET /nothing HTTP/1.1\r\nHost: x\r\n{secret('malformed header')}\r\n\r\n",
            f"{secret('malformed request line')}\r\n\r\n",
        ):
            parts = urlsplit(self._url)
            with socket.create_connection((parts.hostname, parts.port), _PATIENCE) as connection:
                connection.settimeout(2)
                connection.sendall(request.encode())
                with suppress(OSError):
                    connection.recv(65_536)

    # -- WebSocket

    def _websocket(self) -> None:
        secret, words = self._garden.secret, self._garden.words
        url = self._url.replace("http", "ws", 1)
        self._refused(f"{url}/nothing/{secret('WebSocket path')}")
        self._refused(f"{url}/ws/chat", subprotocols=[secret("subprotocol")])
        self._refused(f"{url}/ws/chat", origin=f"http://{secret('foreign origin')}.example")
        headers = {
            "Authorization": f"Bearer {secret('WebSocket Authorization')}",
            "Cookie": secret("WebSocket Cookie"),
        }
        with connect(
            f"{url}/ws/chat?x={secret('WebSocket query')}",
            proxy=None,
            additional_headers=headers,
            user_agent_header=secret("WebSocket User-Agent"),
        ) as chat:
            for message in self._messages():
                chat.send(message)
                self._read(chat)
            chat.ping(words("ping"))
            chat.send(words("binary message").encode())
            self._read(chat)
            chat.close(1000, secret("close reason"))

    def _messages(self) -> Iterator[str]:
        secret, words = self._garden.secret, self._garden.words
        message = {"type": "message", "content": "Hello"}
        for each in (
            {**message, "content": words("WebSocket question")},
            {**message, "content": "And my first question?"},
            {**message, "model": "up-401", "content": words("WebSocket question, repeated")},
            {**message, "model": secret("WebSocket model")},
            {**message, secret("WebSocket key"): 1},
            {"type": secret("WebSocket type")},
            {**message, "user": secret("WebSocket user")},
            {**message, "metadata": {"user_id": secret("WebSocket metadata")}},
        ):
            yield json.dumps(each)
        yield f'{{"type": {words("WebSocket malformed JSON")}'

    def _read(self, chat: ClientConnection) -> None:
        with suppress(TimeoutError, WebSocketException):
            while True:
                text = str(chat.recv(timeout=_PATIENCE))
                self.answers.append(text)
                if json.loads(text)["type"] in ("done", "error", "pong"):
                    return

    def _refused(self, url: str, **options: Any) -> None:
        with (
            suppress(InvalidHandshake, WebSocketException, OSError),
            connect(url, proxy=None, open_timeout=_PATIENCE, **options) as chat,
        ):
            chat.close()


def _message(content: str, role: str = "user") -> dict[str, str]:
    return {"role": role, "content": content}
