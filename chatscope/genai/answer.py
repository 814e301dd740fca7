"""One answer of a model: one `chat` span, one set of counts, one cost, one log line."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from chatscope import names
from chatscope.attributes import known
from chatscope.genai.content import input_messages, output_messages
from chatscope.genai.pricing import PriceTable
from chatscope.genai.request import ModelRequest, Usage
from chatscope.guard import guarded
from chatscope.instruments import Instruments
from chatscope.redaction import without_texts
from chatscope.tally import Tally
from chatscope.tracing import trace_id_of

_OPERATION = "chat"
# What `error.type` says of an answer that nobody waited for to its end.
CANCELLED = "cancelled"
# For an answer cut short, when the provider told no totals: English text in the usual
# tokenizers has about four characters a token.
_CHARACTERS_PER_TOKEN = 4


class Answer:
    """Watches one answer from the call of its model until its last byte left.

    The span starts with the object, as a child of the current span, and is not made
    current. Call `close` in a `finally`: it records everything, once, whatever happened.
    """

    def __init__(
        self,
        request: ModelRequest,
        *,
        started: float,
        tracer: Tracer,
        instruments: Instruments,
        prices: PriceTable,
        capture_content: bool,
    ) -> None:
        self._request = request
        self._instruments = instruments
        self._prices = prices
        self._capture_content = capture_content
        self._started = started  # perf_counter: the question's arrival
        self._called = time.perf_counter()
        # Chunks from the provider: perf_counter of the first and the last, and the pauses between.
        self._first_received: float | None = None
        self._last_received = 0.0
        self._received = 0
        self._pauses = Tally(names.CLIENT_TIME_PER_OUTPUT_CHUNK.buckets or ())
        self._first_sent: float | None = None
        self._last_sent: float | None = None
        self._ended: float | None = None  # perf_counter: the provider's end
        self._ended_ns: int | None = None
        self._outcome = CANCELLED
        self._error_type: str | None = CANCELLED
        self._provider_status: int | None = None
        self._provider_code: str | None = None
        self._finish_reason: str | None = None
        self._response_id: str | None = None
        self._response_model: str | None = None
        self._usage: Usage | None = None
        self._text: list[str] = []
        self._longest_stall = 0.0
        self._closed = False
        instruments.answers_active.add(1)
        self._span: Span = tracer.start_span(
            f"{_OPERATION} {request.model}",
            kind=SpanKind.INTERNAL if request.in_process else SpanKind.CLIENT,
            attributes=_request_attributes(request),
        )
        self._context: Context = trace.set_span_in_context(self._span)
        if capture_content:
            self._span.set_attribute(names.GEN_AI_INPUT_MESSAGES, input_messages(request.messages))

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return trace_id_of(self._span.get_span_context())

    @property
    def usage(self) -> Usage | None:
        """The provider's count; where it told none our own; None when nothing was answered."""
        if self._usage is None and (self._received or self._outcome == "completed"):
            characters = sum(len(message["content"]) for message in self._request.messages)
            prompt = -(-characters // _CHARACTERS_PER_TOKEN)
            return Usage(prompt, self._received, partial=True)
        return self._usage

    @property
    def cost(self) -> float | None:
        """US dollars; None when nothing came, or the price table lacks the model."""
        usage = self.usage
        if usage is None:
            return None
        return self._prices.cost(self._request.model, usage.prompt_tokens, usage.completion_tokens)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the span current; never around a `yield` of an async generator."""
        with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
            yield

    def received(self, text: str) -> None:
        """A chunk came from the provider."""
        now = time.perf_counter()
        if self._first_received is None:
            self._first_received = now
            self._span.add_event(names.EVENT_FIRST_TOKEN)
        else:
            self._pauses.add(now - self._last_received)
        self._last_received = now
        self._received += 1
        if self._capture_content:
            self._text.append(text)

    def sent(self) -> None:
        """Bytes of the answer have left us."""
        now = time.perf_counter()
        if self._first_sent is None:
            self._first_sent = now
        if self._last_sent is not None:
            self._longest_stall = max(self._longest_stall, now - self._last_sent)
        self._last_sent = now

    def completed(
        self,
        *,
        finish_reason: str,
        usage: Usage | None = None,
        response_id: str | None = None,
        response_model: str | None = None,
    ) -> None:
        """The provider finished well."""
        self._end("completed", None)
        self._finish_reason = finish_reason
        self._usage = usage
        self._response_id = response_id
        self._response_model = response_model

    def failed(
        self,
        error_type: str,
        exception: BaseException | None = None,
        *,
        provider_status: int | None = None,
        provider_code: str | None = None,
    ) -> None:
        """The provider, or our own code, failed; `error_type` is from a closed list.

        The exception's text is recorded only while content is captured.
        """
        self._end("failed", error_type)
        self._provider_status = provider_status
        self._provider_code = provider_code
        if exception is not None:
            # It asks for the exception's text, which may raise.
            with guarded("recording an exception"):
                shown = exception if self._capture_content else without_texts(exception)
                self._span.record_exception(shown)

    def cancelled(self, error_type: str = CANCELLED) -> None:
        """It was given up, by the client unless `error_type` tells of another."""
        self._end(CANCELLED, error_type)

    def close(self) -> None:
        """Record everything; a second call does nothing.

        Neither completed nor failed before: nobody waited, the answer was cancelled.
        """
        if self._closed:
            return
        self._closed = True
        if self._ended is None:
            self._end(CANCELLED, CANCELLED)
        with guarded("recording an answer"):
            self._finish_span()
        with guarded("counting an answer"):
            self._instruments.answers_active.add(-1)
            self._count_call()
            self._count_answer()
        with guarded("logging an answer"):
            self._log()

    def _end(self, outcome: str, error_type: str | None) -> None:
        self._ended = time.perf_counter()
        self._ended_ns = time.time_ns()
        self._outcome = outcome
        self._error_type = error_type

    def _finish_span(self) -> None:
        self._span.set_attributes(self._result_attributes())
        if self._capture_content:
            text = output_messages("".join(self._text), self._finish_reason)
            self._span.set_attribute(names.GEN_AI_OUTPUT_MESSAGES, text)
        if self._outcome == "failed":
            self._span.set_status(Status(StatusCode.ERROR, self._error_type))
        self._span.end(self._ended_ns)

    def _result_attributes(self) -> dict[str, AttributeValue]:
        usage = self.usage
        found: dict[str, AttributeValue | None] = {
            names.ANSWER_OUTCOME: self._outcome,
            names.ANSWER_EMPTY: self._is_empty or None,
            names.ERROR_TYPE: self._error_type,
            names.HTTP_RESPONSE_STATUS_CODE: self._provider_status,
            names.PROVIDER_ERROR_CODE: self._provider_code,
            names.GEN_AI_RESPONSE_ID: self._response_id,
            names.GEN_AI_RESPONSE_MODEL: self._response_model,
            names.GEN_AI_RESPONSE_FINISH_REASONS: (
                [self._finish_reason] if self._finish_reason else None
            ),
            names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: self._time_to_first_chunk(),
            names.TIME_TO_FIRST_TOKEN: self._time_to_first_token(),
            names.ANSWER_COST: self.cost,
        }
        if usage is not None:
            found[names.GEN_AI_USAGE_INPUT_TOKENS] = usage.prompt_tokens
            found[names.GEN_AI_USAGE_OUTPUT_TOKENS] = usage.completion_tokens
            found[names.USAGE_PARTIAL] = usage.partial or None
        return known(found)

    @property
    def _is_empty(self) -> bool:
        return self._outcome == "completed" and not self._received

    def _time_to_first_chunk(self) -> float | None:
        first = self._first_received
        return None if first is None else first - self._called

    def _time_to_first_token(self) -> float | None:
        """Seconds until the first bytes left; an answer in one piece has no first token."""
        if self._first_sent is None or not self._request.stream:
            return None
        return self._first_sent - self._started

    def _count_call(self) -> None:
        """The conventions' client metrics: the provider, as we saw it."""
        shared = self._metric_attributes()
        if self._request.server_address:
            shared[names.SERVER_ADDRESS] = self._request.server_address
        if self._request.server_port:
            shared[names.SERVER_PORT] = self._request.server_port
        record = self._instruments
        duration = (self._ended or self._called) - self._called
        outcome = {names.ERROR_TYPE: self._error_type} if self._error_type else {}
        record.operation_duration.record(duration, {**shared, **outcome}, self._context)
        if (first := self._time_to_first_chunk()) is not None:
            record.time_to_first_chunk.record(first, shared, self._context)
        self._pauses.record(record.time_per_output_chunk, shared, self._context)
        if usage := self.usage:
            for kind, count in (
                ("input", usage.prompt_tokens),
                ("output", usage.completion_tokens),
            ):
                attributes = {**shared, names.GEN_AI_TOKEN_TYPE: kind}
                record.token_usage.record(count, attributes, self._context)

    def _count_answer(self) -> None:
        """The product's own metrics: the answer, as a person saw it."""
        model, context, record = self._request.model, self._context, self._instruments
        record.record_llm_response_time(
            self._waited(), model=model, error_type=self._error_type, context=context
        )
        usage = self.usage
        if usage is not None:
            record.record_token_usage("prompt", usage.prompt_tokens, model=model, context=context)
            record.record_token_usage(
                "completion", usage.completion_tokens, model=model, context=context
            )
        if (cost := self.cost) is not None:
            record.record_cost(cost, model=model, context=context)
        self._count_delivery(usage)

    def _count_delivery(self, usage: Usage | None) -> None:
        first = self._time_to_first_token()
        if first is None or self._first_sent is None or self._last_sent is None:
            return
        model = {names.GEN_AI_REQUEST_MODEL: self._instruments.model_label(self._request.model)}
        self._instruments.answer_stall.record(self._longest_stall, model, self._context)
        attributes = self._metric_attributes()
        self._instruments.time_to_first_token.record(first, attributes, self._context)
        if usage is not None and usage.completion_tokens > 1:
            each = (self._last_sent - self._first_sent) / (usage.completion_tokens - 1)
            self._instruments.time_per_output_token.record(each, attributes, self._context)

    def _waited(self) -> float:
        """Seconds from arrival until the last byte left, or until the end without one."""
        return max(self._last_sent or 0.0, self._ended or 0.0) - self._started

    def _metric_attributes(self) -> dict[str, str | int]:
        attributes: dict[str, str | int] = {
            names.GEN_AI_OPERATION_NAME: _OPERATION,
            names.GEN_AI_PROVIDER_NAME: self._request.provider,
            names.GEN_AI_REQUEST_MODEL: self._instruments.model_label(self._request.model),
        }
        if self._response_model:
            # A provider may answer with a dated name: as many as it has, not as many as asked.
            attributes[names.GEN_AI_RESPONSE_MODEL] = self._response_model
        return attributes

    def _log(self) -> None:
        request = self._request
        line = logger.bind(
            **{
                names.GEN_AI_REQUEST_MODEL: request.model,
                names.GEN_AI_PROVIDER_NAME: request.provider,
                names.GEN_AI_CONVERSATION_ID: request.conversation_id,
                names.ANSWER_SECONDS: round(self._waited(), 6),
                **self._result_attributes(),
            }
        )
        level = {"completed": "INFO", CANCELLED: "INFO"}.get(self._outcome, "ERROR")
        if self._is_empty:
            level = "WARNING"
        with self.current():
            line.log(level, f"answer {self._outcome}")


def _request_attributes(request: ModelRequest) -> dict[str, AttributeValue]:
    return known(
        {
            names.GEN_AI_OPERATION_NAME: _OPERATION,
            names.GEN_AI_PROVIDER_NAME: request.provider,
            names.GEN_AI_REQUEST_MODEL: request.model,
            names.GEN_AI_REQUEST_STREAM: request.stream,
            names.SERVER_ADDRESS: request.server_address,
            names.SERVER_PORT: request.server_port,
            names.GEN_AI_CONVERSATION_ID: request.conversation_id,
            names.GEN_AI_REQUEST_TEMPERATURE: request.temperature,
            names.GEN_AI_REQUEST_TOP_P: request.top_p,
            names.GEN_AI_REQUEST_MAX_TOKENS: request.max_tokens,
            names.GEN_AI_REQUEST_SEED: request.seed,
            names.GEN_AI_REQUEST_STOP_SEQUENCES: request.stop or None,
            names.GEN_AI_REQUEST_FREQUENCY_PENALTY: request.frequency_penalty,
            names.GEN_AI_REQUEST_PRESENCE_PENALTY: request.presence_penalty,
        }
    )
