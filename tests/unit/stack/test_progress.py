"""Progress on a terminal, and in log files."""

import io

import pytest
from rich.console import Console

from stack.progress import Progress, elapsed


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _told(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_without_a_terminal_a_line_comes_every_15_seconds() -> None:
    clock, console = _Clock(), Console(file=io.StringIO(), width=80)
    progress = Progress(console, clock)
    with progress.activity("Building loki, 6 of 6"):
        for seconds in (1, 14, 16, 17, 76):
            clock.now = 100.0 + seconds
            progress.tick()
    assert _told(console) == [
        "Building loki, 6 of 6",
        "Building loki, 6 of 6, for 16 s",
        "Building loki, 6 of 6, for 1 min 16 s",
    ]


def test_terminal_gets_a_live_line_and_keeps_only_what_is_said() -> None:
    assert "Building loki, 6 of 6 · 0 s" in _shown_on("xterm")


def test_dumb_terminal_gets_plain_lines() -> None:
    assert _shown_on("dumb") == "Building loki, 6 of 6\n"


def _shown_on(terminal: str) -> str:
    text = io.StringIO()
    console = Console(
        file=text,
        width=40,
        force_terminal=True,
        color_system=None,
        _environ={"TERM": terminal},
    )
    progress = Progress(console)
    with progress.activity("Building loki, 6 of 6"):
        progress.tick()
    return text.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.9, "59 s"), (187, "3 min 7 s"), (7_500, "2 h 5 min")]
)
def test_elapsed_time_is_in_seconds_then_in_minutes(seconds: float, text: str) -> None:
    assert elapsed(seconds) == text
