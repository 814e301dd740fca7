"""Log lines of Loki, in the order of time, page by page."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import requests

from chatscope.cli.errors import CommandError
from chatscope.cli.times import DAY

# Loki refuses longer answers (max_entries_limit_per_query) and queries of more than 30 days.
MAX_LINES: Final = 5_000
_WINDOW: Final = 7 * DAY
_TIMEOUT_SECONDS: Final = 60.0
_MAX_REASON: Final = 300


@dataclass(frozen=True)
class Line:
    """A log line: its time in ns, its text, its labels and structured metadata."""

    time: int
    text: str
    fields: Mapping[str, str]


class Loki:
    """A Loki, by its URL."""

    def __init__(self, url: str, headers: Mapping[str, str], page_lines: int = MAX_LINES) -> None:
        self._url = f"{url.rstrip('/')}/loki/api/v1/query_range"
        self._page_lines = page_lines
        self._session = requests.Session()
        self._session.headers.update(headers)

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

    def _page(self, query: str, start: int, end: int) -> list[Line]:
        parameters: dict[str, str | int] = {
            "query": query,
            "start": start,
            "end": end,
            "limit": self._page_lines,
            "direction": "forward",
        }
        found = self._get(parameters)
        lines = [
            Line(int(time), text, stream["stream"])
            for stream in found["data"]["result"]
            for time, text, *_ in stream["values"]
        ]
        return sorted(lines, key=lambda line: line.time)

    def _get(self, parameters: Mapping[str, str | int]) -> dict[str, Any]:
        try:
            response = self._session.get(self._url, params=parameters, timeout=_TIMEOUT_SECONDS)
            if not response.ok:
                reason = response.text.strip()[:_MAX_REASON]
                raise CommandError(f"Loki responded with {response.status_code}: {reason}")
            found: dict[str, Any] = response.json()
        except requests.RequestException as error:
            raise CommandError(f"Loki at {self._url} is unreachable: {error}") from None
        return found


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
