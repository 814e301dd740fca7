"""Server-sent events, read from bytes by the rules of the WHATWG.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from typing import Final

_BOM: Final = b"\xef\xbb\xbf"
# llama.cpp sends errors in a field of its own, which the standard does not know.
_ERROR_FIELD: Final = b"error"
ERROR: Final = b"error"


class EventTooLarge(ValueError):
    """A line or an event is larger than the reader accepts."""


class EventReader:
    """Splits a stream of bytes into events, wherever its chunks end."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes`: the maximum size of one event."""
        self._max_bytes = max_bytes
        self._rest: list[bytes] = []  # of a line that is not complete
        self._size = 0  # of the rest and of the data
        self._after_cr = False
        self._first = True
        self._type: bytes | None = None
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[tuple[bytes | None, bytes]]:
        """Return type and data of the events that `data` completes. Raise EventTooLarge.

        Events without data, comments and other fields are skipped.
        """
        if self._after_cr or b"\r" in data:
            data = self._with_line_feeds(data)
        lines = data.split(b"\n")
        self._rest.append(lines[0])
        self._size += len(lines[0])
        if self._size > self._max_bytes:
            raise EventTooLarge(f"an event is larger than {self._max_bytes} bytes")
        if len(lines) == 1:
            return []
        lines[0] = b"".join(self._rest)
        self._rest = [lines.pop()]
        if self._first:
            self._first = False
            lines[0] = lines[0].removeprefix(_BOM)
        events: list[tuple[bytes | None, bytes]] = []
        for line in lines:
            if line:
                self._field(line)
                continue
            if event := self._dispatch():
                events.append(event)
        self._size = len(self._rest[0]) + sum(map(len, self._data))
        return events

    def end(self) -> tuple[bytes | None, bytes] | None:
        """Return the last event, which many servers do not end with an empty line."""
        line = b"".join(self._rest)
        if line:
            self._field(line.removeprefix(_BOM) if self._first else line)
        return self._dispatch()

    def _with_line_feeds(self, data: bytes) -> bytes:
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._type = value
        elif name == _ERROR_FIELD:
            self._type = ERROR
            self._data.append(value)

    def _dispatch(self) -> tuple[bytes | None, bytes] | None:
        data, kind = self._data, self._type
        self._type = None
        if not data:
            return None
        self._data = []
        joined = data[0] if len(data) == 1 else b"\n".join(data)
        return (kind, joined) if joined.strip() else None
