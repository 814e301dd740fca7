"""Service: traffic, errors, latency and saturation of requests and connections."""

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
from dashboards.legends import label
from dashboards.others import (
    KIND_SERVER,
    SERVER_SPAN_SECONDS,
    SPAN_KIND,
    SPAN_NAME,
)
from dashboards.panels import Panel, is_well, lines, prom, top, traces
from dashboards.queries import (
    RANGE,
    equals,
    fullness,
    increase,
    matches,
    of_route,
    or_zero,
    positive,
    quantile,
    rate,
    ratio,
    spans,
    total,
)
from dashboards.variables import SLOWER_THAN

_SPANS: Final = 10
_BY_ROUTE: Final = label(HTTP_ROUTE)
_BY_SPAN: Final = f"{{{{{SPAN_NAME}}}}}"


def board() -> Dashboard:
    return assemble(
        links.SERVICE,
        "Traffic, errors, latency and saturation of a service's requests and connections.",
        [
            Row("Health", _health(), height=4),
            Row("Traffic, errors, latency", _golden(), height=10),
            Row("Failures", [answers.failures(100)], height=9),
            Row("Traces", _traces(), height=9),
            Row("Saturation", _saturation()),
            Row("Connections and steps", _connections(), height=9, widths=(6, 6, 6, 6)),
        ],
    )


def _health() -> list[Panel]:
    broken = increase(
        HTTP_REQUEST_DURATION, matches(HTTP_RESPONSE_STATUS_CODE, "5.."), part="count"
    )
    return [
        answers.last_sample(),
        answers.error_rate(),
        is_well(
            "HTTP 5xx rate",
            "Share of the HTTP requests in the time shown that had a status of 500 or above. A "
            "stream that breaks after its first byte has status 200: it counts as a failed "
            "response.",
            "percentunit",
            prom(ratio(or_zero(broken), increase(HTTP_REQUEST_DURATION, part="count"))),
            warn=0.01,
            bad=0.05,
            over_range=True,
        ).decimals(1),
        is_well(
            "HTTP p95",
            "95 % of the HTTP requests in the time shown took at most this long, with the whole "
            "response of a stream.",
            "s",
            prom(quantile(0.95, HTTP_REQUEST_DURATION, over=RANGE)),
            warn=15,
            bad=30,
            over_range=True,
        ),
        answers.fullest(),
        answers.loop_lag(),
    ]


def _golden() -> list[Panel]:
    received = equals(DIRECTION, "receive")
    of_status = (HTTP_ROUTE, HTTP_RESPONSE_STATUS_CODE)
    failed = rate(
        HTTP_REQUEST_DURATION,
        matches(HTTP_RESPONSE_STATUS_CODE, "[45].."),
        by=of_status,
        part="count",
    )
    return [
        lines(
            "Requests",
            "HTTP requests that ended, and WebSocket messages received, per second by route.",
            "reqps",
            [
                prom(rate(HTTP_REQUEST_DURATION, by=[HTTP_ROUTE], part="count"), _BY_ROUTE),
                prom(rate(WEBSOCKET_MESSAGES, received, by=[HTTP_ROUTE]), f"{_BY_ROUTE} message"),
            ],
            numbers=True,
        ),
        lines(
            "Errors",
            "Per second: HTTP requests rejected (4xx) or failed (5xx) by route and status, and "
            "failed responses by the type of the error. Cancelled responses are not errors. "
            "Normally empty.",
            "reqps",
            [
                prom(failed, f"{_BY_ROUTE} {label(HTTP_RESPONSE_STATUS_CODE)}"),
                prom(
                    positive(
                        rate(LLM_RESPONSE_TIME, answers.FAILED, by=[ERROR_TYPE], part="count")
                    ),
                    f"response: {label(ERROR_TYPE)}",
                ),
            ],
            numbers=True,
        ),
        lines(
            "Request p95",
            "Duration of HTTP requests, and of WebSocket messages with their responses, by route. "
            "Each dot opens the trace of one request.",
            "s",
            [
                prom(quantile(0.95, HTTP_REQUEST_DURATION, by=[HTTP_ROUTE]), _BY_ROUTE),
                prom(
                    quantile(
                        0.95,
                        SERVER_SPAN_SECONDS,
                        equals(SPAN_KIND, KIND_SERVER),
                        matches(SPAN_NAME, "message .*"),
                        by=[SPAN_NAME],
                    ),
                    _BY_SPAN,
                ),
            ],
            exemplars=True,
            numbers=True,
        ).fill_opacity(0),
    ]


def _traces() -> list[Panel]:
    return [
        traces(
            "Slowest requests",
            "Of the newest 200 requests that took longer than chosen above, the slowest first. "
            "A trace's ID opens it. The duration is that of the whole trace, until a later rating.",
            spans("kind = server", of_route(), f"duration > ${{{SLOWER_THAN.name}}}s"),
            limit=200,
            sort_by="Duration",
        ),
        traces(
            "Failed requests",
            "The newest traces with an error in one of their spans. A trace's ID opens it.",
            spans("status = error"),
        ),
    ]


def _saturation() -> list[Panel]:
    return [
        lines(
            "Limits in use",
            "Share of each limit in use, in the process where it is highest. At 100 % requests are "
            "refused.",
            "percentunit",
            [
                prom(fullness(used, answers.LIMIT_NAMES[name]), name)
                for name, used in answers.LIMITED.items()
            ],
        ),
        lines(
            "In progress",
            "Responses, and HTTP requests, that have begun and not ended.",
            "short",
            [
                prom(total(ANSWERS_ACTIVE), "responses"),
                prom(total(HTTP_ACTIVE_REQUESTS), "HTTP requests"),
            ],
        ),
        lines(
            "Refusals",
            "Requests, messages and connections per minute that a limit refused or cut, by the "
            "limit. Normally empty.",
            "short",
            [prom(positive(increase(LIMIT_REACHED, by=[LIMIT], over="1m")), label(LIMIT))],
            bars=True,
            stacked=True,
        ),
        lines(
            "Event loop lag",
            "Delay with which the event loop resumed a task: every chunk of every response has it "
            "as well.",
            "s",
            [
                prom(quantile(0.99, EVENT_LOOP_LAG), "p99"),
                prom(quantile(0.5, EVENT_LOOP_LAG), "p50"),
            ],
        ),
    ]


def _connections() -> list[Panel]:
    closed = increase(WEBSOCKET_DURATION, by=[CLOSE_CODE], part="count", over="1m")
    return [
        lines(
            "Connections",
            "Open WebSocket connections.",
            "short",
            [prom(total(SOCKET_CONNECTIONS), "open")],
        ),
        lines(
            "Close codes",
            "WebSocket connections that ended, per minute by close code: 1000 and 1001 the client "
            "left, 1006 the connection was lost, 1009 a message was too long, 1011 an error here, "
            "1013 the service was full.",
            "short",
            [prom(closed, f"code {label(CLOSE_CODE)}")],
            bars=True,
            stacked=True,
        ),
        lines(
            "Messages",
            "Messages of conversations per second by role. A history that is sent again is not "
            "counted again.",
            "mps",
            [prom(rate(MESSAGE_COUNT, by=[ROLE]), f"{{{{{ROLE}}}}}")],
            stacked=True,
        ),
        top(
            "Time by span",
            "Seconds that all spans of a name took together in the time shown. A span includes the "
            "spans below it.",
            "s",
            prom(
                f"topk({_SPANS}, {increase(SERVER_SPAN_SECONDS, by=[SPAN_NAME], part='sum')})",
                _BY_SPAN,
            ),
        ),
    ]
