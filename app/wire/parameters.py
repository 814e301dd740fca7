"""Parameters of the OpenAI format that change nothing here: refused, or taken and ignored."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic_core import PydanticCustomError

from app.domain.errors import shorten

# We cannot honour these, and refuse all values but those that ask for nothing.
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
# These change no answer here: taken, and not passed on.
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
_MOST_NAMES = 5


def without_meaningless(data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` without nulls and without these parameters. Raises for one that asks for more."""
    kept = {k: v for k, v in data.items() if v is not None and k not in IGNORED}
    for name in [name for name in kept if name in REFUSED]:
        _refuse_unless_meaningless(name, kept.pop(name))
    return kept


def refuse_unknown(data: Mapping[str, Any], known: Mapping[str, Any], *, named: bool) -> None:
    """Raise for names that are not known, all at once: one error each would cost seconds where
    somebody sends a body full of them. `named`: the error's place is the first of them."""
    unknown = [shorten(name) for name in data if name not in known]
    if unknown:
        raise PydanticCustomError(
            "unknown_parameter",
            "Unrecognized request argument{s} supplied: {names}{more}",
            {
                "s": "s" if len(unknown) > 1 else "",
                "names": ", ".join(sorted(unknown[:_MOST_NAMES])),
                "more": f" and {more} more" if (more := len(unknown) - _MOST_NAMES) > 0 else "",
                **({"name": unknown[0]} if named else {}),
            },
        )


def _refuse_unless_meaningless(name: str, value: Any) -> None:
    accepted = REFUSED[name]
    # `True == 1` in Python, but not on the wire.
    if any(value == other and type(value) is type(other) for other in accepted):
        return
    only = " or ".join(json.dumps(other) for other in accepted)
    raise PydanticCustomError(
        "unsupported",
        "it is not supported here{accepted}",
        {"name": name, "accepted": f", accepted is only {only}" if only else ""},
    )
