"""Parsing of JSON and validation, with errors that name the parameter and what is accepted."""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json

from app.domain.errors import InvalidRequest

Valid = TypeVar("Valid", bound=BaseModel)
_MAX_PROBLEMS: Final = 5
_MAX_VALUE_LENGTH: Final = 40
# In place of pydantic's messages that are too terse or use Python's terms.
_TEXTS: Final = {
    "missing": "it is required",
    "extra_forbidden": "Unrecognized request argument supplied",
    "list_type": "it must be a list",
    "model_type": "it must be an object",
    "model_attributes_type": "it must be an object",
}


def parse_json(body: str | bytes) -> Any:
    """Return the value of a JSON text. Raise InvalidRequest, also for NaN and lone surrogates."""
    try:
        return from_json(body, allow_inf_nan=False)
    except (ValueError, TypeError) as error:  # TypeError for a `str` with lone surrogates
        raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from None


def validate(model: type[Valid], data: object, limits: Mapping[str, int] | None = None) -> Valid:
    """Return `data` as a `model`. Raise InvalidRequest with all problems.

    `limits`: `max_message_chars` for one message, `max_request_messages` and
    `max_request_chars` for all of them; a missing one is unlimited.
    """
    try:
        return model.model_validate(data, context=limits)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        limit = (problems[0].get("ctx") or {}).get("limit")
        raise InvalidRequest(
            _describe_all(problems),
            code=f"too_many_{limit}" if limit else "invalid_request",
            param=_path(problems[0]) or None,
            limit=limit,
        ) from None


def _describe_all(problems: list[ErrorDetails]) -> str:
    texts = [_describe(problem) for problem in problems[:_MAX_PROBLEMS]]
    more = len(problems) - len(texts)
    return "; ".join(texts) + (f"; and {more} more" if more > 0 else "")


def _describe(problem: ErrorDetails) -> str:
    path = _path(problem)
    text = _TEXTS.get(problem["type"], problem["msg"])
    if not path and problem["type"] not in _TEXTS:
        return text
    return f"Invalid '{path or 'body'}': {text}{_value(problem)}"


def _path(problem: ErrorDetails) -> str:
    """Return the path, such as `messages[0].role`."""
    named = (problem.get("ctx") or {}).get("name")
    path = ""
    for part in (*problem["loc"], *([named] if named else [])):
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _value(problem: ErrorDetails) -> str:
    value = problem["input"]
    if problem["type"] == "missing" or not isinstance(value, str | int | float):
        return ""
    text = repr(value)
    return f" (got {text})" if len(text) <= _MAX_VALUE_LENGTH else ""
