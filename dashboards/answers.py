"""Queries and panels of responses that several dashboards share: rate, errors, duration."""

from typing import Final

from grafana_foundation_sdk.builders import stat, table

from chatscope.genai.operation import CANCELLED
from chatscope.names import (
    ANSWERS_ACTIVE,
    ERROR_MESSAGE,
    ERROR_TYPE,
    EVENT_LOOP_LAG,
    GEN_AI_REQUEST_MODEL,
    HTTP_RESPONSE_STATUS_CODE,
    LLM_RESPONSE_TIME,
    PROCESS_ENDED,
    PROCESS_UPTIME,
    SOCKET_CONNECTIONS,
    prometheus_label,
)
from dashboards import queries
from dashboards.others import ERROR, SERVICE_NAME, SEVERITY
from dashboards.panels import is_well, log_table, prom
from dashboards.queries import (
    RANGE,
    differs_from,
    equals,
    increase,
    keep,
    matches,
    or_zero,
    quantile,
    ratio,
)

# Cancelled by the client, or by a stopping service.
_SHUTDOWN: Final = "shutting_down"
# Limits that are shared by all clients.
LIMITED: Final = {"responses": ANSWERS_ACTIVE, "connections": SOCKET_CONNECTIONS}
# The service's names of those limits.
LIMIT_NAMES: Final = {"responses": "answers", "connections": "connections"}

COMPLETED: Final = equals(ERROR_TYPE, "")
# Outcomes without an error.
GIVEN_UP: Final = matches(ERROR_TYPE, f"{CANCELLED}|{_SHUTDOWN}")
FAILED: Final = differs_from(ERROR_TYPE, f"|{CANCELLED}|{_SHUTDOWN}")
ERRORS: Final = keep(matches(SEVERITY, ERROR))

# The same limits as in the warnings ErrorRateHigh and AnswersSlow.
_ERROR_SHARE: Final = (0.02, 0.1)
_SECONDS: Final = (15, 30)


def error_rate() -> stat.Panel:
    """Return a panel over the whole time range, so that an error a minute ago still counts."""
    failed = or_zero(increase(LLM_RESPONSE_TIME, FAILED, part="count"))
    warn, bad = _ERROR_SHARE
    return is_well(
        "Error rate",
        "Share of the responses in the time shown that ended with an error, over HTTP, streams and "
        "WebSocket. Cancelled responses are not failures.",
        "percentunit",
        prom(ratio(failed, increase(LLM_RESPONSE_TIME, part="count"))),
        warn=warn,
        bad=bad,
        over_range=True,
    ).decimals(1)


def response_p95() -> stat.Panel:
    warn, bad = _SECONDS
    return is_well(
        "Response p95",
        "95 % of the responses in the time shown were complete within this time, from the arrival "
        "of the request until the last byte was sent.",
        "s",
        prom(quantile(0.95, LLM_RESPONSE_TIME, over=RANGE)),
        warn=warn,
        bad=bad,
        over_range=True,
    )


def last_sample() -> stat.Panel:
    return is_well(
        "Oldest last sample",
        "Time since the last metric of the instance that has been silent for longest; an instance "
        "that ended on purpose, or that a younger one has replaced, is not counted. Metrics are "
        "sent every second: a minute of silence means that the process, or the path to Prometheus, "
        "is down. 1 hour stands for any longer time.",
        "s",
        prom(queries.seconds_since_last_sample(PROCESS_UPTIME, PROCESS_ENDED)),
        warn=15,
        bad=60,
        over_range=True,
    ).decimals(0)


def fullest() -> stat.Panel:
    shares = " or ".join(
        f'label_replace({queries.fullness(used, LIMIT_NAMES[name])}, "limit", "{name}", "", "")'
        for name, used in LIMITED.items()
    )
    return is_well(
        "Limit usage",
        "Responses in progress, or open WebSocket connections, as a share of the limit of one "
        "process; the higher of both. At 100 % requests are refused.",
        "percentunit",
        prom(queries.aggregate("max", shares)),
        warn=0.7,
        bad=0.9,
    ).decimals(1)


def with_reason(otherwise: str = "") -> str:
    """Return the stage that adds the reason of a failed response.

    Other records get `otherwise`, a part of a template.
    """
    names = (ERROR_TYPE, HTTP_RESPONSE_STATUS_CODE, ERROR_MESSAGE)
    fields = " ".join(f"{{{{.{prometheus_label(name)}}}}}" for name in names)
    if otherwise:
        message = prometheus_label(ERROR_MESSAGE)
        fields = f"{{{{if .{message}}}}}{fields}{{{{else}}}}{otherwise}{{{{end}}}}"
    return f"| label_format reason=`{fields}`"


def failures(limit: int) -> table.Panel:
    return log_table(
        "Recent failures",
        "The newest log records of level ERROR, with their reason: the type of the error, the "
        "provider's status and its message without keys and prompts; of other records their text. "
        "Open the trace for more.",
        queries.lines(ERRORS, with_reason("{{__line__}}")),
        {
            SERVICE_NAME: "Service",
            GEN_AI_REQUEST_MODEL: "Model",
            "reason": "Reason",
        },
        widths={"Service": 130, "Model": 170},
        limit=limit,
    )


def loop_lag() -> stat.Panel:
    return is_well(
        "Event loop lag p99",
        "In 99 % of the time shown the event loop resumed a task with at most this delay, which "
        "each chunk of every response has as well.",
        "s",
        prom(quantile(0.99, EVENT_LOOP_LAG, over=RANGE)),
        warn=0.1,
        bad=0.5,
        over_range=True,
    )
