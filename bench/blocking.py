"""The longest step of the event loop under hostile and large inputs.

    python -m bench.blocking
    python -m bench.blocking --only "deep JSON"

Each input is sent three times to a service with the default limits, whose telemetry has the texts
of prompts and responses. The figure is the longest CPU time of one iteration of its event
loop, the largest of the three times; the table also shows where in the code it was found. An
iteration may run several callbacks, so no single step is longer.
"""

import argparse
import http.client
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from rich.table import Table
from websockets.sync.client import connect

from bench.otlp import receiver
from bench.results import Recorder, Row
from bench.service import Service, running
from stack.terminal import Terminal

_TIMES: Final = 3
_SETTLE_SECONDS: Final = 1.0
_TIMEOUT_SECONDS: Final = 60.0
_BODY_BYTES: Final = 1_048_576
_ANSWER_TOKENS: Final = 20


def _chat(content: Any, **more: Any) -> bytes:
    body = {"model": "simulated-1", "messages": [{"role": "user", "content": content}], **more}
    return json.dumps(body).encode()


def _filled(part: str, length: int) -> str:
    return (part * (length // len(part) + 1))[:length]


def _history(messages: int, text: str) -> bytes:
    roles = ("user", "assistant")
    listed = [{"role": roles[number % 2], "content": text} for number in range(messages)]
    return json.dumps({"model": "simulated-1", "messages": listed}).encode()


_SECRETS: Final = (
    "mail ann@example.com, key sk-abcdefghijklmnopqrstuvwx1234567890, 4111 1111 1111 1111; "
)
_BODIES: Final[dict[str, tuple[str, Callable[[], bytes]]]] = {
    "small request": ("/v1/chat/completions", lambda: _chat("How are you?")),
    "streamed response": ("/v1/chat/completions", lambda: _chat("How are you?", stream=True)),
    "deep JSON": ("/v1/chat/completions", lambda: b"[" * _BODY_BYTES),
    "nested JSON": (
        "/v1/chat/completions",
        lambda: _chat("hi", metadata=json.loads("[" * 150 + "]" * 150)),
    ),
    "many small values": (
        "/v1/chat/completions",
        lambda: b"[" + b"1," * (_BODY_BYTES // 2 - 2) + b"1]",
    ),
    "many unknown parameters": (
        "/v1/chat/completions",
        lambda: _chat("hi", **{f"p{number}": 1 for number in range(70_000)}),
    ),
    "many parts of one message": (
        "/v1/chat/completions",
        lambda: _chat([{"type": "text", "text": "a"}] * 30_000),
    ),
    "longest message": ("/v1/chat/completions", lambda: _chat(_filled("word ", 100_000))),
    "longest message of secrets": (
        "/v1/chat/completions",
        lambda: _chat(_filled(_SECRETS, 100_000)),
    ),
    "longest message of digits": ("/v1/chat/completions", lambda: _chat("4" * 100_000)),
    "longest history": ("/v1/chat/completions", lambda: _history(1000, _filled("word ", 490))),
    "longest history of secrets": (
        "/v1/chat/completions",
        lambda: _history(1000, _filled(_SECRETS, 490)),
    ),
    "longest input, Responses": (
        "/v1/responses",
        lambda: json.dumps({"model": "simulated-1", "input": _filled("word ", 100_000)}).encode(),
    ),
    "many embeddings": (
        "/v1/embeddings",
        lambda: json.dumps({"model": "simulated-1", "input": ["a"] * 200_000}).encode(),
    ),
    "body of no JSON": ("/v1/chat/completions", lambda: b"x" * _BODY_BYTES),
}
_PAGES: Final = {"OpenAPI description": "/openapi.json", "chat page": "/", "models": "/v1/models"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table and write the result."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.blocking", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--only", help="inputs whose name contains this")
    given = parser.parse_args(arguments)
    recorder = Recorder("blocking", sys.argv[1:] if arguments is None else arguments)
    exports, endpoint = receiver()
    table = Table("input", "longest, ms", "where", title="Steps of the event loop", box=None)
    rows = []
    with tempfile.TemporaryDirectory() as directory, _watched(endpoint, Path(directory)) as watched:
        for name, send in _inputs().items():
            if given.only and given.only not in name:
                continue
            seconds, stack = watched(send)
            rows.append(Row.of("longest step", name, [seconds * 1e3], "ms"))
            table.add_row(name, f"{seconds * 1e3:.1f}", " ".join(stack[-3:]))
    exports.stop(0)
    if rows:
        rows.append(Row.of("longest step", "of all inputs", [max(row.value for row in rows)], "ms"))
    Terminal().print(table)
    if not given.only:
        recorder.write(rows)
    return 0


Send = Callable[[int], None]


def _inputs() -> dict[str, Send]:
    return {
        **{name: _poster(path, body()) for name, (path, body) in _BODIES.items()},
        **{name: _getter(path) for name, path in _PAGES.items()},
        "longest WebSocket history": _say_with_history,
    }


def _poster(path: str, body: bytes) -> Send:
    def send(port: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)) as to:
            to.request("POST", path, body, {"content-type": "application/json"})
            to.getresponse().read()

    return send


def _getter(path: str) -> Send:
    def send(port: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)) as to:
            to.request("GET", path)
            to.getresponse().read()

    return send


def _say_with_history(port: int) -> None:
    turn = {"question": _filled("word ", 12_000), "response": _filled("word ", 12_000)}
    message = {"type": "message", "content": "hi", "history": [turn] * 20}
    with connect(f"ws://127.0.0.1:{port}/ws/chat", max_size=None) as socket:
        socket.send(json.dumps(message))
        while json.loads(socket.recv(timeout=_TIMEOUT_SECONDS))["type"] not in ("done", "error"):
            pass


@contextmanager
def _watched(endpoint: str, directory: Path) -> Iterator[Callable[[Send], tuple[float, list[str]]]]:
    """Run the service; yield a function that returns the longest step of an input."""
    file = directory / "steps.json"
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_AND_EVENT",
        "SIMULATED_FIRST_TOKEN_SECONDS": "0",
        "SIMULATED_TOKENS_PER_SECOND": "0",
        "SIMULATED_ANSWER_TOKENS": str(_ANSWER_TOKENS),
    }
    with running(environ, ["-m", "bench.watch", str(file)]) as service:
        # What the first request of all imports and registers is none of its input's.
        _inputs()["small request"](service.port)
        time.sleep(_SETTLE_SECONDS)
        yield lambda send: _longest(service, file, send)


def _longest(service: Service, file: Path, send: Send) -> tuple[float, list[str]]:
    worst: tuple[float, list[str]] = (0.0, [])
    for _ in range(_TIMES):
        service.process.send_signal(signal.SIGUSR1)
        time.sleep(_SETTLE_SECONDS / 5)
        send(service.port)
        time.sleep(_SETTLE_SECONDS)
        found = json.loads(file.read_text())
        worst = max(worst, (found["seconds"], found["stack"]))
    return worst


if __name__ == "__main__":
    raise SystemExit(main())
