"""Conversations: recent ones, the transcript of one, and ratings of responses."""

from typing import Final

from grafana_foundation_sdk.builders import common, logs, table, timeseries
from grafana_foundation_sdk.models.common import LogsSortOrder
from grafana_foundation_sdk.models.dashboard import Dashboard

from chatscope.names import (
    ANSWER_COST,
    ANSWER_OUTCOME,
    ANSWER_SECONDS,
    FEEDBACK,
    FEEDBACK_LABEL,
    GEN_AI_CONVERSATION_ID,
    GEN_AI_EVALUATION_EXPLANATION,
    GEN_AI_EVALUATION_NAME,
    GEN_AI_EVALUATION_SCORE_LABEL,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_RESPONSE_FINISH_REASONS,
    GEN_AI_USAGE_INPUT_TOKENS,
    GEN_AI_USAGE_OUTPUT_TOKENS,
    TIME_TO_FIRST_TOKEN,
    USER_ID,
    prometheus_label,
)
from dashboards import answers, links, responses, talk_panels
from dashboards.board import Row, assemble
from dashboards.legends import label
from dashboards.panels import GREEN, RED, colored, lines, log_lines, log_table, measured, prom
from dashboards.queries import differs, either, equals, increase, keep, rate, ratio
from dashboards.queries import lines as logged
from dashboards.talk_panels import CONVERSATION_ID
from dashboards.variables import CONVERSATION

_MODEL: Final = (GEN_AI_REQUEST_MODEL,)
_EMPTY: Final = "Normally empty."


def board() -> Dashboard:
    return assemble(
        links.CONVERSATIONS,
        "Recent conversations, one of them read from top to bottom, and ratings.",
        [
            Row("Conversations", [_recent()], height=7),
            Row("Transcript", [_transcript()], height=12),
            Row("Turns", [_turns()], height=8),
            Row("Ratings", [_by_model(), _over_time(), _bad()], height=8, widths=(10, 14, 24)),
        ],
        since="now-6h",
    )


def _recent() -> table.Panel:
    return talk_panels.conversations(
        "Recent conversations",
        "Conversations of the newest 2,000 responses, by their last one. Click an ID to read it "
        "below; responses without a conversation ID are on the Logs dashboard.",
    )


def _turns() -> table.Panel:
    panel = log_table(
        "Turns",
        "One row for each response of the conversation that is chosen above, the first one first; "
        "of all conversations while none is chosen. Open the trace for its steps.",
        responses.records(
            keep(differs(GEN_AI_CONVERSATION_ID)), *responses.chosen(), answers.with_reason()
        ),
        {
            GEN_AI_CONVERSATION_ID: CONVERSATION_ID,
            USER_ID: "User",
            GEN_AI_REQUEST_MODEL: "Model",
            ANSWER_OUTCOME: "Outcome",
            "reason": "Reason",
            GEN_AI_RESPONSE_FINISH_REASONS: "Finish",
            TIME_TO_FIRST_TOKEN: "First token",
            ANSWER_SECONDS: "Duration",
            GEN_AI_USAGE_INPUT_TOKENS: "Input",
            GEN_AI_USAGE_OUTPUT_TOKENS: "Output",
            ANSWER_COST: "Cost",
        },
        numbers={
            "First token": "s",
            "Duration": "s",
            "Input": "short",
            "Output": "short",
            "Cost": "currencyUSD",
        },
        widths={"User": 140, "Model": 160, "Outcome": 95, "Finish": 110, "First token": 95,
                "Duration": 85, "Input": 75, "Output": 75, "Cost": 95},
        limit=500,
    )  # fmt: skip
    return panel.sort_by([common.TableSortByFieldState().display_name("Time").desc(False)])


def _transcript() -> logs.Panel:
    return log_lines(
        "Transcript",
        "The texts from the first turn to the last, where they are captured in events "
        "(OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=EVENT_ONLY), with the tool calls, and "
        "below each turn its outcome, model, time, tokens and cost. Open a line to open its trace.",
        responses.transcript(),
        limit=500,
    ).sort_order(LogsSortOrder.ASCENDING)


def _by_model() -> table.Panel:
    def count(*where: str) -> str:
        return increase(FEEDBACK, *where, by=_MODEL)

    bad = count(equals(FEEDBACK_LABEL, "bad"))
    return measured(
        "Ratings by model",
        "Ratings of users in the time shown, by POST /v1/feedback, the chat page or "
        "record_feedback. A rising share of bad ones after a change of model is a loss of quality.",
        {prometheus_label(GEN_AI_REQUEST_MODEL): "Model"},
        {
            "Bad share": (either(ratio(bad, count()), f"0 * {count()}"), "percentunit"),
            "Good": (f"round({count(equals(FEEDBACK_LABEL, 'good'))})", "short"),
            "Bad": (f"round({bad})", "short"),
        },
        sort_by="Bad share",
    )


def _over_time() -> timeseries.Panel:
    labels = (FEEDBACK_LABEL,)
    return colored(
        lines(
            "Ratings per minute",
            "Ratings by label.",
            "short",
            [prom(f"60 * {rate(FEEDBACK, by=labels)}", label(FEEDBACK_LABEL))],
            stacked=True,
        ),
        {"good": GREEN, "bad": RED},
    )


def _bad() -> table.Panel:
    panel = log_table(
        "Bad ratings",
        "The newest ratings that are not good, with the comment of the user. Click the "
        f"conversation to read it, or open the trace of the response. {_EMPTY}",
        logged(
            responses.RATINGS,
            keep(differs(GEN_AI_EVALUATION_SCORE_LABEL, "good")),
            *responses.chosen(),
        ),
        {
            GEN_AI_EVALUATION_SCORE_LABEL: "Label",
            GEN_AI_EVALUATION_NAME: "Criterion",
            GEN_AI_EVALUATION_EXPLANATION: "Comment",
            GEN_AI_REQUEST_MODEL: "Model",
            USER_ID: "User",
            GEN_AI_CONVERSATION_ID: CONVERSATION_ID,
        },
        widths={"Label": 90, "Criterion": 130, "Model": 160, "User": 140},
        limit=200,
    )
    read = talk_panels.link("Read the conversation", links.CONVERSATIONS, CONVERSATION)
    return panel.override_by_name(CONVERSATION_ID, [read])
