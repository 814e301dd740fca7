"""Home: where a person arrives. Is it well, where to look next, how to begin."""

from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from chatscope.genai.operation import CANCELLED
from chatscope.names import (
    ERROR_TYPE,
    LLM_COST,
    LLM_RESPONSE_TIME,
    prometheus_label,
)
from dashboards import answers, links
from dashboards.alert_panels import which_fire
from dashboards.board import Row, assemble
from dashboards.others import ALERT, ALERT_ACTIVE, ALERT_SEVERITY, ALERT_STATE, ALERTS, UP
from dashboards.panels import GREEN, YELLOW, Panel, colored, is_well, lines, prom, traces, words
from dashboards.queries import (
    aggregate,
    differs,
    equals,
    increase,
    or_zero,
    rate,
    series,
    spans,
    total,
)
from stack import facts

_DONE: Final = "completed"

# What each board answers, in a sentence for one who has never seen it.
_LEADS: Final = {
    links.SERVICE: "Who is served, how fast, and what fails? Requests, sockets, limits.",
    links.LLM: "What do models do, and what does it cost? Latency, tokens, dollars, each answer.",
    links.OBJECTIVES: "Is what was promised kept? Budgets, how fast they burn, alerts that fire.",
    links.LOGS: "What does it say? Errors again and again, search by trace, conversation, text.",
    links.RUNTIME: "Is the process or the machine short of something? CPU, memory, event loop.",
    links.PIPELINE: "Can what is shown here be believed? What was sent, refused, dropped.",
}


def board() -> Dashboard:
    return assemble(
        links.HOME,
        "Where to begin: is it well, where to look next, and how to chat.",
        [
            Row("Is it well?", _well(), height=3, widths=(8,) * 6),
            Row("Does anything call?", [which_fire()], height=6),
            Row("Where next?", _leads(), height=11, widths=(14, 10)),
            Row("What happened lately?", _latest(), height=10, widths=(13, 11)),
        ],
    )


def _well() -> list[Panel]:
    down = aggregate("count", f"{series(UP)} == 0")
    # The one that always fires is no news.
    always = aggregate("count", series(ALERT, equals(ALERT_SEVERITY, "none")))
    active = f"clamp_min({total(ALERTS, equals(ALERT_STATE, ALERT_ACTIVE))} - {always}, 0)"
    return [
        answers.heard(),
        answers.failing(),
        answers.waiting(),
        is_well(
            "What did answers cost?",
            "US dollars for all answers in the time that the board shows, by the price table.",
            "currencyUSD",
            prom(increase(LLM_COST)),
            over_range=True,
        ),
        is_well(
            "How many alerts are active?",
            "Alerts that the Alertmanager holds and nobody silenced; one that only follows from "
            "another is not counted.",
            "short",
            prom(or_zero(active)),
            warn=1,
            bad=2,
        ),
        is_well(
            "How many parts of the stack are down?",
            "Collector, Prometheus, Loki, Tempo and Alertmanager, as Prometheus reaches them. "
            "Empty in health.",
            "short",
            prom(or_zero(down)),
            warn=1,
            bad=2,
        ),
    ]


def _leads() -> list[Panel]:
    leads = "\n".join(
        f"| [**{links.TITLES[uid]}**]({links.path(uid)}?${{__url_time_range}}) | {sentence} |"
        for uid, sentence in _LEADS.items()
    )
    app = facts.load({})["APP_URL"]
    return [
        words(
            "Where do I look, and how do I chat?",
            "The boards, and the first steps.",
            f"| Board | What it answers |\n|---|---|\n{leads}\n\n"
            f"**Nothing here yet?** Chat at [{app}]({app}) (unless `APP_PORT` says otherwise), "
            "with `make chat` in a terminal, or let `make demo` send people. Every answer "
            "tells its trace: paste that id into the *Trace id* of "
            f"[{links.TITLES[links.LOGS]}]({links.path(links.LOGS)}).\n",
        ),
        colored(
            lines(
                "How many answers are given, and how do they end?",
                "Answers in a second: those that were completed, and the others by why they were "
                "not.",
                "ops",
                [
                    prom(rate(LLM_RESPONSE_TIME, equals(ERROR_TYPE, ""), part="count"), _DONE),
                    prom(
                        rate(LLM_RESPONSE_TIME, differs(ERROR_TYPE), by=[ERROR_TYPE], part="count"),
                        f"{{{{{prometheus_label(ERROR_TYPE)}}}}}",
                    ),
                ],
                stacked=True,
            ),
            {f"^{_DONE}$": GREEN, f"^{CANCELLED}$": YELLOW},
        ),
    ]


def _latest() -> list[Panel]:
    return [
        answers.went_wrong(50),
        traces(
            "What was asked lately?",
            "The newest requests and messages. A click on its id opens a trace: every step of it.",
            spans("kind = server"),
            limit=20,
        ),
    ]
