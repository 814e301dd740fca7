"""Reports the current activity and its duration: live on a terminal, else in plain lines."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner

PLAIN_LINE_EVERY_S = 15.0


class Progress:
    """Reports one activity after another; loops call `tick` while they wait."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        # A line cannot be replaced on a dumb terminal (`TERM=dumb`).
        self._live = console.is_terminal and not console.is_dumb_terminal
        self._clock = clock
        self._what = ""
        self._since = self._said = clock()

    @contextmanager
    def activity(self, what: str) -> Iterator[None]:
        """Report an activity while inside; a short text fits a narrow terminal."""
        self._what = what
        self._since = self._said = self._clock()
        with self._shown():
            yield

    def say(self, text: str) -> None:
        """Print one line that remains."""
        self._console.print(text, highlight=False, markup=False)

    def tick(self) -> None:
        """Without a live line, print a line at intervals, to show that the program has not hung."""
        now = self._clock()
        if not self._live and now - self._said >= PLAIN_LINE_EVERY_S:
            self._said = now
            self.say(f"{self._what}, for {elapsed(now - self._since)}")

    def since(self) -> float:
        """Return the seconds since the activity started."""
        return self._clock() - self._since

    def _shown(self) -> AbstractContextManager[object]:
        if not self._live:
            self.say(self._what)
            return nullcontext()
        spinner = Spinner("dots" if self._console.encoding.startswith("utf") else "line")

        def line() -> Spinner:
            spinner.update(text=f"{self._what} · {elapsed(self.since())}")
            return spinner

        return Live(get_renderable=line, console=self._console, transient=True)


def elapsed(seconds: float) -> str:
    """Return `42 s` below a minute, `3 min 7 s` below an hour, `2 h 5 min` above."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
