"""LogQL for the log record of each response, its content and its ratings."""

from collections.abc import Iterable
from typing import Final

from chatscope.names import (
    ANSWER_COST,
    ANSWER_OUTCOME,
    ANSWER_SECONDS,
    ERROR_MESSAGE,
    ERROR_TYPE,
    EVENT_EVALUATION,
    EVENT_INFERENCE_DETAILS,
    GEN_AI_CONVERSATION_ID,
    GEN_AI_EVALUATION_EXPLANATION,
    GEN_AI_EVALUATION_SCORE_LABEL,
    GEN_AI_INPUT_MESSAGES,
    GEN_AI_OUTPUT_MESSAGES,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_USAGE_INPUT_TOKENS,
    GEN_AI_USAGE_OUTPUT_TOKENS,
    HTTP_RESPONSE_STATUS_CODE,
    USER_ID,
    prometheus_label,
)
from dashboards.queries import RANGE, aggregate, differs, keep, lines, matches
from dashboards.variables import CONVERSATION, MODEL, OUTCOME, USER, Text

_ENDS: Final = "answer (completed|failed|cancelled)"
# The event with the content has all attributes of the record, and must not be counted as well.
RECORDS: Final = f"|~ `^{_ENDS}$`"
_RECORDS_AND_TEXTS: Final = f"|~ `^({_ENDS}|{EVENT_INFERENCE_DETAILS})$`"
RATINGS: Final = f"|= `{EVENT_EVALUATION}`"


def _value(attribute: str) -> str:
    return f".{prometheus_label(attribute)}"


def exactly(attribute: str, field: Text) -> str:
    """Return the stage that filters by a text field, if it is not empty.

    The pattern of an empty field begins with its second alternative, which matches everything.
    """
    pattern = f"`${{{field.name}:regex}}(?:$|^.*)`"
    return keep(f"{prometheus_label(attribute)}=~{pattern}")


def chosen() -> list[str]:
    """Return the stages for the chosen model, user and conversation."""
    return [
        keep(matches(GEN_AI_REQUEST_MODEL, f"${MODEL.name}")),
        exactly(USER_ID, USER),
        exactly(GEN_AI_CONVERSATION_ID, CONVERSATION),
    ]


def records(*stages: str) -> str:
    """Return the response records of the chosen services."""
    return lines(RECORDS, *stages)


def of_outcome() -> str:
    """Return the stage for the chosen outcome; other records have none."""
    return keep(matches(ANSWER_OUTCOME, f"${OUTCOME.name}"))


def facts() -> str:
    """Return the template part that shows the facts of a response: model, time, tokens, cost,
    the reason of a failure, and the rating."""
    shown = {
        GEN_AI_REQUEST_MODEL: "{{ . }}",
        ANSWER_SECONDS: '{{ printf "%.2f" (float64 .) }} s',
        ANSWER_COST: '${{ printf "%.6f" (float64 .) }}',
        # The status of an access record is in its text.
        ERROR_TYPE: f"{{{{ . }}}}{{{{ with ${_value(HTTP_RESPONSE_STATUS_CODE)} }}}} {{{{ . }}}}"
        "{{ end }}",
        ERROR_MESSAGE: "{{ . }}",
        GEN_AI_EVALUATION_SCORE_LABEL: "{{ . }}",
        GEN_AI_EVALUATION_EXPLANATION: "{{ . }}",
    }
    parts = {
        name: f"{{{{ with {_value(name)} }}}} · {text}{{{{ end }}}}" for name, text in shown.items()
    }
    tokens = (
        f"{{{{ with {_value(GEN_AI_USAGE_INPUT_TOKENS)} }}}} · {{{{ . }}}}"
        f"{{{{ with ${_value(GEN_AI_USAGE_OUTPUT_TOKENS)} }}}} + {{{{ . }}}}{{{{ end }}}}"
        " tokens{{ end }}"
    )
    cost = parts.pop(ANSWER_COST)
    model, seconds, *reasons = parts.values()
    return "".join([model, seconds, tokens, cost, *reasons])


def transcript() -> str:
    """Return the lines of a conversation: captured content of each turn, and its facts.

    The messages of a request after the last response in it are new.
    """
    # Template variables are numbers: names would be replaced as dashboard variables.
    part = (
        "{{ range .parts }}"
        '{{ if eq .type "tool_call" }} [{{ .name }}: '
        '{{ printf "%v" .arguments | trimPrefix "map[" | trimSuffix "]" }}]'
        '{{ else if eq .type "tool_call_response" }} {{ .response }}'
        '{{ else if or .content (eq .type "text") }} {{ .content }}'
        "{{ else }} ({{ .type }}){{ end }}"
        "{{ end }}"
    )
    said = (
        f"{{{{ $1 := fromJson {_value(GEN_AI_INPUT_MESSAGES)} }}}}{{{{ $2 := 0 }}}}"
        '{{ range $3, $4 := $1 }}{{ if eq .role "assistant" }}{{ $2 = add $3 1 }}'
        "{{ end }}{{ end }}"
        f"{{{{ range $3, $4 := $1 }}}}{{{{ if ge $3 (int $2) }}}}{{{{ .role }}}}:{part}\n"
        "{{ end }}{{ end }}"
        f"{{{{ range fromJson {_value(GEN_AI_OUTPUT_MESSAGES)} }}}}{{{{ .role }}}}:{part}\n"
        "{{ end }}"
    )
    text = f"{{{{ if {_value(GEN_AI_INPUT_MESSAGES)} }}}}{said}{{{{ else }}}}{{{{ __line__ }}}}"
    formatted = f"| line_format `{text}{facts()}{{{{ end }}}}`"
    return lines(
        _RECORDS_AND_TEXTS,
        exactly(GEN_AI_CONVERSATION_ID, CONVERSATION),
        keep(differs(GEN_AI_CONVERSATION_ID)),
        formatted,
    )


def added(attribute: str, *stages: str, by: Iterable[str], over: str = RANGE) -> str:
    """Return the sum of a number in response records, by attributes."""
    found = records(keep(differs(attribute)), *stages, f"| unwrap {prometheus_label(attribute)}")
    return aggregate("sum", f"sum_over_time({found} [{over}])", by)


def counted(*stages: str, by: Iterable[str], over: str = RANGE) -> str:
    """Return the number of responses, by attributes."""
    return aggregate("sum", f"count_over_time({records(*stages)} [{over}])", by)
