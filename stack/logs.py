"""Shows the log files of the parts: their ends, or what is being written."""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from rich.console import Console

from stack.screen import line

_LOOK_EVERY_S = 0.3


def show(console: Console, directory: Path, names: Iterable[str], count: int) -> None:
    """The last `count` lines of each part, oldest first."""
    for name in names:
        console.print(f"[bold]{name}[/] [dim]{directory / name}.log[/]", soft_wrap=True)
        for text in _last_lines(directory / f"{name}.log", count):
            line(console, text)


def follow(console: Console, directory: Path, names: Iterable[str]) -> None:
    """Print new lines of each part as they come, until interrupted or nobody reads them."""
    tails = [_Tail(name, directory / f"{name}.log") for name in names]
    width = max(len(tail.name) for tail in tails)
    while not console.quiet:
        for tail in tails:
            for text in tail.new_lines():
                line(console, f"{tail.name:<{width}}  {text}")
        time.sleep(_LOOK_EVERY_S)


class _Tail:
    """The end of one file that grows, and is replaced when it is rotated."""

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
            return rest.splitlines() + self._read()
        return self._read()

    def _read(self) -> list[str]:
        return self._file.read().splitlines() if self._file else []

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


def _last_lines(path: Path, count: int) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return ["(no log yet)"]
