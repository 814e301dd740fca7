"""What a provider says about a key or a prompt reaches no backend, whatever it fails with."""

import base64
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import connect

from tests.receiver import Receiver

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[2]
_PATIENCE_SECONDS = 60
_KEY = "sk-test-123"
_PASSWORD = "hunter2 pass"
_CREDENTIALS = base64.b64encode(f"someone:{_PASSWORD}".encode()).decode()
_PROMPT = "my secret words"
_NEVER = (_KEY, _PASSWORD, "hunter2%20pass", _CREDENTIALS)
_SAID = f"{_PROMPT} {' '.join(_NEVER)}"
_CODE = {"code": "some_code", "type": "some_type", "param": f"{_KEY}.x"}
_CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def _sse(*events: object) -> tuple[int, dict[str, str], bytes]:
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    body = "".join(f"data: {text}\n\n" for text in texts)
    return 200, {"content-type": "text/event-stream"}, body.encode()


def _refusal(status: int, **headers: str) -> tuple[int, dict[str, str], bytes]:
    error = {"error": {"message": f"Said: {_SAID}", **_CODE}}
    return status, {"content-type": "application/json", **headers}, json.dumps(error).encode()


def _delta(**delta: object) -> dict[str, object]:
    return {**_CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


_ERROR_EVENT = {"error": {"message": f"Said: {_SAID}", **_CODE}}
# How the endpoint answers a question, by its last word; then the error type, upstream status, code.
_ANSWERS: dict[str, tuple[tuple[int, dict[str, str], bytes] | None, tuple[object, ...]]] = {
    "key": (_refusal(401), ("authentication", 401, "some_code")),
    "forbidden": (_refusal(403), ("permission_denied", 403, "some_code")),
    "prompt": (_refusal(400), ("invalid_request", 400, "some_code")),
    "unprocessable": (_refusal(422), ("invalid_request", 422, "some_code")),
    "limit": (_refusal(429), ("rate_limit_exceeded", 429, "some_code")),
    "failure": (_refusal(500), ("server_error", 500, "some_code")),
    "redirect": (_refusal(307, location=f"/{_KEY}?{_CREDENTIALS}"), ("connection",)),
    "page": ((502, {"content-type": "text/html"}, _SAID.encode()), ("server_error", 502)),
    "event": (_sse(_ERROR_EVENT), ("server_error", None, "some_code")),
    "later": (_sse(_delta(content="Hel"), _ERROR_EVENT), ("server_error", None, "some_code")),
    "syntax": (_sse(_delta(content="Hel"), f"{{{_SAID}"), ("bad_response",)),
    "choices": (_sse({**_CHUNK, "choices": _SAID}), ("bad_response",)),
    "usage": (
        _sse({**_CHUNK, "choices": [], "usage": {"prompt_tokens": _SAID}}),
        ("broken_stream",),
    ),
    "silence": (None, ("timeout",)),
}


class _Endpoint(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ended = threading.Event()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        found, _ = _ANSWERS[body["messages"][-1]["content"].split()[-1]]
        if found is None:
            self.ended.wait(_PATIENCE_SECONDS)
            self.close_connection = True
            return
        status, headers, data = found
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@contextmanager
def _endpoint() -> Iterator[str]:
    _Endpoint.ended.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            port = server.socket.getsockname()[1]
            yield f"http://someone:hunter2%20pass@127.0.0.1:{port}/v1"
        finally:
            _Endpoint.ended.set()
            server.shutdown()


@contextmanager
def _service(receiver: Receiver, base_url: str, **environ: str) -> Iterator[tuple[str, list[str]]]:
    """The process; gives its URL and, complete after the block, what it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app"],
        cwd=_ROOT,
        env={
            "PATH": os.environ["PATH"],
            "PORT": "0",
            "PYTHONUNBUFFERED": "1",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OPENAI_BASE_URL": base_url,
            "OPENAI_API_KEY": _KEY,
            "OPENAI_MODELS": "m",
            "OPENAI_TIMEOUT_SECONDS": "0.3",
            "OPENAI_MAX_RETRIES": "0",
            "LOG_LEVEL": "DEBUG",
            "OPENAI_LOG": "debug",
            **environ,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    printed: list[str] = []
    try:
        for line in process.stderr:
            printed.append(line)
            if "Uvicorn running on " in line:
                break
        reader = threading.Thread(target=lambda: printed.extend(process.stderr or ()), daemon=True)
        reader.start()
        yield printed[-1].partition("Uvicorn running on ")[2].split()[0], printed
        process.terminate()
        assert process.wait(_PATIENCE_SECONDS) == 0
        reader.join(_PATIENCE_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
        process.stderr.close()
        process.wait()


def _ask_all(url: str) -> list[str]:
    """Ask each question in each way; what the service answered."""
    told = []
    with (
        httpx2.Client(base_url=url, trust_env=False, timeout=_PATIENCE_SECONDS) as client,
        connect(url.replace("http", "ws", 1) + "/ws/chat", proxy=None) as chat,
    ):
        for word in _ANSWERS:
            question = f"{_PROMPT} {word}"
            messages = [{"role": "user", "content": question}]
            for stream in (False, True):
                ask = {"model": "m", "messages": messages, "stream": stream}
                told.append(client.post("/v1/chat/completions", json=ask).text)
            chat.send(json.dumps({"type": "message", "model": "m", "content": question}))
            while '"type":"error"' not in (message := str(chat.recv(_PATIENCE_SECONDS))):
                assert '"type":"delta"' in message
            told.append(message)
    return told


def _holding(secret: str, texts: list[str] | list[bytes]) -> list[str]:
    """Where a secret is, with what stands around it."""
    found = []
    for each in texts:
        text = each.decode("utf-8", "replace") if isinstance(each, bytes) else each
        position = text.find(secret)
        if position >= 0:
            found.append(text[max(0, position - 200) : position + 50])
    return found


@pytest.fixture(scope="module", params=["NO_CONTENT", "SPAN_ONLY"])
def asked(request: pytest.FixtureRequest) -> Iterator[tuple[str, Receiver, list[str], list[str]]]:
    """The kind of capture; what was received, printed and answered after all questions."""
    name = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    with Receiver() as receiver, _endpoint() as base_url:
        with _service(receiver, base_url, **{name: request.param}) as (url, printed):
            told = _ask_all(url)
        yield request.param, receiver, printed, told


Asked = tuple[str, Receiver, list[str], list[str]]


@pytest.mark.parametrize("secret", _NEVER)
def test_credentials_reach_no_backend_no_console_and_no_client(asked: Asked, secret: str) -> None:
    _, receiver, printed, told = asked
    assert _holding(secret, receiver.exports) == []
    assert _holding(secret, printed) == []
    assert _holding(secret, told) == []


def test_a_prompt_reaches_a_backend_only_while_content_is_captured(asked: Asked) -> None:
    capture, receiver, printed, told = asked
    assert _holding(_PROMPT, printed) == []
    assert bool(_holding(_PROMPT, receiver.exports)) is (capture == "SPAN_ONLY")
    logs = [log.record.SerializeToString() for log in receiver.log_records]
    assert _holding(_PROMPT, logs) == []
    # Its own words come back to the client that sent them.
    assert len(_holding(_PROMPT, told)) == 3 * 2


def test_error_type_status_and_code_stay_visible(asked: Asked) -> None:
    _, receiver, _, told = asked
    chats = [span for span in receiver.spans if span.name == "chat m"]
    assert len(chats) == len(told) == 3 * len(_ANSWERS)
    by_trace = {span.trace_id: span for span in chats}
    for position, (word, (_, expected)) in enumerate(_ANSWERS.items()):
        for answer in told[3 * position : 3 * position + 3]:
            span = by_trace[_trace_id(answer)]
            assert _visible(span.attributes, len(expected)) == expected, word
            reason = span.span.status.message
            assert reason.startswith("The model's endpoint ")
            assert span.attributes["error.message"] == reason
            assert reason in _texts(receiver, span.span.span_id, "answer failed")
            (event,) = [
                log.record
                for log in receiver.log_records
                if log.record.event_name == "gen_ai.client.inference.exception"
                and log.record.span_id == span.span.span_id
            ]
            recorded = {each.key: each.value.string_value for each in event.attributes}
            assert recorded["exception.type"] == "app.domain.provider.ProviderError"
            assert recorded["exception.message"].startswith("The model's endpoint ")
            assert "openai_compatible.py" in recorded["exception.stacktrace"]


def _texts(receiver: Receiver, span_id: bytes, body: str) -> list[str]:
    """Return the reasons in the log records of a span."""
    found = [log for log in receiver.log_records if log.record.span_id == span_id]
    return [str(log.attributes.get("error.message")) for log in found if log.body == body]


def _trace_id(answer: str) -> str:
    body = json.loads(answer.rpartition("data: ")[2])
    return str(body["error"]["trace_id"])


def _visible(attributes: Any, count: int) -> tuple[object, ...]:
    names = ("error.type", "http.response.status_code", "chatscope.provider.error_code")
    return tuple(attributes.get(name) for name in names[:count])
