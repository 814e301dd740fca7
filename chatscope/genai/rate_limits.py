"""Rate limits of a provider, from the headers of its responses.

The headers are those of OpenAI (`x-ratelimit-remaining-requests`), which Azure, Groq and others
send too, and of Anthropic (`anthropic-ratelimit-requests-remaining`).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

# The values of the label; others, such as limits by project, are not recorded.
TYPES: Final = ("requests", "tokens", "input_tokens", "output_tokens")
_OPENAI: Final = re.compile(r"x-ratelimit-(limit|remaining)-([a-z-]+)")
_ANTHROPIC: Final = re.compile(r"anthropic-ratelimit-([a-z-]+)-(limit|remaining)")
_MAX_DIGITS: Final = 15


@dataclass(frozen=True)
class RateLimit:
    """One limit of a provider; each number is None if the headers do not have it."""

    type: str  # one of TYPES
    remaining: int | None = None
    limit: int | None = None


def rate_limits(headers: Mapping[str, str]) -> Iterator[RateLimit]:
    """Yield the limits of response headers; names are compared in lower case."""
    found: dict[str, dict[str, int]] = {}
    for header, value in headers.items():
        name = header.lower()
        if match := _OPENAI.fullmatch(name):
            what, kind = match.groups()
        elif match := _ANTHROPIC.fullmatch(name):
            kind, what = match.groups()
        else:
            continue
        digits = value.strip()
        if digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_DIGITS:
            found.setdefault(kind.replace("-", "_"), {})[what] = int(digits)
    for kind, numbers in found.items():
        if kind in TYPES:
            yield RateLimit(kind, **numbers)
