"""The alerts that read log lines: the rules of Loki's ruler."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from app.telemetry.names import (
    CODE_FUNCTION_NAME,
    CODE_LINE_NUMBER,
    ERROR_TYPE,
    prometheus_label,
)
from dashboards.links import LOGS, path
from dashboards.others import ERROR, EXCEPTION_TYPE, MODULE, SERVICE_NAME, SEVERITY

# What makes two error lines the same error: who logged, where in the code, and of what type. Not
# the text, which carries ids and numbers.
PATTERN: Final = (
    SERVICE_NAME,
    MODULE,
    CODE_FUNCTION_NAME,
    CODE_LINE_NUMBER,
    ERROR_TYPE,
    EXCEPTION_TYPE,
)


@dataclass(frozen=True)
class Windows:
    """Times as LogQL spells them.

    `burst`: over which errors are counted; `wait`: how long there must be too many. `new`: how
    long an error is new; `known`: how long before that it must not have been. Each evaluation
    reads all lines of `known`.
    """

    burst: str
    wait: str
    new: str
    known: str
    evaluation: str


NORMAL: Final = Windows(burst="5m", wait="1m", new="10m", known="6h", evaluation="1m")
DRILL: Final = Windows(burst="20s", wait="2s", new="15s", known="5m", evaluation="2s")


def groups(windows: Windows, most_errors: int, runbooks: str) -> list[dict[str, Any]]:
    """The groups of the rule file.

    `most_errors`: how many error lines of a service within `windows.burst` are no burst yet;
    `runbooks`: the folder of the pages that the alerts name.
    """
    return [
        {
            "name": "logs",
            "interval": windows.evaluation,
            "rules": [_burst(windows, most_errors, runbooks), _new_pattern(windows, runbooks)],
        }
    ]


def _burst(windows: Windows, most_errors: int, runbooks: str) -> dict[str, Any]:
    return _alert(
        "ErrorLogBurst",
        f"{_errors(windows.burst, [SERVICE_NAME])} > {most_errors}",
        windows.wait,
        f"{_label(SERVICE_NAME)} logged {{{{ $value }}}} errors within {windows.burst}, "
        f"more than {most_errors}.",
        [SERVICE_NAME],
        runbooks,
    )


def _new_pattern(windows: Windows, runbooks: str) -> dict[str, Any]:
    new = _errors(windows.new, PATTERN)
    known = _errors(windows.known, PATTERN, before=windows.new)
    return _alert(
        "NewErrorPattern",
        f"{new}\nunless\n{known}",
        "0s",
        f"{_label(SERVICE_NAME)} logs an error that was not there in the {windows.known} before: "
        f"{_label(MODULE)}, line {_label(CODE_LINE_NUMBER)} of {_label(CODE_FUNCTION_NAME)}"
        f"{{{{ with $labels.{prometheus_label(ERROR_TYPE)} }}}}, {{{{ . }}}}{{{{ end }}}}"
        f"{{{{ with $labels.{prometheus_label(EXCEPTION_TYPE)} }}}}, {{{{ . }}}}{{{{ end }}}}"
        " ({{ $value }} times).",
        PATTERN,
        runbooks,
    )


def _alert(
    name: str, expr: str, wait: str, summary: str, by: Iterable[str], runbooks: str
) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expr,
        "for": wait,
        "labels": {"severity": "warning", "area": "logs"},
        "annotations": {
            "summary": summary,
            "value": "{{ $value }} lines",
            "runbook_url": f"{runbooks}/{name}.md",
            "dashboard": path(LOGS),
            "query": _lines(by),
        },
    }


def _errors(over: str, by: Iterable[str], before: str = "") -> str:
    """How many error lines there were, by what they carry."""
    # A selector must have a matcher that an empty label does not meet.
    stream = f'{{{prometheus_label(SERVICE_NAME)}=~".+"}}'
    labels = ", ".join(map(prometheus_label, by))
    offset = f" offset {before}" if before else ""
    return f"sum by ({labels}) (count_over_time({stream} {_ARE_ERRORS} [{over}]{offset}))"


def _lines(by: Iterable[str]) -> str:
    """The query that shows the very lines of an alert."""
    stream, *metadata = (f"{prometheus_label(name)}={_quoted(name)}" for name in by)
    return " ".join([f"{{{stream}}}", _ARE_ERRORS, *(f"| {equal}" for equal in metadata)])


def _label(attribute: str) -> str:
    return f"{{{{ $labels.{prometheus_label(attribute)} }}}}"


def _quoted(attribute: str) -> str:
    return f'{{{{ printf "%q" $labels.{prometheus_label(attribute)} }}}}'


_ARE_ERRORS: Final = f'| {SEVERITY}=~"{ERROR}"'
