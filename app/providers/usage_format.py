"""The usage object of a provider's response: read for telemetry, completed for clients."""

from typing import Any, Final

from chatscope.genai import Usage, read_usage

_NAMES: Final = ("prompt_tokens", "completion_tokens", "total_tokens")


def usage_in(found: dict[str, Any]) -> Usage | None:
    """Return the usage of a response or chunk; None if there is none that can be read."""
    if reported := found.get("usage"):
        return read_usage(reported)
    return read_usage(found) if "x_groq" in found else None


def is_standard(reported: object) -> bool:
    """Whether clients can read a usage object as it is; None is one."""
    return reported is None or (
        isinstance(reported, dict) and all(type(reported.get(name)) is int for name in _NAMES)
    )


def has_standard_usage(found: dict[str, Any]) -> bool:
    """Whether clients find the usage of a response, if there is any, and can read it."""
    reported = found.get("usage")
    return is_standard(reported) and (reported is not None or "x_groq" not in found)


def standard_usage(reported: object, usage: Usage | None) -> dict[str, Any] | None:
    """Return the provider's object with the counts that OpenAI's format requires."""
    if usage is None:
        return None
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    others = reported if isinstance(reported, dict) else {}
    return {**others, **dict(zip(_NAMES, counts, strict=True))}
