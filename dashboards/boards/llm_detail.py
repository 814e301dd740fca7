"""LLM detail: distributions, stalls, retries, fallbacks and cancellations of responses."""

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from chatscope.names import (
    ANSWER_COST,
    ANSWER_STALL,
    ANSWERS_ACTIVE,
    ATTEMPT_SECONDS,
    ERROR_TYPE,
    EVENT_RETRY,
    GEN_AI_REQUEST_MODEL,
    LLM_COST,
    LLM_RESPONSE_TIME,
    LLM_TOKEN_USAGE,
    REQUESTED_MODEL,
    SERVER_TIME_PER_OUTPUT_TOKEN,
    SERVER_TIME_TO_FIRST_TOKEN,
    TOKEN_TYPE,
    Metric,
    prometheus_label,
)
from dashboards import links
from dashboards.answers import FAILED, GIVEN_UP
from dashboards.board import Row, assemble
from dashboards.boards.llm import BY_MODEL, MODEL, OF_MODEL
from dashboards.legends import label
from dashboards.panels import Query, lines, log_count, prom, spread, top
from dashboards.queries import (
    RATE,
    count_lines,
    differs,
    equals,
    increase,
    keep,
    quantile,
    rate,
    ratio,
    total,
)
from dashboards.queries import lines as log_lines

_BY_ERROR: Final = label(ERROR_TYPE)
# A noticeable pause: the bound of a bucket.
_STALL_SECONDS: Final = 2.56


def board() -> Dashboard:
    return assemble(
        links.LLM_DETAIL,
        "Distributions, stalls, retries, fallbacks and cancellations of responses.",
        [
            _distributions(),
            _stalls(),
            _attempts(),
            _failures(),
            _cancellations(),
            _cost(),
        ],
    )


def _percentiles(metric: Metric, *where: str, quantiles: tuple[float, ...]) -> list[Query]:
    return [
        prom(quantile(q, metric, *where, by=MODEL), f"{BY_MODEL} p{q * 100:g}") for q in quantiles
    ]


def _buckets(metric: Metric) -> str:
    return increase(metric, by=["le"], part="bucket", over=RATE)


def _distributions() -> Row:
    return Row(
        "Distributions",
        [
            spread(
                "Response time",
                "Responses by their duration and by when they ended; the colour is their number. "
                "Two bands are two kinds of responses, which a percentile hides. Each dot opens "
                "the trace of one.",
                "s",
                _buckets(LLM_RESPONSE_TIME),
            ),
            spread(
                "First token",
                "Streamed responses by the time until their first bytes were sent; the colour is "
                "their number. Each dot opens the trace of one.",
                "s",
                _buckets(SERVER_TIME_TO_FIRST_TOKEN),
            ),
            lines(
                "Response percentiles",
                "Response time by model: half of the responses were complete within p50, 99 % "
                "within p99. Each dot opens the trace of one response.",
                "s",
                _percentiles(LLM_RESPONSE_TIME, quantiles=(0.99, 0.5)),
                exemplars=True,
                numbers=True,
            ).fill_opacity(0),
            lines(
                "Time per token",
                "Time for each output token after the first, by model. Each dot opens the trace "
                "of one response.",
                "s",
                _percentiles(SERVER_TIME_PER_OUTPUT_TOKEN, quantiles=(0.95, 0.5)),
                exemplars=True,
                numbers=True,
            ).fill_opacity(0),
        ],
        height=10,
        widths=(12,) * 4,
    )


def _stalls() -> Row:
    bound = equals("le", f"{_STALL_SECONDS:g}")
    in_time = rate(ANSWER_STALL, bound, part="bucket", by=MODEL)
    streamed = rate(ANSWER_STALL, part="count", by=MODEL)
    return Row(
        "Stalls",
        [
            lines(
                "Longest stall p95",
                "Longest pause between two chunks of a streamed response, by model. Each dot opens "
                "the trace of one response.",
                "s",
                _percentiles(ANSWER_STALL, quantiles=(0.95,)),
                exemplars=True,
                numbers=True,
            ).fill_opacity(0),
            lines(
                "Stalled responses",
                f"Share of the streamed responses of a model that paused for more than "
                f"{_STALL_SECONDS:g} s.",
                "percentunit",
                [prom(f"1 - {ratio(in_time, streamed)}", BY_MODEL)],
                numbers=True,
            ),
            lines(
                "Responses in progress",
                "Responses that have begun and not ended, of all models.",
                "short",
                [prom(total(ANSWERS_ACTIVE), "in progress")],
            ),
        ],
    )


def _attempts() -> Row:
    by = (GEN_AI_REQUEST_MODEL,)
    return Row(
        "Retries and fallbacks",
        [
            lines(
                "Retries",
                "Retries of model calls by the provider's client. Each is a log record with the "
                "reason, in the trace of its call. Normally empty.",
                "short",
                [log_count(count_lines(f"|= `{EVENT_RETRY}`", OF_MODEL, by=by), BY_MODEL)],
                bars=True,
                stacked=True,
            ),
            lines(
                "Failed attempts",
                "Attempts that failed before their first chunk, so that another provider or model "
                "was tried, by model and reason. Normally empty.",
                "short",
                [
                    log_count(
                        count_lines(
                            keep(differs(ATTEMPT_SECONDS)),
                            OF_MODEL,
                            by=(GEN_AI_REQUEST_MODEL, ERROR_TYPE),
                        ),
                        f"{BY_MODEL} {_BY_ERROR}",
                    )
                ],
                bars=True,
                stacked=True,
            ),
            lines(
                "Fallbacks",
                "Responses of another model than the requested one, because that had failed. "
                "Normally empty.",
                "short",
                [
                    log_count(
                        count_lines(
                            keep(differs(REQUESTED_MODEL)),
                            OF_MODEL,
                            by=(REQUESTED_MODEL, GEN_AI_REQUEST_MODEL),
                        ),
                        f"{label(REQUESTED_MODEL)} to {BY_MODEL}",
                    )
                ],
                bars=True,
                stacked=True,
            ),
        ],
    )


def _failures() -> Row:
    by = (ERROR_TYPE,)
    return Row(
        "Failures",
        [
            lines(
                "Failed responses",
                "Failed responses per second by the type of the error. Normally empty.",
                "reqps",
                [prom(rate(LLM_RESPONSE_TIME, FAILED, part="count", by=by), _BY_ERROR)],
                stacked=True,
                numbers=True,
            ),
            lines(
                "Failed response p95",
                "Time until a response failed, by the type of the error. Each dot opens the trace "
                "of one that failed. Normally empty.",
                "s",
                [prom(quantile(0.95, LLM_RESPONSE_TIME, FAILED, by=by), _BY_ERROR)],
                exemplars=True,
                numbers=True,
            ),
        ],
    )


def _cancellations() -> Row:
    cancelled = rate(LLM_RESPONSE_TIME, GIVEN_UP, part="count", by=MODEL)
    return Row(
        "Cancellations",
        [
            lines(
                "Cancelled responses",
                "Per second. cancelled: by the client; shutting_down: by a service that stopped. "
                "Normally empty.",
                "reqps",
                [
                    prom(
                        rate(LLM_RESPONSE_TIME, GIVEN_UP, part="count", by=(ERROR_TYPE,)),
                        _BY_ERROR,
                    )
                ],
                stacked=True,
            ),
            lines(
                "Cancelled share",
                "Share of the responses of a model that were cancelled. Normally empty.",
                "percentunit",
                [prom(ratio(cancelled, rate(LLM_RESPONSE_TIME, part="count", by=MODEL)), BY_MODEL)],
                numbers=True,
            ),
            lines(
                "Time to cancellation",
                "Time until the client cancelled. Each dot opens the trace of a cancelled "
                "response. Normally empty.",
                "s",
                [
                    prom(quantile(q, LLM_RESPONSE_TIME, GIVEN_UP), f"p{q * 100:g}")
                    for q in (0.95, 0.5)
                ],
                exemplars=True,
            ),
        ],
    )


def _cost() -> Row:
    costs = log_lines(
        keep(differs(ANSWER_COST)), OF_MODEL, f"| unwrap {prometheus_label(ANSWER_COST)}"
    )
    by = f"by ({prometheus_label(GEN_AI_REQUEST_MODEL)})"
    return Row(
        "Cost and tokens",
        [
            lines(
                "Cost percentiles",
                "US dollars for one response by model: the most expensive one, and the cost of 50 "
                "% of them at most; exact, from the log records of the responses.",
                "currencyUSD",
                [
                    log_count(f"max_over_time({costs} [$__auto]) {by}", f"{BY_MODEL} max"),
                    log_count(
                        f"quantile_over_time(0.5, {costs} [$__auto]) {by}", f"{BY_MODEL} p50"
                    ),
                ],
                numbers=True,
            ).max_data_points(60),
            top(
                "Cost by model",
                "US dollars in the time shown.",
                "currencyUSD",
                prom(increase(LLM_COST, by=MODEL), BY_MODEL),
            ).decimals(4),
            top(
                "Tokens by model",
                "Input (prompt) and output (completion) tokens in the time shown.",
                "short",
                prom(
                    increase(LLM_TOKEN_USAGE, by=(*MODEL, TOKEN_TYPE)),
                    f"{BY_MODEL} {label(TOKEN_TYPE)}",
                ),
            ),
        ],
        height=9,
    )
