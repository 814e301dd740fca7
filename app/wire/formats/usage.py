"""Token counts of a chat completion's usage object."""

from collections.abc import Mapping
from typing import Any

from chatscope.genai import Usage


def read_usage(reported: object) -> Usage | None:
    """Return the counts; None if there are none."""
    if not isinstance(reported, Mapping):
        return None
    prompt, completion = _count(reported, "prompt_tokens"), _count(reported, "completion_tokens")
    if prompt is None and completion is None:
        return None
    inputs = _details(reported, "prompt_tokens_details")
    outputs = _details(reported, "completion_tokens_details")
    return Usage(
        prompt or 0,
        completion or 0,
        cache_read_tokens=_count(inputs, "cached_tokens"),
        cache_write_tokens=_count(inputs, "cache_write_tokens"),
        reasoning_tokens=_count(outputs, "reasoning_tokens"),
    )


def _details(reported: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    details = reported.get(name)
    return details if isinstance(details, Mapping) else {}


def _count(counts: Mapping[str, Any], name: str) -> int | None:
    count = counts.get(name)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        return None
    return count
