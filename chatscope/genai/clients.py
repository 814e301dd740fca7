"""Instrumentation of the official `openai` and `anthropic` clients, by OpenTelemetry's packages.

They create the spans and the `gen_ai.*` metrics of a call. The cost and the product's own metrics
are added here, when a call has ended, from the attributes of its span.
"""

import time
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from chatscope import names
from chatscope.genai.recorder import current_recorder
from chatscope.genai.request import Usage
from chatscope.guard import guarded, warnings

_NS_PER_SECOND: Final = 1e9
# client: the module of its instrumentation, and the class in it
_INSTRUMENTATIONS: Final = {
    "openai": ("opentelemetry.instrumentation.genai.openai", "OpenAIInstrumentor"),
    "anthropic": ("opentelemetry.instrumentation.genai.anthropic", "AnthropicInstrumentor"),
}


class MissingInstrumentationError(ImportError):
    """A client is installed, but the package that instruments it is not."""


def instrument_clients(
    *clients: str,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    count_cost: bool = True,
) -> tuple[str, ...]:
    """Instrument clients, and return the names of those that are instrumented.

    `clients` are `openai` and `anthropic`; without any, those that are installed together with
    their instrumentation. The providers are by default those of the recorders. `count_cost=False`
    leaves `llm_cost`, `llm_token_usage` and `llm_response_time` to a gateway behind the client
    that counts them. A second call changes nothing.

    Raises ValueError for other names, and MissingInstrumentationError.
    """
    for client in clients:
        if client not in _INSTRUMENTATIONS:
            accepted = ", ".join(_INSTRUMENTATIONS)
            raise ValueError(f"clients are {accepted} (got {client!r})")
        if not _is_installed(client):
            raise MissingInstrumentationError(
                f"{client} or its instrumentation is not installed: pip install chatscope[{client}]"
            )
    recorder, instrumented = current_recorder(), []
    for client in clients or filter(_is_installed, _INSTRUMENTATIONS):
        instrumentor = _instrumentor(client)
        if not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument(
                tracer_provider=tracer_provider or recorder.tracer_provider,
                meter_provider=meter_provider or recorder.meter_provider,
                **({"completion_hook": _Costs()} if count_cost else {}),
            )
        # Not instrumented if the client's version is not supported, which is logged.
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumented.append(client)
    if not instrumented and not clients:
        warnings.warn(
            "no clients",
            "instrument_clients() found no client that is installed with its instrumentation:"
            ' pip install "chatscope[openai]" or "chatscope[anthropic]"',
        )
    return tuple(instrumented)


def uninstrument_clients() -> None:
    """Undo `instrument_clients`."""
    for client in filter(_is_installed, _INSTRUMENTATIONS):
        instrumentor = _instrumentor(client)
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()


def _is_installed(client: str) -> bool:
    if find_spec(client) is None:
        return False
    try:
        return find_spec(_INSTRUMENTATIONS[client][0]) is not None
    except ModuleNotFoundError:  # one of the packages around it
        return False


def _instrumentor(client: str) -> Any:
    module, name = _INSTRUMENTATIONS[client]
    return getattr(import_module(module), name)()


class _Costs:
    """A completion hook of `opentelemetry.util.genai`: called once at the end of each call.

    A call inside of another one does not call it, so nothing is counted twice. The span of a call
    that is not sampled has no attributes, and its cost is not counted.
    """

    def on_completion(self, *, span: Any = None, **_: Any) -> None:
        """Count the tokens, the cost and the time of a call."""
        with guarded("counting the cost of a client's call"):
            attributes = getattr(span, "attributes", None)
            if attributes and names.GEN_AI_REQUEST_MODEL in attributes:
                _count(span, attributes)


def _count(span: Any, attributes: Any) -> None:
    recorder, model = current_recorder(), attributes[names.GEN_AI_REQUEST_MODEL]
    record, context = recorder.instruments, trace.set_span_in_context(span)
    seconds = (time.time_ns() - span.start_time) / _NS_PER_SECOND
    error_type = attributes.get(names.ERROR_TYPE)
    record.record_llm_response_time(seconds, model=model, error_type=error_type, context=context)
    prompt = attributes.get(names.GEN_AI_USAGE_INPUT_TOKENS)
    completion = attributes.get(names.GEN_AI_USAGE_OUTPUT_TOKENS)
    if prompt is None and completion is None:
        return
    record.record_token_usage("prompt", prompt or 0, model=model, context=context)
    record.record_token_usage("completion", completion or 0, model=model, context=context)
    usage = Usage(
        prompt or 0,
        completion or 0,
        cache_read_tokens=attributes.get(names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS),
        cache_write_tokens=attributes.get(names.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS),
        reasoning_tokens=attributes.get(names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS),
    )
    provider, host = (
        attributes.get(name) for name in (names.GEN_AI_PROVIDER_NAME, names.SERVER_ADDRESS)
    )
    cost = recorder.prices.cost_of(usage, model, provider, host)
    if cost is not None:
        record.record_cost(cost, model=model, context=context)
        span.set_attribute(names.prefixed(names.ANSWER_COST, record.prefix), cost)
