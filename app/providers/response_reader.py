"""The body of a chat completion, read as it arrives, whatever form the endpoint chose.

A stream of events, or one JSON object: either may come in place of the other.
"""

from collections.abc import Iterator
from typing import Final

from app.domain.assembly import Assembly
from app.domain.provider import Chunk, Completed, Event
from app.domain.request import ChatRequest
from app.json_text import parse
from app.providers.chunk_reader import ChunkReader
from app.providers.failures import malformed, reported_error
from app.providers.secrets import Cleaner
from app.providers.sse import ERROR, EventReader, EventTooLarge
from app.providers.whole_reader import as_chunks, parse_body, read_whole

_DONE: Final = b"[DONE]"
_BLANKS: Final = b" \t\r\n\xef\xbb\xbf"
_MAX_BYTES: Final = 64 * 1024 * 1024


class ResponseReader:
    """Reads one response: `feed` it, then `end` it. Both raise ProviderError."""

    def __init__(
        self, request: ChatRequest, cleaner: Cleaner, *, max_bytes: int = _MAX_BYTES
    ) -> None:
        """`max_bytes`: the maximum size of one event, and of a response in one object."""
        self._request = request
        self._cleaner = cleaner
        self._max_bytes = max_bytes
        self._chunks = ChunkReader(cleaner, request.shown_model)
        self._events = EventReader(max_bytes)
        # Of a response in one object.
        self._body = bytearray()
        self._is_stream: bool | None = None
        self._assembly = None if request.stream else Assembly()
        self.done = False  # nothing that follows is read

    @property
    def started(self) -> bool:
        """Whether a part of the response was received."""
        return self._chunks.started or (self._is_stream is False and bool(self._body))

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the chunks that `data` completes."""
        if self._is_stream is None:
            # Some endpoints send blank lines to keep a connection open.
            data = data.lstrip(_BLANKS)
            if not data:
                return
            self._is_stream = data[:1] not in (b"{", b"[")
        if not self._is_stream:
            self._body += data
            if len(self._body) > self._max_bytes:
                raise malformed()
            return
        yield from self._read_events(data)

    def end(self) -> Iterator[Event]:
        """Yield what remains, and Completed. The end of the body, or of the stream, was reached."""
        if not self._is_stream and self._body:
            yield from self._end_of_object()
            return
        last = None if self.done else self._events.end()
        if last is not None and last[1] == _DONE:
            self.done = True
        elif last is not None and isinstance(_parsed(last[1]), dict):
            yield from self._read_event(*last)
        if self.done and (chunk := self._chunks.finish()) is not None:
            yield from self._passed_on(chunk)
        end = self._chunks.completed()
        yield end if self._assembly is None else self._assembled(end, self._assembly)

    def _read_events(self, data: bytes) -> Iterator[Event]:
        try:
            events = self._events.feed(data)
        except EventTooLarge as error:
            failure = malformed(error)
        else:
            for kind, text in events:
                if text == _DONE:
                    self.done = True
                    return
                yield from self._read_event(kind, text)
            return
        raise failure

    def _read_event(self, kind: bytes | None, text: bytes) -> Iterator[Event]:
        if kind == ERROR:
            raise reported_error(_parsed(text), self._cleaner)
        yield from self._passed_on(self._chunks.add(text))

    def _passed_on(self, chunk: Chunk) -> Iterator[Event]:
        if self._assembly is None:
            yield chunk
        else:
            self._assembly.add(chunk)

    def _end_of_object(self) -> Iterator[Event]:
        found, raw = parse_body(bytes(self._body), self._cleaner)
        if not self._request.stream:
            yield read_whole(found, raw, self._request.shown_model)
            return
        for each in as_chunks(found):
            yield self._chunks.add_object(each, None)
        if (chunk := self._chunks.finish()) is not None:
            yield chunk
        yield self._chunks.completed()

    def _assembled(self, end: Completed, assembly: Assembly) -> Completed:
        whole = read_whole(assembly.body(), None, self._request.shown_model)
        whole.usage, whole.response_id = end.usage, end.response_id
        whole.response_model = end.response_model
        return whole


def _parsed(text: bytes) -> object:
    try:
        return parse(text)[0]
    except ValueError:
        return text.decode("utf-8", "replace")
