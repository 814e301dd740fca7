"""A chat completion as a sequence of blocks: reasoning, text, refusals and tool calls.

The formats that are built from blocks send one after the other, but providers may interleave
tool calls. A block that starts while a tool call is incomplete waits for its end.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final
from uuid import uuid4

from pydantic_core import from_json, to_json

from chatscope.genai import Usage, read_usage

_REASONING_FIELDS: Final = ("reasoning_content", "reasoning")


class Kind(Enum):
    """What a block consists of."""

    REASONING = "reasoning"
    TEXT = "text"
    REFUSAL = "refusal"
    TOOL_CALL = "tool_call"


@dataclass(eq=False)
class Block:
    """One block; `index` is its position. A tool call's text is its arguments."""

    kind: Kind
    index: int
    call_id: str = ""
    name: str = ""
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text received so far."""
        return "".join(self.pieces)


@dataclass(frozen=True)
class Started:
    """A block starts; all earlier ones have finished."""

    block: Block


@dataclass(frozen=True)
class Delta:
    """Text of the block that started last."""

    block: Block
    text: str
    logprobs: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class Annotated:
    """An annotation of the block that started last, which is text."""

    block: Block
    annotation: dict[str, Any]


@dataclass(frozen=True)
class Finished:
    """A block is complete."""

    block: Block


Event = Started | Delta | Annotated | Finished


class BlockReader:
    """Reads the chunks of one response, or a whole `chat.completion`. Fields that are missing or of
    another type than the format has are treated as empty."""

    def __init__(self, *, reasoning: bool = True) -> None:
        """`reasoning`: whether to read it, or to skip it."""
        self.blocks: list[Block] = []
        self.finish_reason: str | None = None
        self.stop_sequence: str | None = None  # reported by some providers
        self.usage: Usage | None = None
        self._reasoning = reasoning
        self._calls: dict[object, Block] = {}
        self._started = 0  # number of blocks that have started; the last of them is open

    def read(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        """Read one chunk, or a whole response."""
        if reported := chunk.get("usage"):
            self.usage = read_usage(reported) or self.usage
        for choice in objects(chunk.get("choices")):
            if choice.get("index", 0) == 0:
                yield from self._choice(choice)

    def read_whole(self, completion: Mapping[str, Any]) -> None:
        """Read a whole response; its blocks are in `blocks` then."""
        for _ in (*self.read(completion), *self.end()):
            pass

    def end(self) -> Iterator[Event]:
        """Finish all blocks."""
        while True:
            yield from self._finish_last()
            if self._started == len(self.blocks):
                return
            yield from self._start_next()

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, Mapping):
            yield from self._delta(delta, choice.get("logprobs"))
        if isinstance(reason := choice.get("finish_reason"), str):
            self.finish_reason = reason
        if isinstance(stop := choice.get("stop_reason"), str):
            self.stop_sequence = stop

    def _delta(self, delta: Mapping[str, Any], logprobs: object) -> Iterator[Event]:
        probabilities = logprobs if isinstance(logprobs, Mapping) else {}
        texts = (delta.get(name) for name in _REASONING_FIELDS)
        reasoning = next((text for text in texts if isinstance(text, str) and text), "")
        yield from self._text(Kind.REASONING, reasoning)
        for kind, text in _contents(delta.get("content")):
            yield from self._text(kind, text, objects(probabilities.get("content")))
        yield from self._annotations(objects(delta.get("annotations")))
        if isinstance(refusal := delta.get("refusal"), str):
            yield from self._text(Kind.REFUSAL, refusal)
        for call in objects(delta.get("tool_calls")):
            yield from self._tool_call(call, call.get("function"))
        if isinstance(function := delta.get("function_call"), Mapping):
            yield from self._tool_call({"index": "function_call"}, function)

    def _text(
        self, kind: Kind, text: str, logprobs: Sequence[dict[str, Any]] = ()
    ) -> Iterator[Event]:
        if not text or (kind is Kind.REASONING and not self._reasoning):
            return
        if not self.blocks or self.blocks[-1].kind is not kind:
            self._new(kind)
            yield from self._advance()
        block = self.blocks[-1]
        block.logprobs += logprobs
        yield from self._extend(block, text, logprobs)

    def _annotations(self, annotations: Sequence[dict[str, Any]]) -> Iterator[Event]:
        for annotation in annotations:
            if self.blocks and self.blocks[-1].kind is Kind.TEXT:
                self.blocks[-1].annotations.append(annotation)
                if self._is_open(self.blocks[-1]):
                    yield Annotated(self.blocks[-1], annotation)

    def _tool_call(self, call: Mapping[str, Any], function: object) -> Iterator[Event]:
        function = function if isinstance(function, Mapping) else {}
        call_id, name = _string(call.get("id")), _string(function.get("name"))
        block = self._find_call(call.get("index"), call_id, name)
        is_named = bool(name) and not block.name
        block.name = block.name or name
        block.call_id = block.call_id or call_id
        if is_named:
            yield from self._advance()
        if text := _arguments(function.get("arguments")):
            yield from self._extend(block, text)

    def _find_call(self, index: object, call_id: str, name: str) -> Block:
        """Return the call that a delta belongs to. Some providers send no index, or the same one
        for all calls: there a call begins with its name and an ID of its own, if any."""
        key = index if isinstance(index, int | str) else None
        known = self._calls.get(key)
        if known and not (name and known.name):
            return known
        if known and (known.call_id == call_id if call_id else key is not None):
            return known
        self._calls[key] = self._new(Kind.TOOL_CALL)
        return self._calls[key]

    def _new(self, kind: Kind) -> Block:
        self.blocks.append(Block(kind, len(self.blocks)))
        return self.blocks[-1]

    def _is_open(self, block: Block) -> bool:
        return block.index == self._started - 1

    def _extend(
        self, block: Block, text: str, logprobs: Sequence[dict[str, Any]] = ()
    ) -> Iterator[Event]:
        if block.index < self._started and not self._is_open(block):
            return  # after complete arguments
        block.pieces.append(text)
        if self._is_open(block):
            yield Delta(block, text, logprobs)

    def _advance(self) -> Iterator[Event]:
        """Start the blocks that have waited, as far as those before them are complete."""
        while self._started < len(self.blocks) and self._may_start(self.blocks[self._started]):
            yield from self._finish_last()
            yield from self._start_next()

    def _may_start(self, block: Block) -> bool:
        if block.kind is Kind.TOOL_CALL and not block.name:
            return False
        if not self._started:
            return True
        last = self.blocks[self._started - 1]
        return last.kind is not Kind.TOOL_CALL or _is_complete(last)

    def _start_next(self) -> Iterator[Event]:
        block = self.blocks[self._started]
        self._started += 1
        if block.kind is Kind.TOOL_CALL:
            block.call_id = block.call_id or f"call_{uuid4().hex}"
        yield Started(block)
        if text := block.text:
            block.pieces = [text]
            yield Delta(block, text, block.logprobs)
        for annotation in block.annotations:
            yield Annotated(block, annotation)

    def _finish_last(self) -> Iterator[Event]:
        if self._started:
            yield Finished(self.blocks[self._started - 1])


def objects(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list; none of anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _is_complete(call: Block) -> bool:
    """Whether the arguments are a complete object, to which nothing can be added."""
    if not call.pieces or not call.pieces[-1].endswith("}"):
        return False
    try:
        return isinstance(from_json(call.text), dict)
    except ValueError:
        return False


def _contents(content: object) -> Iterator[tuple[Kind, str]]:
    """Yield the texts of a content, which of some providers is a list of parts."""
    if isinstance(content, str):
        yield Kind.TEXT, content
    for part in objects(content):
        match part:
            case {"type": "text", "text": str(text)}:
                yield Kind.TEXT, text
            case {"type": "refusal", "refusal": str(text)}:
                yield Kind.REFUSAL, text
            case {"type": "thinking", "thinking": str(text)}:
                yield Kind.REASONING, text
            case {"type": "thinking", "thinking": list(parts)}:
                for inner in objects(parts):
                    yield Kind.REASONING, _string(inner.get("text"))


def _arguments(value: object) -> str:
    return to_json(value).decode() if isinstance(value, dict) else _string(value)


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
