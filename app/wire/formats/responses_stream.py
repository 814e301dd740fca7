"""Server-sent events of a streamed response in the Responses format."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from app.domain.errors import ServiceError
from app.wire.errors import error_object, http_status
from app.wire.formats.base import Json, event
from app.wire.formats.blocks import Annotated, Block, Delta, Event, Finished, Kind, Started
from app.wire.formats.responses_object import ResponseObject, annotation, logprob
from chatscope.genai import read_usage


class ResponsesStream:
    """Numbers the events; each is the JSON object under the name of its type."""

    def __init__(self, response: ResponseObject) -> None:
        self._response = response
        self._sequence_number = 0

    def chunk(self, chunk: Mapping[str, Any]) -> bytes:
        """Translate one chunk."""
        return self._start(chunk) + self._render(self._response.reader.read(chunk))

    def end(self, usage: Mapping[str, Any] | None = None) -> bytes:
        """Finish the open items and the response."""
        reader = self._response.reader
        sent = self._start({}) + self._render(reader.end())
        reader.usage = read_usage(usage) or reader.usage
        response = self._response.ended()
        return sent + self._event(f"response.{response['status']}", {"response": response})

    def error(self, error: ServiceError, trace_id: str) -> bytes:
        """Report the error in the response, and as an event.

        The documentation has the fields of that event at its top level, OpenAI's service sends
        them in `error`, where its clients look for them: they are in both places.
        """
        detail = error_object(error, trace_id)["error"]
        top = {name: detail[name] for name in ("code", "message", "param")}
        started = self._start({})
        response = self._response.failed(_failure_code(error), error.message)
        return (
            started
            + self._event("response.failed", {"response": response})
            + self._event("error", {**top, "error": detail})
        )

    def _start(self, chunk: Mapping[str, Any]) -> bytes:
        if self._sequence_number:
            return b""
        self._response.describe(chunk)
        response = self._response.in_progress()
        return self._event("response.created", {"response": response}) + self._event(
            "response.in_progress", {"response": response}
        )

    def _render(self, events: Iterable[Event]) -> bytes:
        return b"".join(
            self._event(name, data) for each in events for name, data in self._translate(each)
        )

    def _event(self, name: str, data: Json) -> bytes:
        number = self._sequence_number
        self._sequence_number += 1
        return event({"type": name, "sequence_number": number, **data}, name)

    def _translate(self, each: Event) -> Iterator[tuple[str, Json]]:
        block = each.block
        item = {"output_index": block.index}
        match each:
            case Started():
                added = self._response.item(block, "in_progress", empty=True)
                yield "response.output_item.added", {**item, "item": added}
                yield from self._part_event(block, "added")
            case Delta(_, text, logprobs):
                yield self._text_event(block, "delta", {"delta": text}, logprobs)
            case Annotated(_, given):
                yield (
                    "response.output_text.annotation.added",
                    {
                        **self._position(block),
                        "annotation": annotation(given),
                        "annotation_index": block.annotations.index(given),
                    },
                )
            case Finished():
                yield self._text_event(block, "done", self._done(block), block.logprobs)
                yield from self._part_event(block, "done")
                done = self._response.item(block, self._response.status_of(block))
                yield "response.output_item.done", {**item, "item": done}

    def _position(self, block: Block) -> Json:
        """Return the fields that name the part and the item of an event."""
        position: Json = {"item_id": self._response.item_id(block), "output_index": block.index}
        if block.kind is Kind.REASONING and self._response.summary:
            position["summary_index"] = 0
        elif block.kind is not Kind.TOOL_CALL:
            position["content_index"] = 0
        return position

    def _part_event(self, block: Block, verb: str) -> Iterator[tuple[str, Json]]:
        if block.kind is Kind.TOOL_CALL:
            return
        is_summary = block.kind is Kind.REASONING and self._response.summary
        name = "reasoning_summary_part" if is_summary else "content_part"
        part = self._response.part(block, empty=verb == "added")
        yield f"response.{name}.{verb}", {**self._position(block), "part": part}

    def _text_event(
        self, block: Block, verb: str, fields: Json, logprobs: Iterable[Mapping[str, Any]]
    ) -> tuple[str, Json]:
        data = {**self._position(block), **fields}
        match block.kind:
            case Kind.TOOL_CALL:
                name = "function_call_arguments"
            case Kind.REFUSAL:
                name = "refusal"
            case Kind.REASONING:
                name = "reasoning_summary_text" if self._response.summary else "reasoning_text"
            case Kind.TEXT:
                name = "output_text"
                data["logprobs"] = [logprob(each) for each in logprobs]
        return f"response.{name}.{verb}", data

    def _done(self, block: Block) -> Json:
        match block.kind:
            case Kind.TOOL_CALL:
                return {"name": block.name, "arguments": block.text}
            case Kind.REFUSAL:
                return {"refusal": block.text}
            case _:
                return {"text": block.text}


def _failure_code(error: ServiceError) -> str:
    """Return the code of a failed response, which is one of a closed list of the format."""
    match http_status(error):
        case 429:
            return "rate_limit_exceeded"
        case 400:
            return "invalid_prompt"
    return "server_error"
