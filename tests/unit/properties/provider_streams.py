"""A grammar of the streams that OpenAI-compatible endpoints send, and a server that sends them.

SSE framing, shapes of chunks, usage, end and timing, combined. Each variant was seen at a real
endpoint, and defines the response unambiguously.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from hypothesis import strategies as st

MODEL: Final = "streamed-1"

_SHARED: Final = {"id": "c-1", "object": "chat.completion.chunk", "created": 7, "model": MODEL}
_FILTERED: Final = {"hate": {"filtered": False, "severity": "safe"}}
# Texts of a response: never split within a character, which JSON would escape.
_TEXTS: Final = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12
)


@dataclass
class Expected:
    """The response that a tolerant reader gets from a stream."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    arguments: str = ""
    finish_reason: str = "stop"
    usage: tuple[int, int] | None = None


@dataclass
class Stream:
    """The bytes of a response, in the blocks in which they are sent."""

    pieces: Sequence[bytes]
    expected: Expected
    content_type: str = "text/event-stream"
    description: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Stream({b''.join(self.pieces)!r}, {self.expected!r})"


def _choice(delta: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": None, **more}
    return choice if delta is None else {**choice, "delta": delta}


def _chunk(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**_SHARED, "choices": list(choices), **more}


_NO_CONTENT: Final[st.SearchStrategy[dict[str, Any]]] = st.sampled_from(
    [{}, {"content": None}, {"content": ""}]
)


@st.composite
def _content(draw: st.DrawFn, expected: Expected) -> dict[str, Any]:
    """Return one chunk with a part of the response, in one of its shapes."""
    piece = draw(_TEXTS)
    kind = draw(
        st.sampled_from(["text"] * 3 + ["parts", "thinking", "reasoning", "refusal", "tool"])
    )
    if kind == "refusal":
        expected.refusal += piece
        return _chunk(_choice({"refusal": piece, **draw(_NO_CONTENT)}))
    if kind == "tool":
        call: dict[str, Any] = {"index": 0, "function": {"arguments": piece}}
        if not expected.arguments:
            call |= {"id": "call_1", "type": "function"}
            call["function"]["name"] = "find"
        expected.arguments += piece
        return _chunk(_choice({"tool_calls": [call], **draw(_NO_CONTENT)}))
    if kind == "reasoning":
        expected.reasoning += piece
        name = draw(st.sampled_from(["reasoning_content", "reasoning"]))
        return _chunk(_choice({name: piece, **draw(_NO_CONTENT)}))
    if kind == "thinking":  # Mistral
        expected.reasoning += piece
        inner = [{"type": "text", "text": piece}]
        return _chunk(_choice({"content": [{"type": "thinking", "thinking": inner}]}))
    expected.text += piece
    if kind == "parts":
        return _chunk(_choice({"content": [{"type": "text", "text": piece}]}))
    extra: dict[str, Any] = draw(
        st.sampled_from(
            [
                {},
                {"role": "assistant"},
                {"refusal": None, "tool_calls": None},
                {"tool_calls": []},
                {"reasoning_content": None},
                {"function_call": None, "audio": None},
            ]
        )
    )
    return _chunk(_choice({**extra, "content": piece}, **draw(_CHOICE_EXTRAS)), **draw(_EXTRAS))


_CHOICE_EXTRAS: Final[st.SearchStrategy[dict[str, Any]]] = st.sampled_from(
    [
        {},
        {"logprobs": None},
        {"content_filter_results": _FILTERED},
        {"finish_reason": ""},
        {"native_finish_reason": None},
        {"stop_reason": None, "token_ids": None},
    ]
)
_EXTRAS: Final[st.SearchStrategy[dict[str, Any]]] = st.sampled_from(
    [
        {},
        {"usage": None},
        {"system_fingerprint": "fp_1"},
        {"service_tier": "default", "obfuscation": "x8Jd"},
        {"provider": "Azure"},
        {"timings": {"predicted_n": 4}},
        {"object": ""},
    ]
)
# Chunks without a part of the response.
_FILTER: Final = st.sampled_from(
    [
        _chunk(prompt_filter_results=[{"prompt_index": 0, "content_filter_results": _FILTERED}]),
        _chunk(
            _choice(
                None,
                content_filter_results=_FILTERED,
                content_filter_offsets={"check_offset": 44, "start_offset": 44, "end_offset": 198},
            )
        ),
        {**_SHARED, "id": "", "model": "", "created": 0, "choices": []},
        {**_SHARED, "choices": None},
        _chunk(_choice({})),
        _chunk(_choice({"role": "assistant", "content": ""})),
        _chunk(_choice({"role": "assistant", "content": None})),
    ]
)
_USAGES: Final[Sequence[tuple[dict[str, Any], tuple[int, int]]]] = [
    ({"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}, (11, 5)),
    ({"input_tokens": 11, "output_tokens": 5, "total_tokens": 16}, (11, 5)),
    (
        {
            "prompt_tokens": 11,
            "completion_tokens": 5,
            "total_tokens": 16,
            "prompt_tokens_details": None,
            "completion_tokens_details": {"reasoning_tokens": 2},
            "cost": 0.0001,
        },
        (11, 5),
    ),
    (
        {
            "prompt_tokens": 11,
            "completion_tokens": 5,
            "total_tokens": 16,
            "prompt_cache_hit_tokens": 4,
            "prompt_cache_miss_tokens": 7,
            "queue_time": 0.1,
        },
        (11, 5),
    ),
]


@st.composite
def _ending(draw: st.DrawFn, chunks: list[dict[str, Any]], expected: Expected) -> bool:
    """Append the end of the response; return whether the end marker is needed."""
    finish = draw(st.sampled_from(["stop", "length", "content_filter"]))
    how = draw(st.sampled_from(["own", "own", "last", "marker"]))
    if how == "own":
        delta = draw(st.sampled_from([{}, {"content": ""}, {"content": None}, None]))
        chunks.append(_chunk(_choice(delta, finish_reason=finish)))
    elif how == "last" and chunks and chunks[-1].get("choices"):
        chunks[-1]["choices"][0]["finish_reason"] = finish
    else:
        # Only `[DONE]` shows that the response is complete.
        finish, how = "tool_calls" if expected.arguments else "stop", "marker"
    expected.finish_reason = finish
    return how == "marker"


@st.composite
def _with_usage(draw: st.DrawFn, chunks: list[dict[str, Any]], expected: Expected) -> None:
    usage, counts = draw(st.sampled_from(_USAGES))
    where = draw(st.sampled_from(["own", "own", "last", "each", "groq", "none"]))
    if where == "own":
        chunks.append(draw(st.sampled_from([_chunk(usage=usage), {"usage": usage, "choices": []}])))
    elif where == "last":
        chunks[-1]["usage"] = usage
    elif where == "each":
        for chunk in chunks:
            chunk["usage"] = usage
    elif where == "groq":
        chunks[-1]["x_groq"] = {"id": "req_1", "usage": usage}
    if where != "none":
        expected.usage = counts


@st.composite
def _framed(draw: st.DrawFn, chunk: dict[str, Any], end: str) -> str:
    """Return one event with its fields, in any order that the standard allows."""
    text = json.dumps(chunk, ensure_ascii=draw(st.booleans()))
    space = draw(st.sampled_from([" ", ""]))
    lines = [f"data:{space}{text}"]
    if draw(st.integers(0, 9)) == 0:
        # Indented JSON, each line a field of its own.
        text = json.dumps(chunk, ensure_ascii=True, indent=1)
        lines = [f"data:{space}{line}" for line in text.split("\n")]
    lines[0:0] = draw(
        st.sampled_from([[], [], [], ["event: message"], ["id: 7"], ["event: completion.chunk"]])
    )
    return end.join([*lines, "", ""])


def _noise(end: str) -> st.SearchStrategy[str]:
    """Return lines between events that dispatch none."""
    return st.sampled_from(
        [
            "",
            "",
            "",
            f": ping{end}{end}",
            f": OPENROUTER PROCESSING{end}{end}",
            f"retry: 3000{end}{end}",
            f"event: ping{end}{end}",
            f"data:{end}{end}",
            f"data{end}{end}",
            f"id: 3{end}: x{end}{end}",
            f"{end}{end}",
            f"unknown: field{end}{end}",
        ]
    )


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Return a stream with its blocks."""
    expected = Expected()
    chunks: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 6))):
        if draw(st.integers(0, 3)) == 0:
            # Copies, because usage and finish reason are added to some.
            chunks.append(json.loads(json.dumps(draw(_FILTER))))
        chunks.append(draw(_content(expected)))
    needs_marker = draw(_ending(chunks, expected))
    draw(_with_usage(chunks, expected))
    if draw(st.integers(0, 5)) == 0:
        chunks.append(json.loads(json.dumps(draw(_FILTER))))  # Azure sends it after the end, too
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    events = [draw(_noise(end)) + draw(_framed(chunk, end)) for chunk in chunks]
    marker = [f"data: [DONE]{end}{end}", f"data:[DONE]{end}{end}"]
    events.append(draw(st.sampled_from(marker if needs_marker else [*marker, "", ": bye" + end])))
    start = draw(st.sampled_from(["", "", "\ufeff", f"retry: 10{end}{end}", f": hello{end}{end}"]))
    whole = (start + "".join(events)).encode()
    cuts = draw(st.lists(st.integers(0, len(whole)), max_size=8))
    edges = [0, *sorted(cuts), len(whole)]
    pieces = [whole[a:b] for a, b in pairwise(edges) if a < b]
    kind = draw(
        st.sampled_from(
            ["text/event-stream", "text/event-stream; charset=utf-8", "text/event-stream;charset=x"]
        )
    )
    return Stream(pieces, expected, kind)


class Endpoint:
    """Sends `stream`, or a whole response with the same content, to each request."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.address = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next(int(h.split(b":")[1]) for h in lines if h.startswith(b"content-length"))
            await reader.readexactly(length)
            assert self.stream
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n"
                b"connection: close\r\n\r\n" % self.stream.content_type.encode()
            )
            for piece in self.stream.pieces:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
                await asyncio.sleep(0)  # pieces that arrive one by one
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def endpoint() -> AsyncIterator[Endpoint]:
    """Serve on a free port of the loopback interface."""
    found = Endpoint()
    server = await asyncio.start_server(found._serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        found.address = f"{host}:{port}"
        yield found
