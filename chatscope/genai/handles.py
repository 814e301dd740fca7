"""Handles of operations in progress, for the code that is recorded. None of them ever raises."""

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar, overload

from chatscope import names
from chatscope.arguments import accepted
from chatscope.exception_texts import type_name
from chatscope.genai import responses
from chatscope.genai.answer import Answer
from chatscope.genai.nesting import Published
from chatscope.genai.operation import FAILED, Operation
from chatscope.genai.request import Usage
from chatscope.genai.response_messages import response_messages
from chatscope.genai.responses import Facts
from chatscope.genai.steps import AgentInvocation, Embeddings, ToolExecution
from chatscope.genai.streams import RecordedAsyncStream, RecordedStream
from chatscope.genai.usage import merge_usage, read_usage
from chatscope.guard import guarded, report

_Operation = TypeVar("_Operation", bound=Operation)
_Priced = TypeVar("_Priced", Answer, Embeddings)
_Item = TypeVar("_Item")


class Handle(Generic[_Operation]):
    """An operation in progress; without an operation it records nothing."""

    def __init__(self, operation: _Operation | None = None) -> None:
        self._operation = operation
        self._error: BaseException | None = None

    @property
    def trace_id(self) -> str:
        """32 hex digits; "" where nothing is recorded."""
        return "" if self._operation is None else self._operation.trace_id

    def current(self) -> AbstractContextManager[None]:
        """Return a context manager: the span is current in its block.

        Never around a `yield` of a generator.
        """
        return nullcontext() if self._operation is None else self._operation.current()

    def failed(self, error_type: str) -> None:
        """Record a failure that no exception shows; `error_type` is one of a short list."""
        name = accepted("error_type", error_type, str)
        if self._operation is not None and name:
            with guarded("recording a failure"):
                self._operation.failed(name)

    def close(self) -> None:
        """Record the end, once; for calls without a `with` block or a stream."""
        self.finish(None)

    def mark(self, error: BaseException | None) -> None:
        """Note the outcome: success, an exception, or cancellation by the caller."""
        operation = self._operation
        if operation is None:
            return
        with guarded("recording the end of an operation"):
            if isinstance(error, Exception):
                if error is not self._error:
                    operation.failed(type_name(error), error)
                self._error = error
            elif error is not None:
                if operation.outcome is None:
                    operation.cancelled()
            elif operation.outcome != FAILED:
                operation.succeeded()

    def finish(self, error: BaseException | None) -> None:
        """Note the outcome and record it."""
        self.mark(error)
        if self._operation is None:
            return
        with guarded("recording an operation"):
            # The garbage collector may close a generator at any point of other code.
            if isinstance(error, GeneratorExit):
                self._operation.close_later()
            else:
                self._operation.close()

    def returned(self, value: object) -> None:
        """Record the return value of a decorated function."""


class _PricedCall(Handle[_Priced]):
    """A call of a provider that counts tokens."""

    @property
    def usage(self) -> Usage | None:
        """The provider's count; of a model call without one, an estimate; None when unknown."""
        with guarded("reading the usage"):
            return None if self._operation is None else self._operation.usage
        return None

    @property
    def cost(self) -> float | None:
        """US dollars by the price table; None when the usage or the price is not known."""
        with guarded("reading the cost"):
            return None if self._operation is None else self._operation.cost
        return None

    def response_headers(self, headers: Mapping[str, str]) -> None:
        """Record the rate limits of the headers of the provider's response.

        Those of OpenAI (`x-ratelimit-*`) and of Anthropic (`anthropic-ratelimit-*`) are known.
        """
        if self._operation is not None:
            with guarded("recording rate limits"):
                self._operation.response_headers(headers)


class ModelCall(_PricedCall[Answer]):
    """A model call in progress."""

    def __init__(
        self, answer: Answer | None = None, publish: Callable[[Published], None] | None = None
    ) -> None:
        """Record to `answer`; a call inside another one publishes its data instead."""
        super().__init__(answer)
        self._publish = publish
        self._streams = False

    def chunk(self, text: str = "") -> None:
        """Record that a chunk was received, and its text."""
        if self._operation is None:
            return
        try:
            if not self._streams:
                self._stream()
            if type(text) is not str:
                text = accepted("text of a chunk", text, str) or ""
            self._operation.received(text)
        except Exception as error:
            report("recording a chunk", error)

    @overload
    def stream(self, items: AsyncIterable[_Item]) -> RecordedAsyncStream[_Item]: ...

    @overload
    def stream(self, items: Iterable[_Item]) -> RecordedStream[_Item]: ...

    def stream(self, items: Any) -> Any:
        """Return an iterator over the same items that records each as a chunk.

        Strings and the chunks of common clients are supported.
        """
        return self.wrap(items, owned=False)

    def wrap(self, items: Any, *, owned: bool) -> Any:
        """Return a recorded stream; an `owned` one records the end of the call."""
        with guarded("recording a stream"):
            self._stream()
            if hasattr(items, "__aiter__"):
                return RecordedAsyncStream(self, items, owned)
            return RecordedStream(self, items, owned)
        return items

    def response(
        self,
        response: object = None,
        *,
        text: str | None = None,
        finish_reason: str | None = None,
        usage: object = None,
        id: str | None = None,
        model: str | None = None,
    ) -> None:
        """Record facts of the response: those that are given, else those of the object.

        `response` is an object of a common client or its JSON; `usage` is a `Usage` or the usage
        object of a client.
        """
        with guarded("recording a response"):
            counted = None if usage is None else read_usage(usage)
            if usage is not None and counted is None:
                accepted("usage", usage, Usage)
            found = responses.read(response)
            self._describe(
                Facts(
                    text=_or(accepted("text", text, str), found.text),
                    finish_reason=accepted("finish_reason", finish_reason, str)
                    or found.finish_reason,
                    usage=counted or found.usage,
                    id=accepted("id", id, str) or found.id,
                    model=accepted("model", model, str) or found.model,
                )
            )
            if self._operation is not None and self._operation.keeps_content and text is None:
                self._operation.came_out(response_messages(response))

    def item(self, item: object) -> None:
        """Record one item of a stream."""
        if type(item) is str:
            self.chunk(item)
            return
        with guarded("reading a chunk"):
            facts = responses.read(item)
            unknown = facts == Facts() and not responses.is_event(item)
            if facts.text is not None or unknown:
                self.chunk(facts.text or "")
            self._describe(
                Facts(
                    finish_reason=facts.finish_reason,
                    usage=facts.usage,
                    id=facts.id,
                    model=facts.model,
                )
            )

    def returned(self, value: object) -> None:
        """Record the return value of a decorated function."""
        self.response(value)

    def mark(self, error: BaseException | None) -> None:
        """Note the outcome: success, an exception, or cancellation by the caller."""
        if error is None and self._operation is not None:
            with guarded("recording a response"):
                self._operation.settle()
        super().mark(error)

    def _stream(self) -> None:
        self._streams = True
        if self._operation is not None:
            self._operation.streamed()

    def _describe(self, facts: Facts) -> None:
        answer = self._operation
        published = Published(facts.usage, facts.id, facts.model, facts.finish_reason)
        if answer is None:
            if self._publish is not None:
                self._publish(published)
            return
        if facts.text is not None:
            answer.came_whole(facts.text)
        answer.describe(
            finish_reason=facts.finish_reason,
            usage=merge_usage(answer.reported_usage, facts.usage),
            response_id=facts.id,
            response_model=facts.model,
        )


class EmbeddingsCall(_PricedCall[Embeddings]):
    """A request for embeddings in progress."""

    def response(
        self, response: object = None, *, tokens: int | None = None, model: str | None = None
    ) -> None:
        """Record facts of the response: those that are given, else those of the object."""
        if self._operation is None:
            return
        with guarded("recording a response"):
            found = responses.read(response)
            counted = accepted("tokens", tokens, int)
            if counted is None and found.usage is not None:
                counted = found.usage.prompt_tokens
            name = accepted("model", model, str) or found.model
            self._operation.describe(tokens=counted, response_model=name)

    def returned(self, value: object) -> None:
        """Record the return value of a decorated function."""
        self.response(value)


class ToolCall(Handle[ToolExecution]):
    """A tool execution in progress."""

    def arguments(self, arguments: object) -> None:
        """Record the arguments, where content is captured."""
        if self._operation is not None:
            self._operation.take_content(names.GEN_AI_TOOL_CALL_ARGUMENTS, arguments)

    def result(self, result: object) -> None:
        """Record the result, where content is captured."""
        if self._operation is not None:
            self._operation.take_content(names.GEN_AI_TOOL_CALL_RESULT, result)

    def returned(self, value: object) -> None:
        """Record the return value of a decorated function."""
        self.result(value)


class AgentStep(Handle[AgentInvocation]):
    """An agent's invocation in progress."""


def _or(first: str | None, second: str | None) -> str | None:
    return second if first is None else first
