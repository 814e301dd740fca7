"""The tokens of one response as the counters of the GenAI conventions count them."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from chatscope import names
from chatscope.genai.request import Usage
from chatscope.names import Metric

_AUDIO: Final = "audio"
_IMAGE: Final = "image"
_TEXT: Final = "text"
_UNKNOWN: Final = "unknown"


class Count(NamedTuple):
    """Tokens of one modality, for one counter."""

    metric: Metric
    modality: str
    tokens: int


def counted_tokens(usage: Usage) -> list[Count]:
    """Return the counts of a response, by modality as far as the provider reported it.

    The counts of a metric add up to the total of the response, also where that is zero.
    Parts that the provider does not report have no count.
    """
    audio_read = usage.audio_cache_read_tokens
    return [
        *_split(
            names.USAGE_INPUT_TOKENS,
            usage.prompt_tokens,
            usage.audio_input_tokens,
            usage.image_input_tokens,
        ),
        *_split(
            names.USAGE_OUTPUT_TOKENS,
            usage.completion_tokens,
            usage.audio_output_tokens,
            usage.image_output_tokens,
        ),
        *_split(names.USAGE_CACHE_READ_TOKENS, usage.cache_read_tokens, audio_read, None),
        *_split(names.USAGE_CACHE_WRITE_TOKENS, usage.cache_write_tokens, None, None),
        *_split(names.USAGE_REASONING_TOKENS, usage.reasoning_tokens, None, None),
    ]


def _split(
    metric: Metric, total: int | None, audio: int | None, image: int | None
) -> Iterator[Count]:
    """Split a total; the rest is text only if both other modalities were reported."""
    if total is None:
        return
    rest = total
    for modality, part in ((_AUDIO, audio), (_IMAGE, image)):
        if part and 0 < part <= rest:
            yield Count(metric, modality, part)
            rest -= part
    if rest or not total:
        known = audio is not None and image is not None
        yield Count(metric, _TEXT if known and total else _UNKNOWN, rest)
