"""Server-sent events of a streamed response in Anthropic's format."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from app.domain.errors import ServiceError
from app.wire.formats.base import Json, event
from app.wire.formats.blocks import Annotated, Block, Delta, Event, Finished, Kind, Started
from app.wire.formats.messages_object import MessageObject, render_error
from chatscope.genai import read_usage

_DELTAS: Final = {
    Kind.TEXT: ("text_delta", "text"),
    Kind.REFUSAL: ("text_delta", "text"),
    Kind.REASONING: ("thinking_delta", "thinking"),
    Kind.TOOL_CALL: ("input_json_delta", "partial_json"),
}


class MessagesStream:
    """Each event is a JSON object under the name of its type."""

    def __init__(self, message: MessageObject) -> None:
        self._message = message
        self._started = False

    def chunk(self, chunk: Mapping[str, Any]) -> bytes:
        """Translate one chunk."""
        return self._start(chunk) + self._render(self._message.reader.read(chunk))

    def end(self, usage: Mapping[str, Any] | None = None) -> bytes:
        """Finish the open block and the message."""
        reader = self._message.reader
        sent = self._start({}) + self._render(reader.end())
        reader.usage = read_usage(usage) or reader.usage
        delta = {"delta": self._message.stop(), "usage": self._message.usage()}
        return sent + _event("message_delta", delta) + _event("message_stop", {})

    def error(self, error: ServiceError, trace_id: str) -> bytes:
        """Report the error that ends the stream."""
        return self._start({}) + event(render_error(error, trace_id), "error")

    def _start(self, chunk: Mapping[str, Any]) -> bytes:
        if self._started:
            return b""
        self._started = True
        self._message.describe(chunk)
        return _event("message_start", {"message": self._message.started()}) + _event("ping", {})

    def _render(self, events: Iterable[Event]) -> bytes:
        return b"".join(_event(*named) for each in events for named in self._translate(each))

    def _translate(self, each: Event) -> Iterator[tuple[str, Json]]:
        index = {"index": each.block.index}
        match each:
            case Started(block):
                start = self._message.block(block, empty=True)
                yield "content_block_start", {**index, "content_block": start}
            case Delta(block, text):
                yield "content_block_delta", {**index, "delta": _delta(block, text)}
            case Finished():
                yield "content_block_stop", index
            case Annotated():
                pass


def _delta(block: Block, text: str) -> Json:
    kind, name = _DELTAS[block.kind]
    return {"type": kind, name: text}


def _event(name: str, data: Json) -> bytes:
    return event({"type": name, **data}, name)
