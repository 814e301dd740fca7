"""Operations beside the calls of a model: embeddings, tool executions, agent steps."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from chatscope import names
from chatscope.attributes import known
from chatscope.genai import nesting
from chatscope.genai.content import as_json
from chatscope.genai.operation import Operation, current_conversation, with_conversation
from chatscope.genai.request import Usage
from chatscope.guard import guarded

if TYPE_CHECKING:
    from chatscope.genai.recorder import Recorder


@dataclass(frozen=True, kw_only=True)
class EmbeddingsRequest:
    """Recorded facts of a request for embeddings."""

    model: str
    provider: str
    dimensions: int | None = None
    server_address: str | None = None
    server_port: int | None = None
    attributes: Mapping[str, AttributeValue]


class Embeddings(Operation):
    """Records one request for embeddings."""

    def __init__(self, recorder: "Recorder", request: EmbeddingsRequest) -> None:
        shared = {
            names.GEN_AI_OPERATION_NAME: "embeddings",
            names.GEN_AI_PROVIDER_NAME: request.provider,
            names.SERVER_ADDRESS: request.server_address,
            names.SERVER_PORT: request.server_port,
        }
        super().__init__(
            recorder,
            f"embeddings {request.model}",
            SpanKind.CLIENT,
            known(
                {
                    **shared,
                    names.GEN_AI_REQUEST_MODEL: request.model,
                    names.GEN_AI_EMBEDDINGS_DIMENSION_COUNT: request.dimensions,
                    **request.attributes,
                }
            ),
        )
        self.context, self._client = nesting.around_embeddings(self.context)
        self._request = request
        self._shared = shared
        self._tokens: int | None = None
        self._response_model: str | None = None

    @property
    def usage(self) -> Usage | None:
        """The token usage, if the provider reported it."""
        return None if self._tokens is None else Usage(self._tokens)

    @property
    def cost(self) -> float | None:
        """US dollars; None without a count of tokens, or a price."""
        if self._tokens is None:
            return None
        request = self._request
        return self.recorder.prices.cost_of(
            Usage(self._tokens), request.model, request.provider, request.server_address
        )

    def describe(self, *, tokens: int | None = None, response_model: str | None = None) -> None:
        """Record facts of the response; None leaves a fact as it is."""
        self._tokens = self._tokens if tokens is None else tokens
        self._response_model = response_model or self._response_model

    def response_headers(self, headers: Mapping[str, str]) -> None:
        """Record the rate limits of the headers of the provider's response."""
        request = self._request
        self.recorder.instruments.record_rate_limits(headers, request.provider, request.model)

    def _record(self) -> None:
        with guarded("reading an instrumented client"):
            found = nesting.published(self._client)
            if found is not None:
                if self._tokens is None and found.usage is not None:
                    self._tokens = found.usage.prompt_tokens
                self._response_model = self._response_model or found.response_model
        super()._record()

    def _result_attributes(self) -> dict[str, AttributeValue]:
        prefix = self.recorder.instruments.prefix
        found: dict[str, AttributeValue | None] = {
            **super()._result_attributes(),
            names.GEN_AI_USAGE_INPUT_TOKENS: self._tokens,
            names.GEN_AI_RESPONSE_MODEL: self._response_model,
            names.prefixed(names.ANSWER_COST, prefix): self.cost,
        }
        return known(found)

    def _count(self) -> None:
        record, model, context = self.recorder.instruments, self._request.model, self.context
        attributes = known(
            {
                **self._shared,
                names.GEN_AI_REQUEST_MODEL: record.model_label(model),
                names.GEN_AI_RESPONSE_MODEL: (
                    record.response_model_label(self._response_model)
                    if self._response_model
                    else None
                ),
            }
        )
        record.embeddings_duration.record(
            self._duration(), {**attributes, **self._error_attributes()}, context
        )
        if self._tokens is not None:
            record.embeddings_tokens.record(self._tokens, attributes, context)
            record.record_token_usage("prompt", self._tokens, model=model, context=context)
        if (cost := self.cost) is not None:
            record.record_cost(cost, model=model, context=context)


@dataclass(frozen=True, kw_only=True)
class ToolRequest:
    """Recorded facts of a request to execute a tool."""

    name: str
    call_id: str | None = None
    type: str | None = None
    description: str | None = None
    arguments: Any = None
    attributes: Mapping[str, AttributeValue]


class ToolExecution(Operation):
    """Records one execution of a tool."""

    exception_event: ClassVar[str] = names.EVENT_EXECUTE_TOOL_EXCEPTION

    def __init__(self, recorder: "Recorder", request: ToolRequest) -> None:
        super().__init__(
            recorder,
            f"execute_tool {request.name}",
            SpanKind.INTERNAL,
            known(
                {
                    names.GEN_AI_OPERATION_NAME: "execute_tool",
                    names.GEN_AI_TOOL_NAME: request.name,
                    names.GEN_AI_TOOL_CALL_ID: request.call_id,
                    names.GEN_AI_TOOL_TYPE: request.type,
                    names.GEN_AI_TOOL_DESCRIPTION: request.description,
                    **request.attributes,
                }
            ),
        )
        self.context = nesting.outside_of_calls(self.context)
        self._name = request.name
        self.take_content(names.GEN_AI_TOOL_CALL_ARGUMENTS, request.arguments)

    def take_content(self, attribute: str, value: Any) -> None:
        """Record arguments or a result, where content is captured."""
        if self.recorder.capture_content and value is not None:
            with guarded("recording the content of a tool call"):
                text = value if isinstance(value, str) else as_json(value)
                self._span.set_attribute(attribute, text)

    def _count(self) -> None:
        record = self.recorder.instruments
        attributes = {names.GEN_AI_TOOL_NAME: record.tool_label(self._name)}
        record.tool_duration.record(
            self._duration(), {**attributes, **self._error_attributes()}, self.context
        )


@dataclass(frozen=True, kw_only=True)
class AgentRequest:
    """Recorded facts of the invocation of an agent."""

    name: str
    id: str | None = None
    description: str | None = None
    provider: str | None = None
    model: str | None = None
    remote: bool = False
    conversation_id: str | None = None
    attributes: Mapping[str, AttributeValue]


class AgentInvocation(Operation):
    """Records one invocation of an agent, here or, where `remote`, in another process."""

    def __init__(self, recorder: "Recorder", request: AgentRequest) -> None:
        if request.conversation_id is None and (conversation := current_conversation()):
            request = replace(request, conversation_id=conversation)
        super().__init__(
            recorder,
            f"invoke_agent {request.name}",
            SpanKind.CLIENT if request.remote else SpanKind.INTERNAL,
            known(
                {
                    names.GEN_AI_OPERATION_NAME: "invoke_agent",
                    names.GEN_AI_AGENT_NAME: request.name,
                    names.GEN_AI_AGENT_ID: request.id,
                    names.GEN_AI_AGENT_DESCRIPTION: request.description,
                    names.GEN_AI_PROVIDER_NAME: request.provider,
                    names.GEN_AI_REQUEST_MODEL: request.model,
                    names.GEN_AI_CONVERSATION_ID: request.conversation_id,
                    **request.attributes,
                }
            ),
        )
        self.context = nesting.outside_of_calls(
            with_conversation(self.context, request.conversation_id)
        )
        self._name = request.name

    def _count(self) -> None:
        record = self.recorder.instruments
        attributes = {names.GEN_AI_AGENT_NAME: record.agent_label(self._name)}
        record.agent_duration.record(
            self._duration(), {**attributes, **self._error_attributes()}, self.context
        )
