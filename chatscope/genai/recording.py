"""Recorders for code that is not ours, and single values of the product's own metrics.

Each recorder is a context manager and a decorator. It records to the telemetry that
`chatscope.configure` made, or to the global OpenTelemetry providers, at the time of use.
"""

import inspect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypedDict, TypeVar, Unpack, overload

from opentelemetry.util.types import AttributeValue

from chatscope.arguments import accepted, refuse
from chatscope.genai import nesting
from chatscope.genai.answer import Answer
from chatscope.genai.decorating import Recording
from chatscope.genai.deferred import WORKER
from chatscope.genai.handles import AgentStep, EmbeddingsCall, ModelCall, ToolCall
from chatscope.genai.operation import innermost_operation
from chatscope.genai.recorder import current_recorder
from chatscope.genai.request import ModelRequest
from chatscope.genai.steps import (
    AgentInvocation,
    AgentRequest,
    Embeddings,
    EmbeddingsRequest,
    ToolExecution,
    ToolRequest,
)
from chatscope.guard import guarded

_Function = TypeVar("_Function", bound=Callable[..., Any])
_UNKNOWN = "unknown"
_TOKEN_TYPES = ("prompt", "completion")


class RequestOptions(TypedDict, total=False):
    """What may be recorded of a request to a model, beside its model and provider."""

    operation: str  # chat (default), text_completion, generate_content
    stream: bool
    messages: Sequence[Mapping[str, Any]]
    server_address: str
    server_port: int
    temperature: float
    top_p: float
    frequency_penalty: float
    presence_penalty: float
    max_tokens: int
    top_k: int
    choice_count: int
    reasoning_level: str
    output_type: str  # text, json, image, speech
    seed: int
    stop: Sequence[str]
    conversation_id: str
    session_id: str
    user_id: str
    prompt_name: str
    prompt_version: str
    previous_response_id: str
    system_instructions: str | Sequence[Any]
    tools: Sequence[Mapping[str, Any]]
    in_process: bool
    attributes: Mapping[str, AttributeValue]


class InferenceRecording(Recording[ModelCall]):
    """Records calls of a model."""

    def __init__(self, model: str, provider: str, options: RequestOptions) -> None:
        super().__init__()
        self._model = model
        self._provider = provider
        self._options = options

    def start(self) -> ModelCall:
        """Start a call whose end the caller records by `close`, or by a stream of it."""
        with guarded("starting to record a model call"):
            outer = _outer_call()
            if outer is not None:
                return ModelCall(publish=outer)
            options: dict[str, Any] = dict(self._options)
            options["messages"] = _mappings("messages", options.get("messages"), "role and content")
            options["tools"] = _mappings("tools", options.get("tools"), "type and name")
            if stop := options.pop("stop", None):
                options["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
            request = ModelRequest(
                model=_name("model", self._model),
                provider=_name("provider", self._provider),
                **options,
            )
            WORKER.start()
            return ModelCall(current_recorder().start_answer(request, started=time.perf_counter()))
        return ModelCall()

    def stream(self, items: Any) -> Any:
        """Return an iterator over the same items that records them as one call.

        The call starts now and ends with the stream, however that ends.
        """
        return self.start().wrap(items, owned=True)


class EmbeddingsRecording(Recording[EmbeddingsCall]):
    """Records requests for embeddings."""

    def __init__(self, request: Callable[[], EmbeddingsRequest]) -> None:
        super().__init__()
        self._request = request

    def start(self) -> EmbeddingsCall:
        """Start a request whose end the caller records by `close`."""
        with guarded("starting to record embeddings"):
            if isinstance(innermost_operation(), Embeddings) or nesting.foreign_embeddings():
                return EmbeddingsCall()
            WORKER.start()
            return EmbeddingsCall(Embeddings(current_recorder(), self._request()))
        return EmbeddingsCall()


class ToolRecording(Recording[ToolCall]):
    """Records executions of a tool."""

    def __init__(self, request: Callable[[str], ToolRequest], name: str | None) -> None:
        super().__init__()
        self._request = request
        self._name = name

    def start(self) -> ToolCall:
        """Start an execution whose end the caller records by `close`."""
        return self._start(_UNKNOWN)

    def started_for(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ToolCall:
        """Start an execution for one call of a decorated function, with its arguments."""
        call = self._start(getattr(function, "__name__", _UNKNOWN))
        with guarded("reading the arguments of a tool"):
            if current_recorder().capture_content:
                bound = inspect.signature(function).bind_partial(*args, **kwargs).arguments
                call.arguments({name: bound[name] for name in bound if name != "self"})
        return call

    def _start(self, default: str) -> ToolCall:
        with guarded("starting to record a tool execution"):
            name = accepted("name of a tool", self._name, str) or default
            WORKER.start()
            return ToolCall(ToolExecution(current_recorder(), self._request(name)))
        return ToolCall()


class AgentRecording(Recording[AgentStep]):
    """Records invocations of an agent."""

    def __init__(self, request: Callable[[str], AgentRequest], name: str | None) -> None:
        super().__init__()
        self._request = request
        self._name = name

    def start(self) -> AgentStep:
        """Start an invocation whose end the caller records by `close`."""
        return self._start(_UNKNOWN)

    def started_for(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AgentStep:
        """Start an invocation for one call of a decorated function."""
        return self._start(getattr(function, "__name__", _UNKNOWN))

    def _start(self, default: str) -> AgentStep:
        with guarded("starting to record an agent"):
            name = accepted("name of an agent", self._name, str) or default
            WORKER.start()
            return AgentStep(AgentInvocation(current_recorder(), self._request(name)))
        return AgentStep()


def inference(
    *, model: str, provider: str, **options: Unpack[RequestOptions]
) -> InferenceRecording:
    """Record calls of a model: the span `chat {model}`, times, tokens, cost and one log record.

    `provider` is a name of the conventions, such as `openai` or `anthropic`. A call inside another
    one is the same call: it adds its data, but no span and no counts.
    """
    return InferenceRecording(model, provider, options)


def current_call() -> ModelCall:
    """Return the model call in progress, for a decorated function; outside one, it does nothing."""
    operation = innermost_operation()
    return ModelCall(operation if isinstance(operation, Answer) else None)


def embeddings(
    *,
    model: str,
    provider: str,
    dimensions: int | None = None,
    server_address: str | None = None,
    server_port: int | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> EmbeddingsRecording:
    """Record requests for embeddings: the span `embeddings {model}`, duration, tokens, cost."""

    def request() -> EmbeddingsRequest:
        return EmbeddingsRequest(
            model=_name("model", model),
            provider=_name("provider", provider),
            dimensions=accepted("dimensions", dimensions, int),
            server_address=accepted("server_address", server_address, str),
            server_port=accepted("server_port", server_port, int),
            attributes=attributes or {},
        )

    return EmbeddingsRecording(request)


class ToolOptions(TypedDict, total=False):
    """What may be recorded of a tool execution; `arguments` only where content is captured."""

    call_id: str
    type: str  # function, extension, datastore
    description: str
    arguments: Any
    attributes: Mapping[str, AttributeValue]


@overload
def execute_tool(name: _Function) -> _Function: ...


@overload
def execute_tool(name: str | None = None, **options: Unpack[ToolOptions]) -> ToolRecording: ...


def execute_tool(name: Any = None, **options: Unpack[ToolOptions]) -> Any:
    """Record executions of a tool: the span `execute_tool {name}` and its duration.

    As a decorator, the name is by default that of the function.
    """
    if callable(name):
        return execute_tool()(name)

    def request(name: str) -> ToolRequest:
        return ToolRequest(**{"name": name, "attributes": {}, **options})  # type: ignore[arg-type]

    return ToolRecording(request, name)


class AgentOptions(TypedDict, total=False):
    """What may be recorded of an agent's invocation; a `remote` agent runs in another process."""

    id: str
    description: str
    provider: str
    model: str
    remote: bool
    conversation_id: str
    attributes: Mapping[str, AttributeValue]


@overload
def invoke_agent(name: _Function) -> _Function: ...


@overload
def invoke_agent(name: str | None = None, **options: Unpack[AgentOptions]) -> AgentRecording: ...


def invoke_agent(name: Any = None, **options: Unpack[AgentOptions]) -> Any:
    """Record invocations of an agent: the span `invoke_agent {name}` and its duration.

    The model calls and tool executions inside are its children and belong to its conversation.
    As a decorator, the name is by default that of the function.
    """
    if callable(name):
        return invoke_agent()(name)

    def request(name: str) -> AgentRequest:
        return AgentRequest(**{"name": name, "attributes": {}, **options})  # type: ignore[arg-type]

    return AgentRecording(request, name)


def record_retry(attributes: Mapping[str, AttributeValue] | None = None) -> None:
    """Record that the current model call is retried; `attributes` have the last failure.

    All tries are one call: its duration and its tokens are counted once.
    """
    with guarded("recording a retry"):
        operation = innermost_operation()
        if isinstance(operation, Answer):
            operation.retried(attributes or {})


def record_socket_connection(delta: int) -> None:
    """Record a WebSocket that opened (+1) or closed (-1)."""
    with guarded("recording a socket"):
        if (change := accepted("delta", delta, int)) is not None:
            current_recorder().instruments.record_socket_connection(change)


def record_message(role: str) -> None:
    """Record one message of a conversation: user, assistant, system or tool."""
    with guarded("recording a message"):
        if (name := accepted("role", role, str)) is not None:
            current_recorder().instruments.record_message(name)


def record_llm_response_time(seconds: float, *, model: str | None = None) -> None:
    """Record the seconds from a request's arrival until its response's last byte was sent."""
    with guarded("recording a response time"):
        if accepted("seconds", seconds, float) is not None:
            current_recorder().instruments.record_llm_response_time(seconds, model=model)


def record_token_usage(type: str, count: int, *, model: str | None = None) -> None:
    """Record tokens of one response, of type `prompt` or `completion`."""
    with guarded("recording tokens"):
        if accepted("count", count, int) is None:
            return
        if type not in _TOKEN_TYPES:
            refuse("type of tokens", f"type must be prompt or completion (got {type!r})")
        elif count < 0:
            refuse("number of tokens", f"count must be >= 0 (got {count})")
        else:
            current_recorder().instruments.record_token_usage(type, count, model=model)


def _name(name: str, value: object) -> str:
    return accepted(name, value, str) or _UNKNOWN


def _mappings(name: str, found: object, having: str) -> Sequence[Mapping[str, Any]]:
    """Return the mappings if they are valid; log others."""
    if found is None:
        return ()
    listed: list[Any] = list(found) if isinstance(found, Iterable) else [found]
    if all(isinstance(each, Mapping) for each in listed):
        return listed
    refuse(name, f"{name} must be mappings with {having}")
    return ()


def _outer_call() -> Callable[[nesting.Published], None] | None:
    """Return the recorder of the facts of a call inside another one; None outside."""
    outer = innermost_operation()
    if isinstance(outer, Answer) and outer.is_open:
        return outer.complement
    data = nesting.foreign_inference()
    if data is None or (isinstance(outer, Answer) and outer.is_around(data)):
        return None
    return partial(nesting.publish, data)
