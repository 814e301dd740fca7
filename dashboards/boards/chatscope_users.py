"""Users: cost, responses, tokens and errors by user, team and API key."""

from typing import Final

from grafana_foundation_sdk.builders import table, timeseries
from grafana_foundation_sdk.models.dashboard import Dashboard

from chatscope.names import (
    ANSWER_COST,
    GEN_AI_CONVERSATION_ID,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_USAGE_INPUT_TOKENS,
    GEN_AI_USAGE_OUTPUT_TOKENS,
    KEY_NAME,
    KEY_TEAM,
    USER_ID,
    prometheus_label,
)
from dashboards import links, responses, talk_panels
from dashboards.board import Row, assemble
from dashboards.legends import label
from dashboards.panels import Query, lines, log_count, log_table
from dashboards.queries import differs, keep
from dashboards.talk_panels import CONVERSATION_ID
from dashboards.variables import CONVERSATION, COST_ABOVE

_TOP: Final = 10
_EMPTY: Final = "Normally empty."


def board() -> Dashboard:
    return assemble(
        links.USERS,
        "Cost, responses, tokens and errors by user, team and API key.",
        [
            Row("Users", [_users()], height=10),
            Row("Teams and API keys", [_teams(), _keys()], height=8),
            Row("Expensive responses", [_expensive()], height=9),
            Row("Over time", [_cost_over_time(), _responses_over_time()], height=9),
        ],
        since="now-6h",
    )


def _users() -> table.Panel:
    return talk_panels.spending(
        "Users",
        "The 100 users with the highest cost in the time shown, by the user ID of the requests. "
        "Click a user to see the conversations. Requests without a user are not counted. "
        f"{_EMPTY}",
        USER_ID,
        "User",
    )


def _teams() -> table.Panel:
    return talk_panels.spending(
        "Teams",
        f"The teams of the API keys, by cost in the time shown. Empty without API keys. {_EMPTY}",
        KEY_TEAM,
        "Team",
    )


def _keys() -> table.Panel:
    return talk_panels.spending(
        "API keys",
        f"The API keys, by cost in the time shown. Empty without API keys. {_EMPTY}",
        KEY_NAME,
        "Key",
    )


def _expensive() -> table.Panel:
    panel = log_table(
        "Expensive responses",
        "The newest 1,000 responses that cost more than the amount chosen above, the highest cost "
        "first. Click the conversation to read what was asked, or open the trace.",
        responses.records(
            keep(f"{prometheus_label(ANSWER_COST)} > ${COST_ABOVE.name}"), *responses.chosen()
        ),
        {
            ANSWER_COST: "Cost",
            USER_ID: "User",
            KEY_TEAM: "Team",
            GEN_AI_REQUEST_MODEL: "Model",
            GEN_AI_USAGE_INPUT_TOKENS: "Input",
            GEN_AI_USAGE_OUTPUT_TOKENS: "Output",
            GEN_AI_CONVERSATION_ID: CONVERSATION_ID,
        },
        numbers={"Cost": "currencyUSD", "Input": "short", "Output": "short"},
        widths={"Cost": 95, "Team": 120, "Model": 180, "Input": 75, "Output": 75},
        sort_by="Cost",
        limit=1000,
    )
    read = talk_panels.link("Read the conversation", links.CONVERSATIONS, CONVERSATION)
    return panel.override_by_name(CONVERSATION_ID, [read])


def _over_time(text: str) -> list[Query]:
    return [log_count(f"topk({_TOP}, {text})", label(USER_ID))]


def _cost_over_time() -> timeseries.Panel:
    stages = [keep(differs(USER_ID)), *responses.chosen()]
    return lines(
        "Cost by user",
        "US dollars in each step of the time axis, of the ten users with the highest cost in it. "
        f"{_EMPTY}",
        "currencyUSD",
        _over_time(responses.added(ANSWER_COST, *stages, by=[USER_ID], over="$__auto")),
        bars=True,
        stacked=True,
    )


def _responses_over_time() -> timeseries.Panel:
    stages = [keep(differs(USER_ID)), *responses.chosen()]
    return lines(
        "Responses by user",
        f"Responses in each step of the time axis, of the ten users with the most in it. {_EMPTY}",
        "short",
        _over_time(responses.counted(*stages, by=[USER_ID], over="$__auto")),
        bars=True,
        stacked=True,
    )
