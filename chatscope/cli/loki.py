"""Log lines of Loki: all of them in the order of time, page by page, or the newest."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from chatscope.cli.backend import Backend, Headers, known_form, nanoseconds, text
from chatscope.cli.times import DAY

# Loki refuses longer answers (max_entries_limit_per_query) and queries of more than 30 days.
MAX_LINES: Final = 5_000
_WINDOW: Final = 7 * DAY
_QUERY_RANGE: Final = "/loki/api/v1/query_range"


@dataclass(frozen=True)
class Line:
    """A log line: its time in ns, its text, its labels and structured metadata."""

    time: int
    text: str
    fields: Mapping[str, str]


class Loki:
    """A Loki, by its URL."""

    def __init__(self, url: str, headers: Headers, page_lines: int = MAX_LINES) -> None:
        self._backend = Backend("Loki", url, headers)
        self._page_lines = page_lines

    def lines(self, query: str, start: int, end: int) -> Iterator[Line]:
        """Yield the lines from `start` until before `end`, the oldest first.

        Raise CommandError.
        """
        while start < end:
            yield from self._window(query, start, min(start + _WINDOW, end))
            start += _WINDOW

    def _window(self, query: str, start: int, end: int) -> Iterator[Line]:
        # A page may end between lines of the same time, so the next one begins with that time.
        seen: set[tuple[str, ...]] = set()
        while start < end:
            page = self._page(query, start, end)
            for line in page:
                if _identity(line) not in seen:
                    yield line
            if len(page) < self._page_lines:
                return
            last = page[-1].time
            seen = {_identity(line) for line in page if line.time == last}
            start = last + (last == start)  # no progress: more lines of one time than a page has

    def newest(self, query: str, start: int, end: int, limit: int) -> list[Line]:
        """Return the last lines of a time, the oldest first. Raise CommandError.

        Of a time longer than a week, windows are read from its end until there are enough.
        """
        found: list[Line] = []
        while start < end and len(found) < limit:
            begin = max(start, end - _WINDOW)
            more = min(limit - len(found), self._page_lines)
            found = [*self._page(query, begin, end, more, "backward"), *found]
            end = begin
        return found

    def _page(
        self, query: str, start: int, end: int, limit: int = 0, direction: str = "forward"
    ) -> list[Line]:
        parameters: dict[str, str | int | float] = {
            "query": query,
            "start": start,
            "end": end,
            "limit": limit or self._page_lines,
            "direction": direction,
        }
        found = self._backend.get(_QUERY_RANGE, parameters)
        with known_form("Loki"):
            lines = [
                Line(nanoseconds(time), text(content), fields)
                for stream in found["data"]["result"]
                for fields in [{text(n): text(v) for n, v in stream["stream"].items()}]
                for time, content, *_ in stream["values"]
            ]
        return sorted(lines, key=lambda line: line.time)


def selector(services: Iterable[str]) -> str:
    """Return the selector of the streams of some services; without any, of all."""
    chosen = one_of(services)
    return f"{{service_name=~{chosen}}}" if chosen != quoted("") else '{service_name=~".+"}'


def one_of(values: Iterable[str]) -> str:
    """Return a quoted regular expression that matches each of the values, and nothing else."""
    return quoted("|".join(map(re.escape, values)))


def quoted(text: str) -> str:
    """Return a string of LogQL, which are those of Go."""
    return json.dumps(text, ensure_ascii=False)


def _identity(line: Line) -> tuple[str, ...]:
    fields = line.fields
    return (str(line.time), line.text, fields.get("trace_id", ""), fields.get("span_id", ""))
