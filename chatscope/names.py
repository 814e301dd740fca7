"""The registry of metric and attribute names: kind, unit, allowed attributes, description.

Sources: OpenTelemetry semantic conventions (HTTP, process, CPython: the names of
opentelemetry-semantic-conventions 0.66b2; GenAI: the semantic-conventions-genai
repository, status Development). Names without a convention have the prefix `chatscope.`,
except the product's own instruments, whose names have no prefix.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, TypeVar

from chatscope.otlp.self_metrics import (
    ABOUT_DURATION,
    ABOUT_FALLBACKS,
    ABOUT_SPOOL_CAPACITY,
    ABOUT_SPOOL_DEAD_LETTERS,
    ABOUT_SPOOL_ITEMS,
    ABOUT_SPOOL_SIZE,
    COMPONENT_TYPE,
    DURATIONS,
    LOGS,
    OPERATION_DURATION,
    POINTS,
    SPANS,
)
from chatscope.redaction.rules import USER_ID as USER_ID  # noqa: PLC0414

_Value = TypeVar("_Value")

# A value outside a closed list, on metrics, as in the conventions.
OTHER: Final = "_OTHER"
# Prefix of names without a convention; settings replace it.
PREFIX: Final = "chatscope"

# -- attributes -----------------------------------------------------------------

_EARLIER: Final = frozenset(globals())
ERROR_TYPE: Final = "error.type"
ERROR_MESSAGE: Final = "error.message"  # spans and logs only
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_REQUEST_METHOD_ORIGINAL: Final = "http.request.method_original"  # spans only
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
HTTP_RESEND_COUNT: Final = "http.request.resend_count"
HTTP_ROUTE: Final = "http.route"
NETWORK_PROTOCOL_NAME: Final = "network.protocol.name"
NETWORK_PROTOCOL_VERSION: Final = "network.protocol.version"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
URL_PATH: Final = "url.path"
URL_SCHEME: Final = "url.scheme"
CLIENT_ADDRESS: Final = "client.address"
CLIENT_PORT: Final = "client.port"
USER_AGENT: Final = "user_agent.original"

CODE_FILE_PATH: Final = "code.file.path"
CODE_FUNCTION_NAME: Final = "code.function.name"
CODE_LINE_NUMBER: Final = "code.line.number"

EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
EXCEPTION_ESCAPED: Final = "exception.escaped"

GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
GEN_AI_CONVERSATION_ID: Final = "gen_ai.conversation.id"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_PROMPT_NAME: Final = "gen_ai.prompt.name"
GEN_AI_PROMPT_VERSION: Final = "gen_ai.prompt.version"
GEN_AI_OUTPUT_TYPE: Final = "gen_ai.output.type"  # text, json, image, speech
GEN_AI_REQUEST_STREAM: Final = "gen_ai.request.stream"
GEN_AI_REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
GEN_AI_REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
GEN_AI_REQUEST_PREVIOUS_RESPONSE_ID: Final = "gen_ai.request.previous_response.id"
GEN_AI_REQUEST_TOP_K: Final = "gen_ai.request.top_k"
GEN_AI_REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
GEN_AI_REQUEST_TOP_P: Final = "gen_ai.request.top_p"
GEN_AI_REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
GEN_AI_REQUEST_SEED: Final = "gen_ai.request.seed"
GEN_AI_REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
GEN_AI_REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
GEN_AI_REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
# text, image, audio, unknown
GEN_AI_TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105
# input, output: of the older token metric, and of what the rules make of both
GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
GEN_AI_USAGE_AUDIO_INPUT_TOKENS: Final = "gen_ai.usage.audio.input_tokens"
GEN_AI_USAGE_AUDIO_OUTPUT_TOKENS: Final = "gen_ai.usage.audio.output_tokens"
GEN_AI_USAGE_AUDIO_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.audio.cache_read.input_tokens"
GEN_AI_USAGE_IMAGE_INPUT_TOKENS: Final = "gen_ai.usage.image.input_tokens"
GEN_AI_USAGE_IMAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.image.output_tokens"
GEN_AI_EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"
GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
GEN_AI_TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
GEN_AI_TOOL_TYPE: Final = "gen_ai.tool.type"
GEN_AI_TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
GEN_AI_AGENT_NAME: Final = "gen_ai.agent.name"
GEN_AI_AGENT_ID: Final = "gen_ai.agent.id"
GEN_AI_AGENT_DESCRIPTION: Final = "gen_ai.agent.description"
# Opt-in: the texts of prompts and responses.
GEN_AI_INPUT_MESSAGES: Final = "gen_ai.input.messages"
GEN_AI_OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
GEN_AI_SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
GEN_AI_TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
GEN_AI_TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
GEN_AI_TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"

# Of an evaluation of a response, such as a user's rating: events and spans only.
GEN_AI_EVALUATION_NAME: Final = "gen_ai.evaluation.name"
GEN_AI_EVALUATION_SCORE_VALUE: Final = "gen_ai.evaluation.score.value"  # 0 (bad) to 1 (good)
GEN_AI_EVALUATION_SCORE_LABEL: Final = "gen_ai.evaluation.score.label"
GEN_AI_EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"

# Spans and logs only, never metrics: a series for each person would have no bound.
SESSION_ID: Final = "session.id"

# Ours: spans and logs only, never metrics.
CONNECTION_ID: Final = "chatscope.connection.id"
ANSWER_COST: Final = "chatscope.answer.cost"  # USD
ANSWER_SECONDS: Final = "chatscope.answer.duration"  # s, from arrival until the last byte was sent
ANSWER_OUTCOME: Final = "chatscope.answer.outcome"  # completed, failed, cancelled
ANSWER_EMPTY: Final = "chatscope.answer.empty"  # true: completed without any text
PROVIDER_ERROR_CODE: Final = "chatscope.provider.error_code"  # the provider's, if one word
ATTEMPT: Final = "chatscope.attempt.number"  # from 1; others before it failed
ATTEMPT_SECONDS: Final = "chatscope.attempt.duration"  # s, of one that failed
REQUESTED_MODEL: Final = "chatscope.requested.model"  # if a fallback has responded in its place
USAGE_PARTIAL: Final = "chatscope.usage.partial"  # true: estimated here, no total reported
# s, until the first bytes were sent
TIME_TO_FIRST_TOKEN: Final = "chatscope.answer.time_to_first_token"  # noqa: S105

KEY_TEAM: Final = "chatscope.key.team"  # of an API key

# Ours, on metrics: each from a closed list.
KEY_NAME: Final = "chatscope.key.name"  # of an API key, as its file has it
FEEDBACK_LABEL: Final = "chatscope.feedback.label"  # good, bad, other
BUDGET_UNIT: Final = "chatscope.budget.unit"  # usd, token
RATE_LIMIT_TYPE: Final = "chatscope.rate_limit.type"  # requests, tokens, …
ROLE: Final = "role"  # user, assistant, system, tool
TOKEN_TYPE: Final = "type"  # prompt, completion  # noqa: S105
DIRECTION: Final = "network.io.direction"  # receive, transmit
CLOSE_CODE: Final = "chatscope.websocket.close_code"  # RFC 6455 section 7.4.1, else _OTHER
LIMIT: Final = "chatscope.limit"  # name of the limit, from the closed list of the application
SIGNAL: Final = "chatscope.signal"  # traces, logs
CPU_MODE: Final = "cpu.mode"  # user, system
CONTEXT_SWITCH_TYPE: Final = "process.context_switch.type"  # voluntary, involuntary
GC_GENERATION: Final = "cpython.gc.generation"  # 0, 1, 2

# -- events: log records with a name, in the context of their span ---------------------

# Opt-in: all that the span has, and the texts.
EVENT_INFERENCE_DETAILS: Final = "gen_ai.client.inference.operation.details"
EVENT_INFERENCE_EXCEPTION: Final = "gen_ai.client.inference.exception"
EVENT_EXECUTE_TOOL_EXCEPTION: Final = "gen_ai.execute_tool.exception"
EVENT_EXCEPTION: Final = "exception"
# An evaluation of a response, such as a user's rating.
EVENT_EVALUATION: Final = "gen_ai.evaluation.result"
# A provider's client retries; with HTTP_RESEND_COUNT, and the reason in ERROR_TYPE.
EVENT_RETRY: Final = "chatscope.model.retry"

# The public names: of attributes and events. The registry of metrics may change.
__all__ = [name for name in globals() if name not in _EARLIER and not name.startswith("_")]

# -- metrics ----------------------------------------------------------------------


class Kind(Enum):
    """The kind of an instrument."""

    COUNTER = "counter"
    UP_DOWN_COUNTER = "up_down_counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


# Units in names of Prometheus (the OTLP-to-Prometheus rules of the OpenTelemetry
# specification); a unit in braces is an annotation and is omitted.
_PROMETHEUS_UNITS: Final = {"s": "seconds", "By": "bytes"}


@dataclass(frozen=True)
class Metric:
    """One instrument: its name, kind, UCUM unit, meaning and allowed attributes.

    `buckets` are a histogram's upper bounds, in `unit`.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] | None = None

    @property
    def prometheus(self) -> str:
        """The name in Prometheus; a histogram's series add `_bucket`, `_sum`, `_count`."""
        base = self.name.replace(".", "_")
        if unit := _PROMETHEUS_UNITS.get(self.unit):
            base = f"{base}_{unit}"
        return f"{base}_total" if self.kind is Kind.COUNTER else base

    def with_prefix(self, prefix: str) -> "Metric":
        """Return the metric with another prefix in place of `PREFIX`."""
        if prefix == PREFIX:
            return self
        attributes = tuple(prefixed(attribute, prefix) for attribute in self.attributes)
        return replace(self, name=prefixed(self.name, prefix), attributes=attributes)


def prefixed(name: str, prefix: str) -> str:
    """Return one of our own names with another prefix, and any other name unchanged."""
    first, dot, rest = name.partition(".")
    return f"{prefix}.{rest}" if dot and first == PREFIX else name


def all_prefixed(attributes: Mapping[str, _Value], prefix: str) -> dict[str, _Value]:
    """Return attributes with another prefix for those of our own."""
    if prefix == PREFIX:
        return dict(attributes)
    return {prefixed(name, prefix): value for name, value in attributes.items()}


def prometheus_label(attribute: str) -> str:
    """Return an attribute's name as a label in Prometheus and as metadata in Loki."""
    return attribute.replace(".", "_")


_GEN_AI_SECONDS: Final = tuple(round(0.01 * 2**n, 2) for n in range(14))
_GEN_AI_TOKENS: Final = tuple(float(4**n) for n in range(14))
_FIRST_TOKEN_SECONDS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
_AGENT_SECONDS: Final = tuple(round(0.1 * 2**n, 1) for n in range(13))
_PER_TOKEN_SECONDS: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
)  # fmt: skip
# The conventions' HTTP bounds end at 10 s, where a long streamed response only begins.
HTTP_SECONDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0,
)  # fmt: skip
# The SDK's default bounds.
_BODY_BYTES: Final = (
    0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0,
    10000.0,
)  # fmt: skip
# A conversation lasts from seconds to a working day.
_SESSION_SECONDS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 28800.0)
_LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

_CLIENT_CALL: Final = (
    GEN_AI_OPERATION_NAME,
    GEN_AI_PROVIDER_NAME,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_RESPONSE_MODEL,
    SERVER_ADDRESS,
    SERVER_PORT,
)
_SERVER_ANSWER: Final = (
    GEN_AI_OPERATION_NAME,
    GEN_AI_PROVIDER_NAME,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_RESPONSE_MODEL,
)
_HTTP_SERVER: Final = (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
    ERROR_TYPE,
    NETWORK_PROTOCOL_VERSION,
    URL_SCHEME,
)

# The product's own names: part of the contract with its users.
SOCKET_CONNECTIONS: Final = Metric(
    "socket_connections", Kind.UP_DOWN_COUNTER, "{connection}", "Open WebSocket connections."
)
MESSAGE_COUNT: Final = Metric(
    "message_count",
    Kind.COUNTER,
    "{message}",
    "Messages of conversations, each counted once.",
    (ROLE,),
)
LLM_RESPONSE_TIME: Final = Metric(
    "llm_response_time",
    Kind.HISTOGRAM,
    "s",
    "Response time as the client sees it: from the arrival of the request until the last byte "
    "was sent.",
    (GEN_AI_REQUEST_MODEL, ERROR_TYPE),
    _GEN_AI_SECONDS,
)
LLM_TOKEN_USAGE: Final = Metric(
    "llm_token_usage",
    Kind.COUNTER,
    "{token}",
    "Tokens of prompts and completions.",
    (TOKEN_TYPE, GEN_AI_REQUEST_MODEL),
)
LLM_COST: Final = Metric(
    "llm_cost",
    Kind.COUNTER,
    "{USD}",
    "Cost of responses in US dollars, by the price table.",
    (GEN_AI_REQUEST_MODEL,),
)

# GenAI conventions: `client` for our calls of a provider, `server` for our responses.
CLIENT_INFERENCE_DURATION: Final = Metric(
    "gen_ai.client.inference.duration",
    Kind.HISTOGRAM,
    "s",
    "Duration of a model call, from the request to the provider's last chunk.",
    (*_CLIENT_CALL, ERROR_TYPE),
    _GEN_AI_SECONDS,
)
CLIENT_TIME_TO_FIRST_CHUNK: Final = Metric(
    "gen_ai.client.inference.time_to_first_chunk",
    Kind.HISTOGRAM,
    "s",
    "Time from the request to the provider until its first chunk was received.",
    _CLIENT_CALL,
    _GEN_AI_SECONDS,
)
CLIENT_TIME_PER_OUTPUT_CHUNK: Final = Metric(
    "gen_ai.client.inference.time_per_output_chunk",
    Kind.HISTOGRAM,
    "s",
    "Time between two consecutive chunks of the provider.",
    _CLIENT_CALL,
    _GEN_AI_SECONDS,
)
CLIENT_INPUT_TOKENS: Final = Metric(
    "gen_ai.client.inference.operation.input_tokens",
    Kind.HISTOGRAM,
    "{token}",
    "Input tokens of a model call, including cached tokens.",
    (*_CLIENT_CALL, ERROR_TYPE),
    _GEN_AI_TOKENS,
)
CLIENT_OUTPUT_TOKENS: Final = Metric(
    "gen_ai.client.inference.operation.output_tokens",
    Kind.HISTOGRAM,
    "{token}",
    "Output tokens of a model call, including reasoning tokens.",
    (*_CLIENT_CALL, ERROR_TYPE),
    _GEN_AI_TOKENS,
)
_USAGE: Final = (*_CLIENT_CALL, GEN_AI_TOKEN_MODALITY)
USAGE_INPUT_TOKENS: Final = Metric(
    "gen_ai.client.inference.usage.input_tokens",
    Kind.COUNTER,
    "{token}",
    "Input tokens used, including cached tokens.",
    _USAGE,
)
USAGE_OUTPUT_TOKENS: Final = Metric(
    "gen_ai.client.inference.usage.output_tokens",
    Kind.COUNTER,
    "{token}",
    "Output tokens used, including reasoning tokens.",
    _USAGE,
)
USAGE_CACHE_READ_TOKENS: Final = Metric(
    "gen_ai.client.inference.usage.cache_read.input_tokens",
    Kind.COUNTER,
    "{token}",
    "Input tokens read from a cache of the provider.",
    _USAGE,
)
USAGE_CACHE_WRITE_TOKENS: Final = Metric(
    "gen_ai.client.inference.usage.cache_write.input_tokens",
    Kind.COUNTER,
    "{token}",
    "Input tokens written to a cache of the provider.",
    _USAGE,
)
USAGE_REASONING_TOKENS: Final = Metric(
    "gen_ai.client.inference.usage.reasoning.output_tokens",
    Kind.COUNTER,
    "{token}",
    "Output tokens used for reasoning.",
    _USAGE,
)
EMBEDDINGS_DURATION: Final = Metric(
    "gen_ai.client.embeddings.duration",
    Kind.HISTOGRAM,
    "s",
    "Duration of a request for embeddings.",
    (*_CLIENT_CALL, ERROR_TYPE),
    _GEN_AI_SECONDS,
)
EMBEDDINGS_INPUT_TOKENS: Final = Metric(
    "gen_ai.client.embeddings.operation.input_tokens",
    Kind.HISTOGRAM,
    "{token}",
    "Input tokens of a request for embeddings.",
    _CLIENT_CALL,
    _GEN_AI_TOKENS,
)
EXECUTE_TOOL_DURATION: Final = Metric(
    "gen_ai.execute_tool.duration",
    Kind.HISTOGRAM,
    "s",
    "Duration of a tool execution.",
    (GEN_AI_TOOL_NAME, ERROR_TYPE),
    _GEN_AI_SECONDS,
)
INVOKE_AGENT_DURATION: Final = Metric(
    "gen_ai.invoke_agent.duration",
    Kind.HISTOGRAM,
    "s",
    "Duration of an agent invocation.",
    (GEN_AI_AGENT_NAME, ERROR_TYPE),
    _AGENT_SECONDS,
)
SERVER_REQUEST_DURATION: Final = Metric(
    "gen_ai.server.request.duration",
    Kind.HISTOGRAM,
    "s",
    "Time from a request's arrival here until the last byte of its response was sent.",
    (*_SERVER_ANSWER, ERROR_TYPE),
    _GEN_AI_SECONDS,
)
SERVER_TIME_TO_FIRST_TOKEN: Final = Metric(
    "gen_ai.server.time_to_first_token",
    Kind.HISTOGRAM,
    "s",
    "Time from the arrival of a request until the first bytes of its response were sent.",
    _SERVER_ANSWER,
    _FIRST_TOKEN_SECONDS,
)
SERVER_TIME_PER_OUTPUT_TOKEN: Final = Metric(
    "gen_ai.server.time_per_output_token",
    Kind.HISTOGRAM,
    "s",
    "Mean time for each token of a response after the first, measured as bytes were sent.",
    _SERVER_ANSWER,
    _PER_TOKEN_SECONDS,
)

ANSWER_STALL: Final = Metric(
    "chatscope.answer.longest_stall",
    Kind.HISTOGRAM,
    "s",
    "Longest pause between two chunks of a streamed response, measured as bytes were sent.",
    (GEN_AI_REQUEST_MODEL,),
    _GEN_AI_SECONDS,
)
ANSWERS_ACTIVE: Final = Metric(
    "chatscope.answers.active", Kind.UP_DOWN_COUNTER, "{answer}", "Responses in progress."
)
MODEL_PRICED: Final = Metric(
    "chatscope.model.priced",
    Kind.GAUGE,
    "{model}",
    "Whether the price of a model is known: 1, or 0 for one whose calls have no cost.",
    (GEN_AI_REQUEST_MODEL,),
)
LIMIT_VALUE: Final = Metric(
    "chatscope.limit.value",
    Kind.GAUGE,
    "{item}",
    "Value of each limit of the service, in the unit of that limit.",
    (LIMIT,),
)
LIMIT_REACHED: Final = Metric(
    "chatscope.limit.reached",
    Kind.COUNTER,
    "{refusal}",
    "Requests, messages and connections refused or cut by a limit.",
    (LIMIT,),
)

BUDGET_USED: Final = Metric(
    "chatscope.budget.used",
    Kind.GAUGE,
    "{item}",
    "Amount that an API key has used in the current UTC day, in US dollars and in tokens.",
    (KEY_NAME, BUDGET_UNIT),
)
BUDGET_LIMIT: Final = Metric(
    "chatscope.budget.limit",
    Kind.GAUGE,
    "{item}",
    "Limit of an API key for a UTC day, in US dollars and in tokens.",
    (KEY_NAME, BUDGET_UNIT),
)

SHARED_STORE_UP: Final = Metric(
    "chatscope.shared_store.up",
    Kind.GAUGE,
    "{state}",
    "Whether the server that replicas share responded when it was last asked: 1 or 0.",
)

RATE_LIMIT_REMAINING: Final = Metric(
    "chatscope.provider.rate_limit.remaining",
    Kind.GAUGE,
    "{item}",
    "Remaining rate limit, as reported by the provider's last response.",
    (GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL, RATE_LIMIT_TYPE),
)
RATE_LIMIT_LIMIT: Final = Metric(
    "chatscope.provider.rate_limit.limit",
    Kind.GAUGE,
    "{item}",
    "Rate limit, as reported by the provider's last response.",
    (GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL, RATE_LIMIT_TYPE),
)

FEEDBACK: Final = Metric(
    "chatscope.feedback",
    Kind.COUNTER,
    "{rating}",
    "Ratings of responses by their users.",
    (GEN_AI_REQUEST_MODEL, FEEDBACK_LABEL),
)

HTTP_REQUEST_DURATION: Final = Metric(
    "http.server.request.duration",
    Kind.HISTOGRAM,
    "s",
    "Duration of HTTP server requests.",
    _HTTP_SERVER,
    HTTP_SECONDS,
)
HTTP_ACTIVE_REQUESTS: Final = Metric(
    "http.server.active_requests",
    Kind.UP_DOWN_COUNTER,
    "{request}",
    "Number of active HTTP server requests.",
    (HTTP_REQUEST_METHOD, URL_SCHEME),
)
HTTP_REQUEST_BODY_SIZE: Final = Metric(
    "http.server.request.body.size",
    Kind.HISTOGRAM,
    "By",
    "Size of HTTP server request bodies.",
    _HTTP_SERVER,
    _BODY_BYTES,
)
HTTP_RESPONSE_BODY_SIZE: Final = Metric(
    "http.server.response.body.size",
    Kind.HISTOGRAM,
    "By",
    "Size of HTTP server response bodies.",
    _HTTP_SERVER,
    _BODY_BYTES,
)

# WebSocket: no conventions yet.
WEBSOCKET_DURATION: Final = Metric(
    "chatscope.websocket.connection.duration",
    Kind.HISTOGRAM,
    "s",
    "Time from a WebSocket's accept until its close.",
    (HTTP_ROUTE, CLOSE_CODE),
    _SESSION_SECONDS,
)
WEBSOCKET_MESSAGES: Final = Metric(
    "chatscope.websocket.messages",
    Kind.COUNTER,
    "{message}",
    "WebSocket messages, text and binary, in each direction.",
    (HTTP_ROUTE, DIRECTION),
)

# Process and runtime.
PROCESS_CPU_TIME: Final = Metric(
    "process.cpu.time", Kind.COUNTER, "s", "CPU seconds by mode.", (CPU_MODE,)
)
PROCESS_MEMORY_USAGE: Final = Metric(
    "process.memory.usage", Kind.UP_DOWN_COUNTER, "By", "Physical memory in use."
)
PROCESS_MEMORY_VIRTUAL: Final = Metric(
    "process.memory.virtual", Kind.UP_DOWN_COUNTER, "By", "Committed virtual memory."
)
PROCESS_THREADS: Final = Metric(
    "process.thread.count", Kind.UP_DOWN_COUNTER, "{thread}", "Threads of the process."
)
PROCESS_OPEN_FILES: Final = Metric(
    "process.unix.file_descriptor.count",
    Kind.UP_DOWN_COUNTER,
    "{file_descriptor}",
    "Open file descriptors of the process.",
)
PROCESS_CONTEXT_SWITCHES: Final = Metric(
    "process.context_switches",
    Kind.COUNTER,
    "{context_switch}",
    "Context switches of the process.",
    (CONTEXT_SWITCH_TYPE,),
)
PROCESS_UPTIME: Final = Metric("process.uptime", Kind.GAUGE, "s", "Time since the process started.")
PROCESS_ENDED: Final = Metric(
    "chatscope.process.ended",
    Kind.GAUGE,
    "{state}",
    "1 with the last export of a process that ended on purpose.",
)
GC_COLLECTIONS: Final = Metric(
    "cpython.gc.collections",
    Kind.COUNTER,
    "{collection}",
    "Collections of a garbage collector's generation since the interpreter started.",
    (GC_GENERATION,),
)
GC_COLLECTED: Final = Metric(
    "cpython.gc.collected_objects",
    Kind.COUNTER,
    "{object}",
    "Objects collected inside a generation since the interpreter started.",
    (GC_GENERATION,),
)
GC_UNCOLLECTABLE: Final = Metric(
    "cpython.gc.uncollectable_objects",
    Kind.COUNTER,
    "{object}",
    "Objects found uncollectable inside a generation since the interpreter started.",
    (GC_GENERATION,),
)
EVENT_LOOP_LAG: Final = Metric(
    "chatscope.event_loop.lag",
    Kind.HISTOGRAM,
    "s",
    "Delay with which the event loop resumed a sleeping task.",
    (),
    _LAG_SECONDS,
)
EVENT_LOOP_TASKS: Final = Metric(
    "chatscope.event_loop.tasks",
    Kind.GAUGE,
    "{task}",
    "Tasks of the event loop that have not ended.",
)
CONSOLE_DROPPED: Final = Metric(
    "chatscope.console.dropped",
    Kind.COUNTER,
    "{line}",
    "Log lines dropped because standard error could not be written.",
)

# Metrics of the telemetry itself, recorded by chatscope.otlp with OpenTelemetry's names.
SPANS_CREATED: Final = Metric(SPANS.created, Kind.COUNTER, SPANS.unit, SPANS.about_created)
SPANS_PROCESSED: Final = Metric(
    SPANS.processed, Kind.COUNTER, SPANS.unit, SPANS.about_processed, (ERROR_TYPE,)
)
SPANS_EXPORTED: Final = Metric(
    SPANS.exported, Kind.COUNTER, SPANS.unit, SPANS.about_exported, (ERROR_TYPE,)
)
SPANS_INFLIGHT: Final = Metric(
    SPANS.inflight, Kind.UP_DOWN_COUNTER, SPANS.unit, SPANS.about_inflight
)
SPAN_QUEUE_SIZE: Final = Metric(
    SPANS.queue_size, Kind.UP_DOWN_COUNTER, SPANS.unit, SPANS.about_queue_size
)
SPAN_QUEUE_CAPACITY: Final = Metric(
    SPANS.queue_capacity, Kind.UP_DOWN_COUNTER, SPANS.unit, SPANS.about_queue_capacity
)
LOGS_CREATED: Final = Metric(LOGS.created, Kind.COUNTER, LOGS.unit, LOGS.about_created)
LOGS_PROCESSED: Final = Metric(
    LOGS.processed, Kind.COUNTER, LOGS.unit, LOGS.about_processed, (ERROR_TYPE,)
)
LOGS_EXPORTED: Final = Metric(
    LOGS.exported, Kind.COUNTER, LOGS.unit, LOGS.about_exported, (ERROR_TYPE,)
)
LOGS_INFLIGHT: Final = Metric(LOGS.inflight, Kind.UP_DOWN_COUNTER, LOGS.unit, LOGS.about_inflight)
LOG_QUEUE_SIZE: Final = Metric(
    LOGS.queue_size, Kind.UP_DOWN_COUNTER, LOGS.unit, LOGS.about_queue_size
)
LOG_QUEUE_CAPACITY: Final = Metric(
    LOGS.queue_capacity, Kind.UP_DOWN_COUNTER, LOGS.unit, LOGS.about_queue_capacity
)
POINTS_EXPORTED: Final = Metric(
    POINTS.exported, Kind.COUNTER, POINTS.unit, POINTS.about_exported, (ERROR_TYPE,)
)
POINTS_INFLIGHT: Final = Metric(
    POINTS.inflight, Kind.UP_DOWN_COUNTER, POINTS.unit, POINTS.about_inflight
)
EXPORT_DURATION: Final = Metric(
    OPERATION_DURATION,
    Kind.HISTOGRAM,
    "s",
    ABOUT_DURATION,
    (COMPONENT_TYPE, ERROR_TYPE),
    DURATIONS,
)
SPOOL_ITEMS: Final = Metric(
    "chatscope.spool.items", Kind.UP_DOWN_COUNTER, "{item}", ABOUT_SPOOL_ITEMS, (SIGNAL,)
)
SPOOL_BYTES: Final = Metric(
    "chatscope.spool.size", Kind.UP_DOWN_COUNTER, "By", ABOUT_SPOOL_SIZE, (SIGNAL,)
)
SPOOL_DEAD_LETTERS: Final = Metric(
    "chatscope.spool.dead_letters",
    Kind.UP_DOWN_COUNTER,
    "{item}",
    ABOUT_SPOOL_DEAD_LETTERS,
    (SIGNAL,),
)
SPOOL_CAPACITY: Final = Metric(
    "chatscope.spool.capacity", Kind.GAUGE, "By", ABOUT_SPOOL_CAPACITY, (SIGNAL,)
)
ENCODER_FALLBACKS: Final = Metric(
    "chatscope.encoder.fallbacks", Kind.COUNTER, "{item}", ABOUT_FALLBACKS, (SIGNAL,)
)


@dataclass(frozen=True)
class SignalMetrics:
    """The metrics of the delivery of one signal."""

    created: Metric
    processed: Metric
    exported: Metric
    queue_size: Metric
    queue_capacity: Metric


SPAN_METRICS: Final = SignalMetrics(
    SPANS_CREATED, SPANS_PROCESSED, SPANS_EXPORTED, SPAN_QUEUE_SIZE, SPAN_QUEUE_CAPACITY
)
LOG_METRICS: Final = SignalMetrics(
    LOGS_CREATED, LOGS_PROCESSED, LOGS_EXPORTED, LOG_QUEUE_SIZE, LOG_QUEUE_CAPACITY
)

METRICS: Final[tuple[Metric, ...]] = tuple(
    value for value in list(globals().values()) if isinstance(value, Metric)
)
"""All metrics of the service, in the order of this file."""
# Not made by every chat: by embeddings, tools and agents, and where a provider reports such tokens
# or its rate limits.
OF_RECORDERS: Final = frozenset(
    {
        EXECUTE_TOOL_DURATION,
        INVOKE_AGENT_DURATION,
        EMBEDDINGS_DURATION,
        EMBEDDINGS_INPUT_TOKENS,
        USAGE_CACHE_READ_TOKENS,
        USAGE_CACHE_WRITE_TOKENS,
        USAGE_REASONING_TOKENS,
        RATE_LIMIT_REMAINING,
        RATE_LIMIT_LIMIT,
    }
)
# Those that the chat service has only if its clients need keys.
OF_KEYS: Final = frozenset({BUDGET_USED, BUDGET_LIMIT})
# Only with the last export.
OF_SHUTDOWN: Final = frozenset({PROCESS_ENDED})
# Only if replicas share a store.
OF_REPLICAS: Final = frozenset({SHARED_STORE_UP})

# -- older names ------------------------------------------------------------------
# Not made here any more, but by the instrumentations of other libraries, also in our process.


@dataclass(frozen=True)
class Older(Metric):
    """A metric by the name that it had before version 0.1.0 of the GenAI conventions."""


OLDER_DURATION: Final = Older(
    "gen_ai.client.operation.duration",
    Kind.HISTOGRAM,
    "s",
    "GenAI operation duration.",
    (*_CLIENT_CALL, ERROR_TYPE),
    _GEN_AI_SECONDS,
)
OLDER_TIME_TO_FIRST_CHUNK: Final = Older(
    "gen_ai.client.operation.time_to_first_chunk",
    Kind.HISTOGRAM,
    "s",
    "Time to receive the first chunk of a GenAI operation.",
    _CLIENT_CALL,
    _GEN_AI_SECONDS,
)
OLDER_TIME_PER_OUTPUT_CHUNK: Final = Older(
    "gen_ai.client.operation.time_per_output_chunk",
    Kind.HISTOGRAM,
    "s",
    "Time per output chunk of a GenAI operation.",
    _CLIENT_CALL,
    _GEN_AI_SECONDS,
)
OLDER_TOKENS: Final = Older(
    "gen_ai.client.token.usage",
    Kind.HISTOGRAM,
    "{token}",
    "Number of input and output tokens used.",
    (*_CLIENT_CALL, GEN_AI_TOKEN_TYPE),
    _GEN_AI_TOKENS,
)
OLDER_METRICS: Final = (
    OLDER_DURATION, OLDER_TIME_TO_FIRST_CHUNK, OLDER_TIME_PER_OUTPUT_CHUNK, OLDER_TOKENS,
)  # fmt: skip
# The operations that the newer names count as inference.
INFERENCE_OPERATIONS: Final = ("chat", "generate_content", "text_completion")
