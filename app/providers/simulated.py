"""The simulated model: a seeded stream of words that is marked as simulated.

Speed, length and failures are settings; a word is a token.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from random import Random

from app.domain.assembly import Assembly
from app.domain.embedding import Embedded, EmbeddingRequest
from app.domain.provider import Chunk, Completed, Event, Started
from app.domain.request import ChatRequest, message_text
from app.providers import simulated_texts
from app.providers.chunk_reader import ChunkReader
from app.providers.secrets import Cleaner, Redactor
from app.providers.simulated_embeddings import embedded
from app.providers.simulated_failures import BEFORE_RESPONSE, PLAIN, failure
from app.providers.simulated_limit import Quota
from app.providers.simulated_output import (
    Output,
    called_tools,
    check,
    chunks,
    json_output,
    limited,
    tool_calls,
)
from app.providers.simulated_texts import tokens_of
from app.providers.whole_reader import read_whole
from app.response_id import new_response_id
from chatscope.genai import Usage

# A prompt is cached in blocks of so many tokens, and only if it has two of them.
_CACHE_BLOCK = 64
# A response to more characters is composed in a thread: it takes milliseconds.
_LARGE = 32_768
# As which a part of a message counts.
_PART_CHARACTERS = 100
# Of a response: a token of its text, or a chunk of one that is more than a text.
_Piece = str | Chunk


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of each period, by the clock, in which a model behaves differently; None: as usual."""

    every_seconds: float
    after_seconds: float
    for_seconds: float
    error_rate: float | None = None
    first_token_seconds: float | None = None
    tokens_per_second: float | None = None

    def includes(self, now: float) -> bool:
        """Return whether a Unix time is within it."""
        return 0 <= now % self.every_seconds - self.after_seconds < self.for_seconds


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How the simulated model responds; rates are shares of all responses, from 0 to 1.

    `errors` are the kinds of its failures; with `prompt_cache` the usage of a conversation reports
    the tokens that were sent before. Each model has `requests_per_minute`; None: no limit.
    """

    tokens_per_second: float = 0.0  # 0: no pause
    first_token_seconds: float = 0.0
    answer_tokens: int = 60
    error_rate: float = 0.0
    stall_rate: float = 0.0
    stall_seconds: float = 0.0
    seed: int = 1
    errors: Sequence[str] = (PLAIN,)
    prompt_cache: bool = False
    requests_per_minute: int | None = None
    phase: Phase | None = None

    def at(self, now: float) -> "Behaviour":
        """Return the behaviour at a Unix time."""
        if self.phase is None or not self.phase.includes(now):
            return self
        names = ("error_rate", "first_token_seconds", "tokens_per_second")
        changes = {name: getattr(self.phase, name) for name in names}
        return replace(self, **{k: v for k, v in changes.items() if v is not None})


class SimulatedProvider:
    """Responds with words that depend on the seed and the messages only."""

    name = "simulated"
    server = None
    in_process = True

    def __init__(self, behaviour: Behaviour, *, model: str) -> None:
        self.models = (model,)
        self._behaviour = behaviour
        # Independent of the messages: a request that failed may succeed when it is repeated.
        self._random = Random(behaviour.seed)  # noqa: S311
        self._quota = Quota(behaviour.requests_per_minute)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event]:
        """Yield one token at a time, or a whole response; a stall or an error may come before any
        token."""
        check(request)
        headers = self._quota.take(time.time())
        now = self._behaviour.at(time.time())
        pieces, end = await self._composed(request)
        error_at = self._position_of(now.error_rate, len(pieces))
        error = PLAIN if error_at is None else self._random.choice(now.errors)
        if error_at is not None and error in BEFORE_RESPONSE:
            error_at = 0
        stall_at = self._position_of(now.stall_rate, len(pieces))
        if error == "timeout":
            stall_at = 0
        due = time.monotonic() + now.first_token_seconds
        pause = 1 / now.tokens_per_second if now.tokens_per_second else 0.0
        if not request.stream:
            last = max(0, len(pieces) - 1) if error_at is None else error_at
            due += pause * sum(_is_output(piece) for piece in pieces[:last]) if pause else 0.0
            if stall_at is not None and stall_at <= last:
                due += now.stall_seconds
            await _sleep_until(due)
            if error_at is not None:
                raise failure(error, headers)
            if headers:
                yield Started(headers=headers)
            if end.body is None and (text := "".join(map(str, pieces))):
                yield Chunk(text)
            yield end
            return
        for position, piece in enumerate(pieces):
            if position == stall_at:
                due += now.stall_seconds
            await _sleep_until(due)
            if position == error_at:
                raise failure(error, headers)
            if headers and position == 0:
                yield Started(headers=headers)
            yield Chunk(piece) if isinstance(piece, str) else piece
            if _is_output(piece):
                due += pause
        yield end

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """Return vectors that depend on the words only, after the delay of a first token."""
        headers = self._quota.take(time.time())
        await asyncio.sleep(self._behaviour.at(time.time()).first_token_seconds)
        return replace(await asyncio.to_thread(embedded, request), headers=headers)

    async def close(self) -> None:
        """Nothing to close."""

    async def _composed(self, request: ChatRequest) -> tuple[Sequence[_Piece], Completed]:
        def compose() -> tuple[Sequence[_Piece], Completed]:
            return self._structured(request) or self._text(request)

        return await asyncio.to_thread(compose) if _size(request) > _LARGE else compose()

    def _text(self, request: ChatRequest) -> tuple[Sequence[_Piece], Completed]:
        """Return the tokens of one text, and its end."""
        tokens, finish_reason = compose(request, self._behaviour)
        end = Completed(
            finish_reason=finish_reason,
            usage=self._usage(request, len(tokens)),
            response_id=new_response_id("sim-"),
            response_model=request.model,
        )
        return tokens, end

    def _structured(self, request: ChatRequest) -> tuple[Sequence[_Piece], Completed] | None:
        """Return the chunks of a response that is more than one text, and its end; None for a
        text."""
        count = request.choices
        tools = called_tools(request)
        as_json = request.response_format in ("json_object", "json_schema")
        if not tools and not as_json and count == 1:
            return None
        random = Random(_seed(request, self._behaviour.seed))  # noqa: S311
        outputs = []
        for number in range(count):
            if tools:
                output = tool_calls(tools, random)
            elif as_json:
                output = json_output(request, _text(request, self._behaviour, random), random)
            else:
                tokens, reason = compose(request, self._behaviour, number)
                output = Output([{"content": token} for token in tokens or [""]], reason)
            outputs.append(
                output if not tools and not as_json else limited(output, request.token_limit)
            )
        reader, assembly = ChunkReader(Cleaner(Redactor([]), {})), Assembly()
        prepared = [
            reader.add_object(chunk, None)
            for chunk in chunks(request.shown_model or request.model, outputs, count_words(request))
        ]
        end = reader.completed()
        if not request.stream:
            for chunk in prepared:
                assembly.add(chunk)
            whole = read_whole(assembly.body(), None, request.shown_model)
            whole.usage = end.usage
            end = whole
        return prepared, end

    def _usage(self, request: ChatRequest, completion_tokens: int) -> Usage:
        cached = cached_words(request) if self._behaviour.prompt_cache else None
        return Usage(count_words(request), completion_tokens, cache_read_tokens=cached)

    def _position_of(self, rate: float, length: int) -> int | None:
        """Return the position of an incident; None for a response without one."""
        if self._random.random() >= rate:
            return None
        return self._random.randrange(max(1, length))


def _is_output(piece: _Piece) -> bool:
    return isinstance(piece, str) or piece.size != 0


async def _sleep_until(due: float) -> None:
    """By the clock, so that the time that the reader takes is not added."""
    if (delay := due - time.monotonic()) > 0:
        await asyncio.sleep(delay)


def compose(request: ChatRequest, behaviour: Behaviour, number: int = 0) -> tuple[list[str], str]:
    """Return the tokens of a response, each with its leading space, and the finish reason.

    `number` of the choice, if several are requested.
    """
    random = Random(_seed(request, behaviour.seed) + number)  # noqa: S311
    text, tokens = _until_stop(_text(request, behaviour, random), request.stop)
    limit = request.token_limit
    if limit is not None and limit < len(tokens):
        return tokens[:limit], "length"
    return (tokens if text else []), "stop"


def _text(request: ChatRequest, behaviour: Behaviour, random: Random) -> str:
    half = behaviour.answer_tokens // 2
    least, most = max(1, behaviour.answer_tokens - half), behaviour.answer_tokens + half
    return simulated_texts.compose(
        request.messages, random, least, random.randint(least, most), most
    )


def _size(request: ChatRequest) -> int:
    """Return about as many characters as a response is composed from."""
    contents = [message.get("content") for message in request.messages]
    return sum(
        len(content) * (_PART_CHARACTERS if isinstance(content, list) else 1)
        for content in contents
        if isinstance(content, str | list)
    )


def count_words(request: ChatRequest) -> int:
    """Return the number of prompt tokens: the words of all messages."""
    return sum(len(message_text(message).split()) for message in request.messages)


def cached_words(request: ChatRequest) -> int:
    """Return the number of prompt tokens that were sent before: whole blocks of the words up to
    the last response."""
    messages = request.messages
    last = max((i for i, each in enumerate(messages) if each["role"] == "assistant"), default=-1)
    known = sum(len(message_text(message).split()) for message in messages[: last + 1])
    blocks = known // _CACHE_BLOCK
    return blocks * _CACHE_BLOCK if blocks > 1 else 0


def _until_stop(text: str, stops: Sequence[str]) -> tuple[str, list[str]]:
    found = [position for stop in stops if (position := text.find(stop)) >= 0]
    text = text[: min(found, default=len(text))]
    return text, tokens_of(text)


def _seed(request: ChatRequest, default: int) -> int:
    chosen = default if request.seed is None else request.seed
    texts = [[message["role"], message_text(message)] for message in request.messages]
    text = json.dumps([chosen, texts]).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8])
