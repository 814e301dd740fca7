"""Parsing of JSON, and validation of WebSocket messages, with errors that name the parameter and
what is accepted."""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError, from_json

from app.domain.errors import InvalidRequest, shorten

Valid = TypeVar("Valid", bound="StrictModel")
MAX_PROBLEMS: Final = 5
_MAX_VALUE_LENGTH: Final = 40
# In place of pydantic's messages that are too terse or use Python's terms.
_TEXTS: Final = {
    "missing": "it is required",
    "list_type": "it must be a list",
    "model_type": "it must be an object",
    "model_attributes_type": "it must be an object",
}


class StrictModel(BaseModel):
    """Accepts known fields with the exact type: no conversions, no extra fields."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, data: object) -> object:
        """Raise one error for all unknown names; one error each would take seconds for a message
        full of them."""
        fields = data if isinstance(data, dict) else {}
        unknown = [name for name in fields if name not in cls.model_fields]
        if not unknown:
            return data
        raise PydanticCustomError(
            "unknown_parameter",
            "Unrecognized request argument{s} supplied: {names}{more}",
            {
                "s": "s" if len(unknown) > 1 else "",
                "names": ", ".join(sorted(shorten(name) for name in unknown[:MAX_PROBLEMS])),
                "more": f" and {more} more" if (more := len(unknown) - MAX_PROBLEMS) > 0 else "",
                "name": shorten(unknown[0]),
            },
        )


def parse_json(body: str | bytes) -> Any:
    """Return the value of a JSON text. Raise InvalidRequest, also for NaN and lone surrogates."""
    try:
        return from_json(body, allow_inf_nan=False)
    except (ValueError, TypeError) as error:  # TypeError for a `str` with lone surrogates
        raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from None


def validate(model: type[Valid], data: object, limits: Mapping[str, int] | None = None) -> Valid:
    """Return `data` as a `model`. Raise InvalidRequest with all problems.

    `limits`: `max_message_chars`; if it is missing, the length is unlimited.
    """
    try:
        return model.model_validate(data, context=limits)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        limit = (problems[0].get("ctx") or {}).get("limit")
        raise InvalidRequest(
            joined([_describe(problem) for problem in problems[:MAX_PROBLEMS]], len(problems)),
            code=f"too_many_{limit}" if limit else "invalid_request",
            param=_path(problems[0]) or None,
            limit=limit,
        ) from None


def joined(problems: list[str], count: int) -> str:
    """Return one text of the first problems, with the number of the others."""
    more = count - len(problems)
    return "; ".join(problems) + (f"; and {more} more" if more > 0 else "")


def value_text(value: object) -> str:
    """Return a short value for an error message; of other values, nothing."""
    if not isinstance(value, str | int | float):
        return ""
    text = repr(value)
    return f" (got {text})" if len(text) <= _MAX_VALUE_LENGTH else ""


def _describe(problem: ErrorDetails) -> str:
    path = _path(problem)
    text = _TEXTS.get(problem["type"], problem["msg"])
    if problem["type"] == "unknown_parameter":
        return text
    value = "" if problem["type"] == "missing" else value_text(problem["input"])
    return f"Invalid '{path or 'body'}': {text}{value}"


def _path(problem: ErrorDetails) -> str:
    """Return the path, such as `content`."""
    named = (problem.get("ctx") or {}).get("name")
    return ".".join(str(part) for part in (*problem["loc"], *([named] if named else [])))
