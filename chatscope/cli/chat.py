"""`chatscope chat`: a chat in the terminal, over the service's WebSocket."""

import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, Literal

from rich.console import Console
from rich.text import Text
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from chatscope.cli.errors import CommandError
from chatscope.cli.grafana import trace_url
from chatscope.cli.screen import emit
from chatscope.escaping import escape_controls
from chatscope.otlp.proxy import bypasses_proxy

_LOOK_FOR_CTRL_C_SECONDS: Final = 0.2
_MAX_REASON: Final = 300  # characters


class TerminalChat:
    """One connection, whose conversation the service remembers."""

    def __init__(
        self,
        console: Console,
        connection: ClientConnection,
        *,
        model: str | None = None,
        grafana_url: str | None = None,
        as_json: bool = False,
    ) -> None:
        self._console = console
        self._connection = connection
        self._model = {"model": model} if model else {}
        self._grafana_url = grafana_url
        self._as_json = as_json
        self._cancelled = False

    def ask(self, text: str) -> bool:
        """Send one message and print the response as it comes; return False if it failed.

        Ctrl-C cancels the response, a second one leaves. Raise CommandError.
        """
        started = time.monotonic()
        self._cancelled = False
        self._send({"type": "message", "content": text, **self._model})
        response = []
        with self._ctrl_c_cancels():
            for event in self._events():
                if event["type"] == "delta":
                    response.append(event["content"])
                    self._write(event["content"])
                elif event["type"] in ("done", "error"):
                    took = time.monotonic() - started
                    self._end(text, "".join(response), event, took)
                    return bool(event["type"] == "done")
        raise CommandError("the service closed the connection")

    def _events(self) -> Iterator[dict[str, Any]]:
        asked_to_stop = False
        while True:
            if self._cancelled and not asked_to_stop:
                asked_to_stop = True
                self._send({"type": "cancel"})
            try:
                yield json.loads(self._connection.recv(timeout=_LOOK_FOR_CTRL_C_SECONDS))
            except TimeoutError:
                continue
            except ConnectionClosed as error:
                raise CommandError(f"the service closed the connection: {error}") from error

    @contextmanager
    def _ctrl_c_cancels(self) -> Iterator[None]:
        # A handler, not the exception: that one could break off in the middle of a frame.
        def handler(number: int, frame: FrameType | None) -> None:
            if self._cancelled:
                raise KeyboardInterrupt
            self._cancelled = True

        before = signal.signal(signal.SIGINT, handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _send(self, message: Mapping[str, str]) -> None:
        try:
            self._connection.send(json.dumps(message))
        except ConnectionClosed as error:
            raise CommandError(f"the service closed the connection: {error}") from error

    def _write(self, text: str) -> None:
        if not self._as_json:
            self._console.print(Text(escape_controls(text, "\n\t")), end="", soft_wrap=True)

    def _end(self, asked: str, response: str, event: Mapping[str, Any], took: float) -> None:
        if self._as_json:
            emit({"asked": asked, "response": response, **event})
            return
        self._console.print()
        self._dim(summary(event, took) if event["type"] == "done" else failure(event))
        if self._grafana_url and (trace_id := event.get("trace_id")):
            self._dim(trace_url(self._grafana_url, trace_id))

    def _dim(self, text: str) -> None:
        self._console.print(Text(escape_controls(text), "dim"), soft_wrap=True)


def run(
    service_url: str,
    console: Console,
    text: str | None = None,
    *,
    key: str | None = None,
    model: str | None = None,
    grafana_url: str | None = None,
    as_json: bool = False,
) -> bool:
    """Chat until Ctrl-D, or ask `text` once; return whether the last response succeeded.

    `key` is an API key of the service. Raise CommandError.
    """
    url = service_url.replace("http", "ws", 1) + "/ws/chat"
    headers = {"authorization": f"Bearer {key}"} if key else None
    proxy: Literal[True] | None = None if bypasses_proxy(service_url) else True
    try:
        # No limit to the size of a message.
        with connect(url, additional_headers=headers, proxy=proxy, max_size=None) as connection:
            chat = TerminalChat(
                console, connection, model=model, grafana_url=grafana_url, as_json=as_json
            )
            return chat.ask(text) if text else _converse(console, chat, as_json)
    except InvalidStatus as refused:
        raise CommandError(_refusal(url, refused)) from None
    except (OSError, InvalidHandshake) as error:
        reason = f"nothing answers at {url} ({error})"
        raise CommandError(f"{reason}: is the service up? make up") from None


def _refusal(url: str, refused: InvalidStatus) -> str:
    """Return why the service refused the connection, such as a missing API key."""
    response = refused.response
    try:
        reason = json.loads(response.body or b"")["error"]["message"]
    except (ValueError, KeyError, TypeError):
        reason = response.reason_phrase
    return f"{url} responded with {response.status_code}: {str(reason)[:_MAX_REASON]}"


def _converse(console: Console, chat: TerminalChat, as_json: bool) -> bool:
    prompt = "[bold]you>[/] "
    if as_json or not sys.stdin.isatty():
        prompt = ""
    else:
        console.print("[dim]Ctrl-C cancels a response, Ctrl-D leaves.[/]")
    succeeded = True
    while not console.quiet:
        try:
            text = console.input(prompt).strip()
        except (EOFError, KeyboardInterrupt):
            if prompt:
                console.print()
            return succeeded
        if text:
            succeeded = chat.ask(text)
    return succeeded


def summary(done: Mapping[str, Any], seconds: float) -> str:
    """Return tokens, cost, duration and trace of one response, on one line."""
    usage, cost = done.get("usage") or {}, done.get("cost")
    words = [
        f"{usage.get('total_tokens', 0)} tokens",
        "no price known" if cost is None else f"${cost:.6f}",
        f"{seconds:.1f} s",
        f"trace {done.get('trace_id')}",
    ]
    stopped = done.get("finish_reason")
    return " · ".join(words if stopped in {None, "stop"} else [str(stopped), *words])


def failure(event: Mapping[str, Any]) -> str:
    """Return why a response failed, with the trace that shows it, on one line."""
    error = event.get("error") or {}
    provider = error.get("provider") if isinstance(error, dict) else None
    facts = [str(value) for value in (provider or {}).values() if value]
    reason = error.get("message", error) if isinstance(error, dict) else error
    told = f" ({' '.join(facts)})" if facts else ""
    return f"error: {reason}{told} · trace {event.get('trace_id')}"
