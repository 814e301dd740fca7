"""Ratings of responses: an event and a span on the response's trace, and a counter."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.util.types import AttributeValue

from chatscope import names
from chatscope.arguments import refuse
from chatscope.attributes import known
from chatscope.genai.answer import Answer
from chatscope.genai.operation import innermost_operation
from chatscope.genai.recent import RecentResponse
from chatscope.genai.recorder import Recorder, current_recorder
from chatscope.guard import guarded

_NAME: Final = "user_feedback"
_SPAN_NAME: Final = "evaluate response"
_MIDDLE: Final = 0.5
_MAX_LABEL: Final = 64  # characters
_MAX_COMMENT: Final = 4_000
_MAX_ID: Final = 256
_TRACE_ID: Final = re.compile("(?!0{32})[0-9a-f]{32}")
_SPAN_ID: Final = re.compile("(?!0{16})[0-9a-f]{16}")


class Problem(NamedTuple):
    """The name of an invalid argument, and what is accepted."""

    argument: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Rating:
    """A rating of one response, by its `label` or its `score`.

    `name` is the criterion. `trace_id` and `span_id` are hex digits. `model` is counted where the
    response is not known here any more.
    """

    label: str | None = None  # good, bad, or another text, which is counted as other
    score: float | None = None  # from 0 (bad) to 1 (good)
    comment: str | None = None
    name: str | None = None
    response_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    model: str | None = None

    def problem(self) -> Problem | None:
        """Return the first invalid value, if any."""
        for argument, (accepts, accepted) in _ACCEPTED.items():
            value = getattr(self, argument)
            if value is not None and not accepts(value):
                return Problem(argument, f"it must be {accepted}{_got(value)}")
        if self.label is None and self.score is None:
            return Problem("label", "it is required, unless there is a score")
        if self.span_id is not None and self.trace_id is None:
            return Problem("trace_id", "it is required with a span_id")
        return None

    @property
    def outcome(self) -> str:
        """The label; without one, that of the score."""
        if self.label is not None:
            return self.label
        if self.score is None or self.score == _MIDDLE:
            return "other"
        return "good" if self.score > _MIDDLE else "bad"


def record_feedback(label: str | None = None, **options: Any) -> None:
    """Record a rating of a response: its `label`, which is `good`, `bad` or another text.

    `options` are the other fields of `Rating`: in place of a label, or beside it, `score` from 0
    (bad) to 1 (good); `comment`; `name` of the criterion. `response_id` or `trace_id` is that of
    one of the last responses of this process; without either, the current model call is rated. Of
    any other response, the event has the IDs that are given, and the counter has the `model`.
    """
    with guarded("recording feedback"):
        rating = Rating(label=label, **options)
        if problem := rating.problem():
            refuse(problem.argument, f"{problem.argument}: {problem.text}")
        else:
            record_rating(current_recorder(), rating)


def record_rating(recorder: Recorder, rating: Rating) -> bool:
    """Record a valid rating; return whether the response is known."""
    found = recorder.recent.find(rating.response_id, rating.trace_id) or _current(rating)
    response = found or _unknown(rating)
    result = {
        names.GEN_AI_EVALUATION_NAME: rating.name or _NAME,
        names.GEN_AI_EVALUATION_SCORE_VALUE: None if rating.score is None else float(rating.score),
        names.GEN_AI_EVALUATION_SCORE_LABEL: rating.outcome,
        names.GEN_AI_EVALUATION_EXPLANATION: rating.comment or None,
    }
    context = trace.set_span_in_context(NonRecordingSpan(response.span), Context())
    attributes: dict[str, AttributeValue] = {**response.attributes, **known(result)}
    recorder.emit(names.EVENT_EVALUATION, "INFO", attributes, context)
    model = str(response.attributes.get(names.GEN_AI_REQUEST_MODEL, names.OTHER))
    recorder.instruments.record_feedback(rating.outcome, model=model, context=context)
    with guarded("recording the span of a rating"):
        _record_span(recorder, attributes, context)
    return found is not None


def _record_span(
    recorder: Recorder, attributes: Mapping[str, AttributeValue], context: Context
) -> None:
    """Record a child of the rated span, whose context is `context`, if that is valid and sampled.

    It has no model: span metrics would count it as a model call, and have a series for each model
    that a client names of a response that is not known.
    """
    rated = trace.get_current_span(context).get_span_context()
    if not (rated.is_valid and rated.trace_flags.sampled):
        return
    shown = {key: value for key, value in attributes.items() if key != names.GEN_AI_REQUEST_MODEL}
    span = recorder.tracer.start_span(
        _SPAN_NAME, context=context, kind=SpanKind.INTERNAL, attributes=shown
    )
    span.end()


def _current(rating: Rating) -> RecentResponse | None:
    if rating.response_id is not None or rating.trace_id is not None:
        return None
    operation = innermost_operation()
    return operation.as_rated() if isinstance(operation, Answer) else None


def _unknown(rating: Rating) -> RecentResponse:
    """Return what is known of a response of another process or an earlier time."""
    if rating.trace_id is not None:
        # A log record with a trace ID and without a span ID is valid.
        ids = int(rating.trace_id, 16), int(rating.span_id or "0", 16)
        span = SpanContext(*ids, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    elif rating.response_id is not None:
        span = trace.INVALID_SPAN_CONTEXT
    else:
        span = trace.get_current_span().get_span_context()
    given = {
        names.GEN_AI_RESPONSE_ID: rating.response_id,
        names.GEN_AI_REQUEST_MODEL: rating.model,
    }
    return RecentResponse(span, known(given))


def _text(least: int, most: int) -> tuple[Callable[[object], bool], str]:
    def accepts(value: object) -> bool:
        return isinstance(value, str) and least <= len(value) <= most

    return accepts, f"a text of {least} to {most} characters"


def _is_score(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _hex(pattern: re.Pattern[str], digits: int) -> tuple[Callable[[object], bool], str]:
    def accepts(value: object) -> bool:
        return isinstance(value, str) and pattern.fullmatch(value) is not None

    return accepts, f"{digits} lowercase hex digits, not all zero"


_ACCEPTED: Final[dict[str, tuple[Callable[[object], bool], str]]] = {
    "label": _text(1, _MAX_LABEL),
    "score": (_is_score, "a number from 0 (bad) to 1 (good)"),
    "comment": _text(0, _MAX_COMMENT),
    "name": _text(1, _MAX_LABEL),
    "response_id": _text(1, _MAX_ID),
    "trace_id": _hex(_TRACE_ID, 32),
    "span_id": _hex(_SPAN_ID, 16),
    "model": _text(1, _MAX_ID),
}


def _got(value: object) -> str:
    text = repr(value) if isinstance(value, str | int | float) else type(value).__name__
    return f" (got {text})" if len(text) <= _MAX_LABEL else ""
