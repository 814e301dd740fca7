"""One response of a model: one span, one set of counts, one cost, one log record."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from chatscope import names
from chatscope.attributes import known
from chatscope.genai import nesting
from chatscope.genai.content import characters
from chatscope.genai.inference_attributes import (
    identity_attributes,
    input_contents,
    output_contents,
    request_attributes,
    usage_attributes,
)
from chatscope.genai.operation import (
    COMPLETED,
    FAILED,
    Operation,
    current_conversation,
    with_conversation,
)
from chatscope.genai.pricing import SIMULATED
from chatscope.genai.recent import RecentResponse
from chatscope.genai.request import ModelRequest, Usage
from chatscope.genai.token_counts import counted_tokens
from chatscope.genai.usage import complete_usage, merge_usage
from chatscope.guard import guarded
from chatscope.instruments import Values

if TYPE_CHECKING:
    from chatscope.genai.recorder import Recorder

# For a response that was cut short, when the provider returned no totals: English text in the
# usual tokenizers has about four characters a token.
_CHARACTERS_PER_TOKEN: Final = 4
# Most providers send each token as a chunk. On average longer chunks have several.
_CHARACTERS_OF_ONE_TOKEN: Final = 8


class Answer(Operation):
    """Records one response, from the call of its model until its last byte was sent.

    Call `close` in a `finally`.
    """

    exception_event: ClassVar[str] = names.EVENT_INFERENCE_EXCEPTION

    def __init__(
        self, recorder: "Recorder", request: ModelRequest, *, started: float, served: bool = False
    ) -> None:
        """Start the span; `started` is the perf_counter of the request's arrival.

        `served` if it is the response of this service to a client of its own.
        """
        if request.conversation_id is None and (conversation := current_conversation()):
            request = replace(request, conversation_id=conversation)
        super().__init__(
            recorder,
            f"{request.operation} {request.model}",
            SpanKind.INTERNAL if request.in_process else SpanKind.CLIENT,
            request_attributes(request),
        )
        self.context, self._client = nesting.around_inference(
            with_conversation(self.context, request.conversation_id)
        )
        self._request = request
        self._instruments = recorder.instruments
        self._keep_content = recorder.capture_content or recorder.capture_events
        self._served = served
        self._started = started
        # Chunks from the provider: perf_counter of the first and the last, and the pauses between.
        self._first_received: float | None = None
        self._last_received = 0.0
        self._received = 0  # chunks, or an estimate of the tokens of a whole text
        self._characters = 0  # of the chunks
        self._pauses: Values | None = None
        self._provider_ended: float | None = None
        self._first_sent: float | None = None
        self._last_sent: float | None = None
        self._failure: dict[str, AttributeValue | None] = {}
        self._fallback: dict[str, AttributeValue | None] = {}
        self._finish_reason: str | None = None
        self._response_id: str | None = None
        self._response_model: str | None = None
        self._usage: Usage | None = None
        self._text: list[str] = []
        self._output: Sequence[Mapping[str, Any]] = ()
        self._prompt: dict[str, AttributeValue] | None = None  # if the span has it
        self._priced: tuple[tuple[Usage, str | None], float | None] | None = None
        self._longest_stall = 0.0
        # Whether no chunks means no content, and whether a recorder was shown the content.
        self._seen = True
        self._watched = False
        self._instruments.answers_active.add(1)
        if recorder.capture_content:
            with guarded("recording a prompt"):
                self._prompt = input_contents(request)
                self._span.set_attributes(self._prompt)

    @property
    def usage(self) -> Usage | None:
        """The provider's counts, with estimates of those missing; None if nothing was received."""
        usage = self._usage
        if not self._seen or not (self._received or self._outcome == COMPLETED):
            return usage
        if usage is not None and usage.prompt_tokens and usage.completion_tokens:
            return usage
        prompt = -(-characters(self._request.messages) // _CHARACTERS_PER_TOKEN)
        return complete_usage(usage, prompt=prompt, completion=self._received_tokens)

    @property
    def _received_tokens(self) -> int:
        """An estimate of the tokens received: of the chunks, or of the characters in long ones."""
        if self._characters <= self._received * _CHARACTERS_OF_ONE_TOKEN:
            return self._received
        return -(-self._characters // _CHARACTERS_PER_TOKEN)

    @property
    def reported_usage(self) -> Usage | None:
        """The provider's count, so far."""
        return self._usage

    @property
    def cost(self) -> float | None:
        """The cost in US dollars; None if nothing was received or the model has no price."""
        usage = self.usage
        if usage is None:
            return None
        given = (usage, self._response_model)
        if self._priced is None or self._priced[0] != given:
            self._priced = given, self._cost_of(usage)
        return self._priced[1]

    def _cost_of(self, usage: Usage) -> float | None:
        request, prices = self._request, self.recorder.prices
        # The requested name may be an alias, or that of a deployment.
        others = [request.upstream_model]
        if request.provider != SIMULATED:
            others.append(self._response_model)
        for model in (request.model, *others):
            if model:
                cost = prices.cost_of(usage, model, request.provider, request.server_address)
                if cost is not None:
                    return cost
        return None

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds until the first bytes were sent; only a stream has a first token."""
        if self._first_sent is None or not self._request.stream:
            return None
        return self._first_sent - self._started

    @property
    def keeps_content(self) -> bool:
        """Whether the texts of the response are recorded."""
        return self._keep_content

    def is_around(self, data: object) -> bool:
        """Return whether instrumented clients inside this call publish to `data`."""
        return data is not None and data is self._client

    def attempt_failed(
        self,
        request: ModelRequest,
        attempt: int,
        error_type: str,
        *,
        seconds: float,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Record an attempt that failed before its first chunk; another one follows, or none.

        `request` has its provider and model, `attempt` is its number from 1, `status` and
        `headers` are the provider's. It counts as a call of its own, which took `seconds`.
        """
        if headers:
            self._instruments.record_rate_limits(headers, request.provider, request.model)
        attributes = {**self._call_attributes(request), **_server_attributes(request)}
        self._instruments.inference_duration.record(
            seconds,
            {**attributes, names.ERROR_TYPE: self._instruments.error_label(error_type)},
            self.context,
        )
        about: dict[str, AttributeValue | None] = {
            names.ATTEMPT: attempt,
            names.GEN_AI_PROVIDER_NAME: request.provider,
            names.GEN_AI_REQUEST_MODEL: request.model,
            names.ERROR_TYPE: error_type,
            names.HTTP_RESPONSE_STATUS_CODE: status,
            names.ATTEMPT_SECONDS: round(seconds, 6),
        }
        with self.current():
            attributes_of_log = names.all_prefixed(known(about), self._instruments.prefix)
            self.recorder.log("WARNING", "attempt failed", attributes_of_log)

    def served_by(self, request: ModelRequest, attempt: int, *, seconds: float) -> None:
        """Record that an attempt succeeded, with its first chunk, after others had failed.

        From now on everything is recorded of its provider and model; its call began `seconds` ago.
        """
        requested, self._request = self._request.model, request
        self._called = time.perf_counter() - seconds
        self._span.update_name(f"{request.operation} {request.model}")
        about = names.all_prefixed(request_attributes(request), self._instruments.prefix)
        self._span.set_attributes(about)
        self._fallback = {names.ATTEMPT: attempt, names.REQUESTED_MODEL: requested}

    def received(self, text: str, at: float | None = None, size: int | None = None) -> None:
        """Record that a chunk came from the provider; `at` is the perf_counter of its arrival.

        `size`: the number of characters of all output, also of tool calls.
        """
        now = time.perf_counter() if at is None else at
        if self._pauses is None:
            self._first_received = now
            self._pauses = self._instruments.chunk_times(self._client_attributes(), self.context)
        else:
            self._pauses.add(now - self._last_received)
        self._last_received = now
        self._received += 1
        self._characters += len(text) if size is None else size
        if self._keep_content:
            self._text.append(text)

    def sent(self) -> None:
        """Record that bytes of the response were sent to the client."""
        now = time.perf_counter()
        if self._first_sent is None:
            self._first_sent = now
        if self._last_sent is not None:
            self._longest_stall = max(self._longest_stall, now - self._last_sent)
        self._last_sent = now

    def completed(
        self,
        *,
        finish_reason: str | None = None,
        usage: Usage | None = None,
        response_id: str | None = None,
        response_model: str | None = None,
    ) -> None:
        """Record that the provider completed the response."""
        self.succeeded()
        self.describe(
            finish_reason=finish_reason,
            usage=usage,
            response_id=response_id,
            response_model=response_model,
        )
        # Its user may rate it as soon as the last byte was sent, before its record ends.
        self._remember()

    def describe(
        self,
        *,
        finish_reason: str | None = None,
        usage: Usage | None = None,
        response_id: str | None = None,
        response_model: str | None = None,
    ) -> None:
        """Record facts of the response; None leaves a fact as it is."""
        self._finish_reason = finish_reason or self._finish_reason
        self._usage = merge_usage(self._usage, usage)
        self._response_id = response_id or self._response_id
        self._response_model = response_model or self._response_model

    def response_headers(self, headers: Mapping[str, str]) -> None:
        """Record the rate limits of the headers of the provider's response."""
        request = self._request
        self._instruments.record_rate_limits(headers, request.provider, request.model)

    def came_out(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Record the messages of the response, one for each choice, where content is captured.

        They are in the provider's format, each with its `finish_reason` if that is known; without
        them, the response is one message with the text that was received.
        """
        if self._keep_content:
            self._output = messages

    def retried(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Record that the provider's client retries; `attributes` have the reason."""
        request = self._request
        about = {
            names.GEN_AI_REQUEST_MODEL: request.model,
            names.GEN_AI_PROVIDER_NAME: request.provider,
            **attributes,
        }
        name = names.prefixed(names.EVENT_RETRY, self._instruments.prefix)
        self._emit(name, "INFO", names.all_prefixed(about, self._instruments.prefix))

    def complement(self, published: nesting.Published) -> None:
        """Use facts from a library inside this call where none are recorded."""
        self._usage = self._usage or published.usage
        self._response_id = self._response_id or published.response_id
        self._response_model = self._response_model or published.response_model
        self._finish_reason = self._finish_reason or published.finish_reason

    def provider_ended(self, at: float) -> None:
        """Record when the provider ended, as a perf_counter; by default when the response did."""
        self._provider_ended = at

    def came_whole(self, text: str, size: int | None = None) -> None:
        """Record the text of a response that was not streamed.

        `size`: the number of characters of all output, also of tool calls.
        """
        self._watched = True
        characters = len(text) if size is None else size
        if characters and not self._received:
            self._received = -(-characters // _CHARACTERS_PER_TOKEN)
            if self._keep_content:
                self._text.append(text)

    def streamed(self) -> None:
        """Record that the response is streamed, and its chunks are recorded."""
        self._watched = True
        if not self._request.stream:
            self._request = replace(self._request, stream=True)
            self._span.set_attribute(names.GEN_AI_REQUEST_STREAM, True)

    def settle(self) -> None:
        """Treat missing chunks and text as unknown instead of as an empty response."""
        self._seen = self._watched

    def failed(
        self,
        error_type: str,
        exception: BaseException | None = None,
        *,
        provider_status: int | None = None,
        provider_code: str | None = None,
    ) -> None:
        """Record that the provider, or our own code, failed; `error_type` is of a closed list.

        The exception becomes an event, with its text only while content is captured in events.
        """
        super().failed(error_type, exception)
        self._failure = {
            names.HTTP_RESPONSE_STATUS_CODE: provider_status,
            names.PROVIDER_ERROR_CODE: provider_code,
        }

    def _record(self) -> None:
        with guarded("reading an instrumented client"):
            self._take_from_client()
        self._remember()
        super()._record()

    def _remember(self) -> None:
        with guarded("remembering a response"):
            self.recorder.recent.add(self.as_rated())

    def as_rated(self) -> RecentResponse:
        """Return what a rating of the response has of it."""
        request = self._request
        attributes = {
            names.GEN_AI_REQUEST_MODEL: request.model,
            names.GEN_AI_PROVIDER_NAME: request.provider,
            names.GEN_AI_RESPONSE_ID: self._response_id,
            **identity_attributes(request),
            **request.attributes,
        }
        shown = names.all_prefixed(known(attributes), self._instruments.prefix)
        return RecentResponse(self._span.get_span_context(), shown)

    def _take_from_client(self) -> None:
        """Use the data that an instrumented client inside this call has published."""
        found = nesting.published(self._client)
        if found is not None:
            self.complement(found)

    def _finish_span(self, results: Mapping[str, AttributeValue]) -> None:
        if self.recorder.capture_content:
            with guarded("recording the text of a response"):
                self._span.set_attributes(self._output_contents())
        super()._finish_span(results)

    def _output_contents(self) -> dict[str, AttributeValue]:
        return output_contents("".join(self._text), self._finish_reason, self._output)

    def _result_attributes(self) -> dict[str, AttributeValue]:
        usage = self.usage
        found: dict[str, AttributeValue | None] = {
            names.ANSWER_OUTCOME: self._outcome,
            names.ANSWER_EMPTY: self._is_empty or None,
            names.ERROR_TYPE: self._error_type,
            names.ERROR_MESSAGE: self._reason,
            **self._failure,
            **self._fallback,
            names.GEN_AI_RESPONSE_ID: self._response_id,
            names.GEN_AI_RESPONSE_MODEL: self._response_model,
            names.GEN_AI_RESPONSE_FINISH_REASONS: (
                [self._finish_reason] if self._finish_reason else None
            ),
            names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: self._time_to_first_chunk(),
            names.TIME_TO_FIRST_TOKEN: self.time_to_first_token,
            names.ANSWER_COST: self.cost,
        }
        if usage is not None:
            found.update(usage_attributes(usage))
        return names.all_prefixed(known(found), self._instruments.prefix)

    @property
    def _is_empty(self) -> bool:
        return self._outcome == COMPLETED and self._seen and not self._received

    def _time_to_first_chunk(self) -> float | None:
        first = self._first_received
        return None if first is None else first - self._called

    def _count(self) -> None:
        self._instruments.answers_active.add(-1)
        self._count_call()
        self._count_answer()

    def _count_call(self) -> None:
        """Record the client metrics of the conventions: the call of the provider."""
        shared, record = self._client_attributes(), self._instruments
        ended = {**shared, **self._error_attributes()}
        record.inference_duration.record(self._duration(), ended, self.context)
        if (first := self._time_to_first_chunk()) is not None:
            record.time_to_first_chunk.record(first, shared, self.context)
        if self._pauses is not None:
            self._pauses.record(shared, self.context)
        # Zero where nothing is known: by the conventions each call is counted, failed ones too.
        usage = self.usage or Usage(0)
        record.input_tokens.record(usage.prompt_tokens, ended, self.context)
        record.output_tokens.record(usage.completion_tokens, ended, self.context)
        record.record_inference_usage(counted_tokens(usage), shared, self.context)

    def _count_answer(self) -> None:
        """Record the product's own metrics: the response as the client saw it."""
        model, context, record = self._request.model, self.context, self._instruments
        error_type = self._error_attributes().get(names.ERROR_TYPE)
        record.record_llm_response_time(
            self._waited(), model=model, error_type=error_type, context=context
        )
        usage = self.usage
        if usage is not None:
            record.record_token_usage("prompt", usage.prompt_tokens, model=model, context=context)
            record.record_token_usage(
                "completion", usage.completion_tokens, model=model, context=context
            )
        if (cost := self.cost) is not None:
            record.record_cost(cost, model=model, context=context)
        if self._served:
            ended = {**self._metric_attributes(), **self._error_attributes()}
            self._instruments.server_duration.record(self._waited(), ended, context)
        self._count_delivery(usage)

    def _count_delivery(self, usage: Usage | None) -> None:
        first = self.time_to_first_token
        if first is None or self._first_sent is None or self._last_sent is None:
            return
        model = {names.GEN_AI_REQUEST_MODEL: self._instruments.model_label(self._request.model)}
        self._instruments.answer_stall.record(self._longest_stall, model, self.context)
        attributes = self._metric_attributes()
        self._instruments.time_to_first_token.record(first, attributes, self.context)
        if usage is not None and usage.completion_tokens > 1:
            each = (self._last_sent - self._first_sent) / (usage.completion_tokens - 1)
            self._instruments.time_per_output_token.record(each, attributes, self.context)

    def _duration(self) -> float:
        """Seconds from the call until the provider ended."""
        if self._provider_ended is None:
            return super()._duration()
        return max(0.0, self._provider_ended - self._called)

    def _waited(self) -> float:
        """Seconds from arrival until the last byte was sent, or until the end without one."""
        return max(self._last_sent or 0.0, self._ended or 0.0) - self._started

    def _client_attributes(self) -> dict[str, str | int]:
        return {**self._metric_attributes(), **_server_attributes(self._request)}

    def _metric_attributes(self) -> dict[str, str | int]:
        attributes = self._call_attributes(self._request)
        if self._response_model:
            shown = self._instruments.response_model_label(self._response_model)
            attributes[names.GEN_AI_RESPONSE_MODEL] = shown
        return attributes

    def _call_attributes(self, request: ModelRequest) -> dict[str, str | int]:
        return {
            names.GEN_AI_OPERATION_NAME: request.operation,
            names.GEN_AI_PROVIDER_NAME: request.provider,
            names.GEN_AI_REQUEST_MODEL: self._instruments.model_label(request.model),
        }

    def _log(self, results: Mapping[str, AttributeValue]) -> None:
        request = self._request
        about = known(
            {
                names.GEN_AI_REQUEST_MODEL: request.model,
                names.GEN_AI_PROVIDER_NAME: request.provider,
                **identity_attributes(request),
                **request.attributes,
                names.ANSWER_SECONDS: round(self._waited(), 6),
            }
        )
        attributes = {**names.all_prefixed(about, self._instruments.prefix), **results}
        level = "ERROR" if self._outcome == FAILED else "INFO"
        if self.recorder.capture_events:
            with guarded("recording the details of a model call"):
                self._emit_details(results)
        with self.current():
            self.recorder.log(
                "WARNING" if self._is_empty else level, f"answer {self._outcome}", attributes
            )

    def _emit_details(self, results: Mapping[str, AttributeValue]) -> None:
        """Emit the event with all that the span has, and the texts."""
        details = {
            **request_attributes(self._request),
            **results,
            **(self._prompt or input_contents(self._request)),
            **self._output_contents(),
        }
        self._emit(names.EVENT_INFERENCE_DETAILS, "DEBUG", details)


def _server_attributes(request: ModelRequest) -> dict[str, str | int]:
    found: dict[str, str | int] = {}
    if request.server_address:
        found[names.SERVER_ADDRESS] = request.server_address
    if request.server_port:
        found[names.SERVER_PORT] = request.server_port
    return found
