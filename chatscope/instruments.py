"""The instruments, made from the names, and small verbs for those who record."""

from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, Meter, Observation, UpDownCounter

# The API's own name for it, still.
from opentelemetry.metrics import _Gauge as Gauge

from chatscope import names
from chatscope.names import Metric
from chatscope.observing import observe

_ROLES = frozenset({"user", "assistant", "system", "tool"})


def counter(meter: Meter, metric: Metric) -> Counter:
    """The counter of that name."""
    return meter.create_counter(metric.name, metric.unit, metric.description)


def up_down_counter(meter: Meter, metric: Metric) -> UpDownCounter:
    """The up-down counter of that name."""
    return meter.create_up_down_counter(metric.name, metric.unit, metric.description)


def gauge(meter: Meter, metric: Metric) -> Gauge:
    """The gauge of that name."""
    return meter.create_gauge(metric.name, metric.unit, metric.description)


def histogram(meter: Meter, metric: Metric) -> Histogram:
    """The histogram of that name, with its buckets."""
    return meter.create_histogram(
        metric.name,
        metric.unit,
        metric.description,
        explicit_bucket_boundaries_advisory=metric.buckets,
    )


class Instruments:
    """The instruments that our own code records to; HTTP's and the runtime's stand elsewhere.

    A `context` is the trace context that an exemplar leads to, by default the current one.
    """

    def __init__(self, meter: Meter, known_models: frozenset[str] = frozenset()) -> None:
        self._known_models = known_models
        self._sockets = up_down_counter(meter, names.SOCKET_CONNECTIONS)
        self._messages = counter(meter, names.MESSAGE_COUNT)
        self._response_time = histogram(meter, names.LLM_RESPONSE_TIME)
        self._tokens = counter(meter, names.LLM_TOKEN_USAGE)
        self._cost = counter(meter, names.LLM_COST)
        self.operation_duration = histogram(meter, names.CLIENT_OPERATION_DURATION)
        self.token_usage = histogram(meter, names.CLIENT_TOKEN_USAGE)
        self.time_to_first_chunk = histogram(meter, names.CLIENT_TIME_TO_FIRST_CHUNK)
        self.time_per_output_chunk = histogram(meter, names.CLIENT_TIME_PER_OUTPUT_CHUNK)
        self.time_to_first_token = histogram(meter, names.SERVER_TIME_TO_FIRST_TOKEN)
        self.time_per_output_token = histogram(meter, names.SERVER_TIME_PER_OUTPUT_TOKEN)
        self.answers_active = up_down_counter(meter, names.ANSWERS_ACTIVE)
        self.answer_stall = histogram(meter, names.ANSWER_STALL)
        self._limit_reached = counter(meter, names.LIMIT_REACHED)
        self._meter = meter
        self.websocket_duration = histogram(meter, names.WEBSOCKET_DURATION)
        self.websocket_messages = counter(meter, names.WEBSOCKET_MESSAGES)

    def model_label(self, model: str) -> str:
        """The model's name as metrics may carry it: a configured one, else `_OTHER`."""
        return model if model in self._known_models else names.OTHER

    def record_socket_connection(self, delta: int, context: Context | None = None) -> None:
        """A WebSocket opened (+1) or closed (-1)."""
        self._sockets.add(delta, context=context)

    def record_message(self, role: str, context: Context | None = None) -> None:
        """One message of a conversation: user, assistant, system or tool."""
        attributes = {names.ROLE: role if role in _ROLES else names.OTHER}
        self._messages.add(1, attributes, context=context)

    def record_llm_response_time(
        self,
        seconds: float,
        *,
        model: str,
        error_type: str | None = None,
        context: Context | None = None,
    ) -> None:
        """Seconds from a question's arrival until its answer's last byte left."""
        attributes: Mapping[str, str] = {names.GEN_AI_REQUEST_MODEL: self.model_label(model)}
        if error_type:
            attributes = {**attributes, names.ERROR_TYPE: error_type}
        self._response_time.record(seconds, attributes, context=context)

    def record_token_usage(
        self, type: str, count: int, *, model: str, context: Context | None = None
    ) -> None:
        """Tokens of one answer, of type `prompt` or `completion`."""
        attributes = {names.TOKEN_TYPE: type, names.GEN_AI_REQUEST_MODEL: self.model_label(model)}
        self._tokens.add(count, attributes, context=context)

    def record_cost(self, dollars: float, *, model: str, context: Context | None = None) -> None:
        """US dollars of one answer."""
        attributes = {names.GEN_AI_REQUEST_MODEL: self.model_label(model)}
        self._cost.add(dollars, attributes, context=context)

    def show_limits(self, limits: Mapping[str, float]) -> None:
        """Show what each limit is set to, and from now on how often each is reached."""
        observe(
            self._meter,
            names.LIMIT_VALUE,
            lambda: [Observation(value, {names.LIMIT: name}) for name, value in limits.items()],
        )
        for name in limits:
            # From zero on: a counter that is born with its first refusal shows no increase.
            self._limit_reached.add(0, {names.LIMIT: name})

    def record_limit_reached(self, name: str) -> None:
        """Something was refused or cut by the limit of that name, one of those shown."""
        self._limit_reached.add(1, {names.LIMIT: name})
