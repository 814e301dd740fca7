"""From bytes to a checked object, and from pydantic's errors to a text that a person can use."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json

from app.domain.errors import InvalidRequest

Checked = TypeVar("Checked", bound=BaseModel)
_MOST_PROBLEMS = 5
_LONGEST_ECHO = 40
# What pydantic says too tersely, or in Python's words.
_TEXTS = {
    "missing": "it is required",
    "extra_forbidden": "Unrecognized request argument supplied",
    "list_type": "it must be a list",
    "model_type": "it must be an object",
    "model_attributes_type": "it must be an object",
}


def parse_json(body: str | bytes) -> Any:
    """The value of a JSON text. Raises InvalidRequest, also for NaN and lone surrogates."""
    try:
        return from_json(body, allow_inf_nan=False)
    except (ValueError, TypeError) as error:  # the latter for a `str` with lone surrogates
        raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from None


def check(model: type[Checked], data: object, limits: Mapping[str, int] | None = None) -> Checked:
    """`data` as a `model`. Raises InvalidRequest that names each place and what is accepted.

    `limits` are those that settings hold: `max_message_chars` of one content,
    `max_request_messages` and `max_request_chars` of all.
    """
    try:
        return model.model_validate(data, context=limits)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        limit = (problems[0].get("ctx") or {}).get("limit")
        raise InvalidRequest(
            _all(problems),
            code=f"too_many_{limit}" if limit else "invalid_request",
            param=_place(problems[0]) or None,
            limit=limit,
        ) from None


def _all(problems: list[ErrorDetails]) -> str:
    texts = [_one(problem) for problem in problems[:_MOST_PROBLEMS]]
    more = len(problems) - len(texts)
    return "; ".join(texts) + (f"; and {more} more" if more > 0 else "")


def _one(problem: ErrorDetails) -> str:
    place = _place(problem)
    text = _TEXTS.get(problem["type"], problem["msg"])
    if not place and problem["type"] not in _TEXTS:
        return text
    return f"Invalid '{place or 'body'}': {text}{_echo(problem)}"


def _place(problem: ErrorDetails) -> str:
    """`messages[0].role`; a parameter refused as a whole names itself."""
    named = (problem.get("ctx") or {}).get("name")
    place = ""
    for part in (*problem["loc"], *([named] if named else [])):
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    return place


def _echo(problem: ErrorDetails) -> str:
    value = problem["input"]
    if problem["type"] == "missing" or not isinstance(value, str | int | float):
        return ""
    text = repr(value)
    return f", not {text}" if len(text) <= _LONGEST_ECHO else ""
