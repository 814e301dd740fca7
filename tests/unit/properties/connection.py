"""One WebSocket connection of the service, driven step by step, without a network or a clock."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from app.domain.provider import Chunk, Completed, Event
from app.domain.request import ChatRequest
from app.main import create_app
from chatscope.genai.request import Usage
from tests.memory import Memory
from tests.unit.scripted import catalog_of
from tests.unit.serving import quick

MODEL = "played-1"
HISTORY = 4
# More event loop iterations than any wait without a timer takes.
_STEPS = 100


class Played:
    """A provider that executes one step at a time."""

    name = "played"
    models = (MODEL,)
    server = None
    in_process = True

    def __init__(self) -> None:
        self.requests: list[ChatRequest] = []
        self.open = 0
        self._steps: asyncio.Queue[str | Completed | Exception] = asyncio.Queue()

    def play(self, step: str | Completed | Exception) -> None:
        self._steps.put_nowait(step)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event]:
        self.requests.append(request)
        # Steps for a cancelled response do not apply to this one.
        self._steps = asyncio.Queue()
        self.open += 1
        try:
            while True:
                step = await self._steps.get()
                if isinstance(step, Exception):
                    raise step
                yield Chunk(step) if isinstance(step, str) else step
        finally:
            self.open -= 1

    async def close(self) -> None:
        """Do nothing."""


class Connection:
    """The client's side of a connection, and its telemetry."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.provider = Played()
        self.out: list[dict[str, Any]] = []
        self.closed: int | None = None
        self._runner = asyncio.Runner()
        catalog = catalog_of(self.provider)
        self._settings = quick(history_messages=HISTORY, max_message_chars=20)
        self.app = create_app(self._settings, catalog=catalog, providers=self.memory.providers)
        self.open()

    def open(self) -> None:
        """Connect, after the last connection has ended."""
        self._gone = False
        self._in: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._serving: asyncio.Task[None] = self._run(self._start())

    def say(self, *messages: dict[str, Any] | str | bytes) -> list[dict[str, Any]]:
        """Send all messages; return the responses until everything waits again."""
        for message in messages:
            match message:
                case bytes():
                    self._in.put_nowait({"type": "websocket.receive", "bytes": message})
                case str():
                    self._in.put_nowait({"type": "websocket.receive", "text": message})
                case _:
                    text = json.dumps(message)
                    self._in.put_nowait({"type": "websocket.receive", "text": text})
        return self.settle()

    def play(self, *steps: str | Completed | Exception) -> list[dict[str, Any]]:
        """Execute steps of the provider; return the resulting messages."""
        for step in steps:
            self.provider.play(step)
        return self.settle()

    def leave(self, code: int) -> None:
        """Disconnect."""
        self._gone = True
        self._in.put_nowait({"type": "websocket.disconnect", "code": code})
        self.settle()

    def stop_service(self) -> list[dict[str, Any]]:
        """Stop the service immediately; return its messages."""
        self._run(self.app.state.admission.close(0))
        return self.settle()

    def settle(self) -> list[dict[str, Any]]:
        """Run the event loop until it is idle; return the messages since the last call."""
        self._run(_idle())
        new, self.out = self.out, []
        return new

    @property
    def serving(self) -> bool:
        """Whether the service still holds the connection."""
        return not self._serving.done()

    def end(self) -> None:
        """Stop it; raise the service's exception, if any."""
        if self.serving:
            self.leave(1000)
        self._runner.run(_ended(self._serving))
        self.app.state.telemetry.shutdown()
        self._runner.close()

    async def _start(self) -> asyncio.Task[None]:
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/ws/chat",
            "raw_path": b"/ws/chat",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"x")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "subprotocols": [],
            "state": {},
            "extensions": {"websocket.http.response": {}},
        }
        self._in.put_nowait({"type": "websocket.connect"})
        serving = asyncio.create_task(self.app(scope, self._in.get, self._send))
        await _idle()
        return serving

    async def _send(self, message: Any) -> None:
        # As for a slow client: a message that is cancelled here was not sent.
        await asyncio.sleep(0)
        if self._gone:
            raise OSError
        match message["type"]:
            case "websocket.send":
                self.out.append(json.loads(message["text"]))
            case "websocket.close":
                self.closed = message["code"]
                self._in.put_nowait({"type": "websocket.disconnect", "code": self.closed})

    def _run(self, work: Any) -> Any:
        return self._runner.run(work)


def completed(tokens: int) -> Completed:
    """Return an end with that many completion tokens."""
    return Completed(
        finish_reason="stop", usage=Usage(1, tokens), response_id="r", response_model=MODEL
    )


async def _idle() -> None:
    for _ in range(_STEPS):
        await asyncio.sleep(0)


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait_for(task, 30)
