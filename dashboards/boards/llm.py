"""LLM: comparison of models, notable responses, traffic, latency, tokens and cost."""

from collections.abc import Mapping
from typing import Final

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models.dashboard import Dashboard

from chatscope.genai.operation import FAILED as FAILURE
from chatscope.names import (
    ANSWER_COST,
    ANSWER_OUTCOME,
    ANSWER_SECONDS,
    CLIENT_INFERENCE_DURATION,
    CLIENT_INPUT_TOKENS,
    CLIENT_OUTPUT_TOKENS,
    CLIENT_TIME_TO_FIRST_CHUNK,
    EXECUTE_TOOL_DURATION,
    GEN_AI_PROVIDER_NAME,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_RESPONSE_FINISH_REASONS,
    GEN_AI_TOKEN_TYPE,
    GEN_AI_TOOL_NAME,
    GEN_AI_USAGE_INPUT_TOKENS,
    GEN_AI_USAGE_OUTPUT_TOKENS,
    LLM_COST,
    LLM_RESPONSE_TIME,
    MODEL_PRICED,
    RATE_LIMIT_LIMIT,
    RATE_LIMIT_REMAINING,
    RATE_LIMIT_TYPE,
    SERVER_TIME_PER_OUTPUT_TOKEN,
    SERVER_TIME_TO_FIRST_TOKEN,
    TIME_TO_FIRST_TOKEN,
    USAGE_CACHE_READ_TOKENS,
    USAGE_INPUT_TOKENS,
    prometheus_label,
)
from dashboards import answers, links, responses
from dashboards.answers import COMPLETED, FAILED, GIVEN_UP
from dashboards.board import Row, assemble
from dashboards.legends import label
from dashboards.others import CALL_SECONDS, CALL_TOKENS, FIRST_CHUNK_SECONDS, SERVICE_NAME
from dashboards.panels import (
    GREEN,
    RED,
    YELLOW,
    Panel,
    colored,
    counted,
    lines,
    log_count,
    log_table,
    measured,
    prom,
)
from dashboards.queries import (
    RANGE,
    RATE,
    aggregate,
    count_lines,
    differs,
    either,
    equals,
    increase,
    keep,
    matches,
    positive,
    quantile,
    rate,
    ratio,
    series,
    with_exemplars,
)
from dashboards.variables import COST_ABOVE, SLOWER_THAN

MODEL: Final = (GEN_AI_REQUEST_MODEL,)
BY_MODEL: Final = label(GEN_AI_REQUEST_MODEL)
OF_MODEL: Final = keep(matches(GEN_AI_REQUEST_MODEL, "$model"))
# Columns of the tables of responses.
_UNITS: Final = {
    "Duration": "s",
    "First token": "s",
    "Input": "short",
    "Output": "short",
    "Cost": "currencyUSD",
}
_WIDTHS: Final = {
    "Service": 130,
    "Model": 170,
    "Duration": 95,
    "First token": 90,
    "Input": 65,
    "Output": 65,
    "Cost": 85,
    "Outcome": 85,
}
_TOKENS: Final = {"input": CLIENT_INPUT_TOKENS, "output": CLIENT_OUTPUT_TOKENS}


def board() -> Dashboard:
    return assemble(
        links.LLM,
        "Models compared, responses that stand out, and traffic, latency, tokens and cost.",
        [
            Row("Models", [_models()], height=7),
            Row("Responses", _responses(), height=9, widths=(24, 12, 12)),
            Row("Traffic", _traffic(), height=10),
            Row("Latency", _latency(), height=10),
            Row("Tokens and cost", _tokens_and_cost(), height=10, widths=(8,) * 6),
            Row("Behaviour", _behaviour(), widths=(6,) * 4),
        ],
    )


def _count(*where: str) -> str:
    """Return responses in the time range, or model calls if only calls are recorded."""
    return either(
        increase(LLM_RESPONSE_TIME, *where, part="count", by=MODEL),
        increase(CALL_SECONDS, *where, part="count", by=MODEL),
    )


def _within(q: float) -> str:
    return either(
        quantile(q, LLM_RESPONSE_TIME, by=MODEL, over=RANGE),
        quantile(q, CALL_SECONDS, by=MODEL, over=RANGE),
    )


def _models() -> table.Panel:
    requests = f"({_count()})"
    cost = increase(LLM_COST, by=MODEL)
    numbers = {
        "Requests": (f"round({requests})", "short"),
        "Error rate": (
            f"({_count(FAILED)}) / {requests} or 0 * ({requests} > 0)",
            "percentunit",
        ),
        "p50": (_within(0.5), "s"),
        "p95": (_within(0.95), "s"),
        "First token p95": (
            either(
                quantile(0.95, SERVER_TIME_TO_FIRST_TOKEN, by=MODEL, over=RANGE),
                quantile(0.95, FIRST_CHUNK_SECONDS, by=MODEL, over=RANGE),
            ),
            "s",
        ),
        "Tokens/s": (
            ratio(
                increase(SERVER_TIME_PER_OUTPUT_TOKEN, part="count", by=MODEL),
                increase(SERVER_TIME_PER_OUTPUT_TOKEN, part="sum", by=MODEL),
            ),
            "short",
        ),
        "Cache hit rate": (
            either(_cache_hits(), f"0 * ({increase(USAGE_INPUT_TOKENS, by=MODEL)} > 0)"),
            "percentunit",
        ),
        "Cost": (cost, "currencyUSD"),
        "Cost/response": (ratio(cost, requests), "currencyUSD"),
    }
    return measured(
        "Models",
        "Each model in the time shown. p50, p95: response time. Tokens/s: output tokens of one "
        "response after its first. Cache hit rate: share of the input tokens that the provider "
        "read from its cache. A dash: no such value was recorded.",
        {GEN_AI_REQUEST_MODEL: "Model"},
        numbers,
        sort_by="Requests",
    )


def _cache_hits(over: str = RANGE) -> str:
    return ratio(
        increase(USAGE_CACHE_READ_TOKENS, by=MODEL, over=over),
        increase(USAGE_INPUT_TOKENS, by=MODEL, over=over),
    )


def _responses() -> list[table.Panel]:
    reason = {"reason": "Reason"}
    model = {SERVICE_NAME: "Service", GEN_AI_REQUEST_MODEL: "Model"}
    times = {ANSWER_SECONDS: "Duration", TIME_TO_FIRST_TOKEN: "First token"}
    tokens = {GEN_AI_USAGE_INPUT_TOKENS: "Input", GEN_AI_USAGE_OUTPUT_TOKENS: "Output"}
    cost = {ANSWER_COST: "Cost"}
    outcome = {ANSWER_OUTCOME: "Outcome"}
    return [
        _log_of_responses(
            "Failed responses",
            "The newest responses that failed, with the type of the error and the provider's "
            "status and message, without keys and prompts.",
            equals(ANSWER_OUTCOME, FAILURE),
            {**reason, **model, ANSWER_SECONDS: "Duration"},
        ),
        _log_of_responses(
            "Slow responses",
            "Of the newest 1,000 responses that took longer than chosen above, the slowest first.",
            f"{prometheus_label(ANSWER_SECONDS)} > ${SLOWER_THAN.name}",
            {
                GEN_AI_REQUEST_MODEL: "Model",
                **times,
                GEN_AI_USAGE_OUTPUT_TOKENS: "Output",
                **outcome,
            },
            sort_by="Duration",
        ),
        _log_of_responses(
            "Expensive responses",
            "Of the newest 1,000 responses that cost more than chosen above, the most expensive "
            "first.",
            f"{prometheus_label(ANSWER_COST)} > ${COST_ABOVE.name}",
            {GEN_AI_REQUEST_MODEL: "Model", **cost, **tokens, **outcome},
            sort_by="Cost",
        ),
    ]


def _log_of_responses(
    title: str, about: str, condition: str, columns: Mapping[str, str], *, sort_by: str = "Time"
) -> table.Panel:
    return log_table(
        title,
        f"{about} The trace shows every step.",
        responses.records(OF_MODEL, keep(condition), answers.with_reason()),
        columns,
        numbers={name: unit for name, unit in _UNITS.items() if name in columns.values()},
        widths={name: width for name, width in _WIDTHS.items() if name in columns.values()},
        sort_by=sort_by,
        limit=1000,
    )


def _traffic() -> list[Panel]:
    def a_second(*where: str) -> str:
        return rate(LLM_RESPONSE_TIME, *where, part="count")

    calls = rate(CALL_SECONDS, part="count", by=MODEL)
    return [
        lines(
            "Requests",
            "Responses per second by model, whatever their outcome; model calls where nothing else "
            "is recorded.",
            "reqps",
            [
                prom(
                    either(rate(LLM_RESPONSE_TIME, part="count", by=MODEL), calls),
                    BY_MODEL,
                )
            ],
            stacked=True,
            numbers=True,
        ),
        colored(
            lines(
                "Outcomes",
                "Responses per second: completed; cancelled by the client or by a service that "
                "stopped; failed.",
                "reqps",
                [
                    prom(a_second(COMPLETED), "completed"),
                    prom(positive(a_second(GIVEN_UP)), "cancelled"),
                    prom(positive(a_second(FAILED)), "failed"),
                ],
                stacked=True,
                numbers=True,
            ),
            {"completed": GREEN, "cancelled": YELLOW, "failed": RED},
        ),
        lines(
            "Error rate",
            "Failed responses as a share of all responses of a model.",
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
            numbers=True,
        ).axis_soft_max(0.2),
    ]


def _latency() -> list[Panel]:
    provider = (GEN_AI_PROVIDER_NAME,)
    return [
        lines(
            "Response p95",
            "Response time by model, from the arrival of the request until the last byte was sent. "
            "Each dot opens the trace of one response.",
            "s",
            [prom(quantile(0.95, LLM_RESPONSE_TIME, by=MODEL), BY_MODEL)],
            exemplars=True,
            numbers=True,
        ).fill_opacity(0),
        lines(
            "First token p95",
            "Time until the first bytes of a streamed response were sent, by model. Each dot opens "
            "the trace of one response.",
            "s",
            [prom(quantile(0.95, SERVER_TIME_TO_FIRST_TOKEN, by=MODEL), BY_MODEL)],
            exemplars=True,
            numbers=True,
        ).fill_opacity(0),
        lines(
            "Provider latency p95",
            "Time of the provider's first chunk and of its whole response, as measured by the "
            "client here, beside the whole response time. Each dot opens the trace of one call.",
            "s",
            [
                prom(quantile(0.95, LLM_RESPONSE_TIME), "response"),
                *(
                    prom(
                        with_exemplars(
                            quantile(0.95, recorded, by=provider), quantile(0.95, own, by=provider)
                        ),
                        f"{label(GEN_AI_PROVIDER_NAME)} {name}",
                    )
                    for name, recorded, own in (
                        ("whole", CALL_SECONDS, CLIENT_INFERENCE_DURATION),
                        ("first chunk", FIRST_CHUNK_SECONDS, CLIENT_TIME_TO_FIRST_CHUNK),
                    )
                ),
            ],
            exemplars=True,
            numbers=True,
        ).fill_opacity(0),
    ]


def _tokens_and_cost() -> list[Panel]:
    kind = (GEN_AI_TOKEN_TYPE,)
    cost = rate(LLM_COST, by=MODEL)
    return [
        lines(
            "Token rate",
            "Input and output tokens per second.",
            "short",
            [
                prom(
                    rate(CALL_TOKENS, part="sum", by=kind),
                    label(GEN_AI_TOKEN_TYPE),
                )
            ],
            stacked=True,
            numbers=True,
        ),
        lines(
            "Tokens per call p95",
            "Input and output tokens of one model call: 95 % of the calls have at most as many. "
            "Each dot opens the trace of one call.",
            "short",
            [
                prom(
                    with_exemplars(
                        quantile(0.95, CALL_TOKENS, equals(GEN_AI_TOKEN_TYPE, name)),
                        quantile(0.95, own),
                    ),
                    name,
                )
                for name, own in _TOKENS.items()
            ],
            exemplars=True,
            numbers=True,
        ).fill_opacity(0),
        lines(
            "Cache hit rate",
            "Share of the input tokens that the provider read from its cache, by model. "
            "Empty unless a provider reports cached tokens.",
            "percentunit",
            [prom(_cache_hits(RATE), BY_MODEL)],
            numbers=True,
        ),
        lines(
            "Cost per hour",
            "US dollars per hour at the current rate, by model.",
            "currencyUSD",
            [prom(f"3600 * {cost}", BY_MODEL)],
            stacked=True,
            numbers=True,
        ),
        lines(
            "Cost per response",
            "US dollars for one response on average, by model. Each dot is one response: it has "
            "the response's cost, or the upper bound of the chart, and opens its trace.",
            "currencyUSD",
            [
                prom(
                    ratio(cost, rate(LLM_RESPONSE_TIME, part="count", by=MODEL)),
                    BY_MODEL,
                )
            ],
            exemplars=True,
            numbers=True,
        ),
        counted(
            "Unpriced models",
            "Models in use whose price is not known: their cost is missing everywhere. Add them to "
            "the price table (docs/cost.md). Normally empty.",
            "short",
            prom(
                f"{aggregate('max', series(MODEL_PRICED), (*MODEL, SERVICE_NAME))} == 0",
            ),
            {GEN_AI_REQUEST_MODEL: "Model", prometheus_label(SERVICE_NAME): "Service"},
            value="Priced",
        ),
    ]


def _behaviour() -> list[Panel]:
    reasons = prometheus_label(GEN_AI_RESPONSE_FINISH_REASONS)
    tools = (GEN_AI_TOOL_NAME,)
    limits = (GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL, RATE_LIMIT_TYPE)
    return [
        lines(
            "Finish reasons",
            "Responses by the reason with which the model ended: stop, length (cut by the token "
            "limit), tool_calls, content_filter.",
            "short",
            [
                log_count(
                    count_lines(
                        responses.RECORDS,
                        keep(differs(GEN_AI_RESPONSE_FINISH_REASONS)),
                        OF_MODEL,
                        f'| label_format reason=`{{{{regexReplaceAll "[^a-z_,]" .{reasons} ""}}}}`',
                        by=["reason"],
                    ),
                    "{{reason}}",
                )
            ],
            bars=True,
            stacked=True,
        ),
        lines(
            "Tool calls",
            "Tool executions per second by tool. Empty unless a service executes tools.",
            "ops",
            [
                prom(
                    rate(EXECUTE_TOOL_DURATION, part="count", by=tools),
                    label(GEN_AI_TOOL_NAME),
                )
            ],
            stacked=True,
        ),
        lines(
            "Tool call p95",
            "Duration of tool executions by tool. Each dot opens the trace of one. "
            "Empty unless a service executes tools.",
            "s",
            [prom(quantile(0.95, EXECUTE_TOOL_DURATION, by=tools), label(GEN_AI_TOOL_NAME))],
            exemplars=True,
        ),
        lines(
            "Rate limit left",
            "Share of a provider's rate limit that is left, as its last response reported: the "
            "lowest of all processes. Empty unless a provider reports its limits.",
            "percentunit",
            [
                prom(
                    aggregate(
                        "min",
                        f"{series(RATE_LIMIT_REMAINING)} / {series(RATE_LIMIT_LIMIT)}",
                        limits,
                    ),
                    " ".join(map(label, limits)),
                )
            ],
            numbers=True,
        ),
    ]
