"""Instruments made from the registry of names when they are first used, and methods that record."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol

from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, Meter, Observation, UpDownCounter

from chatscope import names
from chatscope.attributes import MAX_IDENTIFIER
from chatscope.genai.rate_limits import RateLimit, rate_limits
from chatscope.names import Metric
from chatscope.observing import observe

if TYPE_CHECKING:
    # The API's name for it, still.
    from opentelemetry.metrics import _Gauge as Gauge

    from chatscope.tally import TalliedHistogram, TalliedSum, Tallies

FEEDBACK_LABELS: Final = ("good", "bad", "other")
_ROLES: Final = frozenset({"user", "assistant", "system", "tool"})
_INFERENCE_USAGE: Final = (
    names.USAGE_INPUT_TOKENS,
    names.USAGE_OUTPUT_TOKENS,
    names.USAGE_CACHE_READ_TOKENS,
    names.USAGE_CACHE_WRITE_TOKENS,
    names.USAGE_REASONING_TOKENS,
)
# Seconds after which a reported rate limit is out of date: most limits are per minute.
_RATE_LIMIT_SECONDS: Final = 120.0
# Values of one metric attribute where no list of known values is given.
_MAX_VALUES: Final = 100
# Each has about a hundred series.
_MAX_RESPONSE_MODELS: Final = 50
_MODEL_NAME: Final = re.compile(r"[A-Za-z0-9@][A-Za-z0-9._:/@+-]{0,99}")


def counter(meter: Meter, metric: Metric) -> Counter:
    """Create the counter of that name."""
    return meter.create_counter(metric.name, metric.unit, metric.description)


def up_down_counter(meter: Meter, metric: Metric) -> UpDownCounter:
    """Create the up-down counter of that name."""
    return meter.create_up_down_counter(metric.name, metric.unit, metric.description)


def gauge(meter: Meter, metric: Metric) -> "Gauge":
    """Create the gauge of that name."""
    return meter.create_gauge(metric.name, metric.unit, metric.description)


def histogram(meter: Meter, metric: Metric) -> Histogram:
    """Create the histogram of that name, with its buckets."""
    return meter.create_histogram(
        metric.name,
        metric.unit,
        metric.description,
        explicit_bucket_boundaries_advisory=metric.buckets,
    )


class Use(Protocol):
    """The amount that a key has used of a budget, and the budget's limit, if any."""

    @property
    def key(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def used(self) -> float: ...
    @property
    def limit(self) -> float | None: ...


class Values(Protocol):
    """Values of one response for one histogram."""

    def add(self, value: float) -> None:
        """Add one value."""

    def record(self, attributes: Mapping[str, str | int], context: Context) -> None:
        """Record the values that were added and not recorded yet."""


class _SingleValues:
    """Values that are recorded one by one, where the provider has no tallies."""

    def __init__(
        self, histogram: Histogram, attributes: Mapping[str, str | int], context: Context
    ) -> None:
        self._histogram = histogram
        self._attributes = attributes
        self._context = context

    def add(self, value: float) -> None:
        self._histogram.record(value, self._attributes, self._context)

    def record(self, attributes: Mapping[str, str | int], context: Context) -> None:
        """Do nothing: every value is recorded already."""


class _Labels:
    """Values of a metric attribute: those known, and the first `most` others; the rest, and what is
    not a name, is `_OTHER`."""

    def __init__(self, known: frozenset[str] = frozenset(), most: int = _MAX_VALUES) -> None:
        self._known = known
        self._seen: set[str] = set()
        self._most = most

    def label(self, value: str) -> str:
        if value in self._known or value in self._seen:
            return value
        if len(self._seen) < self._most and len(value) <= MAX_IDENTIFIER and value.isprintable():
            self._seen.add(value)
            return value
        return names.OTHER


class _ResponseModels(_Labels):
    """Names of models as providers report them, often dated ones: texts of strangers."""

    def label(self, value: str) -> str:
        if value in self._known or _MODEL_NAME.fullmatch(value):
            return super().label(value)
        return names.OTHER


class _RateLimits:
    """The last known rate limits of each provider and model; forgotten when they are old."""

    def __init__(self, meter: Meter, prefix: str) -> None:
        self._label = names.prefixed(names.RATE_LIMIT_TYPE, prefix)
        self._known: dict[tuple[str, str, str], tuple[float, RateLimit]] = {}
        for metric, read in (
            (names.RATE_LIMIT_REMAINING, self._remaining),
            (names.RATE_LIMIT_LIMIT, self._limits),
        ):
            observe(meter, metric.with_prefix(prefix), read)

    def add(self, found: Iterable[RateLimit], provider: str, model: str) -> None:
        now = time.monotonic()
        for each in found:
            self._known[provider, model, each.type] = now, each

    def _remaining(self) -> Iterator[Observation]:
        return self._observed(lambda found: found.remaining)

    def _limits(self) -> Iterator[Observation]:
        return self._observed(lambda found: found.limit)

    def _observed(self, read: Callable[[RateLimit], int | None]) -> Iterator[Observation]:
        oldest = time.monotonic() - _RATE_LIMIT_SECONDS
        for (provider, model, kind), (at, found) in self._known.copy().items():
            value = read(found)
            if at >= oldest and value is not None:
                labels = {names.GEN_AI_PROVIDER_NAME: provider, names.GEN_AI_REQUEST_MODEL: model}
                yield Observation(value, {**labels, self._label: kind})


class Instruments:
    """The instruments of our own; those of HTTP and the runtime are elsewhere.

    An instrument exists from its first use on. `known_models` are the models that metrics name,
    others are `_OTHER`; without any, the first hundred are named. Without `tallies`, the
    instruments are those of `meter`. A `context` is the trace context of the exemplar, by
    default the current one.
    """

    def __init__(
        self,
        meter: Meter,
        known_models: frozenset[str] = frozenset(),
        tallies: "Tallies | None" = None,
        prefix: str = names.PREFIX,
    ) -> None:
        self._meter = meter
        self._tallies = tallies
        self.prefix = prefix
        self._models = _Labels(known_models, 0 if known_models else _MAX_VALUES)
        self._response_models = _ResponseModels(known_models, _MAX_RESPONSE_MODELS)
        self._errors = _Labels()
        self._tools = _Labels()
        self._agents = _Labels()

    def _histogram(self, metric: Metric) -> "Histogram | TalliedHistogram":
        named = metric.with_prefix(self.prefix)
        return self._tallies.histogram(named) if self._tallies else histogram(self._meter, named)

    def _counter(self, metric: Metric) -> "Counter | TalliedSum":
        named = metric.with_prefix(self.prefix)
        return self._tallies.sum(named) if self._tallies else counter(self._meter, named)

    def _up_down_counter(self, metric: Metric) -> "UpDownCounter | TalliedSum":
        named = metric.with_prefix(self.prefix)
        if self._tallies:
            return self._tallies.sum(named, falls=True)
        return up_down_counter(self._meter, named)

    @cached_property
    def _sockets(self) -> "UpDownCounter | TalliedSum":
        return self._up_down_counter(names.SOCKET_CONNECTIONS)

    @cached_property
    def _messages(self) -> "Counter | TalliedSum":
        return self._counter(names.MESSAGE_COUNT)

    @cached_property
    def _response_time(self) -> "Histogram | TalliedHistogram":
        return self._histogram(names.LLM_RESPONSE_TIME)

    @cached_property
    def _tokens(self) -> "Counter | TalliedSum":
        return self._counter(names.LLM_TOKEN_USAGE)

    @cached_property
    def _cost(self) -> "Counter | TalliedSum":
        return self._counter(names.LLM_COST)

    @cached_property
    def inference_duration(self) -> "Histogram | TalliedHistogram":
        """`gen_ai.client.inference.duration`."""
        return self._histogram(names.CLIENT_INFERENCE_DURATION)

    @cached_property
    def input_tokens(self) -> "Histogram | TalliedHistogram":
        """`gen_ai.client.inference.operation.input_tokens`."""
        return self._histogram(names.CLIENT_INPUT_TOKENS)

    @cached_property
    def output_tokens(self) -> "Histogram | TalliedHistogram":
        """`gen_ai.client.inference.operation.output_tokens`."""
        return self._histogram(names.CLIENT_OUTPUT_TOKENS)

    @cached_property
    def _inference_usage(self) -> dict[Metric, "Counter | TalliedSum"]:
        return {metric: self._counter(metric) for metric in _INFERENCE_USAGE}

    @cached_property
    def embeddings_duration(self) -> "Histogram | TalliedHistogram":
        """`gen_ai.client.embeddings.duration`."""
        return self._histogram(names.EMBEDDINGS_DURATION)

    @cached_property
    def embeddings_tokens(self) -> "Histogram | TalliedHistogram":
        """`gen_ai.client.embeddings.operation.input_tokens`."""
        return self._histogram(names.EMBEDDINGS_INPUT_TOKENS)

    @cached_property
    def server_duration(self) -> "Histogram | TalliedHistogram":
        """`gen_ai.server.request.duration`."""
        return self._histogram(names.SERVER_REQUEST_DURATION)

    @cached_property
    def time_to_first_chunk(self) -> "Histogram | TalliedHistogram":
        """`gen_ai.client.inference.time_to_first_chunk`."""
        return self._histogram(names.CLIENT_TIME_TO_FIRST_CHUNK)

    @cached_property
    def _time_per_output_chunk(self) -> Histogram:
        return histogram(self._meter, names.CLIENT_TIME_PER_OUTPUT_CHUNK)

    @cached_property
    def time_to_first_token(self) -> "Histogram | TalliedHistogram":
        """`gen_ai.server.time_to_first_token`."""
        return self._histogram(names.SERVER_TIME_TO_FIRST_TOKEN)

    @cached_property
    def time_per_output_token(self) -> "Histogram | TalliedHistogram":
        """`gen_ai.server.time_per_output_token`."""
        return self._histogram(names.SERVER_TIME_PER_OUTPUT_TOKEN)

    @cached_property
    def tool_duration(self) -> "Histogram | TalliedHistogram":
        """`gen_ai.execute_tool.duration`."""
        return self._histogram(names.EXECUTE_TOOL_DURATION)

    @cached_property
    def agent_duration(self) -> "Histogram | TalliedHistogram":
        """`gen_ai.invoke_agent.duration`."""
        return self._histogram(names.INVOKE_AGENT_DURATION)

    @cached_property
    def answers_active(self) -> "UpDownCounter | TalliedSum":
        """Responses that are being generated."""
        return self._up_down_counter(names.ANSWERS_ACTIVE)

    @cached_property
    def answer_stall(self) -> "Histogram | TalliedHistogram":
        """Longest pause of a streamed response."""
        return self._histogram(names.ANSWER_STALL)

    @cached_property
    def _rate_limits(self) -> "_RateLimits":
        return _RateLimits(self._meter, self.prefix)

    @cached_property
    def _limit_reached(self) -> "Counter | TalliedSum":
        return self._counter(names.LIMIT_REACHED)

    @cached_property
    def _feedback(self) -> "Counter | TalliedSum":
        return self._counter(names.FEEDBACK)

    @cached_property
    def websocket_duration(self) -> "Histogram | TalliedHistogram":
        """Duration of WebSocket connections."""
        return self._histogram(names.WEBSOCKET_DURATION)

    @cached_property
    def websocket_messages(self) -> "Counter | TalliedSum":
        """WebSocket messages in each direction."""
        return self._counter(names.WEBSOCKET_MESSAGES)

    def chunk_times(self, attributes: Mapping[str, str | int], context: Context) -> Values:
        """Return what counts the pauses between the chunks of one response."""
        metric = names.CLIENT_TIME_PER_OUTPUT_CHUNK
        if self._tallies is None:
            return _SingleValues(self._time_per_output_chunk, attributes, context)
        return self._tallies.histogram(metric).tally()

    def record_inference_usage(
        self,
        counts: Iterable[tuple[Metric, str, int]],
        attributes: Mapping[str, str | int],
        context: Context,
    ) -> None:
        """Record the tokens of one model call: the counter, the modality and the number."""
        for metric, modality, tokens in counts:
            labels = {**attributes, names.GEN_AI_TOKEN_MODALITY: modality}
            self._inference_usage[metric].add(tokens, labels, context)

    def model_label(self, model: str) -> str:
        """Return the model's name as metrics may contain it."""
        return self._models.label(model)

    def response_model_label(self, model: str) -> str:
        """Return the name of the model that responded as metrics may contain it: one of
        `known_models`, or of the first fifty others; else `_OTHER`."""
        return self._response_models.label(model)

    def error_label(self, error_type: str) -> str:
        """Return the type of an error as metrics may contain it."""
        return self._errors.label(error_type)

    def tool_label(self, tool: str) -> str:
        """Return the tool's name as metrics may contain it."""
        return self._tools.label(tool)

    def agent_label(self, agent: str) -> str:
        """Return the agent's name as metrics may contain it."""
        return self._agents.label(agent)

    def record_socket_connection(self, delta: int, context: Context | None = None) -> None:
        """Record a WebSocket that opened (+1) or closed (-1)."""
        self._sockets.add(delta, context=context)

    def record_message(self, role: str, context: Context | None = None) -> None:
        """Record one message of a conversation: user, assistant, system or tool."""
        attributes = {names.ROLE: role if role in _ROLES else names.OTHER}
        self._messages.add(1, attributes, context=context)

    def record_llm_response_time(
        self,
        seconds: float,
        *,
        model: str | None = None,
        error_type: str | None = None,
        context: Context | None = None,
    ) -> None:
        """Record the seconds from a request's arrival until its response's last byte was sent."""
        attributes = self._by_model(model)
        if error_type:
            attributes[names.ERROR_TYPE] = error_type
        self._response_time.record(seconds, attributes, context=context)

    def record_token_usage(
        self, type: str, count: int, *, model: str | None = None, context: Context | None = None
    ) -> None:
        """Record the tokens of one response, of type `prompt` or `completion`."""
        attributes = {names.TOKEN_TYPE: type, **self._by_model(model)}
        self._tokens.add(count, attributes, context=context)

    def record_cost(
        self, dollars: float, *, model: str | None = None, context: Context | None = None
    ) -> None:
        """Record the US dollars of one response."""
        self._cost.add(dollars, self._by_model(model), context=context)

    def record_feedback(
        self, label: str, *, model: str | None = None, context: Context | None = None
    ) -> None:
        """Record a rating; a label that is not in FEEDBACK_LABELS is counted as `other`."""
        attributes = self._feedback_attributes(label if label in FEEDBACK_LABELS else "other")
        self._feedback.add(1, {**attributes, **self._by_model(model)}, context)

    def show_feedback(self, models: Iterable[str]) -> None:
        """Export zero for the ratings of each model: a counter that starts with the first one
        shows no increase."""
        for model in models:
            for label in FEEDBACK_LABELS:
                self._feedback.add(0, {**self._feedback_attributes(label), **self._by_model(model)})

    def _feedback_attributes(self, label: str) -> dict[str, str]:
        return {names.prefixed(names.FEEDBACK_LABEL, self.prefix): label}

    def _by_model(self, model: str | None) -> dict[str, str]:
        return {} if model is None else {names.GEN_AI_REQUEST_MODEL: self.model_label(model)}

    def show_limits(self, limits: Mapping[str, float]) -> None:
        """Export the value of each limit, and from now on how often each is reached."""
        limit = names.prefixed(names.LIMIT, self.prefix)
        observe(
            self._meter,
            names.LIMIT_VALUE.with_prefix(self.prefix),
            lambda: [Observation(value, {limit: name}) for name, value in limits.items()],
        )
        for name in limits:
            # From zero on: a counter that starts with its first refusal shows no increase.
            self._limit_reached.add(0, {limit: name})

    def show_prices(self, priced: Mapping[str, bool]) -> None:
        """Export whether the price of each model is known."""
        observe(
            self._meter,
            names.MODEL_PRICED.with_prefix(self.prefix),
            lambda: [
                Observation(int(known), {names.GEN_AI_REQUEST_MODEL: self.model_label(model)})
                for model, known in priced.items()
            ],
        )

    def show_budgets(self, read: Callable[[], Iterable[Use]]) -> None:
        """Export what each API key has used of its budgets, and its limits."""
        key, unit = (
            names.prefixed(name, self.prefix) for name in (names.KEY_NAME, names.BUDGET_UNIT)
        )

        def used() -> Iterator[Observation]:
            for use in read():
                yield Observation(use.used, {key: use.key, unit: use.unit})

        def limits() -> Iterator[Observation]:
            for use in read():
                if use.limit is not None:
                    yield Observation(use.limit, {key: use.key, unit: use.unit})

        observe(self._meter, names.BUDGET_USED.with_prefix(self.prefix), used)
        observe(self._meter, names.BUDGET_LIMIT.with_prefix(self.prefix), limits)

    def show_shared_store(self, responds: Callable[[], bool]) -> None:
        """Export whether the server that replicas share responds."""
        observe(
            self._meter,
            names.SHARED_STORE_UP.with_prefix(self.prefix),
            lambda: [Observation(int(responds()))],
        )

    def record_rate_limits(self, headers: Mapping[str, str], provider: str, model: str) -> None:
        """Record the rate limits of the headers of a provider's response."""
        found = tuple(rate_limits(headers))
        if found:
            self._rate_limits.add(found, provider, self.model_label(model))

    def record_limit_reached(self, name: str) -> None:
        """Record that the limit of that name, one of those shown, refused or cut something."""
        self._limit_reached.add(1, {names.prefixed(names.LIMIT, self.prefix): name})
