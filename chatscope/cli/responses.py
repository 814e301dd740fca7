"""Recorded responses and ratings, read from log records."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chatscope.cli.loki import Line, Loki
from chatscope.cli.tempo import Tempo
from chatscope.names import (
    ANSWER_COST,
    ANSWER_OUTCOME,
    ERROR_MESSAGE,
    ERROR_TYPE,
    EVENT_EVALUATION,
    EVENT_INFERENCE_DETAILS,
    GEN_AI_CONVERSATION_ID,
    GEN_AI_EVALUATION_EXPLANATION,
    GEN_AI_EVALUATION_NAME,
    GEN_AI_EVALUATION_SCORE_LABEL,
    GEN_AI_EVALUATION_SCORE_VALUE,
    GEN_AI_INPUT_MESSAGES,
    GEN_AI_OUTPUT_MESSAGES,
    GEN_AI_PROVIDER_NAME,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_SYSTEM_INSTRUCTIONS,
    GEN_AI_TOOL_DEFINITIONS,
    GEN_AI_USAGE_INPUT_TOKENS,
    GEN_AI_USAGE_OUTPUT_TOKENS,
    SESSION_ID,
    USER_ID,
    prometheus_label,
)

# The record of each response, and the event with its texts.
_ANSWERED: Final = "answer (completed|failed|cancelled)"
_RESPONSES: Final = f"|~ `^({_ANSWERED}|{EVENT_INFERENCE_DETAILS})$`"
_RATINGS: Final = f"|= `{EVENT_EVALUATION}`"
_FACTS: Final = (
    GEN_AI_CONVERSATION_ID, SESSION_ID, USER_ID, GEN_AI_REQUEST_MODEL, GEN_AI_PROVIDER_NAME,
    ANSWER_OUTCOME, ANSWER_COST, ERROR_TYPE, ERROR_MESSAGE, GEN_AI_USAGE_INPUT_TOKENS,
    GEN_AI_USAGE_OUTPUT_TOKENS,
)  # fmt: skip
_TEXTS: Final = (
    GEN_AI_INPUT_MESSAGES, GEN_AI_OUTPUT_MESSAGES, GEN_AI_SYSTEM_INSTRUCTIONS,
    GEN_AI_TOOL_DEFINITIONS,
)  # fmt: skip
_IDS: Final = ("trace_id", "span_id", "service_name")
_KEEP: Final = ", ".join((*_IDS, *map(prometheus_label, _FACTS)))


@dataclass
class Response:
    """One response: its facts, by the names of attributes."""

    time: int  # ns
    trace_id: str
    span_id: str
    facts: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def conversation(self) -> str:
        """The ID of its conversation; of one without, that of the trace."""
        return self.facts.get(GEN_AI_CONVERSATION_ID) or self.trace_id

    @property
    def outcome(self) -> str:
        """The outcome: completed, failed or cancelled."""
        known = self.facts.get(ANSWER_OUTCOME)
        return known or ("failed" if self.facts.get(ERROR_TYPE) else "completed")

    def number(self, name: str) -> float:
        """Return a fact as a number; 0 if it is not known."""
        return number(self.facts.get(name, "")) or 0.0

    def merge(self, line: Line) -> None:
        """Add what another record of the same response has."""
        self.time = max(self.time, line.time)
        self.facts.update(_named(line.fields, _FACTS))
        self.texts.update(_named(line.fields, _TEXTS))


@dataclass(frozen=True)
class Rating:
    """A rating of the response of a trace."""

    trace_id: str
    label: str
    shown: Mapping[str, Any]


def facts_of_responses(loki: Loki, streams: str, start: int, end: int) -> list[Response]:
    """Return all responses of a time without their texts."""
    return _merged(loki.lines(f"{streams} {_RESPONSES} | keep {_KEEP}", start, end))


def responses(loki: Loki, streams: str, condition: str, start: int, end: int) -> list[Response]:
    """Return the responses of a time that meet a condition of LogQL, with their texts."""
    return _merged(loki.lines(f"{streams} {_RESPONSES} | {condition}", start, end))


def ratings(loki: Loki, streams: str, start: int, end: int) -> Iterator[Rating]:
    """Yield the ratings that were made in a time."""
    for line in loki.lines(f"{streams} {_RATINGS}", start, end):
        facts = _named(line.fields, (
            GEN_AI_EVALUATION_NAME, GEN_AI_EVALUATION_SCORE_LABEL, GEN_AI_EVALUATION_SCORE_VALUE,
            GEN_AI_EVALUATION_EXPLANATION,
        ))  # fmt: skip
        score = facts.get(GEN_AI_EVALUATION_SCORE_VALUE)
        label = facts.get(GEN_AI_EVALUATION_SCORE_LABEL, "")
        shown = {
            "name": facts.get(GEN_AI_EVALUATION_NAME),
            "label": label,
            "score": number(score),
            "comment": facts.get(GEN_AI_EVALUATION_EXPLANATION),
        }
        known = {name: value for name, value in shown.items() if value is not None}
        yield Rating(line.fields.get("trace_id", ""), label, known)


def add_texts(tempo: Tempo, responses: Iterable[Response]) -> None:
    """Add the texts on the spans of responses that have none."""
    of_trace: dict[str, dict[str, dict[str, str]]] = {}
    for response in responses:
        if not response.texts:
            trace_id = response.trace_id
            if trace_id not in of_trace:
                of_trace[trace_id] = tempo.texts(trace_id, _TEXTS)
            response.texts.update(of_trace[trace_id].get(response.span_id, {}))


def _merged(lines: Iterable[Line]) -> list[Response]:
    found: dict[tuple[str, str], Response] = {}
    for line in lines:
        ids = line.fields.get("trace_id", ""), line.fields.get("span_id", "")
        if ids[0]:
            response = found.setdefault(ids, Response(line.time, *ids))
            response.facts.setdefault("service", line.fields.get("service_name", ""))
            response.merge(line)
    return sorted(found.values(), key=lambda response: response.time)


def number(text: object) -> float | None:
    """Return a field of a record as a number; None for one that is missing or is no number."""
    try:
        found = float(str(text))
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def tokens(fields: Mapping[str, object]) -> str:
    """Return `5 + 20 tokens` of fields that have Loki's or the attributes' names."""
    counts = [
        number(fields.get(name, fields.get(prometheus_label(name), "")))
        for name in (GEN_AI_USAGE_INPUT_TOKENS, GEN_AI_USAGE_OUTPUT_TOKENS)
    ]
    shown = " + ".join(f"{count:.0f}" for count in counts if count is not None)
    return f"{shown} tokens" if shown else ""


def _named(fields: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return fields of Loki by the names of their attributes."""
    return {
        name: value for name in names if (value := fields.get(prometheus_label(name))) is not None
    }
