"""A provider that repeats, in every way of failing, the key and the prompt that it was sent."""

import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

STATUSES: Final = (400, 401, 403, 404, 413, 422, 429, 500, 503)
OTHERS: Final = (
    *("streamerror", "param", "nested", "html", "redirect", "garbage", "wrongshape", "break"),
)
_JSON: Final = "application/json"
MODELS: Final = ("up-ok", "up-fields", *(f"up-{each}" for each in (*STATUSES, *OTHERS)))


class Provider(http.server.ThreadingHTTPServer):
    """Answers by the name of the model; `texts` are its own canaries, by name."""

    daemon_threads = True

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.texts = texts
        self.received: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Provider

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append(str(self.headers))
        body = json.loads(raw)
        kind = str(body["model"]).removeprefix("up-")
        messages = body.get("messages") or [{"content": str(body.get("input"))}]
        said = f"{self.headers['authorization']} said {messages[-1]['content']}"
        said += f" and {self.server.texts['message']}"
        stream = bool(body.get("stream"))
        self._answer(kind, said, stream=stream)

    def _answer(self, kind: str, said: str, *, stream: bool) -> None:
        texts = self.server.texts
        error = {"message": said, "code": texts["code"], "type": texts["type"], "param": None}
        last = said.rsplit(maxsplit=1)[-1]
        failures: dict[str, tuple[int, object, str, dict[str, str]]] = {
            **{str(each): (each, {"error": error}, _JSON, {}) for each in STATUSES},
            "param": (400, {"error": {"message": "no", "param": said}}, _JSON, {}),
            "nested": (400, {"error": {"message": {"detail": [said]}}}, _JSON, {}),
            "html": (502, f"<html>{said}</html>".encode(), "text/html", {}),
            "redirect": (307, b"", _JSON, {"location": f"/{last}"}),
            "garbage": (200, said.encode(), _JSON, {}),
            "wrongshape": (200, {"choices": said, "id": texts["shape"]}, _JSON, {}),
        }
        if kind in failures:
            status, body, content_type, headers = failures[kind]
            self._send(status, body, content_type, **headers)
        elif kind == "break":
            self.wfile.write(f"HTTP/1.1 200 {last}\r\ncontent-le".encode())
            self.close_connection = True
        elif stream:
            self._send(200, self._events(kind, error), "text/event-stream")
        else:
            header = {"x-request-id": texts["header"], "x-ratelimit-limit-requests": texts["limit"]}
            message = {"role": "assistant", "content": texts["answer"]}
            choice = {"index": 0, "message": message, "finish_reason": self._reason(kind)}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            self._send(200, {**self._head(kind), "choices": [choice], "usage": usage}, **header)

    def _head(self, kind: str) -> dict[str, object]:
        texts, fields = self.server.texts, kind == "fields"
        return {
            "id": texts["id"] if fields else "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": texts["model"] if fields else "up-ok",
            "system_fingerprint": texts["fingerprint"] if fields else "fp",
        }

    def _reason(self, kind: str) -> str:
        return self.server.texts["reason"] if kind == "fields" else "stop"

    def _events(self, kind: str, error: object) -> bytes:
        chunk = {**self._head(kind), "object": "chat.completion.chunk"}
        delta = {"role": "assistant", "content": self.server.texts["answer"]}
        end = {"index": 0, "delta": {}, "finish_reason": self._reason(kind)}
        first = {"index": 0, "delta": delta, "finish_reason": None}
        last = {"error": error} if kind == "streamerror" else {**chunk, "choices": [end]}
        events = [{**chunk, "choices": [first]}, last]
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        return "".join([*lines, "data: [DONE]\n\n"]).encode()

    def _send(self, status: int, body: object, kind: str = _JSON, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "content-type": kind}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@contextmanager
def provider(texts: Mapping[str, str]) -> Iterator[Provider]:
    """Run until the end of the block."""
    with Provider(texts) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
