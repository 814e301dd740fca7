"""No usage object, whatever it contains, breaks the reader or its rules."""

from dataclasses import fields
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chatscope.genai import usage as module
from chatscope.genai.request import Usage
from chatscope.genai.usage import complete_usage, merge_usage, read_usage

_NAMES = sorted(
    {
        name
        for value in vars(module).values()
        if isinstance(value, tuple)
        for name in value
        if isinstance(name, str)
    }
    | {"cost", "is_byok", "cost_details", "cache_creation", "ephemeral_1h_input_tokens"}
    | {"modality", "tokenCount", "cached_tokens_details", "cost_in_usd_ticks"}
)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 2_000_000_000)
    | st.integers(min_value=10**399, max_value=10**400)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["AUDIO", "IMAGE", "11"])
    | st.binary(max_size=3)
)
_GARBAGE = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=8)
        | st.dictionaries(_SCALARS.filter(lambda key: key.__hash__ is not None), inner, max_size=2)
    ),
    max_leaves=12,
)
_COUNTS = st.integers(0, 1_000_000)
_SMALL = st.integers(0, 9)
_PARTS = ("cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens")
_DETAILS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens"), _SMALL
    )
    | {"reasoning_tokens": _SMALL, "cached_tokens_details": st.just({"audio_tokens": 5})},
)
_PLAUSIBLE = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), _SMALL)
    | {"prompt_tokens_details": _DETAILS, "completion_tokens_details": _DETAILS},
)


class _Attributes:
    """A mapping as a client's object."""

    def __init__(self, found: dict[str, Any]) -> None:
        vars(self).update({name: _objects(value) for name, value in found.items()})


def _objects(found: Any) -> Any:
    if isinstance(found, dict):
        return _Attributes({str(name): value for name, value in found.items()})
    return [_objects(each) for each in found] if isinstance(found, list) else found


def _assert_consistent(usage: Usage) -> None:
    parts = {
        "cache_read_tokens": usage.prompt_tokens,
        "audio_input_tokens": usage.prompt_tokens,
        "image_input_tokens": usage.prompt_tokens,
        "cache_write_tokens": usage.prompt_tokens - (usage.cache_read_tokens or 0),
        "cache_write_1h_tokens": usage.cache_write_tokens or 0,
        "audio_cache_read_tokens": min(usage.audio_input_tokens or 0, usage.cache_read_tokens or 0),
        "reasoning_tokens": usage.completion_tokens,
        "audio_output_tokens": usage.completion_tokens,
        "image_output_tokens": usage.completion_tokens,
    }
    for field in fields(Usage):
        if field.name.endswith("_tokens"):
            count = getattr(usage, field.name)
            assert count is None or type(count) is int
            assert count is None or 0 <= count <= 10_000_000_000
    for name, whole in parts.items():
        assert (getattr(usage, name) or 0) <= whole, name
    assert usage.reported_cost is None or 0 <= usage.reported_cost <= 1_000_000


@given(_GARBAGE | _PLAUSIBLE)
def test_any_json_yields_a_consistent_usage_or_none(reported: Any) -> None:
    usage = read_usage(reported)
    if usage is not None:
        _assert_consistent(usage)
        assert usage.total_tokens > 0


@given(_GARBAGE)
def test_objects_of_clients_are_read_as_their_json(reported: Any) -> None:
    assert read_usage(_objects(reported)) == read_usage(reported)


@given(_COUNTS, _COUNTS, _COUNTS, st.booleans())
def test_reasoning_is_counted_once_wherever_the_provider_counts_it(
    prompt: int, answer: int, reasoning: int, detailed: bool
) -> None:
    total = prompt + answer + reasoning
    details = {"completion_tokens_details": {"reasoning_tokens": reasoning}} if detailed else {}
    apart = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": total}
    within = {**apart, "completion_tokens": answer + reasoning}
    for reported in (apart, within):
        usage = read_usage({**reported, **details})
        assert (usage.total_tokens if usage else 0) == total


@given(_COUNTS, _COUNTS, _COUNTS, _COUNTS)
def test_cached_input_is_counted_once_wherever_the_provider_counts_it(
    fresh: int, read: int, written: int, completion: int
) -> None:
    anthropic = {
        "input_tokens": fresh,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": completion,
    }
    details = {"cached_tokens": read, "cache_write_tokens": written}
    openai = {
        "prompt_tokens": fresh + read + written,
        "completion_tokens": completion,
        "prompt_tokens_details": details,
    }
    assert read_usage(anthropic) == read_usage(openai)


_USAGES = st.builds(
    Usage, _COUNTS, _COUNTS, st.booleans(), st.none() | _COUNTS, st.none() | _COUNTS
)


@given(st.none() | _USAGES, st.none() | _USAGES)
def test_merged_usage_does_not_depend_on_the_order(old: Usage | None, new: Usage | None) -> None:
    merged = merge_usage(old, new)
    assert merged == merge_usage(new, old)
    for usage in (old, new):
        if usage is not None:
            assert merged is not None
            assert merged.prompt_tokens >= usage.prompt_tokens
            assert merged.completion_tokens >= usage.completion_tokens


@given(st.none() | _USAGES, _COUNTS, _COUNTS)
def test_estimates_replace_only_missing_counts(
    reported: Usage | None, prompt: int, completion: int
) -> None:
    usage = complete_usage(reported, prompt=prompt, completion=completion)
    known = reported or Usage(0, 0, partial=True)
    assert usage.prompt_tokens == (known.prompt_tokens or prompt)
    assert usage.completion_tokens == (known.completion_tokens or completion)
    counts = (known.prompt_tokens, known.completion_tokens)
    estimated = counts != (usage.prompt_tokens, usage.completion_tokens)
    assert usage.partial == (known.partial or estimated)
