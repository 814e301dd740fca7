"""A service in a process whose model sends the responses of a test, chunk by chunk."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.clients.endpoint import EVENTS, JSON, Endpoint, Response, endpoint
from tests.unit.process import process, served

MODEL: Final = "house-1"
_PRICES: Final = {MODEL: {"prompt": 2.5, "completion": 10}}
_MODELS: Final = """
[[providers]]
name = "house"
base_url = "{url}/v1"
max_retries = 0

    [[providers.models]]
    name = "house-1"
    context_tokens = 128_000

    [[providers.models]]
    name = "house-embed"
"""
# Maximum time for which a response waits for the test, in case the test fails.
_LONGEST_WAIT_SECONDS: Final = 60

Reply = str | Iterable[str] | Response


@dataclass
class Model:
    """Responds by question; an unknown question is repeated."""

    replies: dict[str, Callable[[], Reply]] = field(default_factory=dict)
    go_on: threading.Event = field(default_factory=threading.Event)
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def says(self, question: str, reply: Reply) -> None:
        """Set the response to a question, also for its repetitions."""
        self.replies[question] = lambda: reply

    def waits(self, question: str, *before: str) -> None:
        """Respond with these chunks, and then wait until `go_on` is set."""

        def parts() -> Iterator[str]:
            yield from before
            self.go_on.wait(_LONGEST_WAIT_SECONDS)
            yield "at last"

        self.go_on.clear()
        self.replies[question] = parts

    def respond(self, body: dict[str, Any]) -> Response:
        """Respond to a request."""
        self.bodies.append(body)
        question = body["messages"][-1]["content"]
        reply = self.replies.get(question, lambda: f"You said: {question}")()
        if isinstance(reply, Response):
            return reply
        return Response(200, EVENTS, _events([reply] if isinstance(reply, str) else reply))

    @property
    def messages(self) -> list[tuple[str, str]]:
        """The role and text of each message of the last request."""
        return [(each["role"], each["content"]) for each in self.bodies[-1]["messages"]]


def refusal(status: int, message: str, code: str) -> Response:
    """Return an error response of the provider."""
    return Response(status, JSON, [json.dumps({"error": {"message": message, "code": code}})])


def paced(text: str, size: int, seconds: float) -> Iterator[str]:
    """Yield chunks of a text, evenly over this time."""
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    started = time.monotonic()
    for number, piece in enumerate(pieces):
        if (early := started + seconds * number / len(pieces) - time.monotonic()) > 0.005:
            time.sleep(early)
        yield piece


@dataclass(frozen=True)
class Chat:
    """A running service, its model, and the address of its page."""

    url: str
    model: Model


@contextmanager
def chat(folder: Path, **environ: str) -> Iterator[Chat]:
    """Run a service whose only provider is a `Model`."""
    model = Model()
    with endpoint(model.respond) as provider, service(folder, provider, **environ) as url:
        yield Chat(url, model)
        model.go_on.set()


@contextmanager
def service(folder: Path, provider: Endpoint, **environ: str) -> Iterator[str]:
    """Run a service for a provider; yield its URL."""
    models, prices = folder / "models.toml", folder / "prices.json"
    models.write_text(_MODELS.format(url=provider.url))
    prices.write_text(json.dumps(_PRICES))
    given: Mapping[str, str] = {"MODELS_FILE": str(models), "PRICES_FILE": str(prices)}
    # Telemetry gives each response a trace ID even if it cannot be exported.
    exported = {"OTEL_SDK_DISABLED": "false", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    with process(**{**given, **exported, **environ}) as started:
        url = served(started)
        assert started.stderr is not None
        threading.Thread(target=started.stderr.read, daemon=True).start()
        yield url


def _events(parts: Iterable[str]) -> Iterator[str]:
    shared = {"id": "r-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}

    def event(delta: dict[str, str], reason: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return f"data: {json.dumps({**shared, 'choices': [choice], **more})}\n\n"

    count = 0
    yield event({"role": "assistant", "content": ""})
    for part in parts:
        count += 1
        yield event({"content": part})
    usage = {"prompt_tokens": 10, "completion_tokens": count, "total_tokens": 10 + count}
    yield event({}, "stop", usage=usage)
    yield "data: [DONE]\n\n"
