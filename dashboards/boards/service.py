"""Service: how much is asked of it, what goes wrong, how long it takes, and how full it is."""

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from chatscope.names import (
    ANSWERS_ACTIVE,
    CLOSE_CODE,
    DIRECTION,
    ERROR_TYPE,
    EVENT_LOOP_LAG,
    HTTP_ACTIVE_REQUESTS,
    HTTP_REQUEST_DURATION,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
    LIMIT,
    LIMIT_REACHED,
    LLM_RESPONSE_TIME,
    MESSAGE_COUNT,
    ROLE,
    SOCKET_CONNECTIONS,
    WEBSOCKET_DURATION,
    WEBSOCKET_MESSAGES,
)
from dashboards import answers, links
from dashboards.board import Row, assemble
from dashboards.others import KIND_SERVER, SERVER_SPAN_SECONDS, SPAN_KIND, SPAN_NAME
from dashboards.panels import Panel, is_well, lines, prom, top, traces
from dashboards.queries import (
    equals,
    fullness,
    increase,
    matches,
    of_route,
    or_zero,
    quantile,
    rate,
    ratio,
    spans,
    total,
)
from dashboards.variables import SLOWER_THAN

_STEPS: Final = 10

_BY_ROUTE: Final = f"{{{{{HTTP_ROUTE.replace('.', '_')}}}}}"
_STATUS: Final = f"{{{{{HTTP_RESPONSE_STATUS_CODE.replace('.', '_')}}}}}"


def board() -> Dashboard:
    return assemble(
        links.SERVICE,
        "Is the service well, for those who use it: rate, errors, duration and saturation.",
        [
            Row("Is it well?", _well(), height=3, widths=(8,) * 6),
            Row("How much, how often wrong, how long?", _red(), height=9),
            Row("Who talks with it?", _people(), height=7),
            Row("How full is it?", _saturation(), height=7),
            Row(
                "What went wrong, and what was slow?", _causes(), height=11, widths=(15, 9, 12, 12)
            ),
        ],
    )


def _well() -> list[Panel]:
    broken = rate(HTTP_REQUEST_DURATION, matches(HTTP_RESPONSE_STATUS_CODE, "5.."), part="count")
    return [
        answers.heard(),
        answers.failing(),
        is_well(
            "How many HTTP requests break?",
            "Share of requests answered with a status from 500 on. A stream that breaks after "
            "its first byte has status 200: it is among the failed answers.",
            "percentunit",
            prom(ratio(or_zero(broken), rate(HTTP_REQUEST_DURATION, part="count"))),
            warn=0.01,
            bad=0.05,
        ),
        answers.waiting(),
        answers.fullest(),
        answers.lagging(),
    ]


def _red() -> list[Panel]:
    refused = matches(HTTP_RESPONSE_STATUS_CODE, "[45]..")
    of_error = f"answer: {{{{{ERROR_TYPE.replace('.', '_')}}}}}"
    received = equals(DIRECTION, "receive")
    return [
        lines(
            "How many requests come in, by route?",
            "HTTP requests that ended, and WebSocket messages that came, in a second.",
            "reqps",
            [
                prom(rate(HTTP_REQUEST_DURATION, by=[HTTP_ROUTE], part="count"), _BY_ROUTE),
                prom(rate(WEBSOCKET_MESSAGES, received, by=[HTTP_ROUTE]), f"{_BY_ROUTE} message"),
            ],
        ),
        lines(
            "Which requests and answers fail, and how?",
            "Requests refused (4xx) or broken (5xx), by route and status; failed or cancelled "
            "answers by their error's type, also those of streams and WebSocket.",
            "reqps",
            [
                prom(
                    rate(
                        HTTP_REQUEST_DURATION,
                        refused,
                        by=[HTTP_ROUTE, HTTP_RESPONSE_STATUS_CODE],
                        part="count",
                    ),
                    f"{_BY_ROUTE} {_STATUS}",
                ),
                prom(
                    rate(
                        LLM_RESPONSE_TIME,
                        f'{ERROR_TYPE.replace(".", "_")}!=""',
                        by=[ERROR_TYPE],
                        part="count",
                    ),
                    of_error,
                ),
            ],
        ),
        lines(
            "How long do requests take, by route?",
            "95 of 100 HTTP requests, and WebSocket messages with their answers, took no longer. "
            "A dot is one request: it opens its trace.",
            "s",
            [
                prom(quantile(0.95, HTTP_REQUEST_DURATION, by=[HTTP_ROUTE]), f"{_BY_ROUTE} p95"),
                prom(quantile(0.5, HTTP_REQUEST_DURATION, by=[HTTP_ROUTE]), f"{_BY_ROUTE} p50"),
                prom(
                    quantile(
                        0.95,
                        SERVER_SPAN_SECONDS,
                        equals(SPAN_KIND, KIND_SERVER),
                        matches(SPAN_NAME, "message .*"),
                        by=[SPAN_NAME],
                    ),
                    f"{{{{{SPAN_NAME}}}}} p95",
                ),
            ],
            exemplars=True,
        ),
    ]


def _people() -> list[Panel]:
    return [
        lines(
            "Who speaks, and how often?",
            "Messages of conversations in a second, by the role of who wrote them. A history "
            "that is sent again is not counted again.",
            "mps",
            [prom(rate(MESSAGE_COUNT, by=[ROLE]), f"{{{{{ROLE}}}}}")],
            stacked=True,
        ),
        lines(
            "How many sockets are open?",
            "WebSocket connections open now.",
            "short",
            [prom(total(SOCKET_CONNECTIONS), "sockets")],
        ),
        lines(
            "How do sockets close?",
            "WebSocket connections that ended, by close code: 1000 and 1001 are people who "
            "leave, 1006 is a lost connection, 1009 a message too long, 1011 an error here, 1013 "
            "a full service.",
            "short",
            [
                prom(
                    increase(WEBSOCKET_DURATION, by=[CLOSE_CODE], part="count", over="1m"),
                    f"{{{{{CLOSE_CODE.replace('.', '_')}}}}} a minute",
                )
            ],
        ),
    ]


def _saturation() -> list[Panel]:
    return [
        lines(
            "How much of each limit is in use?",
            "In the process where it is the most. At 100 % the next one is refused.",
            "percentunit",
            [prom(fullness(used, limit), limit) for limit, used in answers.LIMITED.items()],
        ),
        lines(
            "How much is under way at once?",
            "Answers on their way, and HTTP requests not yet ended.",
            "short",
            [
                prom(total(ANSWERS_ACTIVE), "answers"),
                prom(total(HTTP_ACTIVE_REQUESTS), "HTTP requests"),
            ],
        ),
        lines(
            "Which limits turn people away?",
            "Requests, messages and connections refused or cut in a minute, by the limit.",
            "short",
            [
                prom(
                    increase(LIMIT_REACHED, by=[LIMIT], over="1m"),
                    f"{{{{{LIMIT.replace('.', '_')}}}}}",
                )
            ],
        ),
        lines(
            "How late does the event loop wake?",
            "Half of the time, and 99 times of 100. What is late here is late for everybody.",
            "s",
            [
                prom(quantile(0.99, EVENT_LOOP_LAG), "p99"),
                prom(quantile(0.5, EVENT_LOOP_LAG), "p50"),
            ],
        ),
    ]


def _causes() -> list[Panel]:
    return [
        answers.went_wrong(100),
        top(
            "Which steps take the time?",
            "The names of all spans by the seconds that they took together, in the time that the "
            "board shows. A step contains those that it waits for.",
            "s",
            prom(
                f"topk({_STEPS}, {increase(SERVER_SPAN_SECONDS, by=[SPAN_NAME], part='sum')})",
                f"{{{{{SPAN_NAME}}}}}",
            ),
        ),
        traces(
            "Which requests were the slowest?",
            "Of the newest 200 that took longer than the time above the board, the slowest "
            "first. A click on its id opens a trace.",
            spans("kind = server", of_route(), f"duration > ${SLOWER_THAN.name}"),
            limit=200,
            sort_by="Duration",
        ),
        traces(
            "Which requests failed?",
            "The newest traces with an error in any of their steps. A click on its id opens it.",
            spans("status = error"),
        ),
    ]
