"""Home: where a person arrives."""

from grafana_foundation_sdk.models.dashboard import Dashboard

from app.telemetry.names import ERROR_TYPE, LLM_RESPONSE_TIME
from dashboards import links
from dashboards.board import Row, assemble
from dashboards.panels import is_well, prom
from dashboards.queries import differs, or_zero, rate, ratio


def board() -> Dashboard:
    failed = or_zero(rate(LLM_RESPONSE_TIME, differs(ERROR_TYPE), part="count"))
    answers = rate(LLM_RESPONSE_TIME, part="count")
    return assemble(
        links.HOME,
        "Where to begin.",
        [
            Row(
                "Is it well?",
                [
                    is_well(
                        "How many answers fail?",
                        "Answers that failed, of all.",
                        "percentunit",
                        prom(ratio(failed, answers)),
                        warn=0.01,
                        bad=0.05,
                    )
                ],
            )
        ],
    )
