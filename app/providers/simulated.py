"""The simulated model: a seeded stream of words that says that it is simulated.

Speed, length and failures are settings; a word is a token.
"""

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from random import Random

from app.domain.assembly import Assembly
from app.domain.embedding import Embedded, EmbeddingRequest
from app.domain.provider import Chunk, Completed, Event, ProviderError
from app.domain.request import ChatRequest, message_text
from app.providers.chunk_reader import ChunkReader
from app.providers.secrets import Cleaner, Redactor
from app.providers.simulated_embeddings import embedded
from app.providers.simulated_output import (
    Output,
    called_tools,
    check,
    chunks,
    json_output,
    limited,
    tool_calls,
)
from app.providers.whole_reader import read_whole
from chatscope.genai import Usage

_OPENING = "This answer is simulated: no language model was asked."
_VOCABULARY = (
    "a trace leads from each answer through its spans to the lines that were logged while it was "
    "made and back again so that nobody has to guess why one was slow or dear while the next "
    "came at once with half of the tokens for a tenth of the price on the same quiet evening"
)
_WORDS = _VOCABULARY.split()
_LONGEST_SENTENCE = 12


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How the simulated model responds; rates are shares of all responses, from 0 to 1."""

    tokens_per_second: float = 0.0  # 0: no pause
    first_token_seconds: float = 0.0
    answer_tokens: int = 60
    error_rate: float = 0.0
    stall_rate: float = 0.0
    stall_seconds: float = 0.0
    seed: int = 1


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

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event]:
        """Yield one token at a time; a stall or an error may come before any of them."""
        check(request)
        structured = self._structured(request)
        if structured is not None:
            prepared, end = structured
        else:
            tokens, finish_reason = compose(request, self._behaviour)
            prepared = [Chunk(token) for token in tokens]
            end = Completed(
                finish_reason=finish_reason,
                usage=Usage(count_words(request), len(tokens)),
                response_id=f"sim-{uuid.uuid4().hex}",
                response_model=request.model,
            )
        error_at = self._position_of(self._behaviour.error_rate, len(prepared))
        stall_at = self._position_of(self._behaviour.stall_rate, len(prepared))
        due = time.monotonic() + self._behaviour.first_token_seconds
        for position, chunk in enumerate(prepared):
            if position == stall_at:
                due += self._behaviour.stall_seconds
            # By the clock, so that the time that the reader takes is not added.
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if position == error_at:
                raise ProviderError("simulated_error", "The simulated model failed, as configured.")
            if end.body is None:
                yield chunk
            if chunk.size != 0:
                due += self._pause
        yield end

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """Return vectors that depend on the words only."""
        return embedded(request)

    async def close(self) -> None:
        """Nothing to close."""

    def _structured(self, request: ChatRequest) -> tuple[list[Chunk], Completed] | None:
        """Return the chunks of a response that is more than one text, and its end; None for a
        text."""
        random = Random(_seed(request, self._behaviour.seed))  # noqa: S311
        count = request.choices
        tools = called_tools(request)
        as_json = request.response_format in ("json_object", "json_schema")
        if not tools and not as_json and count == 1:
            return None
        outputs = []
        for number in range(count):
            if tools:
                output = tool_calls(tools, random)
            elif as_json:
                output = json_output(request, _OPENING, random)
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

    @property
    def _pause(self) -> float:
        rate = self._behaviour.tokens_per_second
        return 1 / rate if rate else 0.0

    def _position_of(self, rate: float, length: int) -> int | None:
        """Return the position of an incident; None for a response without one."""
        if self._random.random() >= rate:
            return None
        return self._random.randrange(max(1, length))


def compose(request: ChatRequest, behaviour: Behaviour, number: int = 0) -> tuple[list[str], str]:
    """Return the tokens of a response, each with its leading space, and the finish reason.

    `number` of the choice, if several are requested.
    """
    random = Random(_seed(request, behaviour.seed) + number)  # noqa: S311
    half = behaviour.answer_tokens // 2
    length = random.randint(max(1, behaviour.answer_tokens - half), behaviour.answer_tokens + half)
    text, tokens = _until_stop(_sentences(random, length), request.stop)
    limit = request.token_limit
    if limit is not None and limit < len(tokens):
        return tokens[:limit], "length"
    return (tokens if text else []), "stop"


def count_words(request: ChatRequest) -> int:
    """Return the number of prompt tokens: the words of all messages."""
    return sum(len(message_text(message).split()) for message in request.messages)


def _sentences(random: Random, length: int) -> str:
    words = _OPENING.split()[:length]
    while len(words) < length:
        size = min(length - len(words), random.randint(4, _LONGEST_SENTENCE))
        sentence = [random.choice(_WORDS) for _ in range(size)]
        sentence[0] = sentence[0].capitalize()
        sentence[-1] += "."
        words += sentence
    return " ".join(words)


def _until_stop(text: str, stops: Sequence[str]) -> tuple[str, list[str]]:
    found = [position for stop in stops if (position := text.find(stop)) >= 0]
    text = text[: min(found, default=len(text))]
    words = text.split(" ")
    return text, [words[0], *(f" {word}" for word in words[1:])]


def _seed(request: ChatRequest, default: int) -> int:
    chosen = default if request.seed is None else request.seed
    texts = [[message["role"], message_text(message)] for message in request.messages]
    text = json.dumps([chosen, texts]).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8])
