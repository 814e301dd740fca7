"""LLM: what is asked, how long people wait, what it costs, and which answer stands out."""

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from chatscope.names import (
    ANSWER_COST,
    ANSWER_OUTCOME,
    ANSWER_STALL,
    ANSWERS_ACTIVE,
    CLIENT_INFERENCE_DURATION,
    CLIENT_TIME_TO_FIRST_CHUNK,
    ERROR_TYPE,
    EVENT_RETRY,
    GEN_AI_PROVIDER_NAME,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_USAGE_INPUT_TOKENS,
    GEN_AI_USAGE_OUTPUT_TOKENS,
    LLM_COST,
    LLM_RESPONSE_TIME,
    LLM_TOKEN_USAGE,
    SERVER_TIME_PER_OUTPUT_TOKEN,
    SERVER_TIME_TO_FIRST_TOKEN,
    TIME_TO_FIRST_TOKEN,
    Metric,
)
from dashboards import links
from dashboards.answers import COMPLETED, FAILED, GIVEN_UP
from dashboards.board import Row, assemble
from dashboards.boards import _spending
from dashboards.boards._spending import BY_MODEL, MODEL
from dashboards.legends import label
from dashboards.others import CALL_SECONDS, FIRST_CHUNK_SECONDS
from dashboards.panels import (
    GREEN,
    RED,
    YELLOW,
    Query,
    colored,
    is_well,
    lines,
    log_count,
    prom,
    spread,
)
from dashboards.queries import (
    RATE,
    count_lines,
    equals,
    increase,
    keep,
    matches,
    of_model,
    or_zero,
    quantile,
    rate,
    ratio,
    spans,
    total,
    with_exemplars,
)
from dashboards.trace_panels import DURATION, span_table
from dashboards.variables import DEARER_THAN, SLOWER_THAN

_BY_ERROR: Final = label(ERROR_TYPE)
_QUANTILES: Final = (0.5, 0.9, 0.95, 0.99)

# A pause that a person notices as one: the bound of a bucket.
_STALL_SECONDS: Final = 2.56


def board() -> Dashboard:
    return assemble(
        links.LLM,
        "What is asked of the models, how long people wait, what it costs, and which answers "
        "stand out.",
        [
            _is_it_well(),
            _endings(),
            _waiting(),
            _speed(),
            _spending.cost(),
            _spending.tokens(),
            _interruptions(),
            _answers(),
        ],
    )


def _answers_a_second(*where: str) -> str:
    return rate(LLM_RESPONSE_TIME, *where, part="count")


def _quantiles(metric: Metric, quantiles: tuple[float, ...] = _QUANTILES) -> list[Query]:
    return [
        prom(quantile(q, metric, by=MODEL), f"{BY_MODEL} p{q * 100:g}") for q in reversed(quantiles)
    ]


def _spread(metric: Metric) -> str:
    return increase(metric, by=["le"], part="bucket", over=RATE)


def _is_it_well() -> Row:
    return Row(
        "Is it well?",
        [
            is_well(
                "How many answers come in a minute?",
                "Answers of all endings: whole, failed, given up.",
                "short",
                prom(f"60 * {_answers_a_second()}"),
            ),
            is_well(
                "What share of answers fails?",
                "Answers that ended with an error of the model or of the service; those that a "
                "person gave up are not in it.",
                "percentunit",
                prom(ratio(or_zero(_answers_a_second(FAILED)), _answers_a_second())),
                warn=0.01,
                bad=0.05,
            ),
            is_well(
                "How long is the wait for an answer?",
                "95 of 100 wait at most this long: from the question's arrival until the answer's "
                "last byte left.",
                "s",
                prom(quantile(0.95, LLM_RESPONSE_TIME)),
                warn=10,
                bad=30,
            ),
            is_well(
                "How long until the first words?",
                "95 of 100 streamed answers begin within this time: from the question's arrival "
                "until the first bytes left.",
                "s",
                prom(quantile(0.95, SERVER_TIME_TO_FIRST_TOKEN)),
                warn=2.5,
                bad=7.5,
            ),
            is_well(
                "What did it cost?",
                "US dollars in the time shown, by the price table; a model without a price "
                "costs nothing here.",
                "currencyUSD",
                prom(increase(LLM_COST)),
                over_range=True,
            ).decimals(4),
            is_well(
                "What does an hour cost at this pace?",
                "US dollars in an hour, if it goes on as it does now.",
                "currencyUSD",
                prom(f"3600 * {rate(LLM_COST)}"),
            ).decimals(3),
            is_well(
                "What does an answer cost?",
                "US dollars for an answer, on average.",
                "currencyUSD",
                prom(ratio(rate(LLM_COST), _answers_a_second())),
            ).decimals(5),
            is_well(
                "How many tokens went through?",
                "Tokens of prompts and completions in the time shown.",
                "short",
                prom(increase(LLM_TOKEN_USAGE)),
                over_range=True,
            ),
        ],
        height=4,
        widths=(6,) * 8,
    )


def _endings() -> Row:
    return Row(
        "How many answers, and how do they end?",
        [
            lines(
                "How many answers come, by model?",
                "Answers a second, of all endings.",
                "reqps",
                [prom(rate(LLM_RESPONSE_TIME, part="count", by=MODEL), BY_MODEL)],
                stacked=True,
            ),
            colored(
                lines(
                    "How do answers end?",
                    "Whole; given up by the person who asked, or by a service that stopped; "
                    "failed.",
                    "reqps",
                    [
                        prom(_answers_a_second(COMPLETED), "whole"),
                        prom(or_zero(_answers_a_second(GIVEN_UP)), "given up"),
                        prom(or_zero(_answers_a_second(FAILED)), "failed"),
                    ],
                    stacked=True,
                ),
                {"whole": GREEN, "given up": YELLOW, "failed": RED},
            ),
            lines(
                "How many answers are on their way?",
                "Answers that have begun and not ended, over all models.",
                "short",
                [prom(total(ANSWERS_ACTIVE), "on their way")],
            ),
            lines(
                "Which errors end answers?",
                "Answers that failed, by the kind of error.",
                "reqps",
                [prom(rate(LLM_RESPONSE_TIME, FAILED, part="count", by=(ERROR_TYPE,)), _BY_ERROR)],
                bars=True,
                stacked=True,
            ),
            lines(
                "What share fails, by model?",
                "Failed answers of all answers of a model.",
                "percentunit",
                [
                    prom(
                        ratio(
                            rate(LLM_RESPONSE_TIME, FAILED, part="count", by=MODEL),
                            rate(LLM_RESPONSE_TIME, part="count", by=MODEL),
                        ),
                        BY_MODEL,
                    )
                ],
            ),
            lines(
                "How long did failed answers take?",
                "95 of 100 at most, by the kind of error. Each dot opens the trace of one that "
                "failed.",
                "s",
                [prom(quantile(0.95, LLM_RESPONSE_TIME, FAILED, by=(ERROR_TYPE,)), _BY_ERROR)],
                exemplars=True,
            ),
        ],
        widths=(8,) * 6,
    )


def _waiting() -> Row:
    return Row(
        "How long do people wait?",
        [
            lines(
                "How long does a whole answer take, by model?",
                "p50: half of the answers took at most this long; p99: 99 of 100. Each dot opens "
                "the trace of one answer.",
                "s",
                _quantiles(LLM_RESPONSE_TIME),
                exemplars=True,
            ).fill_opacity(0),
            lines(
                "How long until the first words, by model?",
                "Time to first token: until the first bytes of a streamed answer left. Each dot "
                "opens the trace of one answer.",
                "s",
                _quantiles(SERVER_TIME_TO_FIRST_TOKEN),
                exemplars=True,
            ).fill_opacity(0),
            spread(
                "How are the times of answers spread?",
                "Answers that took as long, by when they ended; the colour tells how many. Two "
                "bands are two kinds of answers, which a percentile hides. Each dot opens the "
                "trace of one.",
                "s",
                _spread(LLM_RESPONSE_TIME),
            ),
            spread(
                "How are the times until the first words spread?",
                "Streamed answers whose first bytes left after as long; the colour tells how many. "
                "Each dot opens the trace of one.",
                "s",
                _spread(SERVER_TIME_TO_FIRST_TOKEN),
            ),
        ],
        height=10,
        widths=(12,) * 4,
    )


def _speed() -> Row:
    tokens = rate(SERVER_TIME_PER_OUTPUT_TOKEN, part="count", by=MODEL)
    seconds = rate(SERVER_TIME_PER_OUTPUT_TOKEN, part="sum", by=MODEL)
    provider = (GEN_AI_PROVIDER_NAME,)
    return Row(
        "How fast do the words come, and who is slow?",
        [
            lines(
                "How long does each further word take?",
                "Time per output token, after the first. Each dot opens the trace of one answer.",
                "s",
                _quantiles(SERVER_TIME_PER_OUTPUT_TOKEN, (0.5, 0.95)),
                exemplars=True,
            ).fill_opacity(0),
            lines(
                "How many tokens a second does a reader get?",
                "One answer's output tokens a second, on average, once it has begun.",
                "short",
                [prom(ratio(tokens, seconds), BY_MODEL)],
            ),
            lines(
                "How much of the wait is the provider's?",
                "95 of 100 at most: the provider's first piece and whole answer, as seen from "
                "here, beside what people waited for.",
                "s",
                [
                    prom(quantile(0.95, LLM_RESPONSE_TIME), "people wait"),
                    prom(
                        with_exemplars(
                            quantile(0.95, CALL_SECONDS, by=provider),
                            quantile(0.95, CLIENT_INFERENCE_DURATION, by=provider),
                        ),
                        f"{label(GEN_AI_PROVIDER_NAME)}, whole answer",
                    ),
                    prom(
                        with_exemplars(
                            quantile(0.95, FIRST_CHUNK_SECONDS, by=provider),
                            quantile(0.95, CLIENT_TIME_TO_FIRST_CHUNK, by=provider),
                        ),
                        f"{label(GEN_AI_PROVIDER_NAME)}, first piece",
                    ),
                ],
                exemplars=True,
            ),
        ],
    )


def _interruptions() -> Row:
    bound = equals("le", f"{_STALL_SECONDS:g}")
    in_time = rate(ANSWER_STALL, bound, part="bucket", by=MODEL)
    streamed = rate(ANSWER_STALL, part="count", by=MODEL)
    return Row(
        "Who was kept waiting, and who left?",
        [
            lines(
                "How long do answers stand still?",
                "The longest pause of a streamed answer, by model. Each dot opens the trace of one "
                "answer.",
                "s",
                _quantiles(ANSWER_STALL, (0.5, 0.95, 0.99)),
                exemplars=True,
            ).fill_opacity(0),
            lines(
                f"How many answers stood still for more than {_STALL_SECONDS:g} s?",
                "Of all streamed answers of a model.",
                "percentunit",
                [prom(f"1 - {ratio(in_time, streamed)}", BY_MODEL)],
            ),
            lines(
                "How often are model calls retried?",
                "Further attempts of a model call, in each step of the time axis. Each is a log "
                "record with the reason, in the trace of its call.",
                "short",
                [
                    log_count(
                        count_lines(
                            f"|= `{EVENT_RETRY}`",
                            keep(matches(GEN_AI_REQUEST_MODEL, "$model")),
                            by=(GEN_AI_REQUEST_MODEL,),
                        ),
                        BY_MODEL,
                    )
                ],
                bars=True,
                stacked=True,
            ),
            lines(
                "How many answers are given up, and by whom?",
                "cancelled: by the person who asked; shutting_down: by a service that stopped.",
                "reqps",
                [
                    prom(
                        rate(LLM_RESPONSE_TIME, GIVEN_UP, part="count", by=(ERROR_TYPE,)),
                        _BY_ERROR,
                    )
                ],
            ),
            lines(
                "What share is given up, by model?",
                "Of all answers of a model.",
                "percentunit",
                [
                    prom(
                        ratio(
                            rate(LLM_RESPONSE_TIME, GIVEN_UP, part="count", by=MODEL),
                            rate(LLM_RESPONSE_TIME, part="count", by=MODEL),
                        ),
                        BY_MODEL,
                    )
                ],
            ),
            lines(
                "How long did people wait before they left?",
                "Half, and 95 of 100, left after at most this long. Each dot opens the trace of an "
                "answer that was given up.",
                "s",
                [
                    prom(quantile(q, LLM_RESPONSE_TIME, GIVEN_UP), f"p{q * 100:g}")
                    for q in (0.95, 0.5)
                ],
                exemplars=True,
            ),
        ],
        widths=(8,) * 6,
    )


def _answers() -> Row:
    columns = {
        ANSWER_COST: "Cost",
        GEN_AI_USAGE_INPUT_TOKENS: "Tokens in",
        GEN_AI_USAGE_OUTPUT_TOKENS: "Tokens out",
        GEN_AI_REQUEST_MODEL: "Model",
        TIME_TO_FIRST_TOKEN: "First words",
        ANSWER_OUTCOME: "Ending",
    }
    units = {"Cost": "currencyUSD", "First words": "s"}
    ended = f"span.{ANSWER_OUTCOME} != nil"
    return Row(
        "Which answers stand out?",
        [
            span_table(
                "Which answers cost most?",
                "The newest 500 answers that cost more than the sum chosen above, the dearest "
                "first. A click opens the trace.",
                spans(f"span.{ANSWER_COST} > ${DEARER_THAN.name}", of_model()),
                columns,
                units=units,
                sort_by="Cost",
                limit=500,
            ),
            span_table(
                "Which answers were slowest?",
                "The newest 500 answers that took longer than the time chosen above, the slowest "
                "first. A click opens the trace.",
                spans(ended, f"duration > ${SLOWER_THAN.name}", of_model()),
                columns,
                units=units,
                sort_by=DURATION,
                limit=500,
            ),
            span_table(
                "Which answers failed last?",
                "The newest answers that ended with an error. A click opens the trace.",
                spans(f'span.{ANSWER_OUTCOME} = "failed"', of_model()),
                {ERROR_TYPE: "Error", **columns},
                units=units,
            ),
        ],
        widths=(24, 24, 24),
        height=9,
    )
