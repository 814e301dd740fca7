"""Headers of a provider's response that clients may use."""

import re
from collections.abc import Mapping
from typing import Final

_NAMES: Final = frozenset({"x-request-id", "openai-processing-ms", "openai-version"})
_LIMITS: Final = re.compile(r"(?:x|anthropic)-ratelimit-[a-z0-9-]{1,64}")
_VALUE: Final = re.compile(r"[\x20-\x7e]{0,256}")


def passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the ID, the rate limits and the processing time, by names in lower case."""
    return {
        name.lower(): value
        for name, value in headers.items()
        if (name.lower() in _NAMES or _LIMITS.fullmatch(name.lower())) and _VALUE.fullmatch(value)
    }
