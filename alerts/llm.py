"""Alerts about model calls: failures, latency, cost."""

from typing import Any, Final

from alerts import genai
from alerts.objectives import Wanted
from alerts.promql import (
    BY_SERVICE,
    equals,
    increase,
    matches,
    on,
    quantile,
    rate,
    rise,
    select,
    share,
    within,
)
from alerts.rules import (
    SERVICE_LABEL,
    Alert,
    Area,
    Rule,
    Severity,
    board,
    group,
    label,
    log_lines,
    number,
    quoted,
    record,
    spans,
    value,
)
from alerts.windows import Windows
from chatscope.names import (
    ANSWER_COST,
    ANSWER_EMPTY,
    ANSWER_STALL,
    ERROR_TYPE,
    GEN_AI_REQUEST_MODEL,
    LLM_COST,
    LLM_TOKEN_USAGE,
    SERVER_TIME_TO_FIRST_TOKEN,
    TIME_TO_FIRST_TOKEN,
    prometheus_label,
)
from dashboards import links, others
from dashboards.queries import keep
from dashboards.variables import MODEL, SERVICE

_AREA: Final[Area] = "llm"
_BY_MODEL: Final = (*BY_SERVICE, GEN_AI_REQUEST_MODEL)
_MODEL: Final = label(GEN_AI_REQUEST_MODEL)
_OF_MODEL: Final = f"span.{GEN_AI_REQUEST_MODEL} = {quoted(GEN_AI_REQUEST_MODEL)}"
_PAID: Final = keep(f"{prometheus_label(ANSWER_COST)} > 0")
# Error types that app/providers sets for failures of a provider; checked by a test.
RATE_LIMITED: Final = ("rate_limit_exceeded",)
SERVER_ERRORS: Final = (
    "server_error",
    "unavailable",
    "bad_response",
    "broken_stream",
    "connection",
    "simulated_error",
)
TIMEOUTS: Final = ("timeout", "stalled")


def groups(wanted: Wanted, windows: Windows) -> list[dict[str, Any]]:
    alerts = [
        _failing("ModelRateLimited", RATE_LIMITED, "are rejected with status 429", wanted, windows),
        _failing("ModelServerErrors", SERVER_ERRORS, "fail at the provider", wanted, windows),
        _failing("ModelTimeouts", TIMEOUTS, "time out", wanted, windows),
        _first_token(wanted, windows),
        _stalling(wanted, windows),
        _empty(wanted, windows),
        _spike(wanted, windows),
        _hourly(wanted, windows),
    ]
    spent = increase(LLM_COST, over="1d")
    budget: list[Alert | Rule] = [
        # For a dashboard, which would otherwise read a day of samples at each refresh.
        record(others.DAY_COST.prometheus, spent),
        record(others.DAY_BUDGET.prometheus, f"vector({wanted.cost.daily_usd:g})"),
        _daily("DailyBudgetSpent", 0.8, "warning", wanted),
        _daily("DailyBudgetExceeded", 1, "critical", wanted),
    ]
    return [
        *genai.groups(windows),
        group("llm", alerts, windows.interval),
        group("llm-budget", budget, windows.daily),
    ]


def _on_board() -> str:
    return board(links.LLM, **{SERVICE.name: SERVICE_LABEL, MODEL.name: _MODEL})


def _failing(
    name: str, errors: tuple[str, ...], what: str, wanted: Wanted, windows: Windows
) -> Alert:
    most = wanted.thresholds
    pattern = "|".join(errors)
    calls = rise(others.CALL_SECONDS, over=windows.rate, by=_BY_MODEL, part="count")
    failed = rise(
        others.CALL_SECONDS,
        matches(ERROR_TYPE, pattern),
        over=windows.rate,
        by=_BY_MODEL,
        part="count",
    )
    return Alert(
        name=name,
        expr=f"{share(failed, calls)} > {most.error_share:g}\nand {failed} >= {most.least_answers}",
        area=_AREA,
        severity="warning",
        hold=windows.soon,
        summary=f"{value('humanizePercentage')} of the calls of {_MODEL} by {SERVICE_LABEL} "
        f"{what}.",
        value=value("humanizePercentage"),
        dashboard=_on_board(),
        query=log_lines(
            keep(f"{prometheus_label(GEN_AI_REQUEST_MODEL)}={quoted(GEN_AI_REQUEST_MODEL)}"),
            keep(matches(ERROR_TYPE, pattern)),
        ),
    )


def _first_token(wanted: Wanted, windows: Windows) -> Alert:
    most = wanted.thresholds
    first = quantile(0.95, SERVER_TIME_TO_FIRST_TOKEN, over=windows.sample, by=_BY_MODEL)
    answers = rise(SERVER_TIME_TO_FIRST_TOKEN, over=windows.sample, by=_BY_MODEL, part="count")
    return Alert(
        name="FirstTokenSlow",
        expr=f"{first} > {most.first_token_seconds:g}\nand {answers} >= {most.least_answers}",
        area=_AREA,
        severity="warning",
        hold=windows.hold,
        summary=f"5% of the responses of {_MODEL} by {SERVICE_LABEL} begin after "
        f"{value('humanizeDuration')} or later.",
        value=value("humanizeDuration"),
        dashboard=_on_board(),
        query=spans(
            f"span.{TIME_TO_FIRST_TOKEN} > {most.first_token_seconds:g}",
            _OF_MODEL,
        ),
    )


def _stalling(wanted: Wanted, windows: Windows) -> Alert:
    most = wanted.thresholds
    by, over = _BY_MODEL, windows.sample
    answers = rise(ANSWER_STALL, over=over, by=by, part="count")
    fluent = rise(ANSWER_STALL, within(most.stall_seconds), over=over, by=by, part="bucket")
    return Alert(
        name="AnswersStall",
        expr=f"1 - {share(fluent, answers)} > {most.stall_share:g}\n"
        f"and {answers} - {fluent} >= {most.least_answers}",
        area=_AREA,
        severity="warning",
        hold=windows.soon,
        summary=f"{value('humanizePercentage')} of the responses of {_MODEL} by {SERVICE_LABEL} "
        f"pause for more than {most.stall_seconds:g} s.",
        value=value("humanizePercentage"),
        dashboard=_on_board(),
        query=spans(
            f"duration > {most.stall_seconds:g}s",
            _OF_MODEL,
        ),
    )


def _empty(wanted: Wanted, windows: Windows) -> Alert:
    most = wanted.thresholds
    by, over = _BY_MODEL, windows.sample
    calls = rise(
        others.SPAN_CALLS, f'{prometheus_label(GEN_AI_REQUEST_MODEL)}!=""', over=over, by=by
    )
    empty = rise(others.SPAN_CALLS, equals(ANSWER_EMPTY, "true"), over=over, by=by)
    return Alert(
        name="ModelAnswersEmpty",
        expr=f"{share(empty, calls)} > {most.empty_share:g}\nand {empty} >= {most.least_answers}",
        area=_AREA,
        severity="warning",
        hold=windows.soon,
        summary=f"{value('humanizePercentage')} of the responses of {_MODEL} by {SERVICE_LABEL} "
        "have no text.",
        value=value("humanizePercentage"),
        dashboard=_on_board(),
        query=spans(
            f"span.{ANSWER_EMPTY} = true",
            _OF_MODEL,
        ),
    )


def _spike(wanted: Wanted, windows: Windows) -> Alert:
    most = wanted.thresholds
    now = f"60 * {rate(LLM_TOKEN_USAGE, over=windows.rate)}"
    before = select(LLM_TOKEN_USAGE)
    usual = (
        f"60 * sum by ({prometheus_label(BY_SERVICE[0])}) "
        f"(rate({before}[{windows.usual}] offset {windows.rate}))"
    )
    # A service that did not run for the whole reference period has no usual value yet.
    there = f"count by ({prometheus_label(BY_SERVICE[0])}) "
    there += f"({before} offset {windows.usual})"
    return Alert(
        name="TokenSpike",
        expr=f"{now} > {most.tokens_per_minute:g}\n"
        f"and {now} > {most.token_factor:g} * ({usual})\n"
        f"and {on(BY_SERVICE)} {there}",
        area=_AREA,
        severity="warning",
        hold=windows.soon,
        summary=f"{SERVICE_LABEL} uses {value('humanize')} tokens per minute, more than "
        f"{most.token_factor:g} times as many as usual.",
        value=f"{value('humanize')} tokens/min",
        dashboard=board(links.LLM, **{SERVICE.name: SERVICE_LABEL}),
        query=log_lines(),
    )


def _hourly(wanted: Wanted, windows: Windows) -> Alert:
    return Alert(
        name="CostPerHourHigh",
        expr=f"{windows.paces_an_hour} * {increase(LLM_COST, over=windows.pace)}\n"
        f"> {wanted.cost.hourly_usd:g}",
        area=_AREA,
        severity="warning",
        hold=windows.soon,
        summary=f"{SERVICE_LABEL} spends {number(2)} USD per hour; the limit is "
        f"{wanted.cost.hourly_usd:g}.",
        value=f"{number(2)} USD/h",
        dashboard=board(links.LLM, **{SERVICE.name: SERVICE_LABEL}),
        query=log_lines(_PAID),
    )


def _daily(name: str, part: float, severity: Severity, wanted: Wanted) -> Alert:
    budget = wanted.cost.daily_usd
    return Alert(
        name=name,
        expr=f"{select(others.DAY_COST)} > {part * budget:g}",
        area=_AREA,
        severity=severity,
        summary=f"{SERVICE_LABEL} spent {number(2)} USD in 24 hours; the budget of a day is "
        f"{budget:g}.",
        value=f"{number(2)} USD",
        dashboard=board(links.LLM, **{SERVICE.name: SERVICE_LABEL}),
        query=log_lines(_PAID),
    )
