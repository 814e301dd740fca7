"""What several boards ask of answers: how many, how many failed, how long they took."""

from typing import Final

from grafana_foundation_sdk.builders import logs, stat

from chatscope.genai.operation import CANCELLED
from chatscope.names import (
    ANSWERS_ACTIVE,
    ERROR_TYPE,
    EVENT_LOOP_LAG,
    GEN_AI_REQUEST_MODEL,
    LLM_RESPONSE_TIME,
    PROCESS_UPTIME,
    SOCKET_CONNECTIONS,
    URL_PATH,
)
from dashboards import queries
from dashboards.others import ERROR, SEVERITY
from dashboards.panels import is_well, log_lines, prom
from dashboards.queries import differs_from, equals, keep, matches, or_zero, quantile, rate, ratio

# Who gave an answer up: the person who asked, or a service that stopped.
_SHUTDOWN: Final = "shutting_down"
# The limits that are reached by many people at a time.
LIMITED: Final = {"answers": ANSWERS_ACTIVE, "connections": SOCKET_CONNECTIONS}

COMPLETED: Final = equals(ERROR_TYPE, "")
# Nothing of these had failed.
GIVEN_UP: Final = matches(ERROR_TYPE, f"{CANCELLED}|{_SHUTDOWN}")
FAILED: Final = differs_from(ERROR_TYPE, f"|{CANCELLED}|{_SHUTDOWN}")
ERRORS: Final = keep(matches(SEVERITY, ERROR))


def failing() -> stat.Panel:
    failed = or_zero(rate(LLM_RESPONSE_TIME, FAILED, part="count"))
    return is_well(
        "How many answers fail?",
        "Share of answers that ended in an error, over HTTP, streams and WebSocket. Those that "
        "their client cancelled, or a service that stopped cut, are no failures.",
        "percentunit",
        prom(ratio(failed, rate(LLM_RESPONSE_TIME, part="count"))),
        warn=0.02,
        bad=0.1,
    )


def waiting() -> stat.Panel:
    return is_well(
        "How long do people wait for an answer?",
        "95 of 100 answers were complete within this time, from the question's arrival until the "
        "last byte left.",
        "s",
        prom(quantile(0.95, LLM_RESPONSE_TIME)),
        warn=15,
        bad=30,
    )


def heard() -> stat.Panel:
    return is_well(
        "How long since the service was last heard?",
        "Age of its newest metric. It sends each second; a minute of silence means that it, or "
        "the way to Prometheus, is dead. An hour stands for any longer time.",
        "s",
        prom(queries.seconds_since_heard(PROCESS_UPTIME)),
        warn=15,
        bad=60,
        over_range=True,
    )


def fullest() -> stat.Panel:
    shares = " or ".join(
        f'label_replace({queries.fullness(used, limit)}, "limit", "{limit}", "", "")'
        for limit, used in LIMITED.items()
    )
    return is_well(
        "How full is the fullest limit?",
        "Answers under way, or sockets open, of as many as one process takes. At 100 % people "
        "are refused.",
        "percentunit",
        prom(queries.aggregate("max", shares)),
        warn=0.7,
        bad=0.9,
    )


def went_wrong(limit: int) -> logs.Panel:
    return log_lines(
        "What went wrong lately?",
        "The newest lines of errors, with the error's type, the model and the path. Open one to "
        "see all that it carries, and its trace.",
        queries.lines(ERRORS, queries.telling(ERROR_TYPE, GEN_AI_REQUEST_MODEL, URL_PATH)),
        limit=limit,
    )


def lagging() -> stat.Panel:
    return is_well(
        "Does the event loop keep up?",
        "How much later than asked it woke, 99 times of 100. Every answer waits as long for each "
        "of its pieces.",
        "s",
        prom(quantile(0.99, EVENT_LOOP_LAG)),
        warn=0.1,
        bad=0.5,
    )
