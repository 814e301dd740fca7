"""Parameters of OpenAI's format that this service does not support: refused or ignored."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic_core import PydanticCustomError

from app.domain.errors import shorten

# Refused, except for values that request nothing beyond the default.
REFUSED: Final[Mapping[str, Sequence[object]]] = {
    "audio": (),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "prediction": (),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none",),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": (),
    "web_search_options": (),
}
# Accepted and not forwarded: they do not change the response.
IGNORED: Final = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
    }
)
_MAX_NAMES: Final = 5


def without_neutral(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return `data` without nulls and without these parameters.

    Raise PydanticCustomError for a refused parameter whose value changes the response.
    """
    kept = {k: v for k, v in data.items() if v is not None and k not in IGNORED}
    for name in [name for name in kept if name in REFUSED]:
        _refuse_unless_neutral(name, kept.pop(name))
    return kept


def refuse_unknown(data: Mapping[str, Any], known: Mapping[str, Any], *, named: bool) -> None:
    """Raise one error for all unknown names; one error each would take seconds for a body full of
    them. `named`: the error refers to the first of them as its parameter."""
    unknown = [shorten(name) for name in data if name not in known]
    if unknown:
        raise PydanticCustomError(
            "unknown_parameter",
            "Unrecognized request argument{s} supplied: {names}{more}",
            {
                "s": "s" if len(unknown) > 1 else "",
                "names": ", ".join(sorted(unknown[:_MAX_NAMES])),
                "more": f" and {more} more" if (more := len(unknown) - _MAX_NAMES) > 0 else "",
                **({"name": unknown[0]} if named else {}),
            },
        )


def _refuse_unless_neutral(name: str, value: Any) -> None:
    accepted = REFUSED[name]
    # `True == 1` in Python, but not in JSON.
    if any(value == other and type(value) is type(other) for other in accepted):
        return
    values = " or ".join(json.dumps(other) for other in accepted)
    raise PydanticCustomError(
        "unsupported",
        "it is not supported{accepted}",
        {"name": name, "accepted": f"; the only accepted value is {values}" if values else ""},
    )
