"""Prints the components' logs: their last lines, or new lines."""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from rich.console import Console

from stack.screen import line

_LOOK_EVERY_S = 0.3


NOTHING = "(no output)"


def heading(console: Console, name: str, path: Path) -> None:
    """Print a component's name and the path of its log."""
    console.print(f"[bold]{name}[/]", f"[dim]{path}[/]", soft_wrap=True)


def show(console: Console, lines: Iterable[str], *, whole: bool) -> None:
    """Print lines; unless `whole`, a terminal truncates each to its width."""
    for text in lines:
        if console.quiet:
            return
        line(console, text, cut=not whole and console.is_terminal)


def follow(console: Console, directory: Path, names: Iterable[str]) -> None:
    """Print new lines of each component until interrupted, or until the reader has left."""
    tails = [_Tail(name, directory / f"{name}.log") for name in names]
    width = max(len(tail.name) for tail in tails)
    while not console.quiet:
        for tail in tails:
            for text in tail.new_lines():
                line(console, f"{tail.name:<{width}}  {text}")
        time.sleep(_LOOK_EVERY_S)


class _Tail:
    """The end of a file that grows, and is replaced when it is rotated."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        self._file: TextIO | None = self._open()
        if self._file:
            self._file.seek(0, 2)

    def new_lines(self) -> list[str]:
        if self._file is None or self._rotated(self._file):
            rest = self._file.read() if self._file else ""
            self._close()
            self._file = self._open()
            return _lines(rest) + self._read()
        return self._read()

    def _read(self) -> list[str]:
        return _lines(self._file.read()) if self._file else []

    def _rotated(self, file: TextIO) -> bool:
        try:
            return self._path.stat().st_ino != os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            return False

    def _open(self) -> TextIO | None:
        try:
            return self._path.open(errors="replace")
        except FileNotFoundError:
            return None

    def _close(self) -> None:
        if self._file:
            self._file.close()


def _lines(text: str) -> list[str]:
    return text.rstrip("\n").split("\n") if text else []
