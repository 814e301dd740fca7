"""Token counts read from the usage object of any provider.

Known are the formats of OpenAI (chat completions, responses, realtime, images), Anthropic,
Amazon Bedrock, Gemini (native and OpenAI-compatible), DeepSeek, Mistral, Groq, xAI, OpenRouter,
Perplexity, Cohere, Ollama, llama.cpp and LangChain, as JSON or as objects of their clients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from chatscope.genai.request import Usage

# Larger counts are not counts of tokens.
_MAX_TOKENS: Final = 1_000_000_000
_MAX_DOLLARS: Final = 1_000_000.0
_XAI_TICKS_PER_DOLLAR: Final = 10_000_000_000
_PLAIN: Final = (str, bytes, bytearray, int, float, list, tuple, set, frozenset)
# Of entries by modality, such as Gemini's.
_MAX_ENTRIES: Final = 16

# Where a response or a chunk has its usage object, and where that has its counts.
_OUTER: Final = (
    *("usage", "usageMetadata", "usage_metadata", "x_groq", "message", "response"),
    *("timings", "tokens", "billed_units"),
)
_INNER: Final = ("usage", "tokens", "billed_units")
_INPUT: Final = (
    *("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_token_count"),
    *("inputTokens", "prompt_eval_count", "prompt_n"),
)
_OUTPUT: Final = (
    *("completion_tokens", "output_tokens", "candidatesTokenCount", "candidates_token_count"),
    *("outputTokens", "eval_count", "predicted_n"),
)
_TOTAL: Final = ("total_tokens", "totalTokenCount", "total_token_count", "totalTokens")
_INPUT_DETAILS: Final = (*("prompt_tokens_details", "input_tokens_details", "input_token_details"),)
_OUTPUT_DETAILS: Final = (
    *("completion_tokens_details", "output_tokens_details", "output_token_details"),
)
# Counts that are not included in the input or the output beside them.
_CACHE_READ_APART: Final = ("cache_read_input_tokens", "cacheReadInputTokens", "cache_n")
_CACHE_WRITE_APART: Final = ("cache_creation_input_tokens", "cacheWriteInputTokens")
_TOOL_INPUT_APART: Final = ("toolUsePromptTokenCount", "tool_use_prompt_token_count")
_REASONING_APART: Final = ("thoughtsTokenCount", "thoughts_token_count")
_WITH_CACHE_APART: Final = frozenset({"input_tokens", "inputTokens", "prompt_n"})
# Counts that are included.
_CACHE_READ: Final = (
    *("prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens"),
    *("cachedContentTokenCount", "cached_content_token_count"),
)
_CACHE_READ_DETAIL: Final = ("cached_tokens", "cache_read", "cache_read_tokens")
_CACHE_WRITE_DETAIL: Final = ("cache_write_tokens", "cache_creation_tokens", "cache_creation")
_REASONING_DETAIL: Final = ("reasoning_tokens", "reasoning", "thinking_tokens")
_AUDIO_DETAIL: Final = ("audio_tokens", "audio")
_IMAGE_DETAIL: Final = ("image_tokens", "image")
# Lists of counts by modality.
_INPUT_MODALITIES: Final = ("promptTokensDetails", "prompt_tokens_details")
_OUTPUT_MODALITIES: Final = ("candidatesTokensDetails", "candidates_tokens_details")
_CACHE_MODALITIES: Final = ("cacheTokensDetails", "cache_tokens_details")


def read_usage(reported: object) -> Usage | None:
    """Return the tokens that a provider reports; None where it reports none.

    `reported` is a usage object, or a response or a chunk that contains one, as JSON or as an
    object of a client. Invalid counts are treated as missing. The usage is `partial` where the
    input or the output is missing. Never raises.
    """
    try:
        if isinstance(reported, Usage):
            return reported if _is_valid(reported) else None
        return _read(reported) or _within(reported)
    except Exception:  # an object whose attributes or types misbehave
        return None


def usage_within(response: object) -> Usage | None:
    """Return the usage inside of a response or a chunk, as `read_usage`, but faster."""
    try:
        return _within(response)
    except Exception:
        return None


def merge_usage(old: Usage | None, new: Usage | None) -> Usage | None:
    """Return the larger counts: a stream may report the input first and the output last."""
    if old is None or new is None:
        return old or new
    larger = {
        field.name: _larger(getattr(old, field.name), getattr(new, field.name))
        for field in fields(Usage)
    }
    prompts = (old.prompt_tokens, new.prompt_tokens)
    completions = (old.completion_tokens, new.completion_tokens)
    complements = min(prompts) == 0 < max(prompts) and min(completions) == 0 < max(completions)
    return Usage(**{**larger, "partial": old.partial and new.partial and not complements})


def complete_usage(reported: Usage | None, *, prompt: int, completion: int) -> Usage:
    """Return the usage with estimates where the provider reported no count, marked partial.

    `prompt` and `completion` are the estimates.
    """
    if reported is None:
        return Usage(prompt, completion, partial=True)
    lacks_prompt = reported.prompt_tokens == 0 < prompt
    lacks_completion = reported.completion_tokens == 0 < completion
    if not lacks_prompt and not lacks_completion:
        return reported
    return reported.with_counts(
        prompt if lacks_prompt else reported.prompt_tokens,
        completion if lacks_completion else reported.completion_tokens,
    )


def _within(response: object) -> Usage | None:
    """Return the usage inside of a response or a chunk."""
    for name in _OUTER:
        outer = _get(response, name)
        if not _is_object(outer):
            continue
        for found in (outer, *(_get(outer, name) for name in _INNER)):
            if _is_object(found) and (usage := _read(found)) is not None:
                return usage
    return None


@dataclass
class _Counts:
    """Counts while they are read: input and output, None while missing, and what they include."""

    input: int | None
    output: int | None
    cache_read: int | None
    cache_write: int | None
    reasoning: int | None

    def add_to_input(self, count: int) -> None:
        self.input = (self.input or 0) + count

    def add_to_output(self, count: int) -> None:
        self.output = (self.output or 0) + count

    def reconcile(self, total: int | None) -> None:
        """Use the total: for what is missing, and for what is in the total only."""
        cached = (self.cache_read or 0) + (self.cache_write or 0)
        gap = None if total is None else total - (self.input or 0) - (self.output or 0)
        if self.input is not None and cached > self.input and (gap is None or gap >= cached):
            self.add_to_input(cached)
            gap = None if gap is None else gap - cached
        if gap is None:
            if self.output is not None and (self.reasoning or 0) > self.output:
                self.add_to_output(self.reasoning or 0)
        elif gap > 0 and self.input is None:
            self.input = gap
        elif gap > 0:
            if self.output is not None and self.reasoning is None:
                self.reasoning = gap
            self.add_to_output(gap)


def _read(found: Any) -> Usage | None:
    counts = _counts(found)
    if not counts.input and not counts.output:
        return None
    prompt, completion = counts.input or 0, counts.output or 0
    details, produced = _first_object(found, _INPUT_DETAILS), _first_object(found, _OUTPUT_DETAILS)
    cache_read = _at_most(counts.cache_read, prompt)
    cache_write = _at_most(counts.cache_write, prompt - (cache_read or 0))
    audio = _modality(details, _AUDIO_DETAIL, found, _INPUT_MODALITIES)
    audio = _at_most(audio, prompt)
    spoken = _modality(produced, _AUDIO_DETAIL, found, _OUTPUT_MODALITIES)
    spoken = _at_most(spoken, completion)
    image = _modality(details, _IMAGE_DETAIL, found, _INPUT_MODALITIES)
    drawn = _modality(produced, _IMAGE_DETAIL, found, _OUTPUT_MODALITIES)
    cached = _get(details, "cached_tokens_details")
    cached_audio = _modality(cached, _AUDIO_DETAIL, found, _CACHE_MODALITIES)
    return Usage(
        prompt,
        completion,
        partial=counts.input is None or counts.output is None,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        reasoning_tokens=_at_most(counts.reasoning, completion),
        cache_write_1h_tokens=_at_most(
            _count(_get(found, "cache_creation"), "ephemeral_1h_input_tokens"), cache_write or 0
        ),
        audio_input_tokens=audio,
        audio_output_tokens=spoken,
        audio_cache_read_tokens=_at_most(cached_audio, min(audio or 0, cache_read or 0)),
        image_input_tokens=_at_most(image, prompt - (audio or 0)),
        image_output_tokens=_at_most(drawn, completion - (spoken or 0)),
        reported_cost=_cost(found),
    )


def _counts(found: Any) -> _Counts:
    """Return input and output with all that they should include."""
    name, total = _first_name(found, _INPUT), _first_count(found, _TOTAL)
    details, produced = _first_object(found, _INPUT_DETAILS), _first_object(found, _OUTPUT_DETAILS)
    read_apart, written_apart = _cache_apart(found)
    read_within = _known(
        _first_count(details, _CACHE_READ_DETAIL), _first_count(found, _CACHE_READ)
    )
    written_within = _first_count(details, _CACHE_WRITE_DETAIL)
    thoughts = _first_count(found, _REASONING_APART)
    counts = _Counts(
        input=None if name is None else _count(found, name),
        output=_first_count(found, _OUTPUT),
        cache_read=_known(read_within, read_apart),
        cache_write=_known(written_within, written_apart),
        reasoning=_known(_first_count(produced, _REASONING_DETAIL), thoughts),
    )
    cached = (read_apart or 0) + (written_apart or 0)
    if cached and read_within is None and (name is None or name in _WITH_CACHE_APART):
        counts.add_to_input(cached)
    if tools := _first_count(found, _TOOL_INPUT_APART):
        counts.add_to_input(tools)
    if thoughts:
        counts.add_to_output(thoughts)
    counts.reconcile(total)
    return counts


def _cache_apart(found: Any) -> tuple[int | None, int | None]:
    """Return what was read from and written to the cache, where the input excludes both."""
    read, written = _first_count(found, _CACHE_READ_APART), _first_count(found, _CACHE_WRITE_APART)
    if written is None and (creation := _get(found, "cache_creation")) is not None:
        parts = [
            _count(creation, f"ephemeral_{lifetime}_input_tokens") for lifetime in ("5m", "1h")
        ]
        known = [part for part in parts if part is not None]
        written = sum(known) if known else None
    return read, written


def _modality(details: Any, names: Sequence[str], found: Any, lists: Sequence[str]) -> int | None:
    """Return the tokens of one modality: from an object, or from a list of entries."""
    count = _first_count(details, names)
    if count is not None:
        return count
    wanted = names[-1]
    for name in lists:
        entries = _get(found, name)
        if not isinstance(entries, list | tuple):
            continue
        counts = [
            _first_count(entry, ("tokenCount", "token_count"))
            for entry in entries[:_MAX_ENTRIES]
            if _modality_name(entry) == wanted
        ]
        known = [each for each in counts if each is not None]
        if known:
            return sum(known)
    return None


def _modality_name(entry: Any) -> str | None:
    modality = _get(entry, "modality")
    name = modality if isinstance(modality, str) else getattr(modality, "value", None)
    return name.lower() if type(name) is str or isinstance(name, str) else None


def _cost(found: Any) -> float | None:
    """Return the US dollars that the provider itself reports."""
    ticks = _dollars(_get(found, "cost_in_usd_ticks"), _XAI_TICKS_PER_DOLLAR)
    if ticks is not None:
        return ticks
    cost = _get(found, "cost")
    own = _dollars(cost) if not _is_object(cost) else _dollars(_get(cost, "total_cost"))
    if own is None or _get(found, "is_byok") is not True:
        return own
    # OpenRouter's own fee; the provider charges the owner of the key beside it.
    upstream = _dollars(_get(_get(found, "cost_details"), "upstream_inference_cost"))
    return own + (upstream or 0.0)


def _dollars(value: Any, per_dollar: int = 1) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # The comparison is exact, also for integers that no float can represent; NaN fails it.
    return value / per_dollar if 0 <= value <= _MAX_DOLLARS * per_dollar else None


def _is_valid(usage: Usage) -> bool:
    names = [field.name for field in fields(Usage) if field.name.endswith("_tokens")]
    required = ("prompt_tokens", "completion_tokens")
    return all(
        _count(usage, name) is not None
        for name in names
        if name in required or getattr(usage, name) is not None
    )


def _get(found: Any, name: str) -> Any:
    if found is None:
        return None
    if hasattr(type(found), "__pydantic_extra__"):
        # Asking a pydantic model for a missing attribute costs ten microseconds.
        value = vars(found).get(name)
        return (found.__pydantic_extra__ or {}).get(name) if value is None else value
    if isinstance(found, Mapping):
        return found.get(name)
    return getattr(found, name, None) if _is_object(found) else None


def _is_object(found: Any) -> bool:
    return found is not None and not isinstance(found, _PLAIN)


def _first_object(found: Any, names: Sequence[str]) -> Any:
    return next((value for name in names if _is_object(value := _get(found, name))), None)


def _first_name(found: Any, names: Sequence[str]) -> str | None:
    return next((name for name in names if _count(found, name) is not None), None)


def _first_count(found: Any, names: Sequence[str]) -> int | None:
    name = _first_name(found, names)
    return None if name is None else _count(found, name)


def _count(found: Any, name: str) -> int | None:
    return _as_count(_get(found, name))


def _as_count(value: Any) -> int | None:
    """Return a number of tokens; JSON of some servers has `11.0`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= _MAX_TOKENS and value == int(value) else None


def _at_most(count: int | None, limit: int) -> int | None:
    return None if count is None else min(count, limit)


def _larger(old: Any, new: Any) -> Any:
    return max((value for value in (old, new) if value is not None), default=None)


def _known(first: int | None, second: int | None) -> int | None:
    return second if first is None else first
