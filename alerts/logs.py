"""Alerts on log lines: the rules of Loki's ruler."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from alerts import windows
from alerts.objectives import Wanted
from alerts.rules import (
    SERVICE_LABEL,
    Alert,
    Severity,
    board,
    group,
    label,
    log_lines,
    number,
    quoted,
)
from chatscope.names import (
    CODE_FUNCTION_NAME,
    CODE_LINE_NUMBER,
    ERROR_TYPE,
    prometheus_label,
)
from chatscope.redaction.rules import RULES, SECRETS
from dashboards import links
from dashboards.others import ERROR, EXCEPTION_TYPE, MODULE, SERVICE_NAME, SEVERITY
from dashboards.queries import keep, matches
from dashboards.variables import SERVICE

# Attributes that identify an error of a service: logger, code location and type. Not the text,
# which contains IDs and numbers.
PATTERN: Final = (MODULE, CODE_FUNCTION_NAME, CODE_LINE_NUMBER, ERROR_TYPE, EXCEPTION_TYPE)

# Formats of tokens for which each match is a secret without further checks.
TOKENS: Final = "|".join(
    rule.re2() for rule in RULES if rule.kind == SECRETS and rule.re2() and not rule.groups
)

_ARE_ERRORS: Final = keep(matches(SEVERITY, ERROR))


@dataclass(frozen=True)
class Times:
    """Time ranges of the rules, as LogQL durations.

    `burst`: range in which errors are counted; `share`: its fraction of the threshold for five
    minutes; `hold`: how long the threshold must be exceeded. `new`: how long an error is new;
    `known`: the preceding range in which it must not have occurred.
    """

    burst: str
    share: float
    hold: str
    new: str
    known: str
    # Range of the search for tokens in all fields of a line, which is the most expensive one.
    tokens: str
    # Evaluation interval.
    interval: str


# Loki reads about 300,000 lines in a second: at 50 lines a second, an evaluation over 3 hours takes
# 2 s of one core.
NORMAL: Final = Times(
    burst="5m", share=1, hold="1m", new="10m", known="3h", tokens="2m", interval="1m"
)
DRILL: Final = Times(
    burst="20s", share=0.1, hold="2s", new="15s", known="5m", tokens="10s", interval="2s"
)
_OF: Final = {windows.NORMAL.name: NORMAL, windows.DRILL.name: DRILL}


def groups(wanted: Wanted, chosen: windows.Windows) -> list[dict[str, Any]]:
    times = _OF[chosen.name]
    return made(times, ceil(wanted.thresholds.error_lines * times.share))


def made(times: Times, most_errors: int) -> list[dict[str, Any]]:
    """Return the groups; `most_errors`: maximum number of lines within `times.burst`."""
    return [
        group("errors", [_burst(times, most_errors)], times.interval),
        group("patterns", [_new_pattern(times)], times.interval),
        group("secrets", [_secret(times)], times.interval),
    ]


def _burst(times: Times, most_errors: int) -> Alert:
    return _alert(
        "ErrorLogBurst",
        f"{_errors(times.burst, [SERVICE_NAME])} > {most_errors}",
        f"{SERVICE_LABEL} logged {number()} errors within {times.burst}, more than {most_errors}.",
        log_lines(_ARE_ERRORS),
        times.hold,
    )


def _new_pattern(times: Times) -> Alert:
    by = (SERVICE_NAME, *PATTERN)
    known = _errors(times.known, by, before=times.new)
    types = "".join(_where_given(name) for name in (ERROR_TYPE, EXCEPTION_TYPE))
    return _alert(
        "NewErrorPattern",
        f"{_errors(times.new, by)}\nunless\n{known}",
        f"{SERVICE_LABEL} logs an error that did not occur in the {times.known} before, "
        f"{number()} times: {label(MODULE)}, line {label(CODE_LINE_NUMBER)} of "
        f"{label(CODE_FUNCTION_NAME)}{types}.",
        log_lines(_ARE_ERRORS, *(keep(f"{prometheus_label(n)}={quoted(n)}") for n in PATTERN)),
    )


def _secret(times: Times) -> Alert:
    """Return the alert about a token that redaction has not replaced, in any field of a line."""
    stream = f"{{{matches(SERVICE_NAME, '.+')}}}"
    found = f"|~ `{TOKENS}`"
    # In a template, a dot is all labels of a line. The annotation itself is a template, too.
    whole = "{{ __line__ }} {{ . }}"
    written = f'{{{{ "{whole}" }}}}'
    expr = f"count_over_time({stream} | line_format `{whole}` {found} [{times.tokens}])"
    return _alert(
        "SecretRecorded",
        f"sum by ({prometheus_label(SERVICE_NAME)}) ({expr}) > 0",
        f"{SERVICE_LABEL} recorded {number()} lines with a token of an API within {times.tokens}.",
        log_lines(f"| line_format `{written}`", found),
        severity="critical",
    )


def _alert(
    name: str,
    expr: str,
    summary: str,
    query: str,
    hold: str = "",
    severity: Severity = "warning",
) -> Alert:
    return Alert(
        name=name,
        expr=expr,
        area="logs",
        severity=severity,
        hold=hold,
        summary=summary,
        value=f"{number()} lines",
        dashboard=board(links.LOGS, **{SERVICE.name: SERVICE_LABEL}),
        query=query,
    )


def _errors(over: str, by: Iterable[str], before: str = "") -> str:
    """Return the number of error lines, by their attributes."""
    # A selector needs a matcher that does not match an empty label.
    stream = f"{{{matches(SERVICE_NAME, '.+')}}}"
    labels = ", ".join(map(prometheus_label, by))
    offset = f" offset {before}" if before else ""
    return f"sum by ({labels}) (count_over_time({stream} {_ARE_ERRORS} [{over}]{offset}))"


def _where_given(attribute: str) -> str:
    return f"{{{{ with $labels.{prometheus_label(attribute)} }}}}, {{{{ . }}}}{{{{ end }}}}"
