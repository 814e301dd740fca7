"""The alerts that read log lines: the rules of Loki's ruler."""

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

# What makes two error lines of a service the same error: who logged, where in the code, and of
# what type. Not the text, which carries ids and numbers.
PATTERN: Final = (MODULE, CODE_FUNCTION_NAME, CODE_LINE_NUMBER, ERROR_TYPE, EXCEPTION_TYPE)

# The shapes of tokens; each match is a secret without further checks.
TOKENS: Final = "|".join(
    rule.re2() for rule in RULES if rule.kind == SECRETS and rule.re2() and not rule.groups
)

_ARE_ERRORS: Final = keep(matches(SEVERITY, ERROR))


@dataclass(frozen=True)
class Times:
    """Over how long the rules look, as LogQL spells it.

    `burst`: over which errors are counted, and `share`: the part of the usual five minutes'
    errors that is no burst yet; `hold`: how long there must be too many. `new`: how long an
    error is new; `known`: how long before that it must not have been.
    """

    burst: str
    share: float
    hold: str
    new: str
    known: str
    # Over which tokens are looked for, with all that belongs to a line: that takes most time.
    tokens: str
    # Between evaluations.
    interval: str


# Loki reads some 300,000 lines in a second: at 50 lines a second, an evaluation that looks at
# 3 hours takes 2 s of one core.
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
    """The groups; `most_errors`: how many lines within `times.burst` are no burst yet."""
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
    """A token that redaction has not replaced: in a line, or in anything that belongs to it."""
    stream = f"{{{matches(SERVICE_NAME, '.+')}}}"
    found = f"|~ `{TOKENS}`"
    # A dot is all labels of a line. An annotation is a template itself.
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
    """How many error lines there were, by what they carry."""
    # A selector must have a matcher that an empty label does not meet.
    stream = f"{{{matches(SERVICE_NAME, '.+')}}}"
    labels = ", ".join(map(prometheus_label, by))
    offset = f" offset {before}" if before else ""
    return f"sum by ({labels}) (count_over_time({stream} {_ARE_ERRORS} [{over}]{offset}))"


def _where_given(attribute: str) -> str:
    return f"{{{{ with $labels.{prometheus_label(attribute)} }}}}, {{{{ . }}}}{{{{ end }}}}"
