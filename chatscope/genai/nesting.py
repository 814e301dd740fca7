"""One span and one count for a model call that several libraries record.

The official instrumentations of clients and frameworks (`opentelemetry-instrumentation-genai-*`)
look for a value in the context: an inference inside another one creates no span and no metrics,
and publishes its data to the outer one. The recorders here set that value too, and look for one
set by other libraries. Its public module is `opentelemetry.util.genai.invocation`; unless that is
imported already, no library reads the value.
"""

import sys
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry import context as context_api
from opentelemetry.context import Context

from chatscope.genai.request import Usage

_MODULE: Final = "opentelemetry.util.genai.invocation"


@dataclass(frozen=True)
class Published:
    """Response data from an instrumented client inside a call."""

    usage: Usage | None
    response_id: str | None
    response_model: str | None
    finish_reason: str | None


def around_inference(context: Context) -> tuple[Context, Any]:
    """Return the context inside an inference, and the data that a client fills there."""
    return _around(context, "CLIENT_INFERENCE_CONTEXT_KEY", "InferenceData")


def around_embeddings(context: Context) -> tuple[Context, Any]:
    """Return the context inside an embeddings call, and the data that a client fills there."""
    return _around(context, "CLIENT_EMBEDDING_CONTEXT_KEY", "EmbeddingData")


def outside_of_calls(context: Context) -> Context:
    """Return the context inside a tool or an agent, whose model calls are recorded separately."""
    module = sys.modules.get(_MODULE)
    for key in ("CLIENT_INFERENCE_CONTEXT_KEY", "CLIENT_EMBEDDING_CONTEXT_KEY"):
        if (name := getattr(module, key, None)) is not None:
            context = context_api.set_value(name, None, context)
    return context


def foreign_inference() -> Any:
    """Return the data of an inference of another library that is in progress; None without one."""
    return _current("CLIENT_INFERENCE_CONTEXT_KEY", "InferenceData")


def foreign_embeddings() -> Any:
    """Return the data of another library's embeddings call; None without one."""
    return _current("CLIENT_EMBEDDING_CONTEXT_KEY", "EmbeddingData")


def publish(data: Any, published: Published) -> None:
    """Add missing data to the outer call of another library."""
    usage = published.usage
    found = {
        "response_id": published.response_id,
        "response_model": published.response_model,
        "response_finish_reasons": published.finish_reason and [published.finish_reason],
        "usage_input_tokens": usage and usage.prompt_tokens,
        "usage_output_tokens": usage and usage.completion_tokens,
        "usage_cache_read_input_tokens": usage and usage.cache_read_tokens,
        "usage_cache_write_input_tokens": usage and usage.cache_write_tokens,
        "usage_reasoning_output_tokens": usage and usage.reasoning_tokens,
    }
    for name, value in found.items():
        if value is not None and hasattr(data, name) and getattr(data, name) is None:
            setattr(data, name, value)


def published(data: Any) -> Published | None:
    """Return the data that a client inside has published; None without a client."""
    if data is None:
        return None
    prompt = getattr(data, "usage_input_tokens", None)
    completion = getattr(data, "usage_output_tokens", None)
    usage = None
    if prompt is not None or completion is not None:
        usage = Usage(
            prompt or 0,
            completion or 0,
            cache_read_tokens=getattr(data, "usage_cache_read_input_tokens", None),
            cache_write_tokens=getattr(data, "usage_cache_write_input_tokens", None),
            reasoning_tokens=getattr(data, "usage_reasoning_output_tokens", None),
        )
    reasons = getattr(data, "response_finish_reasons", None)
    return Published(
        usage,
        getattr(data, "response_id", None),
        getattr(data, "response_model", None),
        reasons[0] if reasons else None,
    )


def _around(context: Context, key: str, kind: str) -> tuple[Context, Any]:
    module = sys.modules.get(_MODULE)
    name, make = getattr(module, key, None), getattr(module, kind, None)
    if name is None or make is None:
        return context, None
    data = make()
    return context_api.set_value(name, data, context), data


def _current(key: str, kind: str) -> Any:
    module = sys.modules.get(_MODULE)
    name, made = getattr(module, key, None), getattr(module, kind, None)
    found = context_api.get_value(name) if name is not None else None
    return found if made is not None and isinstance(found, made) else None
