"""What models take: money and tokens; rows of the board of LLMs."""

from typing import Final

from chatscope.names import (
    ANSWER_COST,
    CLIENT_INPUT_TOKENS,
    CLIENT_OUTPUT_TOKENS,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_TOKEN_TYPE,
    LLM_COST,
    LLM_RESPONSE_TIME,
    LLM_TOKEN_USAGE,
    TOKEN_TYPE,
    prometheus_label,
)
from dashboards.board import Row
from dashboards.legends import label
from dashboards.others import CALL_TOKENS
from dashboards.panels import lines, log_count, prom, top
from dashboards.queries import (
    differs,
    equals,
    increase,
    keep,
    matches,
    mean,
    quantile,
    rate,
    ratio,
    with_exemplars,
)
from dashboards.queries import lines as log_lines

MODEL: Final = (GEN_AI_REQUEST_MODEL,)
BY_MODEL: Final = label(GEN_AI_REQUEST_MODEL)
_CALL_TOKENS: Final = {"input": CLIENT_INPUT_TOKENS, "output": CLIENT_OUTPUT_TOKENS}


def cost() -> Row:
    costs = log_lines(
        keep(differs(ANSWER_COST)),
        keep(matches(GEN_AI_REQUEST_MODEL, "$model")),
        f"| unwrap {prometheus_label(ANSWER_COST)}",
    )
    by = f"by ({prometheus_label(GEN_AI_REQUEST_MODEL)})"
    return Row(
        "What does it cost?",
        [
            lines(
                "How fast is money spent, by model?",
                "US dollars in an hour at the pace of each moment.",
                "currencyUSD",
                [prom(f"3600 * {rate(LLM_COST, by=MODEL)}", BY_MODEL)],
                stacked=True,
            ),
            lines(
                "Which answer was dear?",
                "The lines: US dollars for an answer, on average, by model. Each dot stands at "
                "the cost of one answer, or at the upper edge if that is more, and opens its "
                "trace.",
                "currencyUSD",
                [
                    prom(
                        ratio(
                            rate(LLM_COST, by=MODEL),
                            rate(LLM_RESPONSE_TIME, part="count", by=MODEL),
                        ),
                        BY_MODEL,
                    )
                ],
                exemplars=True,
            ),
            lines(
                "What do the dearest answers cost?",
                "US dollars for one answer: the dearest of all, and what 95 and 50 of 100 cost at "
                "most; exact, from the log lines of the answers.",
                "currencyUSD",
                [
                    log_count(f"max_over_time({costs} [$__auto]) {by}", f"{BY_MODEL} dearest"),
                    *(
                        log_count(
                            f"quantile_over_time({q}, {costs} [$__auto]) {by}",
                            f"{BY_MODEL} p{q * 100:g}",
                        )
                        for q in (0.95, 0.5)
                    ),
                ],
            ).max_data_points(60),
            top(
                "Where did the money go?",
                "US dollars in the time shown, by model.",
                "currencyUSD",
                prom(increase(LLM_COST, by=MODEL), BY_MODEL),
            ).decimals(4),
        ],
        widths=(6,) * 4,
        height=9,
    )


def tokens() -> Row:
    kinds = (GEN_AI_TOKEN_TYPE,)
    return Row(
        "How many tokens?",
        [
            lines(
                "How many tokens a second, by type?",
                "Of prompts and completions.",
                "short",
                [prom(rate(LLM_TOKEN_USAGE, by=(TOKEN_TYPE,)), label(TOKEN_TYPE))],
                stacked=True,
            ),
            lines(
                "How many tokens has a model call?",
                "Half of the calls have at most p50, 95 of 100 at most p95. Each dot stands at the "
                "tokens of one call and opens its trace.",
                "short",
                [
                    prom(
                        with_exemplars(
                            quantile(q, CALL_TOKENS, equals(GEN_AI_TOKEN_TYPE, kind)),
                            quantile(q, made),
                        ),
                        f"{kind} p{q * 100:g}",
                    )
                    for q in (0.95, 0.5)
                    for kind, made in _CALL_TOKENS.items()
                ],
                exemplars=True,
            ),
            lines(
                "How many tokens has a model call on average?",
                "Input and output tokens of a call, on average. Calls that failed count as zero.",
                "short",
                [
                    prom(
                        mean(CALL_TOKENS, by=(*MODEL, *kinds)),
                        f"{BY_MODEL} {label(GEN_AI_TOKEN_TYPE)}",
                    )
                ],
            ),
            top(
                "Which model took the tokens?",
                "Tokens in the time shown, by model and type.",
                "short",
                prom(
                    increase(LLM_TOKEN_USAGE, by=(*MODEL, TOKEN_TYPE)),
                    f"{BY_MODEL} {label(TOKEN_TYPE)}",
                ),
            ),
        ],
        widths=(6,) * 4,
        height=9,
    )
