"""A chat in the terminal, over the service's WebSocket."""

import json
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

_LOOK_FOR_CTRL_C_EVERY_S = 0.2


class ChatError(RuntimeError):
    """The service could not be reached, or it ended the connection."""


class TerminalChat:
    """One connection, whose conversation the service remembers."""

    def __init__(self, console: Console, connection: ClientConnection) -> None:
        self._console = console
        self._connection = connection
        self._cancelled = False

    def ask(self, text: str) -> bool:
        """Sends one message and prints the answer as it comes; False when it is an error.

        Ctrl-C cancels the answer, a second one leaves.
        """
        started = time.monotonic()
        self._cancelled = False
        self._send({"type": "message", "content": text})
        with self._ctrl_c_cancels():
            for event in self._events():
                if event["type"] == "delta":
                    self._write(event["content"])
                elif event["type"] == "done":
                    self._console.print()
                    self._dim(summary(event, time.monotonic() - started))
                    return True
                elif event["type"] == "error":
                    self._console.print()
                    self._dim(failure(event))
                    return False
        raise ChatError("the service closed the connection")

    def _events(self) -> Iterator[dict[str, Any]]:
        asked_to_stop = False
        while True:
            if self._cancelled and not asked_to_stop:
                asked_to_stop = True
                self._send({"type": "cancel"})
            try:
                yield json.loads(self._connection.recv(timeout=_LOOK_FOR_CTRL_C_EVERY_S))
            except TimeoutError:
                continue
            except ConnectionClosed as error:
                raise ChatError(f"the service closed the connection: {error}") from error

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
            raise ChatError(f"the service closed the connection: {error}") from error

    def _write(self, text: str) -> None:
        self._console.print(printable(text), end="", soft_wrap=True, markup=False, highlight=False)

    def _dim(self, text: str) -> None:
        self._console.print(text, style="dim", soft_wrap=True, markup=False, highlight=False)


def run(facts: Mapping[str, str], console: Console, text: str | None = None) -> int:
    """Chats until Ctrl-D, or asks `text` once; the exit code. Raises ChatError."""
    url = facts["APP_URL"].replace("http", "ws", 1) + "/ws/chat"
    try:
        # No limit to a message, and no proxy between two programs of one machine.
        with connect(url, proxy=None, max_size=None) as connection:
            chat = TerminalChat(console, connection)
            return int(not chat.ask(text)) if text else _converse(console, chat)
    except (OSError, InvalidHandshake) as error:
        raise ChatError(f"nobody answers at {url} ({error}): is it up? make up") from error


def _converse(console: Console, chat: TerminalChat) -> int:
    console.print("[dim]Ctrl-C cancels an answer, Ctrl-D leaves.[/]")
    while not console.quiet:
        try:
            text = console.input("[bold]you>[/] ").strip()
        except (EOFError, KeyboardInterrupt):
            console.print()
            return 0
        if text:
            chat.ask(text)
    return 0


def summary(done: Mapping[str, Any], seconds: float) -> str:
    """Tokens, cost, duration and trace of one answer, on one line."""
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
    """What went wrong, with the trace that shows it, on one line."""
    error = event.get("error") or {}
    return f"error: {error.get('message', error)} · trace {event.get('trace_id')}"


def printable(text: str) -> str:
    """Without control characters: an answer must not command the terminal."""
    return "".join(char for char in text if char.isprintable() or char in "\n\t")
