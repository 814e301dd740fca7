"""POST /v1/feedback: a rating of a response."""

from dataclasses import fields, replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse

from app.domain.errors import InvalidRequest, shorten
from app.response_id import span_of
from app.settings import Settings
from app.transport.admission import Admission
from app.transport.body import read_body
from app.transport.large import unblocked
from app.transport.steps import step
from app.wire.parsing import parse_json
from chatscope import Telemetry
from chatscope.genai import Rating

_FIELDS: Final = tuple(field.name for field in fields(Rating))


class Feedback:
    """Ratings of the service's responses."""

    def __init__(self, settings: Settings, telemetry: Telemetry, admission: Admission) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._admission = admission

    async def create(self, request: Request) -> JSONResponse:
        """Record a rating. Raise ServiceError."""
        settings = self._settings
        with self._admission.receiving():
            body = await read_body(
                request, settings.max_body_bytes, settings.receive_timeout_seconds
            )
        with step("validate"):
            rating = await unblocked(len(body), lambda: _rating(parse_json(body)))
        known = self._telemetry.record_feedback(rating)
        return JSONResponse(
            {
                "object": "feedback",
                "response_id": rating.response_id,
                "trace_id": rating.trace_id,
                "label": rating.outcome,
                "known": known,
            },
            status_code=201,
        )


def _rating(data: Any) -> Rating:
    """Return a valid rating. Raise InvalidRequest."""
    if not isinstance(data, dict):
        raise InvalidRequest("Invalid 'body': it must be an object")
    if unknown := [name for name in data if name not in _FIELDS]:
        name = shorten(unknown[0])
        accepted = ", ".join(_FIELDS)
        raise InvalidRequest(
            f"Invalid '{name}': it is not a parameter; accepted are {accepted}", param=name
        )
    rating = Rating(**data)
    if rating.response_id is None and rating.trace_id is None:
        text = "Invalid 'trace_id': it is required, unless there is a response_id"
        raise InvalidRequest(text, param="trace_id")
    if problem := rating.problem():
        raise InvalidRequest(
            f"Invalid '{problem.argument}': {problem.text}", param=problem.argument
        )
    return _with_span(rating)


def _with_span(rating: Rating) -> Rating:
    """Return the rating with the trace that the ID of a response contains."""
    span = span_of(rating.response_id or "")
    if span is None or rating.trace_id is not None:
        return rating
    return replace(rating, trace_id=span[0], span_id=span[1])
